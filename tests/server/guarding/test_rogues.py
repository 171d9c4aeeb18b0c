"""Rogue agents of every kind in every family, with the settings as they come: contained in time and alone, and recovered from.

Each works under a principal of its own on one data directory; beside them somebody's run goes on. In the end the checks of the
user's hold, and the world is as before to the last bit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.end_to_end.test_rogue_agent import EVENT, LETTER, seen

from takeback.journal.events import Caller
from takeback.journal.views import ActionView, RunView
from takeback.server.engine.engine import Call, Engine
from takeback.server.engine.triggers.settings import BlastRadius, RepeatedUpdate, RetryStorm, TargetConfusion
from takeback.server.engine.triggers.values import recipients_of
from takeback.server.settings import load

RADIUS = BlastRadius()
LOOPS, STORM, STRANGE = RepeatedUpdate().threshold, RetryStorm().threshold, TargetConfusion().threshold
MANY = RADIUS.deleted_per_minute + 20
ORDERS = RADIUS.rows_per_minute + 500
CONFIG = """
[[checks]]
name = "all-orders-are-there"
database = "shop.db"
query = "SELECT count(*) FROM orders"
equals = {orders}

[[checks]]
name = "terms-stand"
objects = ["*/terms.txt"]
command = ["grep", "-q", "before", "{site}/terms.txt"]

[calendars.work]
path = "{calendar}"
[mailboxes.work]
path = "{mail}"
address = "me@localhost"
"""
GOOD = Caller(principal="local:good", client="good-agent")
Step = tuple[str, dict[str, Any]]


class Rogue(NamedTuple):
    """What it does, how often that is let happen, and what stops it."""

    name: str
    act: Callable[[int], Step]
    allowed: int
    trigger: str
    scope: tuple[str, ...] = ()
    fails: str = ""
    """How each of its calls is answered, if not by being made."""


def message(number: int) -> str:
    return f"{1764380000 + number}.M{number}P1.host"


def letter(*people: str) -> Step:
    return "send_email", {
        "to": [people[0]],
        "bcc": [*people[1:]],
        "subject": "Offer",
        "body": "Buy!",
        "hold_seconds": 600,
    }


def sql(text: str) -> Step:
    return "execute_sql", {"database": "shop.db", "sql": text}


LATER = {"calendar": "work", "event_id": "0", "summary": "Moved"}
ROGUES = [
    Rogue(
        "loop-files", lambda _: ("write_file", {"path": "terms.txt", "content": "damage\n"}), LOOPS, "repeated_update"
    ),
    Rogue("loop-rows", lambda _: sql("UPDATE orders SET total = total + 1 WHERE id = 1"), LOOPS, "repeated_update"),
    Rogue("loop-events", lambda _: ("update_event", LATER), LOOPS, "repeated_update"),
    Rogue(
        "loop-mail",
        lambda _: ("flag_email", {"mailbox": "work", "message_ids": [message(0)], "add": ["flagged"]}),
        LOOPS,
        "repeated_update",
    ),
    *(
        Rogue(f"storm-{name}", lambda _, step=step: step, STORM, "retry_storm", (), "failed")
        for name, step in {
            "files": ("delete_file", {"path": "nothing.txt"}),
            "rows": sql("UPDATE nothing SET total = 0"),
            "events": ("delete_event", {"calendar": "work", "event_id": "nothing"}),
            "mail": ("delete_email", {"mailbox": "work", "message_ids": ["nothing"]}),
        }.items()
    ),
    *(
        Rogue(f"wrong-{name}", lambda _, step=step: step, STRANGE, "target_confusion", ("docs/**",), "denied")
        for name, step in {
            "files": ("write_file", {"path": "terms.txt", "content": "damage\n"}),
            "rows": sql("UPDATE orders SET total = 0 WHERE id = 2"),
            "events": ("update_event", LATER),
            "mail": letter("bob@globex.example"),
        }.items()
    ),
    Rogue(
        "delete-files", lambda n: ("delete_file", {"path": f"old/{n}.txt"}), RADIUS.deleted_per_minute, "blast_radius"
    ),
    Rogue("delete-rows", lambda n: sql("DELETE FROM orders" + " WHERE id <= 10" * (not n)), 1, "blast_radius"),
    Rogue(
        "delete-events",
        lambda n: ("delete_event", {"calendar": "work", "event_id": f"{n}"}),
        RADIUS.deleted_per_minute,
        "blast_radius",
    ),
    Rogue(
        "delete-mail",
        lambda n: ("delete_email", {"mailbox": "work", "message_ids": [message(10 * n + each) for each in range(10)]}),
        RADIUS.deleted_per_minute // 10,
        "blast_radius",
    ),
    Rogue("crowd", lambda n: letter(f"p{n}@example.org"), RADIUS.recipients_per_minute, "blast_radius"),
    Rogue("crowd-at-once", lambda _: letter(*(f"p{each}@example.org" for each in range(100))), 0, "blast_radius"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rogues")
    site, calendar, mail = folder / "site", folder / "calendar", folder / "mail"
    (site / "old").mkdir(parents=True)
    calendar.mkdir()
    for sub in ("cur", "new", "tmp"):
        (mail / sub).mkdir(parents=True)
    (site / "terms.txt").write_text("before\n")
    for number in range(MANY):
        (site / "old" / f"{number}.txt").write_text(f"{number}\n")
        (calendar / f"{number}.ics").write_text(EVENT.format(number), newline="")
        (mail / "cur" / f"{message(number)}:2,S").write_text(LETTER.format(number), newline="")
    with sqlite3.connect(site / "shop.db") as shop:
        shop.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY, total INT)")
        shop.executemany("INSERT INTO orders VALUES (?, ?)", ((number, number) for number in range(1, ORDERS + 1)))
    shop.close()
    (folder / "config.toml").write_text(CONFIG.format(orders=ORDERS, site=site, calendar=calendar, mail=mail))
    return folder


@pytest.fixture
async def engine(world: Path) -> AsyncIterator[Engine]:
    places = {"DATA": "data", "KEY_FILE": "key.json", "ANCHOR_FILE": "anchors"}
    environment = {f"TAKEBACK_{name}": str(world / file) for name, file in places.items()}
    settings = load(world / "config.toml", environment=environment).settings
    roots = settings.workspace.model_copy(update={"roots": (world / "site",)})
    engine = await Engine.open(settings.model_copy(update={"workspace": roots}))
    at = engine.core.now()
    engine.core.now = lambda: at  # all within one minute, however slow the machine is
    yield engine
    await engine.close()


async def hit(engine: Engine, run: RunView) -> dict[str, int]:
    """What of the world the run's acts changed."""
    actions = [a for a in await engine.core.journal.find(ActionView, run_id=run.run_id) if a.status == "applied"]
    effects = [effect for action in actions for effect in action.effects if effect.verb != "unchanged"]
    return {
        "objects_per_minute": len({(effect.system, effect.object) for effect in effects}),
        "recipients_per_minute": len({name for effect in effects for name in recipients_of(effect)}),
    }


@pytest.mark.parametrize("rogue", ROGUES, ids=lambda rogue: rogue.name)
async def test_a_rogue_agent_is_contained_in_time_and_alone_and_everything_is_as_before(
    engine: Engine, world: Path, rogue: Rogue
) -> None:
    before, me = seen(world), Caller(principal=f"local:{rogue.name}", client="rogue-agent")

    async def act(step: Step, run: str, caller: Caller = me) -> Any:
        return await engine.call(Call(step[0], dict(step[1]), caller, run_id=run))

    run_id = (await engine.start_run(me, rogue.name, scope=rogue.scope)).run_id
    fine = (await engine.start_run(GOOD, "Write the report")).run_id
    told: list[str] = []
    for number in range(MANY):
        answer = await act(rogue.act(number), run_id)
        if answer.error is not None and answer.error.code == "contained":
            assert rogue.trigger in answer.error.message
            break
        assert answer.status in ((rogue.fails,) if rogue.fails else ("applied", "held")), answer
        told.append(answer.status)
        if (await engine.core.run(me, run_id)).status == "contained":
            break
    assert len(told) == rogue.allowed, "contained before it goes further than it may"
    run = await engine.core.run(me, run_id)
    assert run.status == "contained" and run.why.startswith(rogue.trigger)
    assert all(count <= getattr(RADIUS, name) for name, count in (await hit(engine, run)).items())

    good = await act(("write_file", {"path": f"report-{rogue.name}.txt", "content": "fine\n"}), fine, GOOD)
    assert good.status == "applied", "nobody else is stopped"
    assert (await act(("write_file", {"path": "more.txt", "content": "x"}), run_id)).status == "denied"
    read = await engine.read(Call("read_file", {"path": f"report-{rogue.name}.txt"}, me))
    assert read.error is None, "and it may still read, and look at its runs"
    assert [one.run_id for one in (await engine.list_runs(me)).runs] == [run_id]

    await engine.incident.secure(me, run_id, "recovery")
    found = await engine.incident.reconcile(me, run_id, "before")
    assert found.true == (rogue.name not in ("loop-files", "delete-rows")), "what is broken is seen"
    if any(status in ("applied", "held") for status in told):
        assert (await engine.rollback(me, run_id=run_id)).status == "complete"
    after = await engine.incident.reconcile(me, run_id, "after")
    assert after.true and len(after.checks) == 2
    assert (await engine.rollback(GOOD, run_id=fine)).status == "complete"
    assert seen(world) == before
