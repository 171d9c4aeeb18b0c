"""What was moved where is in the journal: the record beside it is made anew if it is lost, and what it cannot tell is said."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.server.engine.bench import ALICE, Bench
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.tools.email.imap.boxes import ODD, Box, message_id
from tests.tools.email.imap.test_histories import open_bench
from tests.tools.email.imap.test_store import keys_of

from takeback.journal.views import ActionView, OpenItem
from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call
from takeback.tools.email.imap.store import ImapStore


def store_of(bench: Bench) -> ImapStore:
    store = bench.engine.core.systems["email"].store("work")  # type: ignore[attr-defined] -- the system of mail
    assert isinstance(store, ImapStore)
    return store


def lose(folder: Path) -> None:
    """The record is gone."""
    shutil.rmtree(folder / "data" / "mail" / "imap")


class Machine:
    """One engine at a time on one data directory."""

    def __init__(self, box: Box, folder: Path) -> None:
        self.box, self.folder = box, folder
        self.bench: Bench | None = None

    async def open(self) -> Bench:
        """Another process."""
        await self.close()
        self.bench = await open_bench(self.box, self.folder)
        return self.bench

    async def reopened(self) -> Bench:
        """Another process, which finds no record."""
        await self.close()
        lose(self.folder)
        return await self.open()

    async def close(self) -> None:
        if self.bench is not None:
            await self.bench.engine.close()
            self.bench = None


@pytest_asyncio.fixture
async def machine(box: Box, tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(box, tmp_path)
    yield machine
    await machine.close()


async def chain(bench: Bench, run: str, keys: dict[str, str]) -> None:
    """Two messages filed on and on, flagged on the way; a short draft and a long one, filed and deleted."""
    two = {"mailbox": "work", "message_ids": [keys[message_id(1)], keys[message_id(2)]]}
    for folder in ("Archive", ODD, "INBOX"):
        await bench.done("move_email", run, destination=folder, **two)
        await bench.done(
            "flag_email", run, **two, **({"add": ["flagged"]} if folder == ODD else {"remove": ["flagged"]})
        )
    await bench.done("delete_email", run, **two)
    for body in ("x", "x" * 90_000):
        answer = await bench.done("draft_email", run, to=["a@example.org"], subject="Hi", body=body)
        drafted = {"mailbox": "work", "message_ids": [answer.result["message_id"]]}
        await bench.done("move_email", run, destination="Archive", **drafted)
        await bench.done("delete_email", run, **drafted)


async def test_a_chain_of_moves_is_taken_back_exactly_though_the_record_is_lost_at_every_turn(
    box: Box, machine: Machine, tmp_path: Path
) -> None:
    before = box.tree()
    bench = await machine.open()
    run = await bench.start()
    keys = await keys_of(store_of(bench))
    await chain(bench, run, keys)
    acted = box.tree()
    bench = await machine.reopened()
    listed = await keys_of(store_of(bench), "Trash")
    assert keys.items() >= {each: listed[each] for each in (message_id(1), message_id(2))}.items(), "by their old ids"
    back = await bench.back(run_id=run)
    assert back.status == "complete", back.report
    assert box.tree() == before
    lose(tmp_path)  # under the feet of the engine
    redone = await bench.engine.redo(ALICE, str(back.rollback_id))
    assert redone.status == "complete", redone.report
    assert box.tree() == acted
    bench = await machine.reopened()
    some = await bench.engine.rollback(ALICE, run_id=run, last=5)
    assert some.status == "complete", some.report
    bench = await machine.reopened()
    again = await bench.back(run_id=run)
    assert again.status == "complete", again.report
    assert box.tree() == before


async def test_what_somebody_moved_is_not_guessed_without_the_record_and_only_that_stays_open(
    box: Box, machine: Machine, tmp_path: Path
) -> None:
    before = box.tree()
    bench = await machine.open()
    run = await bench.start()
    keys = await keys_of(store_of(bench))
    both = [keys[message_id(1)], keys[message_id(2)]]
    await bench.done("move_email", run, mailbox="work", message_ids=both[:1], destination="Archive")
    await bench.done("move_email", run, mailbox="work", message_ids=both[1:], destination="Archive")
    box.copy("Archive", message_id(1), ODD)
    box.destroy("Archive", message_id(1))  # whether the copy is it, nobody can tell who has not seen it come
    theirs = box.tree()
    bench = await machine.reopened()
    refused = await bench.call("flag_email", run, mailbox="work", message_ids=both[:1], add=["seen"])
    assert refused.error is not None
    assert "was lost" in refused.error.message
    read = await bench.engine.read(
        Call(tool="read_email", arguments={"mailbox": "work", "message_id": both[0]}, caller=ALICE)
    )
    assert read.error is not None
    assert "was lost" in read.error.message
    back = await bench.back(run_id=run)
    assert sorted(step.outcome for step in back.steps) == ["conflict", "restored"], back.report
    [item] = await bench.engine.core.journal.find(OpenItem, status="open")
    assert "was lost" in item.why
    now = box.tree()
    assert now - before == {each: 1 for each in theirs if b"<m1@" in each[3]}, "and their message is as it was"


@pytest.mark.parametrize(("box", "act"), [("dovecot", "move"), ("dovecot", "draft")], indirect=["box"])
async def test_a_death_of_which_the_record_was_lost_too_is_a_doubt_and_nothing_is_done_twice(
    box: Box, machine: Machine, tmp_path: Path, act: str
) -> None:
    bench = await machine.open()
    run = await bench.start()
    key = (await keys_of(store_of(bench)))[message_id(1)]
    interpose(bench.engine.core, Reaper(4))  # it is done, and that is not written down
    with pytest.raises((Died, BaseExceptionGroup)):
        if act == "move":
            await bench.call("delete_email", run, mailbox="work", message_ids=[key])
        else:
            await bench.call("draft_email", run, to=["a@example.org"], subject="Hi", body="x")
    theirs = box.tree()
    lose(tmp_path)
    bench = await machine.open()
    [action] = await bench.engine.core.journal.find(ActionView)
    assert action.status == "in_doubt"
    [item] = await bench.engine.core.journal.find(OpenItem, status="open")
    assert "was lost" in item.why
    assert box.tree() == theirs


@pytest.mark.parametrize("box", ["dovecot"], indirect=True)
async def test_a_damaged_record_is_told_and_not_overwritten(box: Box, machine: Machine, tmp_path: Path) -> None:
    bench = await machine.open()
    run = await bench.start()
    key = (await keys_of(store_of(bench)))[message_id(1)]
    await bench.done("delete_email", run, mailbox="work", message_ids=[key])
    await machine.close()
    [record] = (tmp_path / "data" / "mail" / "imap").iterdir()
    record.write_bytes(b"no database" * 1000)
    bench = await machine.open()
    refused = await bench.call("flag_email", run, mailbox="work", message_ids=[key], add=["seen"])
    assert refused.error is not None
    assert f"Delete mail/imap/{record.name}" in refused.error.advice
    record.unlink()
    assert (await bench.back(run_id=run)).status == "complete"


@pytest.mark.parametrize("box", ["dovecot"], indirect=True)
async def test_of_messages_that_are_alike_none_is_touched_and_the_rest_goes_back(box: Box, machine: Machine) -> None:
    bench = await machine.open()
    run = await bench.start()
    keys = await keys_of(store_of(bench))
    for number in (1, 2):
        await bench.done(
            "move_email", run, mailbox="work", message_ids=[keys[message_id(number)]], destination="Archive"
        )
    box.copy("Archive", message_id(1), ODD)
    box.copy("Archive", message_id(1), "Sent")
    box.destroy("Archive", message_id(1))
    theirs = {each for each in box.tree() if b"<m1@" in each[3]}
    back = await bench.back(run_id=run)
    assert sorted(step.outcome for step in back.steps) == ["conflict", "restored"], back.report
    [item] = await bench.engine.core.journal.find(OpenItem, status="open")
    assert "2 messages could be it" in item.why
    assert {each for each in box.tree() if b"<m1@" in each[3]} == theirs
    box.destroy("Sent", message_id(1))
    with pytest.raises(EngineError, match="changed again"):
        await bench.engine.resolve_conflict(ALICE, item.id, "ours")
    [item] = await bench.engine.core.journal.find(OpenItem, status="open")
    await bench.engine.resolve_conflict(ALICE, item.id, "ours")
    assert {each[0] for each in box.tree() if b"<m1@" in each[3]} == {"INBOX"}
