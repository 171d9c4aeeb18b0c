from __future__ import annotations

from pathlib import Path

from takeback.server.roots import remember, remembered, together


def test_folders_are_remembered_once_each(tmp_path: Path):
    data = tmp_path / "data"
    remember(data, [Path("/srv/a"), Path("/srv/b")])
    remember(data, [Path("/srv/b"), Path("/srv/ü c")])
    assert remembered(data) == (Path("/srv/a"), Path("/srv/b"), Path("/srv/ü c"))


def test_nothing_is_remembered_where_nothing_can_be_written(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    remember(blocked, [Path("/srv/a")])
    assert remembered(blocked) == ()


def test_only_folders_that_can_be_opened_side_by_side_are_taken_together(tmp_path: Path):
    outer, other, data = tmp_path / "outer", tmp_path / "other", tmp_path / "data"
    for folder in (outer / "inner", other, data / "below"):
        folder.mkdir(parents=True)
    assert together(data, [outer / "inner", other], [outer, tmp_path / "gone", data / "below"]) == (other, outer)


def test_a_name_that_only_begins_alike_is_another_folder(tmp_path: Path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work-two").mkdir()
    roots = (tmp_path / "work", tmp_path / "work-two")
    assert together(tmp_path / "data", roots) == roots
