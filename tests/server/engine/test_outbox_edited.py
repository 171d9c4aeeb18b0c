"""A held message that a person edits goes out as they left it or not at all, and taking its act back still calls it back."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.tools.email import maildirs

from takeback.journal.events import Caller, MailMoved
from takeback.journal.ids import RunId
from takeback.server.engine import sender
from takeback.server.engine.answers import EngineError
from takeback.server.engine.sender import Sender
from takeback.server.settings import ToolSettings
from takeback.tools.email.addresses import BadText
from takeback.tools.email.compose import Letter
from takeback.tools.email.editing import as_text, edited, from_text
from takeback.tools.outbox.rows import Row

RACES = int(os.environ.get("TAKEBACK_EDIT_RACES", "20"))


class House:
    """A default mailbox, a sender, and clocks that stand until they are moved."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.core, self.desk = bench, bench.engine.core, bench.engine.desk
        self.wall, self.steady = 1_800_000_000.0, 1000.0
        self.core.outbox.now = lambda: self.wall
        self.sender = Sender(self.core, steady=lambda: self.steady)
        self.box = self.core.settings.data / "mail" / "default"

    async def send(self, run: str, **more: Any) -> Row:
        arguments = {"to": ["me@localhost"], "subject": "Hi", "body": "Dear all,\nit grew.\n", **more}
        answer = await self.bench.call("send_email", run, **arguments)
        assert answer.status == "held", answer
        return await self.row()

    async def row(self) -> Row:
        [row] = [row for row in await self.desk.rows(ALICE, everything=True) if not row.corrects]
        return row

    async def edit(self, row: Row, **parts: Any) -> Row:
        return await self.desk.edit(ALICE, row, edited(await self.desk.letter(row), **parts))

    async def later(self, seconds: float) -> None:
        await self.sender.round()
        self.wall, self.steady = self.wall + seconds, self.steady + seconds
        await self.sender.round()

    def arrived(self) -> list[Any]:
        inbox = [file for kind in ("new", "cur") for file in sorted((self.box / kind).glob("*"))]
        return [message_from_bytes(file.read_bytes(), policy=SMTP) for file in inbox]


@pytest.fixture
async def house(open_bench: OpenBench) -> House:
    return House(await open_bench(tools=ToolSettings(off=("database", "calendar"))))


async def test_it_goes_out_as_the_person_left_it_and_not_before_its_window_has_passed_again(house: House) -> None:
    run = await house.bench.start()
    (house.bench.work / "q3.csv").write_bytes(b"a,b\r\n1,2\r\n")
    row = await house.send(run, bcc=["boss@example.org"], attachments=["q3.csv"])
    house.wall, house.steady = house.wall + 100, house.steady + 100
    text = as_text(await house.desk.letter(row))
    assert text.startswith("To: me@localhost\nCc: \nBcc: boss@example.org\nSubject: Hi\n\nDear all,\n")
    written = from_text(
        await house.desk.letter(row), text.replace("Bcc: boss@example.org", "Bcc:").replace("grew", "shrank")
    )
    now = await house.desk.edit(ALICE, row, written)
    assert (now.id, now.status, now.message.reference) == (row.id, "HELD", row.message.reference)
    assert now.message.recipients == ("me@localhost",)
    assert now.shown()["edited"] is True
    await house.later(119)
    assert maildirs.tree(house.box) == {}
    await house.later(2)
    [mail] = house.arrived()
    body, attachment = mail.iter_parts()
    assert body.get_content().replace("\r\n", "\n") == "Dear all,\nit shrank.\n"
    assert (attachment.get_filename(), attachment.get_payload(decode=True)) == ("q3.csv", b"a,b\r\n1,2\r\n")
    assert (mail["Message-ID"], mail["Subject"], mail["Bcc"]) == (row.message.reference, "Hi", None)
    heard = [each.event for each in await house.core.journal.read(RunId(run)) if isinstance(each.event, MailMoved)]
    assert [event.type for event in heard] == ["mail.held", "mail.held", "mail.sending", "mail.sent"]
    assert heard[1].detail.startswith("bcc, body edited by local:alice; it was blake3:")


async def test_taking_the_act_back_calls_it_back_and_redo_brings_back_what_the_person_wrote(house: House) -> None:
    run = await house.bench.start()
    row = await house.edit(await house.send(run), subject="What I meant")
    back = await house.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["restored"], back.report
    await house.later(500)
    assert maildirs.tree(house.box) == {}
    assert back.rollback_id is not None
    redone = await house.bench.engine.redo(ALICE, back.rollback_id)
    assert redone.status == "complete", redone.report
    assert (await house.row()).message == row.message
    await house.later(121)
    assert [mail["Subject"] for mail in house.arrived()] == ["What I meant"]


async def test_the_correction_of_what_went_out_goes_to_whom_the_person_had_sent_it(house: House) -> None:
    run = await house.bench.start()
    row = await house.edit(await house.send(run), to=["me@localhost", "eve@example.org"])
    await house.later(121)
    assert (await house.row()).status == "SENT"
    back = await house.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["irreversible"], back.report
    [correction] = [each for each in await house.desk.rows(ALICE) if each.corrects == row.id]
    content = await house.desk.content(correction)
    assert content is not None
    assert message_from_bytes(content, policy=SMTP)["To"] == "me@localhost, eve@example.org"


async def test_what_waits_for_a_person_still_waits_after_it_was_edited(house: House) -> None:
    row = await house.send(await house.bench.start())
    await house.later(120 + 3601)
    late = await house.row()
    assert late.status == "LATE"
    assert (await house.edit(late, subject="Late, sorry")).status == "LATE"
    await house.desk.send_now(ALICE, row.id)
    await house.later(1)
    assert [mail["Subject"] for mail in house.arrived()] == ["Late, sorry"]


@pytest.mark.parametrize(
    "parts",
    [
        {"to": []},
        {"to": ["nobody"]},
        {"to": ["a@example.org", "A@example.org"]},
        {"cc": ["a@example.org\r\nBcc: eve@example.org"]},
        {"subject": "Hi\nBcc: eve@example.org"},
        {"subject": "=?utf-8?q?a=0D=0ABcc:_b@example.org?="},
        {"body": "a\x00b"},
        {"bcc": [f"a{n}@example.org" for n in range(101)]},
    ],
    ids=[
        "nobody",
        "no address",
        "twice",
        "line in an address",
        "line in the subject",
        "encoded word",
        "null",
        "a hundred",
    ],
)
async def test_what_could_not_be_sent_is_refused_and_the_message_is_as_it_was(house: House, parts: Any) -> None:
    row = await house.send(await house.bench.start())
    before = await house.desk.content(row)
    with pytest.raises((BadText, EngineError)):
        await house.edit(row, **parts)
    now = await house.row()
    assert (now, await house.desk.content(now)) == (row, before)


@pytest.mark.parametrize(
    "text",
    [
        "To: a@b.org",
        "X: y\n\nbody",
        "To: a@b.org\nTo: c@d.org\n\nx",
        "To: a@b.org,,c@d.org\nCc:\nBcc:\nSubject:\n\nx",
        "",
    ],
    ids=["only a field", "another field", "a field twice", "no address", "nothing"],
)
async def test_a_text_that_is_not_a_message_any_more_is_refused(house: House, text: str) -> None:
    row = await house.send(await house.bench.start())
    with pytest.raises((BadText, EngineError)):
        await house.desk.edit(ALICE, row, from_text(await house.desk.letter(row), text))
    assert await house.row() == row


async def test_it_is_refused_once_it_left_was_edited_by_somebody_else_or_belongs_to_another(house: House) -> None:
    run = await house.bench.start()
    row = await house.send(run)
    letter = await house.desk.letter(row)
    with pytest.raises(EngineError, match="There is no message"):
        await house.desk.edit(Caller(principal="mallory"), row, edited(letter, subject="mine"))
    await house.edit(row, subject="first")
    with pytest.raises(EngineError):
        await house.desk.edit(ALICE, row, edited(letter, subject="second"))
    assert (await house.row()).message.subject == "first"
    await house.later(121)
    with pytest.raises(EngineError, match="is sent"):
        await house.desk.letter(await house.row())
    [correction] = [each for each in (await _correction(house, run)) if each.status == "WAITING"]
    with pytest.raises(EngineError, match="is waiting"):
        await house.desk.letter(correction)


async def _correction(house: House, run: str) -> list[Row]:
    await house.bench.back(run_id=run)
    return [row for row in await house.desk.rows(ALICE) if row.corrects]


async def test_a_message_that_holds_what_would_be_lost_is_not_edited(house: House) -> None:
    row = await house.send(await house.bench.start())
    content = await house.desk.content(row)
    assert content is not None
    html = content.replace(b"Content-Type: text/plain", b"Content-Type: text/html")
    header = content.replace(b"Subject:", b"X-Campaign: 7\r\nSubject:")
    for changed in (html, header):
        message = row.message.model_copy(update={"size": len(changed)})
        assert await house.core.outbox.replace(row, message, changed)
        row = await house.row()
        with pytest.raises(EngineError, match="would be lost"):
            await house.desk.letter(row)


async def hops(number: int) -> None:
    """Let others come first, so many times; each takes as long as a statement in the outbox."""
    for _ in range(number):
        await anyio.to_thread.run_sync(lambda: None)


async def test_while_it_is_sent_it_goes_out_as_it_was_or_as_it_is_and_never_as_both(house: House) -> None:
    won = set[bool]()
    for seed in range(RACES):
        chance = random.Random(seed)
        run = await house.bench.start()
        answer = await house.bench.call("send_email", run, to=["me@localhost"], subject=f"old {seed}", body="old")
        assert answer.result is not None
        row = await house.desk.row(ALICE, str(answer.result["outbox_ids"][0]))  # type: ignore[index, call-overload]  # a list
        letter = await house.desk.letter(row)
        await house.sender.round()
        house.wall, house.steady = house.wall + 121, house.steady + 121

        new = edited(letter, to=["me@localhost", "eve@x.org"], subject=f"new {seed}", body="new")

        async def person(row: Row = row, new: Letter = new, wait: int = chance.randrange(6)) -> None:
            await hops(wait)
            with contextlib.suppress(EngineError):
                await house.desk.edit(ALICE, row, new)

        async def sender(wait: int = chance.randrange(8)) -> None:
            await hops(wait)
            await house.sender.round()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(person)
            tasks.start_soon(sender)
        now = await house.desk.row(ALICE, row.id)
        if now.status == "HELD":
            assert house.arrived() == [] or house.arrived()[-1]["Subject"] != f"new {seed}"
            assert now.release_at > house.wall
            await house.later(121)
        mine = [mail for mail in house.arrived() if mail["Subject"].endswith(f" {seed}")]
        [mail] = mine
        word = mail["Subject"].split()[0]
        assert mail.get_content().split() == [word]
        assert mail["To"] == ("me@localhost" if word == "old" else "me@localhost, eve@x.org")
        won.add(word == "new")
    assert won == {True, False} or RACES < 20


async def test_an_outbox_of_an_earlier_version_is_opened_and_its_messages_can_be_edited(house: House) -> None:
    row = await house.send(await house.bench.start())
    house.core.outbox.store.close()
    file = Path(house.core.outbox.store.file)
    with sqlite3.connect(file) as db:
        db.execute("ALTER TABLE messages DROP COLUMN held_as")
    db.close()
    assert await house.row() == row
    assert (await house.edit(row, subject="now")).message.subject == "now"


@pytest.mark.parametrize("act", ["edit", "hold_longer"])
async def test_what_a_person_did_to_a_held_message_is_in_the_journal_also_if_the_process_died_over_it(
    house: House, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    run = await house.bench.start()
    row = await house.send(run)

    async def dies(*_: object) -> None:
        raise Died

    monkeypatch.setattr(sender, "tell", dies)
    with pytest.raises(Died):
        await (house.edit(row, body="Other") if act == "edit" else house.desk.hold_longer(ALICE, row.id, 600))
    monkeypatch.undo()
    for _ in range(2):
        await Sender(house.core, steady=lambda: house.steady).start()
    row = await house.row()
    events = [recorded.event for recorded in await house.core.journal.read(RunId(run))]
    moves = [event for event in events if isinstance(event, MailMoved)]
    assert [event.type for event in moves] == ["mail.held", "mail.held"]
    assert moves[-1].detail == row.detail != ""
    assert moves[-1].release_at is not None and moves[-1].release_at.timestamp() == pytest.approx(row.release_at)


class Died(Exception):
    """The process is gone."""
