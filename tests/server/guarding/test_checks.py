"""Checks of the user's own: what does not hold is said, contained, or taken back at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.conftest import open_bench as open_bench
from tests.server.engine.many import action, approved, status

from takeback.journal.events import TriggerFired
from takeback.journal.ids import RunId
from takeback.journal.log import JournalBroken
from takeback.server.engine.checks.parsers import fault_of
from takeback.server.engine.checks.settings import CheckSettings, Parser
from takeback.server.settings import Settings, SettingsError, ToolSettings, load


@pytest.mark.parametrize(
    ("parser", "good", "bad"),
    [
        ("json", '{"a": [1, 2]}', '{"a": [1, 2}'),
        ("jsonl", '{"a": 1}\n\n{"a": 2}\n', '{"a": 1}\n{"a": }\n'),
        ("toml", "a = 1\r\n[b]\r\nc = 2\r\n", "a = 1\na = 2\n"),
        ("yaml", "a: &x [1]\nb: *x\n---\nc: 2\n", "a: [1\nb: 2\n"),
        ("ini", "[a]\nb = %(c)s\nd\n", "[a]\nb = 1\n[a]\n"),
        ("xml", '<?xml version="1.0" encoding="latin-1"?><a b="ü"/>', "<a><b></a>"),
        ("xml", "<!DOCTYPE a><a/>", '<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'),
        ("python", "def f():\n    return 1\n", "def f(:\n"),
        ("utf-8", "grün", b"gr\xfcn"),
    ],
)
def test_each_parser_takes_what_it_should_and_says_what_is_wrong_with_the_rest(
    parser: Parser, good: str, bad: str | bytes
) -> None:
    assert fault_of(parser, good.encode()) is None
    assert fault_of(parser, b"\xef\xbb\xbf" + good.encode()) is None
    assert fault_of(parser, bad if isinstance(bad, bytes) else bad.encode())
    assert fault_of(parser, b"\xff\xfe\x00") == "it is not UTF-8 (byte 1)"


def test_a_file_that_is_nested_without_end_is_a_fault_and_no_crash() -> None:
    assert fault_of("json", b"[" * 200_000)
    assert fault_of("python", b"(" * 200_000)


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "a", "objects": ["*"]},
        {"name": "a", "objects": ["*"], "parser": "json", "command": ["true"]},
        {"name": "a", "parser": "json"},
        {"name": "a", "command": []},
        {"name": "a", "query": "SELECT 1"},
        {"name": "A b", "command": ["true"]},
        {"name": "a", "command": ["true"], "on_fail": "shrug"},
    ],
)
def test_a_check_that_cannot_be_meant_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CheckSettings.model_validate(broken)


def test_checks_stand_in_the_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[[checks]]\nname = "config"\nobjects = ["*.toml"]\nparser = "toml"\non_fail = "rollback"\n')
    [check] = load(file, environment={}).settings.checks
    assert (check.name, check.parser, check.on_fail) == ("config", "toml", "rollback")
    file.write_text(file.read_text() * 2)
    with pytest.raises(SettingsError, match="two checks"):
        load(file, environment={})


async def checked(open_bench: OpenBench, *checks: dict[str, Any]) -> tuple[Bench, str]:
    settings = tuple(CheckSettings.model_validate({"name": f"check-{n}", **one}) for n, one in enumerate(checks))
    bench = await open_bench(tools=ToolSettings(off=("calendar", "email")), checks=settings)
    return bench, await bench.start()


async def fired(bench: Bench, run: str) -> list[TriggerFired]:
    events = await bench.engine.core.journal.read(RunId(run))
    return [recorded.event for recorded in events if isinstance(recorded.event, TriggerFired)]


JSON = {"objects": ["*.json"], "parser": "json"}


@pytest.mark.parametrize("on_fail", ["warn", "contain"])
async def test_a_file_that_does_not_parse_any_more_is_said_and_contained_if_wished(
    open_bench: OpenBench, on_fail: str
) -> None:
    bench, run = await checked(open_bench, {**JSON, "on_fail": on_fail})
    assert (await bench.done("write_file", run, path="a.json", content="{}")).warnings == []
    assert (await bench.done("write_file", run, path="a.txt", content="{")).warnings == []
    answer = await bench.done("write_file", run, path="a.json", content="{")
    assert answer.warnings == [
        "The check check-0 of a.json failed: line 1: expecting property name enclosed in double quotes."
    ]
    assert (bench.work / "a.json").read_text() == "{"
    assert await status(bench, run) == ("open" if on_fail == "warn" else "contained")
    [firing] = await fired(bench, run)
    assert (firing.trigger, firing.answer, firing.evidence["check"]) == ("check", on_fail, "check-0")


async def test_what_fails_its_check_is_taken_back_at_once_and_called_failed(open_bench: OpenBench) -> None:
    bench, run = await checked(open_bench, {**JSON, "on_fail": "rollback"})
    (bench.work / "a.json").write_text('{"mine": 1}')
    answer = await bench.call("write_file", run, path="a.json", content="{", idempotency_key="k")
    assert answer.status == "failed" and answer.error is not None and answer.error.code == "check_failed"
    assert answer.error.message.startswith("The check check-0 of a.json failed: line 1:")
    assert answer.error.message.endswith(". It was taken back at once: everything is as before it.")
    assert answer.report is not None and answer.undo is None and answer.digest is None and answer.result is None
    assert await bench.engine.open_items(ALICE) == []
    assert (bench.work / "a.json").read_text() == '{"mine": 1}' and await status(bench, run) == "open"
    assert not (await action(bench, answer.action_id)).stands
    again = await bench.done("write_file", run, path="a.json", content="{}", idempotency_key="k")
    assert again.status == "applied" and (bench.work / "a.json").read_text() == "{}"


async def test_what_can_only_be_made_up_for_is_made_up_for_and_called_that(open_bench: OpenBench) -> None:
    check = CheckSettings(name="no", command=(sys.executable, "-c", "raise SystemExit(1)"), on_fail="rollback")
    bench = await open_bench(checks=(check,))
    run = await bench.start()
    await approved(bench, "post_note", run, text="hello")
    answer = await bench.call("post_note", run, text="hello")
    assert answer.status == "failed" and answer.error is not None and bench.memory.notes() == {}
    assert await bench.engine.open_items(ALICE) == []
    assert "It was made up for at once: " in answer.error.message and "as before" not in answer.error.message


async def test_what_nobody_came_to_take_back_is_open_for_a_person_until_it_is(open_bench: OpenBench) -> None:
    bench, run = await checked(open_bench, {**JSON, "on_fail": "rollback"})
    real = bench.engine.core.journal.append
    gone: list[bool] = []

    async def last(events: Any, **more: Any) -> Any:
        if gone:
            raise JournalBroken("the disk is gone")
        gone.extend(True for event in events if event.type == "action.applied")
        return await real(events, **more)

    bench.engine.core.journal.append = last  # type: ignore[method-assign]  # a disk that fails right after the act
    answer = await bench.call("write_file", run, path="a.json", content="{")
    assert answer.status == "applied" and "Taking the act back did not succeed" in answer.warnings[-1]
    later = await open_bench(tools=ToolSettings(off=("calendar", "email")))
    (item,) = await later.engine.open_items(ALICE)
    assert item.action_id == answer.action_id and "nobody has said yet that it was" in item.why
    assert (await later.back(actions=[answer.action_id])).status == "complete"
    assert await later.engine.open_items(ALICE) == [] and not (bench.work / "a.json").exists()


async def test_what_cannot_be_taken_back_wholly_still_stands_and_the_answer_says_so(open_bench: OpenBench) -> None:
    somebody = [
        sys.executable,
        "-c",
        "import sys; open(sys.argv[1], 'w').write('{ by somebody else'); sys.exit(1)",
        "{path}",
    ]
    bench, run = await checked(open_bench, {"objects": ["*.json"], "command": somebody, "on_fail": "rollback"})
    (bench.work / "a.json").write_text("{}")
    answer = await bench.call("write_file", run, path="a.json", content="{ by the agent")
    assert answer.status == "applied" and "It was to be taken back at once, and that was partial" in answer.warnings[-1]
    assert (bench.work / "a.json").read_text() == "{ by somebody else"


async def test_a_command_sees_the_path_runs_without_a_shell_and_gets_no_secrets_and_no_input(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
    told = tmp_path / "told.json"
    program = (
        "import json, os, sys; json.dump([sys.argv[2:], os.getcwd(), 'SHOP_PASSWORD' in os.environ, sys.stdin.read()],"
        " open(sys.argv[1], 'w')); print('line', 7, 'is \\x1b[31mwrong'); sys.exit(3)"
    )
    command = [sys.executable, "-c", program, str(told), "--file={path}", "$HOME; ls"]
    bench, run = await checked(open_bench, {"objects": ["*/a b.txt"], "command": command})
    answer = await bench.done("write_file", run, path="a b.txt", content="x")
    assert json.loads(told.read_text()) == [[f"--file={bench.work}/a b.txt", "$HOME; ls"], str(bench.work), False, ""]
    assert answer.warnings == [
        f"The check check-0 of a b.txt failed: {Path(sys.executable).name} ended with 3: line 7 is \\x1b[31mwrong."
    ]


async def test_a_check_that_cannot_be_made_is_no_failure_and_not_kept_quiet(open_bench: OpenBench) -> None:
    slow = [sys.executable, "-c", "import os, time; os.fork(); time.sleep(600)"]
    bench, run = await checked(
        open_bench,
        {"command": ["no-such-program"], "on_fail": "rollback"},
        {"command": slow, "timeout_seconds": 0.3, "on_fail": "rollback"},
        {"query": "SELECT 1", "database": "none.db", "systems": ["files"], "on_fail": "contain"},
    )
    answer = await bench.done("write_file", run, path="a.txt", content="x")
    assert [warning.split(":")[0] for warning in answer.warnings] == [
        f"The check check-{number} could not be made, so nobody knows whether it holds" for number in range(3)
    ]
    assert (bench.work / "a.txt").exists() and await status(bench, run) == "open"


async def test_a_query_holds_a_database_to_what_it_has_to_answer(open_bench: OpenBench) -> None:
    query = {
        "query": "SELECT count(*) FROM orders WHERE total < 0",
        "database": "shop.db",
        "equals": 0,
        "on_fail": "rollback",
    }
    bench, run = await checked(open_bench, query)
    for name in ("shop.db", "other.db"):
        (bench.work / name).touch()
    for sql in ("CREATE TABLE orders(id INTEGER PRIMARY KEY, total INT)", "INSERT INTO orders VALUES (1, 5), (2, 7)"):
        told = await bench.done("execute_sql", run, database="shop.db", sql=sql)
        assert not any("check" in warning for warning in told.warnings)
    await bench.done("execute_sql", run, database="other.db", sql="CREATE TABLE orders(total)")
    answer = await bench.call("execute_sql", run, database="shop.db", sql="UPDATE orders SET total = -1 WHERE id = 2")
    assert answer.status == "failed" and "the query answered 1, not 0" in str(answer.error)
    assert await rows(bench) == [[1, 5], [2, 7]]


async def rows(bench: Bench) -> Any:
    from takeback.server.engine.calls import Call

    answer = await bench.engine.read(
        Call("query_database", {"database": "shop.db", "sql": "SELECT * FROM orders"}, ALICE)
    )
    assert answer.result is not None, answer.error
    return answer.result["rows"]


async def test_what_is_gone_is_not_parsed_and_what_is_moved_is_looked_at_where_it_is(open_bench: OpenBench) -> None:
    bench, run = await checked(open_bench, JSON)
    (bench.work / "a.txt").write_text("{")
    moved = await bench.done("move_file", run, source="a.txt", destination="a.json")
    assert len(moved.warnings) == 1 and "of a.json failed" in moved.warnings[0]
    assert (await bench.done("delete_file", run, path="a.json")).warnings == []


async def test_all_checks_can_be_asked_at_once(open_bench: OpenBench) -> None:
    bench, _ = await checked(
        open_bench,
        {"query": "SELECT 2", "database": "shop.db", "equals": 2},
        {"command": [sys.executable, "-c", "raise SystemExit(1)"], "objects": ["nothing"]},
        JSON,
    )
    (bench.work / "shop.db").touch()
    for name, text in (("good.json", "{}"), ("bad.json", "{"), ("not asked about.json", "{"), ("other.txt", "{")):
        (bench.work / name).write_text(text)
    places = [("files", str(bench.work / name)) for name in ("good.json", "bad.json", "other.txt", "gone.json")]
    found = await bench.engine.invariants(ALICE, places)
    assert [(one.check, one.object, one.status) for one in found] == [
        ("check-0", "", "holds"),
        ("check-1", "", "fails"),
        ("check-2", "good.json", "holds"),
        ("check-2", "bad.json", "fails"),
    ]


def test_no_check_is_made_if_none_is_configured() -> None:
    assert Settings().checks == ()
