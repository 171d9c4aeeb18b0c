"""Mail from the call through the outbox into the mailboxes of this machine, and back inside its window."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.tools.email import maildirs

from takeback.server.engine.policy_rules import MoreThan, Rule, RulesPolicy, When
from takeback.server.engine.sender import Sender
from takeback.server.mcp.replies import call_reply
from takeback.server.settings import ToolSettings
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.system import Refused, Unavailable

ON = {"tools": ToolSettings(off=("files", "database"))}


class Post:
    """A bench with the default mailbox, and clocks that stand until they are moved."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.core = bench, bench.engine.core
        self.wall, self.steady = 1_800_000_000.0, 1000.0
        self.core.outbox.now = lambda: self.wall
        self.sender = Sender(self.core, steady=lambda: self.steady)
        self.box = self.core.settings.data / "mail" / "default"

    async def send_all(self) -> None:
        await self.sender.round()
        self.wall, self.steady = self.wall + 121, self.steady + 121
        await self.sender.round()

    async def send(self, run: str, **more):
        arguments = {"to": ["bob@example.org"], "subject": "Hi", "body": "Hello", **more}
        return await self.bench.call("send_email", run, **arguments)


@pytest.fixture
async def post(open_bench: OpenBench) -> Post:
    return Post(await open_bench(**ON))


async def test_a_message_is_held_and_called_back_before_anybody_gets_it(post: Post):
    run = await post.bench.start()
    answer = await post.send(run, to=["me@localhost", "bob@example.org"])
    assert (answer.status, answer.reversibility) == ("held", "compensable")
    assert answer.result["local"] is True
    assert "only on this machine" in answer.result["note"]
    [row] = await post.core.outbox.rows(ALICE.principal)
    assert (row.id, row.status) == (answer.result["outbox_ids"][0], "HELD")
    back = await post.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["restored"]
    await post.send_all()
    assert maildirs.tree(post.box) == {}


async def test_a_message_that_left_lies_in_sent_and_with_those_who_are_here_and_nowhere_else(post: Post):
    run = await post.bench.start()
    await post.send(run, to=["me@localhost", "bob@example.org"], bcc=["hidden@example.org"])
    await post.send_all()
    found = maildirs.tree(post.box)
    assert sorted(name.split("takeback.")[0] for name in found) == [".Sent/cur/", "new/"]
    for content, _ in found.values():
        assert message_from_bytes(content, policy=SMTP)["To"] == "me@localhost, bob@example.org"
        assert b"hidden" not in content
    [row] = await post.core.outbox.rows(ALICE.principal, everything=True)
    assert row.status == "SENT"
    assert "delivered only on this machine: to me@localhost" in row.detail
    assert "no mailbox on this machine belongs to bob@example.org, hidden@example.org" in row.detail
    # delivered twice is delivered once, and it is found again
    carrier = post.core.outbox.carriers["mail:default"]
    await carrier.deliver(row.message, next(iter(found.values()))[0])
    assert maildirs.tree(post.box) == found
    assert await carrier.happened(row.message) is True


async def test_an_answer_belongs_to_its_thread(post: Post):
    run = await post.bench.start()
    maildirs.make(post.box)
    maildirs.put(post.box, "1.a.host", maildirs.letter(1), sub="new")
    await post.send(run, to=["Anna <anna@example.org>"], subject="Grüße", in_reply_to="1.a.host")
    await post.send_all()
    [sent] = [c for n, (c, _) in maildirs.tree(post.box).items() if n.startswith(".Sent")]
    parsed = message_from_bytes(sent, policy=SMTP)
    assert (parsed["Subject"], parsed["In-Reply-To"], parsed["References"]) == (
        "Re: Grüße",
        "<m1@example.org>",
        "<m1@example.org>",
    )
    assert "new/1.a.host" in maildirs.tree(post.box), "answering leaves it unread"


async def test_the_moment_at_which_a_message_leaves_is_told_for_good_and_the_seconds_only_at_once(post: Post):
    run = await post.bench.start()
    answer = await post.send(run, idempotency_key="once")
    at = "2027-01-15T08:02:00.000Z"
    told = f"Put a message for 1 recipient into the outbox, to leave at {at}"
    assert answer.summary == f"{told}, after 120 s."
    assert call_reply(answer).content[0].text.count(at) == 2  # said once, and as the end of the way back
    detail = await post.bench.engine.get_run(ALICE, run, view="report")
    text = detail.report.text
    assert f"{told}." in text
    assert "120 s" not in text
    assert (await post.send(run, idempotency_key="once")).summary == f"{told}."


async def test_a_dry_run_puts_nothing_anywhere(post: Post):
    run = await post.bench.start()
    answer = await post.send(run, dry_run=True)
    assert answer.status == "shadowed"
    draft = {"to": ["a@example.org"], "subject": "x", "body": "x", "dry_run": True}
    assert (await post.bench.call("draft_email", run, **draft)).status == "shadowed"
    assert await post.core.outbox.rows(None, everything=True) == []
    assert not post.box.exists()


async def test_trash_is_made_when_it_is_first_needed(post: Post):
    run = await post.bench.start()
    maildirs.make(post.box, ())
    maildirs.put(post.box, "1.a.host:2,S", maildirs.letter(1))
    before = maildirs.tree(post.box)
    await post.bench.done("delete_email", run, mailbox="default", message_ids=["1.a.host"])
    assert list(maildirs.tree(post.box)) == [".Trash/cur/1.a.host:2,S"]
    await post.bench.back(run_id=run)
    assert maildirs.tree(post.box) == before


async def test_links_lead_out_of_no_mailbox(open_bench: OpenBench, tmp_path: Path):
    outside = maildirs.filled(tmp_path / "outside")
    box = maildirs.make(tmp_path / "box", (".Trash",))
    (box / ".Out").symlink_to(outside)
    (box / "cur" / "9.link.host:2,").symlink_to(outside / "cur" / "1.a.host:2,S")
    mailboxes = {"work": MailboxSettings(path=box, address="Me <me@example.org>")}
    bench = await open_bench(**ON, mailboxes=mailboxes)
    run = await bench.start()
    for key in ("9.link.host", "1.a.host", "../outside/cur/1.a.host", "cur"):
        answer = await bench.call("delete_email", run, mailbox="work", message_ids=[key])
        assert answer.error is not None
        assert answer.error.code == "not_found"
    for where in ("Out", "../outside", "Out/x", "..", "a/../b"):
        maildirs.put(box, "1.b.host:2,", maildirs.letter(1))
        answer = await bench.call("move_email", run, mailbox="work", message_ids=["1.b.host"], destination=where)
        assert answer.error is not None
    assert len(maildirs.tree(outside)) == 5


async def test_recipients_count_for_policies(post: Post):
    few = Rule(id="few", when=When(more_than=MoreThan(recipients=1)), then="deny")
    post.core.policy = RulesPolicy([few])
    run = await post.bench.start()
    assert (await post.send(run, cc=["eve@example.org"])).status == "denied"
    assert (await post.send(run, cc=["BOB@example.org"])).status in ("held", "failed"), "one person is counted once"


@pytest.mark.parametrize("error", [Refused("that Maildir is a link"), Unavailable("the disk is full")])
async def test_what_somebody_on_this_machine_has_got_is_not_told_as_called_back(
    open_bench: OpenBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    boxes = {
        name: MailboxSettings(path=tmp_path / name, address=f"{name}@example.org") for name in ("me", "ada", "bob")
    }
    post = Post(await open_bench(**ON, mailboxes=boxes))
    run = await post.bench.start()
    await post.send(run, mailbox="me", to=["ada@example.org", "bob@example.org"])
    monkeypatch.setattr(post.core.systems["email"].store("bob"), "change", failing(error))
    await post.send_all()
    [row] = await post.core.outbox.rows(None, everything=True)
    assert len(list((tmp_path / "ada" / "new").iterdir())) == 1
    assert row.status == "SENT" and f"could not be brought to bob@example.org: {error}" in row.detail
    assert (await post.bench.back(run_id=run)).steps[0].outcome == "irreversible"
    report = (await post.bench.engine.get_run(ALICE, run, view="report")).report
    assert report is not None and "could not be brought to bob@example.org" in report.text


@pytest.mark.parametrize("again", [True, False])
async def test_what_nobody_on_this_machine_has_got_has_not_gone_out(
    open_bench: OpenBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
):
    boxes = {name: MailboxSettings(path=tmp_path / name, address=f"{name}@example.org") for name in ("me", "ada")}
    post = Post(await open_bench(**ON, mailboxes=boxes))
    run = await post.bench.start()
    await post.send(run, mailbox="me", to=["ada@example.org"])
    error = Unavailable("the disk is full") if again else Refused("that Maildir is a link")
    monkeypatch.setattr(post.core.systems["email"].store("ada"), "change", failing(error))
    await post.send_all()
    [row] = await post.core.outbox.rows(None, everything=True)
    assert (row.status, row.detail) == ("HELD" if again else "DEAD", str(error))
    assert maildirs.tree(tmp_path / "me") == {}
    assert (await post.bench.back(run_id=run)).steps[0].outcome == "restored"


@pytest.mark.parametrize(("reached", "ends"), [((), "LATE"), (("ada",), "UNKNOWN"), (("ada", "bob"), "SENT")])
async def test_a_death_between_two_mailboxes_of_this_machine_is_not_told_as_sent_to_both(
    open_bench: OpenBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: tuple[str, ...], ends: str
):
    boxes = {
        name: MailboxSettings(path=tmp_path / name, address=f"{name}@example.org") for name in ("me", "ada", "bob")
    }
    post = Post(await open_bench(**ON, mailboxes=boxes))
    run = await post.bench.start()
    await post.send(run, mailbox="me", to=["ada@example.org", "bob@example.org"])
    next_one = (*reached, *(name for name in ("ada", "bob", "me") if name not in reached))[len(reached)]
    monkeypatch.setattr(post.core.systems["email"].store(next_one), "change", failing(Gone()))
    with pytest.raises(Gone):
        await post.send_all()
    monkeypatch.undo()
    await Sender(post.core, steady=lambda: post.steady).start()
    [row] = await post.core.outbox.rows(None, everything=True)
    assert row.status == ends


class Gone(BaseException):
    """The process is gone."""


def failing(error: BaseException) -> Callable[..., Any]:
    async def change(*_: object) -> None:
        raise error

    return change
