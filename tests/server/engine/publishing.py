"""A run that is published (or a plan that is carried out) by a process that is killed on the way, and what the next one finds.

Works as a process of its own that forks a child for each order, so that Python's start is paid for once. An order is a line of
JSON, and so is its answer. A child that is to die does so by SIGKILL: nothing is closed, nothing is written any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.test_calendar import SERIES
from tests.tools.email import maildirs

from takeback.journal.ids import RunId
from takeback.journal.log import Journal
from takeback.journal.states import State
from takeback.journal.views import ActionView, CollectedCall, OpenItem, RunView
from takeback.server.drill.world import Part, World, world
from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings
from takeback.tools.files.calls import Calls
from takeback.tools.files.native import NativeCalls
from takeback.tools.files.portable import PortableCalls
from takeback.tools.outbox.rows import Row

SECONDS = 60
STORY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("write_file", {"path": "x/y.txt", "content": "new\n"}),
    ("edit_file", {"path": "x/y.txt", "edits": [{"old_text": "new", "new_text": "newer"}]}),
    ("write_file", {"path": "a.txt", "content": "two\n"}),
    ("execute_sql", {"database": "app.db", "sql": "INSERT INTO t (v) VALUES ('made')"}),
    (
        "create_event",
        {"calendar": "default", "summary": "New", "start": "2026-03-02T10:00:00", "end": "2026-03-02T11:00:00"},
    ),
    ("edit_file", {"path": "a.txt", "edits": [{"old_text": "two", "new_text": "three"}]}),
    ("move_file", {"source": "d/f", "destination": "e/f"}),
    ("send_email", {"to": ["bob@example.org"], "subject": "Done", "body": "Done.", "hold_seconds": 3600}),
)
"""Files that are touched once and twice, in new folders and old ones; a row, an event, and a message that is held."""
VARIES = re.compile(rb"^(UID|DTSTAMP|CREATED|LAST-MODIFIED):.*$", re.MULTILINE)
"""Lines of an event that are other ones each time."""
LEFT = re.compile(r"calendar/default/\.takeback-[0-9a-f]{16}")
"""Half a step of a calendar's: other programs ignore it, and `takeback gc` clears it away later (`tools/calendar/vdir.py`)."""


class Kills:
    """Counts the moments before and after whatever is made durable or visible, and dies at one of them."""

    def __init__(self, at: int | None) -> None:
        self._at, self.points = at, list[str]()

    def __call__(self, point: str) -> None:
        self.points.append(point)
        if len(self.points) - 1 == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        async def passing(*given: Any, **more: Any) -> Any:
            self(f"before {name}")
            result = await call(*given, **more)
            self(f"after {name}")
            return result

        return passing

    def interpose(self, engine: Engine) -> None:
        """Let what changes something pass here: the journal, each name of a file that changes, each swap, each commit."""
        journal = engine.core.journal
        append = journal.append

        async def appended(events: Any, **more: Any) -> Any:
            kinds = ", ".join(dict.fromkeys(event.type for event in events))
            return await self.around(append, kinds)(events, **more)

        journal.append = appended  # type: ignore[method-assign] -- a fault, not a mock: the real journal is behind it
        for name, system in engine.core.systems.items():
            system.swap = self.around(system.swap, f"a swap of {name}")  # type: ignore[method-assign] -- as above
        for tool in engine.core.tools.values():
            if (prepare := getattr(tool, "prepare", None)) is not None:
                setattr(tool, "prepare", self._preparing(prepare, tool.name))  # noqa: B010 -- the type knows no such field
        for kind in (NativeCalls, PortableCalls):
            for verb in ("exchange", "place"):
                setattr(kind, verb, self._naming(getattr(kind, verb), verb))

    def _preparing(self, prepare: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        async def prepared(*given: Any) -> Any:
            made = await prepare(*given)
            made.commit = self.around(made.commit, f"the effect of {name}")
            return made

        return prepared

    def _naming(self, call: Callable[..., None], verb: str) -> Callable[..., None]:
        def passing(calls: Calls, a: Any, a_name: bytes, b: Any, b_name: bytes) -> None:
            self(f"before {verb} of {a_name.decode()}")
            call(calls, a, a_name, b, b_name)
            self(f"after {verb} of {a_name.decode()}")

        return passing


# -- the world -------------------------------------------------------------------------------------------------------------


def plant(case: Path) -> None:
    """What is there before."""
    work, data = case / "work", case / "data"
    (work / "d" / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "d/f", "d/sub/g"):
        (work / name).write_text(f"one {name}\n")
    with sqlite3.connect(work / "app.db") as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v)")
        connection.execute("INSERT INTO t (v) VALUES ('kept')")
    connection.close()
    (data / "calendar" / "default").mkdir(parents=True)
    (data / "calendar" / "default" / "standup.ics").write_bytes(SERIES)
    for folder in ("", ".Sent", ".Trash", ".Drafts"):
        for sub in ("tmp", "new", "cur"):
            (data / "mail" / "default" / folder / sub).mkdir(parents=True)
    maildirs.put(data / "mail" / "default", "1.a.host:2,S", maildirs.letter(1))


def before_of(case: Path) -> World:
    """Everything there is, to the bit, with permissions and times of change; not what a death leaves hidden in a calendar."""
    found = world(
        [
            Part("work", case / "work"),
            Part("calendar", case / "data" / "calendar", folders=False, times=False),
            Part("mail", case / "data" / "mail", folders=False),
        ]
    )
    return {name: digest for name, digest in found.items() if not LEFT.fullmatch(name)}


async def after_of(case: Path, bench: Bench) -> dict[str, Any]:
    """What the story comes to, to the bit but for what is another each time: ids, and times of writing."""
    work = case / "work"
    files = {
        path.relative_to(work).as_posix(): [
            oct(path.lstat().st_mode),
            path.read_bytes().hex() if path.is_file() else "",
        ]
        for path in sorted(work.rglob("*"))
        if path.relative_to(work).parts[0] != ".takeback" and not path.name.startswith("app.db")
    }
    with sqlite3.connect(work / "app.db") as connection:
        rows = list(connection.iterdump())
    connection.close()
    events = sorted(
        VARIES.sub(rb"\1", path.read_bytes()).decode() for path in (case / "data" / "calendar").rglob("*.ics")
    )
    letters = sorted(path.name for path in (case / "data" / "mail").rglob("*") if path.is_file())
    held = [[row.status, row.named] for row in await messages(bench)]
    return {"files": files, "rows": rows, "events": events, "letters": letters, "held": held}


async def agrees(bench: Bench, run: str) -> list[str]:
    """Where the world is not what the journal says that the run's acts have left."""
    core = bench.engine.core
    left: dict[tuple[str, str], State] = {}
    for action in await core.journal.find(ActionView, run_id=RunId(run), oldest_first=True):
        if action.stands:
            left |= {(effect.system, effect.object): effect.after for effect in action.effects}
    wrong: list[str] = []
    for (system, object), after in left.items():
        [now] = await core.systems[system].look([object], [after])
        if not now.same(after):
            wrong.append(f"{system}:{object} is {now.digest}, not {after.digest}")
    return wrong


async def messages(bench: Bench) -> Sequence[Row]:
    """All there are in the outbox, with those that belong to nobody yet."""
    return await bench.engine.core.outbox.rows(None, everything=True)


# -- orders ----------------------------------------------------------------------------------------------------------------


async def opened(case: Path, *, recover: bool = True) -> Bench:
    settings = settings_for(case, tools=ToolSettings(), triggers=TriggerSettings.off())
    engine = await Engine.open(settings, recover=recover)
    engine.core.retry_pauses = (0.0,)
    return Bench(engine, case / "work")


async def prepare(order: dict[str, Any]) -> dict[str, Any]:
    """Put the story down, and for a plan let a person agree."""
    case, mode = Path(order["case"]), order["mode"]
    plant(case)
    before = before_of(case)
    bench = await opened(case)
    try:
        run = await bench.start(mode=mode)
        for tool, arguments in STORY:
            answer = await bench.call(tool, run, **arguments)
            assert answer.status == ("staged" if mode == "staged" else "shadowed"), (tool, answer)
        if mode == "plan":
            pending = await bench.engine.finish_run(ALICE, run)
            await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
        assert before_of(case) == before, "nothing is done while it is put down"
        return {"run": run, "before": before}
    finally:
        await bench.engine.close()


async def publish(order: dict[str, Any]) -> dict[str, Any]:
    """Carry it out; the moments at which the process can die."""
    bench = await opened(Path(order["case"]))
    kills = Kills(order["at"])
    kills.interpose(bench.engine)
    done = await bench.engine.finish_run(ALICE, order["run"], summary="all of it")
    assert done.error is None, done.error
    points = list(kills.points)
    after = await after_of(Path(order["case"]), bench)
    wrong = await agrees(bench, order["run"])
    await bench.engine.close()
    return {"points": points, "after": after, "wrong": wrong}


async def recover(order: dict[str, Any]) -> dict[str, Any]:
    """The next process, which dies too if that is ordered."""
    case = Path(order["case"])
    bench = await opened(case, recover=False)
    kills = Kills(order["at"])
    kills.interpose(bench.engine)
    stands = await _stands(bench, order["run"])
    await bench.engine.recover()
    await bench.engine.close()
    return {"points": kills.points, "stands": stands}


async def _stands(bench: Bench, run: str) -> dict[str, Any]:
    """What is said of the run before anything is settled."""
    detail = await bench.engine.get_run(ALICE, run)
    told = {"status": detail.run.status, "acts": [[row["tool"], row["status"]] for row in detail.actions or ()]}
    return json.loads(json.dumps(told))  # type: ignore[no-any-return] -- as it comes out of any JSON


async def look(order: dict[str, Any]) -> dict[str, Any]:
    """What is there when the next process has begun; then it is brought to its end, and taken back."""
    case, run = Path(order["case"]), order["run"]
    bench = await opened(case)
    journal = bench.engine.core.journal
    try:
        view = await journal.get(RunView, run)
        assert view is not None
        begun = await journal.find(CollectedCall, status="begun")
        assert not begun, f"{[call.tool for call in begun]} were begun and not brought to an end"
        assert not await journal.find(ActionView, status=("intended", "in_doubt")), "something is in doubt"
        found = "after" if view.status == "finished" else "before"
        if found == "before":
            now = before_of(case)
            made = [action.tool for action in await _standing(journal, run)]
            # between the last act and the end of the run all is made, and only that is missing
            whole = len(made) == len(STORY)
            assert whole or (now == order["before"] and not made), f"{made} were made, and nobody goes on"
            assert (await bench.engine.finish_run(ALICE, run)).error is None
            found = "made" if whole else found
        after = await after_of(case, bench)
        assert after == order["after"], "the end is not what it is when nobody dies"
        assert not (wrong := await agrees(bench, run)), wrong
        standing = [action.tool for action in await _standing(journal, run)]
        assert sorted(standing) == sorted(tool for tool, _ in STORY), standing
        assert not await journal.find(OpenItem, status="open")
        back = await bench.back(run_id=run)
        assert back.status == "complete", back.report
        now, before = before_of(case), order["before"]
        differ = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
        assert not differ, f"taken back, and not as before: {differ}"
        assert [row.status for row in await messages(bench)] == ["CANCELLED"]
        assert (await journal.verify()).sound
        return {"found": found}
    finally:
        await bench.engine.close()


async def _standing(journal: Journal, run: str) -> list[ActionView]:
    found = await journal.find(ActionView, run_id=RunId(run), oldest_first=True)
    return [action for action in found if action.stands]


# -- the process -----------------------------------------------------------------------------------------------------------

PHASES = {"prepare": prepare, "publish": publish, "recover": recover, "look": look}


def child(order: dict[str, Any], answer: int) -> None:
    signal.alarm(SECONDS)
    try:
        if (copied := order.get("copied_from")) is not None:
            shutil.rmtree(order["case"], ignore_errors=True)
            shutil.copytree(copied, order["case"], symlinks=True)
        told = {"told": asyncio.run(PHASES[order["phase"]](order))}
    except BaseException:
        told = {"error": traceback.format_exc()}
    with open(answer, "w") as pipe:
        json.dump(told, pipe)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            child(order, writing)
            os._exit(0)
        os.close(writing)
        with open(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(pid, 0)
        died = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        print(json.dumps({"died": died, **(json.loads(text) if text else {})}), flush=True)


if __name__ == "__main__":
    main()
