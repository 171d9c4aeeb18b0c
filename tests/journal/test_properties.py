"""Whatever happens in whatever order: both journals and a rebuild come to the same views."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from takeback.journal import events as e
from takeback.journal.chain import TYPES, decode, encode
from takeback.journal.erasure import bones
from takeback.journal.log import Journal, JournalError
from takeback.journal.memory import MemoryJournal
from takeback.journal.sqlite import SqliteJournal
from takeback.journal.states import Compensation, Effect, State
from takeback.journal.views import VIEWS

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

# few ids, so that events meet each other
IDS = {
    "run_id": st.sampled_from(["run_1", "run_2"]),
    "action_id": st.sampled_from(["act_1", "act_2", "act_3"]),
    "parent_action_id": st.none(),
    "checkpoint_id": st.sampled_from(["chk_1", "chk_2"]),
    "rollback_id": st.sampled_from(["rbk_1", "rbk_2"]),
    "redoes": st.sampled_from([None, "rbk_1", "rbk_2"]),
    "approval_id": st.sampled_from(["apr_1", "apr_2"]),
    "conflict_id": st.sampled_from(["cfl_1", "cfl_2"]),
    "idempotency_key": st.sampled_from([None, "key_1", "key_2"]),
    "tool": st.sampled_from(["write_file", "move_file"]),
    "index": st.integers(0, 3),
    "remains": st.just({}),
    "positions": st.just(()),
    "at": st.just(NOW),
    "expires_at": st.just(NOW),
}
STATES = st.sampled_from([State(digest="blake3:1", kind="file", size=1), State(digest="absent", kind="absent")])
EFFECTS = st.builds(
    Effect,
    system=st.just("files"),
    object=st.sampled_from(["/a", "/a/b", "/a/b/c", "/a0", "/é/ü"]),
    before=STATES,
    after=STATES,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
FIELDS = {
    "effects": st.lists(EFFECTS, max_size=3).map(tuple),
    "memo": JSON,
    "outcome": JSON,
    "output": JSON,
    "notes": JSON,
    "plan": JSON,
    "answer": st.dictionaries(st.text(max_size=3), JSON, max_size=2),
    "requested": st.dictionaries(st.text(max_size=3), JSON, max_size=2),
    "evidence": st.dictionaries(st.text(max_size=3), JSON, max_size=2),
    "calls": st.lists(IDS["action_id"], max_size=2).map(tuple),
    "compensation": st.just(Compensation(strategy="restore", how="put it back")),
}


def events_of(member: type[e.BaseEvent]) -> st.SearchStrategy[e.BaseEvent]:
    fields: dict[str, Any] = {}
    for name, field in member.model_fields.items():
        if name in IDS:
            fields[name] = IDS[name]
        elif (
            name in FIELDS
            and not (name == "answer" and member is e.TriggerFired)
            and not (name == "outcome" and member in (e.RunFinished, e.RollbackStep, e.ActionSettled))
        ):
            fields[name] = FIELDS[name]
        elif field.annotation is str:
            fields[name] = st.text(st.characters(codec="utf-8"), max_size=4)
        elif field.annotation in (State, State | None):
            fields[name] = st.none() | STATES
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields[name] = st.builds(e.Caller, principal=st.sampled_from(["me", "you"]))
        elif name == "type" and member is not e.MailMoved:
            fields[name] = st.just(get_args(field.annotation)[0])
    return st.builds(member, **fields)


EVENTS = st.one_of([events_of(member) for member in dict.fromkeys(TYPES.values()) if member is not e.Erased])
BATCHES = st.lists(st.lists(EVENTS, min_size=1, max_size=4), max_size=8)


async def picture(journal: Journal) -> dict[str, Any]:
    views = {name: list(await journal.find(kind)) for name, kind in VIEWS.items()}
    touched = {
        object: [action.id for action in await journal.touching("files", [object], nested=True)]
        for object in ("/a", "/a/b", "/a/b/c", "/é")
    }
    return {"views": views, "touched": touched}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(batches=BATCHES, erased=st.lists(st.integers(0, 30), max_size=4), cut=st.integers(0, 8))
def test_both_journals_and_a_rebuild_agree(batches: list[list[e.BaseEvent]], erased: list[int], cut: int) -> None:
    async def scenario(folder: Path) -> None:
        memory = MemoryJournal()
        disk = await SqliteJournal.open(folder / "journal.db", key_file=folder / "key", anchor_file=folder / "anchors")
        try:
            for journal in (memory, disk):
                for number, batch in enumerate(batches):
                    if number == cut:
                        await erase(journal, erased)
                    written = await journal.append(batch)
                    assert list(await journal.read(after=written[0].position - 1)) == written
            assert await picture(memory) == await picture(disk)
            before = await picture(disk)
            assert (await memory.verify()).problems == ()
            assert (await disk.verify()).problems == ()
            assert await memory.rebuild() == await disk.rebuild()
            assert await picture(disk) == before
            assert await picture(memory) == before
        finally:
            await disk.close()

    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        asyncio.run(scenario(folder))
    finally:
        shutil.rmtree(folder)


async def erase(journal: Journal, positions: list[int]) -> None:
    try:
        await journal.erase(positions, by="me", why="asked for", at=NOW)
    except JournalError:  # no such event, or the record of an erasure: refused by both alike
        assert (await journal.verify()).sound


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(event=EVENTS)
def test_every_event_survives_being_written_and_so_do_its_bones(event: Any) -> None:
    assert decode(event.type, encode(event)) == event
    left = bones(event)
    assert decode(event.type, encode(left)) == left
    assert left.run_id == event.run_id
