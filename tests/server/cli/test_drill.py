"""takeback drill, as a person types it."""

from __future__ import annotations


def test_a_run_is_rehearsed_by_its_id_and_its_coverage_shown(desk) -> None:
    run_id = desk.agent(("write_file", {"path": "a.txt", "content": "one"}), ("delete_file", {"path": "a.txt"}))
    answered = desk("drill", run_id[4:12], "--every", "1000")
    assert answered.code == 0, answered.out + answered.err
    assert "Every world was exactly as before." in answered.out
    assert [line.split()[:3] for line in answered.out.splitlines()[1:3]] == [
        ["write_file", "1", "1"],
        ["delete_file", "1", "1"],
    ]


def test_a_run_in_which_nothing_took_effect_is_refused(desk) -> None:
    answered = desk("drill", desk.agent())
    assert answered.code == 3
    assert "nothing took effect in it" in answered.err
