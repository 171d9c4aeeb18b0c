"""Whatever somebody does to the journal behind its back is found, and named as what it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from takeback.journal.anchors import AnchorFile
from takeback.journal.chain import Row
from takeback.journal.ids import RunId
from takeback.journal.keys import KeyFile, KeyRing
from takeback.journal.log import Verification
from takeback.journal.memory import MemoryJournal

RUN = RunId("run_a")
OTHER = RunId("run_b")

Swap = "UPDATE events SET {0} = CASE {0} WHEN 3 THEN -4 ELSE -3 END WHERE {0} IN (3, 4) {1}"
Unsign = "UPDATE events SET {0} = -{0} WHERE {0} < 0"
RUN_B = "(SELECT row FROM names WHERE name = 'run_b')"

TAMPERINGS: dict[str, tuple[str, list[str]]] = {
    "the payload says something else": (
        "changed",
        ["UPDATE events SET payload = x'7b7d' WHERE position = 3"],
    ),
    "the payload is that of another event": (
        "changed",
        ["UPDATE events SET payload = (SELECT payload FROM events WHERE position = 5) WHERE position = 3"],
    ),
    "the payload's frame is of another kind": ("changed", ["UPDATE events SET payload = x'ff00' WHERE position = 3"]),
    "the payload's frame rests on nothing": ("changed", ["UPDATE events SET payload = x'01017f00' WHERE position = 3"]),
    "the payload's frame rests on itself": ("changed", ["UPDATE events SET payload = x'01010300' WHERE position = 3"]),
    "a run has another name": ("changed", ["UPDATE names SET name = 'run_c' WHERE name = 'run_a'"]),
    "a run has no name": ("changed", ["DELETE FROM names WHERE name = 'run_a'"]),
    "payload and its digest say something else": (
        "changed",
        ["UPDATE events SET payload_digest = zeroblob(32) WHERE position = 3"],
    ),
    "the time is another": ("changed", ["UPDATE events SET at = '2020-01-01T00:00:00+00:00' WHERE position = 3"]),
    "the type is another": ("changed", ["UPDATE events SET type = 'action.failed' WHERE position = 3"]),
    "the type is none of ours": ("changed", ["UPDATE events SET type = 'nonsense' WHERE position = 3"]),
    "the action is another": ("changed", ["UPDATE events SET action_id = 'act_9' WHERE position = 3"]),
    "the run is another": ("changed", [f"UPDATE events SET run = {RUN_B}, seq = 2 WHERE position = 3"]),
    "the mac is another": ("changed", ["UPDATE events SET mac = zeroblob(32) WHERE position = 3"]),
    "the payload is gone without an erasure": (
        "changed",
        ["UPDATE events SET payload = NULL, salt = NULL WHERE position = 3"],
    ),
    "only the salt is gone": ("changed", ["UPDATE events SET salt = NULL WHERE position = 3"]),
    "an event in the middle is gone": ("missing", ["DELETE FROM events WHERE position = 3"]),
    "an event in the middle is gone and the gap closed": (
        "missing",
        [
            "DELETE FROM events WHERE position = 3",
            "UPDATE events SET position = position - 1 WHERE position > 3",
        ],
    ),
    "the first event is gone": ("missing", ["DELETE FROM events WHERE position = 1"]),
    "a whole run at the end is gone": ("cut_off", [f"DELETE FROM events WHERE run = {RUN_B}"]),
    "two events exchanged their places in the journal": (
        "reordered",
        [Swap.format("position", ""), Unsign.format("position")],
    ),
    "two events exchanged their places in the run": (
        "reordered",
        [Swap.format("seq", f"AND run <> {RUN_B}"), Unsign.format("seq")],
    ),
    "the newest event is gone": ("cut_off", ["DELETE FROM events WHERE position = 6"]),
    "the end of one run is gone": ("cut_off", ["DELETE FROM events WHERE position = 5"]),
    "all is gone": ("cut_off", ["DELETE FROM events"]),
    "a view says something else": ("projection", ["UPDATE views SET doc = x'7b7d' WHERE id = 'act_1'"]),
    "a view has another status": ("projection", ["UPDATE views SET status = 'finished' WHERE kind = 'run'"]),
    "a view is gone": ("projection", ["DELETE FROM views WHERE kind = 'action' AND id = 'act_1'"]),
    "a view tells of nothing": (
        "projection",
        ["INSERT INTO views SELECT NULL, kind, 'act_9', run, status, live, first_position, version, doc "
         "FROM views WHERE id = 'act_1' AND kind = 'action'"],
    ),
    "an action is not found by its object": ("projection", ["DELETE FROM touched WHERE action_id = 'act_1'"]),
    "an event is signed with a key that nobody has": (
        "unknown_key",
        [
            "INSERT INTO names VALUES (99, 'key_0000000000000000')",
            "UPDATE events SET key = 99 WHERE position = 3",
        ],
    ),
}  # fmt: skip


async def written(place: Any, make: Any) -> None:
    """A journal of six events in two runs."""
    journal = await place.open()
    await journal.append([make.started(RUN), make.intended(RUN, "act_1")])
    await journal.append([make.applied(RUN, "act_1"), make.intended(RUN, "act_2")])
    await journal.append([make.applied(RUN, "act_2")])
    await journal.append([make.started(OTHER)])
    assert (await journal.verify()).sound
    await journal.close()


async def verified(place: Any) -> Verification:
    journal = await place.open(read_only=True)
    try:
        found: Verification = await journal.verify()
        return found
    finally:
        await journal.close()


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_tampering_is_found(place: Any, make: Any, tampering: str) -> None:
    await written(place, make)
    kind, statements = TAMPERINGS[tampering]
    with sqlite3.connect(place.path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()
    found = await verified(place)
    assert kind in {problem.kind for problem in found.problems}, found.problems


async def test_one_changed_event_is_one_problem_and_its_successors_are_not_accused(place: Any, make: Any) -> None:
    await written(place, make)
    with sqlite3.connect(place.path) as database:
        database.execute("UPDATE events SET at = '2020-01-01T00:00:00+00:00' WHERE position = 3")
    database.close()
    found = await verified(place)
    assert {(problem.kind, problem.position) for problem in found.problems} == {("changed", 3)}


def copied(place: Any, to: Path) -> None:
    shutil.copytree(place.path.parent, to)


def put_back(place: Any, old: Path) -> None:
    shutil.rmtree(place.path.parent)
    shutil.copytree(old, place.path.parent)


async def test_an_old_copy_that_was_put_back_is_found(place: Any, make: Any, tmp_path: Path) -> None:
    await written(place, make)
    copied(place, tmp_path / "old")
    journal = await place.open()
    await journal.append([make.intended(RUN, "act_3"), make.applied(RUN, "act_3")])
    await journal.close()
    assert (await verified(place)).sound
    put_back(place, tmp_path / "old")
    assert {problem.kind for problem in (await verified(place)).problems} == {"rolled_back"}


async def test_an_old_copy_that_was_put_back_is_found_even_after_it_was_written_on(
    place: Any, make: Any, tmp_path: Path
) -> None:
    await written(place, make)
    copied(place, tmp_path / "old")
    journal = await place.open()
    await journal.append([make.intended(RUN, "act_3")])
    await journal.close()
    put_back(place, tmp_path / "old")
    journal = await place.open()
    for number in range(5):
        await journal.append([make.intended(RUN, f"act_other_{number}")])
    await journal.close()
    problems = (await verified(place)).problems
    assert [(problem.kind, problem.position) for problem in problems] == [("rolled_back", 7)]


async def test_an_event_without_the_key_cannot_be_forged(place: Any, make: Any, tmp_path: Path) -> None:
    await written(place, make)
    forger = KeyRing.load(KeyFile(tmp_path / "forged.json"))
    forger.create()
    with sqlite3.connect(place.path) as database:
        database.execute("INSERT INTO names VALUES (99, ?)", (forger.current.id,))
        database.execute(
            "INSERT INTO events SELECT 7, run, 2, type, at, action_id, payload, salt, payload_digest, mac, 99 "
            "FROM events WHERE position = 6"
        )
    database.close()
    assert "unknown_key" in {problem.kind for problem in (await verified(place)).problems}


async def test_an_event_that_was_written_on_a_copy_does_not_fit_in_the_place_of_another(
    place: Any, make: Any, tmp_path: Path
) -> None:
    copy = type(place)(tmp_path / "copy")
    copy.key_file = place.key_file
    for here, content in ((place, "what happened"), (copy, "what did not")):
        journal = await here.open()
        await journal.append([make.started(RUN)])
        await journal.append([make.intended(RUN, "act_1", content=content), make.intended(RUN, "act_2")])
        await journal.close()
    # signed with the right key, for the right place in the right run: only its successor knows that it was another one
    with sqlite3.connect(place.path) as database:
        database.execute("ATTACH ? AS copy", (str(copy.path),))
        database.execute("DELETE FROM events WHERE position = 2")
        database.execute("INSERT INTO events SELECT * FROM copy.events WHERE position = 2")
    database.close()
    place.anchor_file.unlink()
    assert "changed" in {problem.kind for problem in (await verified(place)).problems}


async def test_equal_words_leave_different_digests_behind(journal: Any, make: Any) -> None:
    # else whoever has the journal could try what an erased payload said
    event = make.started(RUN)
    await journal.append([event, event])
    first, second = await journal.chain_rows(RUN)
    assert first.payload == second.payload
    assert first.payload_digest != second.payload_digest
    await journal.erase([1], by="me", why="asked for", at=event.at)
    erased = (await journal.chain_rows(RUN))[0]
    assert (erased.payload, erased.salt, erased.payload_digest) == (None, None, first.payload_digest)


async def test_journals_that_share_an_anchor_file_do_not_answer_for_each_other(
    place: Any, make: Any, tmp_path: Path
) -> None:
    await written(place, make)
    other = type(place)(tmp_path / "other")
    other.anchor_file = place.anchor_file
    await written(other, make)
    assert (await verified(place)).sound
    assert (await verified(other)).sound
    with sqlite3.connect(place.path) as database:
        database.execute("DELETE FROM events WHERE position = 6")
    database.close()
    assert not (await verified(place)).sound
    assert (await verified(other)).sound


def test_anchors_are_compacted_to_the_newest_of_each_run_and_contradictions_stay(tmp_path: Path) -> None:
    anchors = AnchorFile(tmp_path / "anchors.log", compact_bytes=4000)
    for seq in range(1, 200):
        anchors.append("journal one", seq, {"run_a": (seq, seq.to_bytes(4, "big"))})
        if seq == 150:
            anchors.append("journal one", 150, {"run_b": (1, b"b")})
            anchors.append("journal two", 1, {"run_a": (1, b"first")})
            anchors.append("journal two", 1, {"run_a": (1, b"second")})
    assert anchors.path.stat().st_size < 4200
    one, two = anchors.read("journal one"), anchors.read("journal two")
    assert max(anchor.seq for anchor in one if anchor.run_id == "run_a") == 199
    assert [anchor.mac for anchor in one if anchor.run_id == "run_b"] == [b"b".hex()]
    assert {anchor.mac for anchor in two} == {b"first".hex(), b"second".hex()}
    anchors.close()


def test_a_torn_anchor_costs_only_itself(tmp_path: Path) -> None:
    anchors = AnchorFile(tmp_path / "anchors.log")
    anchors.append("journal", 1, {"run_a": (1, b"1")})
    with anchors.path.open("a") as file:
        file.write('{"journal": "journal", "posi')
    anchors.append("journal", 2, {"run_a": (2, b"2")})
    assert [anchor.seq for anchor in anchors.read("journal")] == [1, 2]
    anchors.close()


MEMORY_TAMPERINGS: dict[str, Callable[[list[Row]], None]] = {
    "changed": lambda rows: rows.__setitem__(2, replace(rows[2], payload=b"{}")),
    "missing": lambda rows: rows.__delitem__(2),
    "reordered": lambda rows: rows.__setitem__(
        slice(2, 4), [replace(rows[3], position=3), replace(rows[2], position=4)]
    ),
    "cut_off": lambda rows: rows.__delitem__(-1),
    "unknown_key": lambda rows: rows.__setitem__(2, replace(rows[2], key_id="key_unknown")),
}


@pytest.mark.parametrize("kind", MEMORY_TAMPERINGS)
async def test_tampering_is_found_in_memory_too(make: Any, kind: str) -> None:
    journal = MemoryJournal()
    await journal.append([make.started(RUN), make.intended(RUN, "act_1"), make.applied(RUN, "act_1")])
    await journal.append([make.intended(RUN, "act_2"), make.applied(RUN, "act_2")])
    MEMORY_TAMPERINGS[kind](journal.rows)
    assert kind in {problem.kind for problem in (await journal.verify()).problems}


def test_the_key_file_says_which_keys_there_are(tmp_path: Path) -> None:
    ring = KeyRing.load(KeyFile(tmp_path / "keys.json"))
    ring.create()
    first = ring.current.id
    second = ring.rotate()
    again = KeyRing.load(KeyFile(tmp_path / "keys.json"))
    assert again.current.id == second
    assert again.find(first) is not None
    assert set(json.loads((tmp_path / "keys.json").read_text())["keys"]) == {first, second}
    assert ring.current.secret.hex() not in repr(ring.current)
