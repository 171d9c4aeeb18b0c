"""How payloads and views lie on the disk: small, readable for ever, and gone when they are erased."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from takeback.journal import events as e
from takeback.journal import frames
from takeback.journal.frames import bases_of, pack, point, points, unpack
from takeback.journal.ids import ActionId, RollbackId, RunId
from takeback.journal.log import JournalError
from takeback.journal.rows import Payloads
from takeback.journal.stored import read_view
from takeback.journal.views import ActionView, CheckpointView, RunView

RUN = RunId("run_a")

PAYLOADS = st.dictionaries(st.text(max_size=8), st.text(max_size=40), max_size=6).map(
    lambda value: __import__("json").dumps(value, ensure_ascii=False).encode()
)


@settings(deadline=None)
@given(data=PAYLOADS, bases=st.lists(PAYLOADS, max_size=3), first=st.integers(0, 1 << 40))
def test_what_was_packed_is_unpacked_as_it_was(data: bytes, bases: list[bytes], first: int) -> None:
    known = {first + 3 * index: payload for index, payload in enumerate(bases)}
    frame = pack(data, list(known.items()))
    assert unpack(frame, known.get) == data
    assert len(frame) <= len(data)
    assert bases_of(frame) in ((), tuple(known))


@settings(deadline=None)
@given(positions=st.lists(st.integers(0, 1 << 60), max_size=9))
def test_a_frame_that_names_events_says_which(positions: list[int]) -> None:
    frame = point(positions)
    assert points(frame) == tuple(positions)
    with pytest.raises(ValueError):
        unpack(frame, lambda _: b"{}")


def test_what_says_the_same_as_its_base_takes_next_to_nothing() -> None:
    content = hashlib.sha512(b"some content").hexdigest()
    data = f'{{"content":"{content}"}}'.encode()
    assert len(pack(data, [(7, data)])) < 20 < len(pack(data))


@pytest.mark.parametrize(
    "frame", [b"", b"\x01", b"\x01\x01", b"\x01\x01\x80", b"\x01\x00", b"\xff\x00abc", b"\x00\x02\x01"]
)
def test_what_is_no_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(frame, lambda _: None)


def test_every_cut_and_every_changed_byte_is_refused_or_gives_other_bytes() -> None:
    data = b'{"content":"' + b"nobody has seen these words before, " * 3 + b'"}'
    frame = pack(data)
    for index in range(len(frame)):
        for broken in (frame[:index], frame[:index] + bytes((frame[index] ^ 1,)) + frame[index + 1 :]):
            try:
                assert unpack(broken, lambda _: None) != data
            except ValueError:
                continue


def test_a_frame_without_its_base_is_refused() -> None:
    frame = pack(b'{"content":"what the base says as well"}', [(7, b'{"content":"what the base says as well"}')])
    with pytest.raises(ValueError, match="7"):
        unpack(frame, lambda _: None)


def test_the_text_of_each_version_is_what_it_always_was() -> None:
    # frames that were packed with another text could not be read any more: add a version, never change one
    assert {version: hashlib.sha256(text).hexdigest()[:16] for version, text in frames._TEXTS.items()} == {
        1: "e609219c2db43ea1",
    }


def test_journals_of_every_version_are_read(tmp_path: Any) -> None:
    # written by the first version: a frame with the text alone, and plain JSON
    assert (
        unpack(bytes.fromhex("010043cbbca06c87abc2045a0500"), lambda _: None)
        == b'{"run_id":"run_1","at":"2026-11-20T12:00:00Z"}'
    )
    assert unpack(b'{"run_id":"run_1"}', lambda _: None) == b'{"run_id":"run_1"}'


def real(make: Any, action: str, number: int) -> tuple[e.ActionIntended, e.ActionApplied]:
    """An action with as much in it as a real one has."""
    names = [f"blake3:{hashlib.sha256(f'{number} {index}'.encode()).hexdigest()}" for index in range(6)]
    states = [
        make.state(name).model_copy(update={"digest": name, "content": other, "objects": (name,), "ref": {"at": name}})
        for name, other in ((names[0], names[1]), (names[2], names[3]))
    ]
    effect = make.effect(f"/home/me/project/file{number % 9}.txt").model_copy(
        update={"before": states[0], "after": states[1]}
    )
    intended = make.intended(RUN, action).model_copy(update={"effects": (effect,), "argument_digest": names[4]})
    applied = make.applied(RUN, action).model_copy(update={"effects": (effect,), "digest": names[3]})
    return intended, applied


async def test_an_action_takes_less_than_two_kibibytes(place: Any, make: Any) -> None:
    journal = await place.open()
    try:
        await journal.append([make.started(RUN)])
        for number in range(200):
            intended, applied = real(make, f"act_{number:026d}", number)
            await journal.append([intended])
            await journal.append([applied])
    finally:
        await journal.close()
    assert place.path.stat().st_size / 200 < 2048


async def test_the_views_of_an_action_are_not_written_but_read_from_its_events(place: Any, make: Any) -> None:
    journal = await place.open()
    try:
        await journal.append([make.started(RUN), make.intended(RUN, "act_1"), make.applied(RUN, "act_1")])
        with closing(sqlite3.connect(place.path)) as database:
            docs = dict(database.execute("SELECT kind, doc FROM views").fetchall())
        assert points(docs["action"]) == points(docs["checkpoint"]) == (2, 3)
        assert points(docs["run"]) is None
        action = await journal.get(ActionView, "act_1")
        assert action is not None
        assert (action.summary, action.requested) == ("wrote hello", {"content": "hello"})
    finally:
        await journal.close()


async def test_a_view_that_many_events_went_into_is_written_down(place: Any, make: Any) -> None:
    journal = await place.open()
    try:
        await journal.append([make.started(RUN), make.intended(RUN, "act_1"), make.applied(RUN, "act_1")])
        for number in range(6):
            step = e.RollbackStep(
                run_id=RUN,
                at=make.started(RUN).at,
                rollback_id=RollbackId(f"rbk_{number}"),
                index=0,
                phase="concluded",
                action_id=ActionId("act_1"),
                outcome="restored",
                stands=bool(number % 2),
            )
            await journal.append([step])
            action = await journal.get(ActionView, "act_1")
            assert action is not None
            assert (action.stands, action.version) == (bool(number % 2), 4 + number)
            assert action.summary == "wrote hello"
            assert (await journal.verify()).sound
        before = await journal.find(ActionView)
        await journal.rebuild()
        assert await journal.find(ActionView) == before
    finally:
        await journal.close()


async def test_erasing_an_intent_leaves_what_rested_on_it_readable(place: Any, make: Any) -> None:
    journal = await place.open()
    try:
        await journal.append([make.started(RUN)])
        await journal.append([make.intended(RUN, "act_1", "/w/diary", content="dear diary")])
        await journal.append([make.applied(RUN, "act_1", "/w/open", content="for everybody")])
        assert rests_on(place, 3) == (2,)
        await journal.erase([2], by="me", why="asked for", at=make.started(RUN).at)
        assert rests_on(place, 3) == ()
        events = await journal.read()
        assert events[1].event is None
        assert isinstance(events[2].event, e.ActionApplied)
        assert events[2].event.answer == {"content": "for everybody"}
        assert (await journal.verify()).sound
    finally:
        await journal.close()
    with closing(sqlite3.connect(place.path)) as database:
        said = everything(database)
    assert b"for everybody" in said
    assert b"diary" not in said


def rests_on(place: Any, position: int) -> tuple[int, ...]:
    with closing(sqlite3.connect(place.path)) as database:
        (frame,) = database.execute("SELECT payload FROM events WHERE position = ?", (position,)).fetchone()
    return bases_of(frame)


def everything(database: sqlite3.Connection) -> bytes:
    """All that can be unpacked from a journal."""
    payloads = Payloads(database)
    positions = [position for (position,) in database.execute("SELECT position FROM events")]
    said = [payloads.get(position) or b"" for position in positions]
    for kind, id, doc in database.execute("SELECT kind, id, doc FROM views").fetchall():
        said.append(read_view(kind, id, doc, payloads).model_dump_json().encode())
    said += [object.encode() for (object,) in database.execute("SELECT object FROM touched")]
    return b"\n".join(said)


async def test_what_an_action_of_another_run_says_is_not_rested_on(place: Any, make: Any) -> None:
    # each run can be erased or exported without looking at the others
    other = RunId("run_b")
    journal = await place.open()
    try:
        await journal.append([make.started(RUN), make.intended(RUN, "act_1"), make.started(other)])
        await journal.append([make.applied(other, "act_1")])
        assert rests_on(place, 4) == ()
        assert (await journal.verify()).sound
    finally:
        await journal.close()


async def test_a_view_whose_events_are_gone_is_refused_and_named(place: Any, make: Any) -> None:
    journal = await place.open()
    try:
        await journal.append([make.started(RUN), make.intended(RUN, "act_1"), make.applied(RUN, "act_1")])
        with closing(sqlite3.connect(place.path)) as database:
            database.execute("DELETE FROM events WHERE position = 2")
            database.commit()
        for kind, id in ((ActionView, "act_1"), (CheckpointView, "chk_act_1")):
            with pytest.raises(JournalError) as refused:
                await journal.get(kind, id)
            assert "verify" in refused.value.advice
        assert await journal.get(RunView, RUN) is not None
        assert "missing" in {problem.kind for problem in (await journal.verify()).problems}
    finally:
        await journal.close()
