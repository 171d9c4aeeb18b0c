"""A server takes a message for some of its recipients only: they get it once, and the rest is told, kept and called back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.policy import SMTP as AS_SMTP
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiosmtpd.smtp import SMTP
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.signs import SECONDS
from tests.tools.email import maildirs

from takeback.journal.ids import RunId
from takeback.journal.log import JournalBusy
from takeback.server.engine.sender import Sender
from takeback.server.settings import ToolSettings
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.outbox.rows import Row

ANN, BOB, CEM = "ann@example.net", "bob@example.net", "cem@example.net"
UNKNOWN = "550 5.1.1 no such user"
LATER = "450 4.2.0 greylisted"


class Choosy:
    """Takes a message for those whom it says nothing of."""

    def __init__(self) -> None:
        self.says: dict[str, str] = {}
        self.taken: list[tuple[list[str], bytes]] = []
        self.heard: list[str] = []

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        self.heard.append("MAIL")
        envelope.mail_from = address
        return self.says.get(f"MAIL {self.heard.count('MAIL')}", "250 OK")

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address not in self.says:
            envelope.rcpt_tos.append(address)
        return self.says.get(address, "250 OK")

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append((list(envelope.rcpt_tos), envelope.original_content))
        return "250 taken"

    def got(self, who: str) -> int:
        return sum(who in recipients for recipients, _ in self.taken)


class Post:
    """A bench with one mailbox at that server, and a sender whose clocks stand."""

    def __init__(self, bench: Bench, server: Choosy) -> None:
        self.bench, self.core, self.server = bench, bench.engine.core, server
        self.wall = 1_800_000_000.0
        self.core.outbox.now = lambda: self.wall
        self.run = ""

    def sender(self) -> Sender:
        return Sender(self.core, steady=lambda: self.wall)

    async def later(self, seconds: float) -> None:
        self.wall += seconds
        await self.sender().round()

    async def send(self, **refused: str) -> None:
        """To three people, of whom some are refused."""
        self.server.says = {f"{who}@example.net": why for who, why in refused.items()} | self.server.says
        self.run = await self.bench.start()
        letter = {"to": [ANN, BOB], "cc": [CEM], "subject": "Offer", "body": "Hello"}
        assert (await self.bench.call("send_email", self.run, **letter)).status == "held"
        [row] = await self.rows()
        await self.bench.engine.desk.send_now(ALICE, row.id)
        await self.later(0)

    async def rows(self) -> list[Row]:
        return list(await self.core.outbox.rows(None, everything=True))

    async def standing(self) -> list[tuple[str, str]]:
        return sorted((", ".join(row.message.recipients), row.status) for row in await self.rows())


@pytest_asyncio.fixture
async def post(open_bench: OpenBench, tmp_path: Path) -> AsyncIterator[Post]:
    handler, loop = Choosy(), asyncio.get_running_loop()
    running = await loop.create_server(lambda: SMTP(handler, loop=loop), "127.0.0.1", 0)
    port = running.sockets[0].getsockname()[1]
    its = MailboxSettings(
        path=maildirs.make(tmp_path / "box"), smtp=f"smtp://127.0.0.1:{port}", address="me@example.org"
    )
    yield Post(
        await open_bench(mailboxes={"work": its}, tools=ToolSettings(off=("files", "database", "calendar"))), handler
    )
    running.close()


async def test_whom_a_server_refuses_is_left_to_a_person_with_everything_needed_to_do_it_by_hand(post: Post) -> None:
    await post.send(bob=UNKNOWN)
    assert [recipients for recipients, _ in post.server.taken] == [[ANN, CEM]]
    assert await post.standing() == [(f"{ANN}, {CEM}", "SENT"), (BOB, "DEAD")]
    [thing] = await post.bench.engine.everything_open(ALICE)
    assert (thing.kind, thing.details["recipients"], thing.details["subject"]) == ("mail", [BOB], "Offer")
    assert f"127.0.0.1 refused it for {BOB}: {UNKNOWN}" in thing.why
    [rest] = [row for row in await post.rows() if row.status == "DEAD"]
    assert f"takeback outbox send-now {rest.id}" in thing.next_step
    assert f"Read it: takeback outbox show {rest.id}" in thing.by_hand
    assert any(f"to {ANN} and {CEM} too" in line for line in thing.by_hand)
    assert await post.bench.engine.desk.content(rest) == post.server.taken[0][1], "its bytes are kept"


async def test_the_report_says_to_whom_it_went_and_to_whom_not(post: Post) -> None:
    await post.send(bob=UNKNOWN)
    report = (await post.bench.engine.get_run(ALICE, post.run, view="report")).report
    assert report is not None
    said = [line for line in report.done if line.startswith("The message")]
    assert len(said) == 2
    assert said[0].startswith(f"The message `Offer` to {ANN} and {CEM} went out at ") and BOB not in said[0]
    assert said[1] == f"The message `Offer` to {BOB} was not sent: 127.0.0.1 refused it for {BOB}: {UNKNOWN}."
    assert not any("corrected" in line for line in report.timeline)
    assert f"(`“Offer” to {BOB} (msg_" in report.first_step


async def test_what_is_taken_back_is_corrected_for_those_whom_it_reached_alone(post: Post) -> None:
    await post.send(bob=UNKNOWN)
    back = await post.bench.back(run_id=post.run)
    [step] = back.steps
    assert step.outcome == "irreversible"
    assert f"{ANN}, {CEM}" in step.why and f"{BOB} never got it, and will not" in step.why
    assert await post.standing() == [(f"{ANN}, {CEM}", "SENT"), (f"{ANN}, {CEM}", "WAITING"), (BOB, "CANCELLED")]
    [item] = await post.bench.engine.open_items(ALICE)
    [correction] = [row for row in await post.rows() if row.status == "WAITING"]
    assert correction.id in item.why
    await post.bench.engine.desk.approve(ALICE, correction.id)
    await post.later(0)
    recipients, content = post.server.taken[-1]
    letter = message_from_bytes(content, policy=AS_SMTP)
    assert (recipients, letter["To"], letter["Cc"]) == ([ANN, CEM], ANN, CEM)
    assert await post.bench.engine.everything_open(ALICE) == []
    assert post.server.got(BOB) == 0


async def test_whom_a_server_refuses_for_now_is_tried_again_and_the_others_get_it_once(post: Post) -> None:
    await post.send(bob=LATER, cem=UNKNOWN)
    assert await post.standing() == [(ANN, "SENT"), (BOB, "HELD"), (CEM, "DEAD")]
    post.server.says = {}
    await post.later(16)
    assert [recipients for recipients, _ in post.server.taken] == [[ANN], [BOB]]
    assert await post.standing() == [(ANN, "SENT"), (BOB, "SENT"), (CEM, "DEAD")]


async def test_whom_a_server_refuses_for_now_every_time_is_left_to_a_person_in_the_end(post: Post) -> None:
    await post.send(bob=LATER)
    for _ in range(6):
        await post.later(901)
    assert await post.standing() == [(f"{ANN}, {CEM}", "SENT"), (BOB, "DEAD")]
    [thing] = await post.bench.engine.everything_open(ALICE)
    assert BOB in thing.why and "(6 attempts)" in thing.why and LATER in thing.why
    assert (post.server.got(ANN), post.server.got(BOB)) == (1, 0)


async def test_what_is_to_be_tried_again_is_called_back_with_its_act(post: Post) -> None:
    await post.send(bob=LATER)
    await post.bench.back(run_id=post.run)
    post.server.says = {}
    await post.later(901)
    assert post.server.got(BOB) == 0
    assert (BOB, "CANCELLED") in await post.standing()


async def test_a_message_that_reached_nobody_yet_is_called_back_whole_and_held_again_whole(post: Post) -> None:
    post.server.says = {"MAIL 2": "451 busy"}  # it is parted, and then nobody takes it
    await post.send(bob=UNKNOWN)
    assert await post.standing() == [(f"{ANN}, {CEM}", "HELD"), (BOB, "DEAD")]
    back = await post.bench.back(run_id=post.run)
    assert [step.outcome for step in back.steps] == ["restored"]
    assert await post.bench.engine.everything_open(ALICE) == [] and post.server.taken == []
    assert back.rollback_id is not None
    await post.bench.engine.redo(ALICE, back.rollback_id)
    [again] = [row for row in await post.rows() if row.status == "HELD"]
    assert sorted(again.message.recipients) == [ANN, BOB, CEM] and not again.edited
    post.server.says = {}
    await post.later(121)
    assert [sorted(recipients) for recipients, _ in post.server.taken] == [[ANN, BOB, CEM]]


async def test_what_left_before_the_message_that_it_is_the_rest_of_is_told_and_corrected(post: Post) -> None:
    post.server.says = {"MAIL 2": "451 busy"}  # it is parted, and then nobody takes it
    await post.send(bob=LATER)
    post.server.says = {ANN: LATER, CEM: LATER}
    await post.later(31)
    assert await post.standing() == [(f"{ANN}, {CEM}", "HELD"), (BOB, "SENT")]
    back = await post.bench.back(run_id=post.run)
    [step] = back.steps
    assert (back.status, step.outcome) == ("partial", "irreversible")
    assert f"the message to {BOB} went out" in step.why and ANN not in step.why
    assert await post.standing() == [(f"{ANN}, {BOB}, {CEM}", "CANCELLED"), (BOB, "SENT"), (BOB, "WAITING")]
    [correction] = [row for row in await post.rows() if row.status == "WAITING"]
    await post.bench.engine.desk.approve(ALICE, correction.id)
    post.server.says = {}
    await post.later(0)
    assert [recipients for recipients, _ in post.server.taken] == [[BOB], [BOB]]
    assert await post.bench.engine.everything_open(ALICE) == []


async def test_what_is_being_sent_while_its_act_is_taken_back_stays_open(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("takeback.tools.outbox.system.SENDING_WAIT", 0.0)
    post.server.says = {"MAIL 2": "451 busy"}
    await post.send(bob=LATER)
    [rest] = [row for row in await post.rows() if row.message.recipients == (BOB,)]
    assert await post.core.outbox.move(rest.id, "SENDING", only=("HELD",))
    back = await post.bench.back(run_id=post.run)
    assert back.status == "failed" and f"the message to {BOB} is being sent right now" in back.steps[0].why
    [item] = await post.bench.engine.open_items(ALICE)
    assert "Roll back once more" in item.next_step
    assert await post.core.outbox.move(rest.id, "SENT", only=("SENDING",))
    again = await post.bench.back(run_id=post.run)
    assert again.steps[0].outcome == "irreversible" and f"the message to {BOB} went out" in again.steps[0].why


async def test_whom_it_was_refused_for_is_told_though_the_journal_was_busy_at_that_moment(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("takeback.server.engine.sender.PATIENT_SECONDS", 0.0)
    monkeypatch.setattr("takeback.server.engine.sender.POLL_SECONDS", 0.0)
    post.server.says = {BOB: UNKNOWN}
    post.run = await post.bench.start()
    await post.bench.call("send_email", post.run, to=[ANN, BOB], subject="Offer", body="Hello")
    post.wall += 121
    append, sender = post.core.journal.append, post.sender()

    async def busy(*given: Any, **more: Any) -> Any:
        post.core.journal.append = append  # type: ignore[method-assign] -- a fault, once; the real journal is behind it
        raise JournalBusy("The journal is busy.", "Try again.")

    def fail_to_tell_of_the_rest(step: str) -> None:
        if step == "parted":
            post.core.journal.append = busy  # type: ignore[method-assign] -- as above

    sender.on_step = fail_to_tell_of_the_rest
    await asyncio.wait_for(sender.run(), SECONDS)
    assert await post.standing() == [(ANN, "SENT"), (BOB, "DEAD")]
    events = await post.core.journal.read(RunId(post.run))
    assert "mail.late" in [each.event.type for each in events], "that it waits for a person stands in the journal"


@pytest.mark.parametrize(
    ("step", "times"), [("claimed", 1), ("told", 1), ("parted", 1), ("told", 2), ("delivered", 1), ("noted", 1)]
)
async def test_wherever_the_sender_dies_nobody_gets_it_twice_and_whom_it_was_refused_for_is_told(
    post: Post, step: str, times: int
) -> None:
    class Death(BaseException):
        pass

    post.server.says = {BOB: UNKNOWN}
    post.run = await post.bench.start()
    await post.bench.call("send_email", post.run, to=[ANN, BOB], subject="Offer", body="Hello")
    post.wall += 121
    left = times

    def die(at: str) -> None:
        nonlocal left
        left -= at == step
        if left == 0:
            raise Death

    sender = post.sender()
    sender.on_step = die
    await sender.start()
    with pytest.raises(Death):
        await sender.round()
    await post.sender().start()
    await post.later(1)
    assert post.server.got(ANN) <= 1 and post.server.got(BOB) == 0
    standing = await post.standing()
    if "UNKNOWN" not in dict(standing).values():  # else a person is told that nobody knows
        assert standing == [(ANN, "SENT"), (BOB, "DEAD")] and post.server.got(ANN) == 1
    told = [str(thing.details["recipients"]) for thing in await post.bench.engine.everything_open(ALICE)]
    assert any(BOB in recipients for recipients in told)
