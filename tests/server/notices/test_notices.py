"""Notices: they arrive, each at most once, whoever dies; what does not arrive is said, and stays open."""

from __future__ import annotations

import email
import email.policy
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.notices import sinks

from takeback.journal.events import ConflictResolved, MailMoved, NoticeFailed, NoticeSent, TriggerFired
from takeback.journal.ids import ActionId, RunId
from takeback.server.engine import runs
from takeback.server.notices.channel import Channel, Notice, NotSent
from takeback.server.notices.desk import NoticeDesk, try_all
from takeback.server.notices.notifier import SYSTEM, Notifier
from takeback.server.notices.services import Service
from takeback.server.notices.settings import NotifySettings, WebhookSettings, channel_names
from takeback.server.notices.webhook import new_secret
from takeback.server.settings import NotifySection, SettingsError, load
from takeback.server.watching import watch_until_done, watched

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # imported by apprise

TOKEN = "ghp_" + "a1B2" * 9


class Kept(Channel):
    """A channel that keeps what it is given, and fails as often as it is told to."""

    def __init__(
        self, name: str = "desktop", *, failing: int = 0, again: bool = True, repeatable: bool = False
    ) -> None:
        self.name, self.failing, self.again, self.repeatable = name, failing, again, repeatable
        self.notices: list[Notice] = []

    async def send(self, notice: Notice) -> None:
        if self.failing:
            self.failing -= 1
            raise NotSent("nobody is there", again=self.again)
        self.notices.append(notice)


class Stop(Exception):
    """The process dies here."""


def notify(*urls: str, **more: Any) -> NotifySection:
    return NotifySection(urls=urls or ("desktop://",), **more)


async def told(bench: Bench, run: str) -> list[NoticeSent | NoticeFailed]:
    events = [recorded.event for recorded in await bench.engine.core.journal.read(RunId(run))]
    return [event for event in events if isinstance(event, NoticeSent | NoticeFailed)]


async def notifier_of(bench: Bench, *channels: Channel) -> Notifier:
    notifier = Notifier(bench.engine.core, channels=channels)
    await notifier.begin()
    return notifier


async def contained(bench: Bench, goal: str = "a task") -> str:
    run = await bench.start(goal)
    await bench.engine.contain_run(ALICE, run, "200 deletions")
    return run


# --- all the way ------------------------------------------------------------------------------------------------------


async def test_a_contained_run_is_told_by_mail_webhook_and_desktop_and_no_secret_with_it(
    open_bench: OpenBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, shown = new_secret(), sinks.desktop(tmp_path / "bin")
    monkeypatch.setenv("OPS_SECRET", secret)
    monkeypatch.setenv("PATH", sinks.path_with(tmp_path / "bin"))
    with sinks.web() as web, sinks.mail() as mail:
        monkeypatch.setenv("MAIL_URL", mail.url)
        hook = WebhookSettings(url=f"{web.url}/hook", secret_variable="OPS_SECRET")
        bench = await open_bench(notify=notify("desktop://", "${MAIL_URL}", webhooks={"ops": hook}))
        core = bench.engine.core
        async with watched(core, core.settings):
            run = await bench.start(f"- Deploy with {TOKEN}\x1b[31m", steps=["one", "two"])
            await bench.set(run, "a", "1", step="one")
            await bench.engine.contain_run(ALICE, run, f"200 deletions with {TOKEN}")
            request = await sinks.taken(web.arrived)
            letter = email.message_from_bytes(await sinks.taken(mail.arrived), policy=email.policy.default)
            with anyio.fail_after(sinks.SECONDS):
                while len(await told(bench, run)) < 3:  # noqa: ASYNC110 -- the journal is written by whoever sends
                    await anyio.sleep(0.01)
        assert sinks.is_signed(request, secret)
        assert not sinks.is_signed(sinks.Request(request.path, request.headers, request.body + b" "), secret)
        assert not sinks.is_signed(request, new_secret())
        data = request.json
        assert (data["type"], data["run_id"], data["status"]) == ("run_contained", run, "contained")
        assert data["report"]["steps"][0] == {"step": "one", "status": "done"}
        assert request.headers["webhook-id"] == data["id"]
        text = letter.get_content()
        assert letter["Subject"].startswith("takeback: the run is contained: - Deploy with redacted:hmac:")
        assert letter["To"] == "anna@example.org"
        for line in (
            "1 of 2 steps done.",
            "The run was contained: 200 deletions with redacted:hmac:",
            f"takeback release {run}",
        ):
            assert line in text
            assert line in data["text"]
        arguments = shown.read_text().split("\0")
        assert arguments[:2] == ["--app-name=takeback", "--"]
        for each in (request.body.decode(), letter.as_string(), *arguments):
            assert TOKEN not in each
            assert "\x1b" not in each
            assert "token=" not in each
    endings = await told(bench, run)
    assert sorted((type(each).__name__, each.channel) for each in endings) == [
        ("NoticeSent", "desktop"),
        ("NoticeSent", "mail_url"),
        ("NoticeSent", "webhook:ops"),
    ]
    assert secret.encode() not in (core.settings.data / "journal.db").read_bytes()


async def test_every_channel_can_be_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_SECRET", "s3cret")
    monkeypatch.setenv("PATH", str(tmp_path))
    with sinks.web() as web:
        hooks = {
            "ops": WebhookSettings(url=web.url, secret_variable="OPS_SECRET"),
            "bare": WebhookSettings(url=web.url, secret_variable="NOT_SET"),
        }
        settings = NotifySettings(
            urls=("desktop://", "nonsense://token-of-mine", "${NOT_SET}", "mailto://127.0.0.1:9?from=a@b.co&to=c@d.co&mode=insecure"),
            webhooks=hooks,
        )  # fmt: skip
        tried = await try_all(settings)
        assert sinks.is_signed(await sinks.taken(web.arrived), "s3cret")
    refused = tried.pop("mailto")
    assert refused.startswith("the service did not take it")
    assert "127.0.0.1" not in refused
    assert tried == {
        "desktop": "there is no program notify-send on this machine",
        "nonsense": "Apprise does not know such an address, or cannot use it on this machine",
        "not_set": "the environment variable NOT_SET is not set",
        "webhook:ops": "",
        "webhook:bare": "the environment variable NOT_SET, with its secret, is not set",
    }


def test_a_notice_waits_for_an_earlier_one_only_where_the_service_asks_for_it() -> None:
    assert Service("mail", "mailto://127.0.0.1:9?from=a@b.co&to=c@d.co&mode=insecure").pause == 0
    assert 0 < Service("slack", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/").pause < 2


# --- what is news -----------------------------------------------------------------------------------------------------


async def test_each_kind_of_news_is_told_and_what_is_none_is_not(open_bench: OpenBench) -> None:
    bench, kept = await open_bench(notify=notify()), Kept()
    core, notifier = bench.engine.core, await notifier_of(bench, kept)

    async def heard() -> list[tuple[str, str]]:
        await notifier.drain()
        found = [(notice.kind, notice.title) for notice in kept.notices]
        kept.notices.clear()
        return found

    done = await bench.start("one that goes well")
    await bench.set(done, "a", "1")
    await bench.engine.finish_run(ALICE, done)
    assert await heard() == []
    failed = await bench.start("one that fails")
    await bench.set(failed, "b", "1")
    await bench.engine.finish_run(ALICE, failed, status="failed", summary="no way")
    assert await heard() == [("run_failed", "takeback: the run was given up: one that fails")]
    back = await bench.back(run_id=failed)
    await notifier.drain()
    [notice] = kept.notices
    assert notice.title == "takeback: a rollback is complete: one that fails"
    assert "The 1 action taken back (1 restored)." in notice.body
    assert notice.data["rollback_id"] == back.rollback_id
    assert await heard()
    stalled = await bench.start("one that stalls", steps=["one"])
    now = core.now()
    core.now = lambda: now + timedelta(days=2)
    await runs.tidy(core)
    assert await heard() == [("run_stalled", "takeback: the run is stalled: one that stalls")]
    core.now = lambda: now
    answer = await bench.call("announce", await bench.start("one that asks"), text="Hear, hear")
    assert answer.status == "pending_approval"
    await notifier.drain()
    [notice] = kept.notices
    assert (notice.kind, notice.title) == ("approval_waits", "takeback: may announce do this? one that asks")
    assert f"takeback approve {answer.approval_id}" in notice.body
    assert answer.question is not None
    assert answer.question.splitlines()[0] in notice.body
    assert "more line" not in notice.body
    assert await heard()
    long = await bench.start("one that asks for much", mode="plan")
    for number in range(8):
        await bench.call("set_value", long, key=f"k{number}", value="1")
    asked = await bench.engine.finish_run(ALICE, long)
    assert asked.question is not None and len(asked.question.splitlines()) == 9
    await notifier.drain()
    [notice] = kept.notices
    assert "k4" in notice.body and "k5" not in notice.body
    assert "… and 3 more lines" in notice.body
    assert await heard()
    for answer in ("warn", "read_only", "contain", "rollback"):
        evidence = {"why": "the same call came 20 times"}
        fired = TriggerFired.model_validate(
            {"run_id": stalled, "at": now, "trigger": "step_count", "answer": answer, "evidence": evidence}
        )
        await core.journal.append([fired])
    await notifier.drain()
    [notice] = kept.notices
    assert (notice.kind, notice.title) == (
        "trigger_fired",
        "takeback: something looks wrong (step count): one that stalls",
    )
    assert (
        f"The same call came 20 times.\nLook whether this is what you want. To stop it: takeback contain {stalled}"
        in notice.body
    )
    assert await heard()
    for type in ("mail.sent", "mail.late", "mail.unknown"):
        event = MailMoved.model_validate(
            {"type": type, "run_id": stalled, "at": now, "action_id": ActionId("act"), "message_id": "msg_x", "detail": "so"}
        )  # fmt: skip
        await core.journal.append([event])
    assert await heard() == [
        ("mail_waits", "takeback: a message waits for you"),
        ("mail_waits", "takeback: nobody knows whether a message went out"),
    ]


async def test_that_the_parts_of_a_run_are_contained_is_told_with_it(open_bench: OpenBench) -> None:
    bench, kept = await open_bench(notify=notify()), Kept()
    notifier = await notifier_of(bench, kept)
    run = await bench.start("the whole")
    part = await bench.start("a part", parent_run_id=run)
    await bench.start("a part of it", parent_run_id=part)
    await bench.engine.contain_run(ALICE, run, "it looked wrong")
    await bench.engine.contain_run(ALICE, part, "and this even more so", level="quarantined")
    await notifier.drain()
    assert [notice.data["goal"] for notice in kept.notices] == ["the whole", "a part"]


async def test_a_question_that_was_answered_meanwhile_is_not_asked_again(open_bench: OpenBench) -> None:
    bench, kept = await open_bench(notify=notify()), Kept()
    notifier = await notifier_of(bench, kept)
    run = await bench.start("one that asks")
    answer = await bench.call("announce", run, text="Hear, hear")
    assert answer.approval_id is not None
    await bench.engine.deny(ALICE, answer.approval_id, lane="test")
    await notifier.drain()
    assert kept.notices == []
    assert await told(bench, run) == []
    assert not await notifier.unfinished()


async def test_a_channel_hears_only_what_it_wants_to(open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = WebhookSettings(url="https://example.org/", secret_variable="X", events=("run_failed",))
    bench = await open_bench(notify=notify(events=("run_contained",), webhooks={"ops": hook}))
    desktop, ops = Kept(), Kept("webhook:ops")
    notifier = await notifier_of(bench, desktop, ops)
    run = await contained(bench)
    await bench.engine.release_run(ALICE, run)
    await bench.engine.finish_run(ALICE, run, status="failed")
    await notifier.drain()
    assert [[notice.kind for notice in channel.notices] for channel in (desktop, ops)] == [
        ["run_contained"],
        ["run_failed"],
    ]


async def test_what_happened_before_anybody_was_to_be_told_is_no_news(open_bench: OpenBench) -> None:
    bench, kept = await open_bench(notify=notify()), Kept()
    await contained(bench)
    notifier = await notifier_of(bench, kept)
    await notifier.drain()
    assert kept.notices == []
    await contained(bench)
    await notifier.drain()
    assert len(kept.notices) == 1


# --- at most once -----------------------------------------------------------------------------------------------------


async def test_several_processes_tell_each_event_once(open_bench: OpenBench) -> None:
    benches = [await open_bench(notify=notify()) for _ in range(3)]
    kept = [Kept() for _ in benches]
    notifiers = [await notifier_of(bench, channel) for bench, channel in zip(benches, kept, strict=True)]
    named = [await contained(benches[n % 3], f"task {n}") for n in range(12)]
    async with anyio.create_task_group() as group:
        for notifier in notifiers:
            group.start_soon(notifier.drain)
    for notifier in notifiers:  # whatever one had claimed and another therefore passed over
        await notifier.drain()
    assert sorted(notice.data["run_id"] for channel in kept for notice in channel.notices) == sorted(named)
    assert [len(await told(benches[0], run)) for run in named] == [1] * 12


@pytest.mark.parametrize("repeatable", [False, True], ids=["as a rule", "under an id"])
@pytest.mark.parametrize("step", ["read", "claimed", "sent", "noted", "journaled"])
async def test_a_death_at_any_step_loses_and_doubles_nothing(
    open_bench: OpenBench, step: str, repeatable: bool
) -> None:
    bench, kept = await open_bench(notify=notify()), Kept(repeatable=repeatable)
    dying = await notifier_of(bench, kept)
    run = await contained(bench)

    def die(at: str) -> None:
        if at == step:
            raise Stop

    dying.on_step = die
    with pytest.raises(Stop):
        await dying.drain()
    dying.store.close()
    for _ in range(2):
        later = await notifier_of(bench, kept)
        await later.drain()
        assert not await later.unfinished()
        later.store.close()
    endings = await told(bench, run)
    assert len(endings) == 1, "the journal has heard once"
    items = [item for item in await bench.engine.open_items(ALICE) if item.system == SYSTEM]
    if step in ("claimed", "sent") and not repeatable:
        # it may have arrived: it is not sent again, and that is said
        assert len(kept.notices) == (step == "sent")
        assert isinstance(endings[0], NoticeFailed)
        assert "nobody knows whether it arrived" in items[0].why
    else:
        assert len(kept.notices) == (2 if step == "sent" else 1)
        assert len({notice.id for notice in kept.notices}) == 1
        assert isinstance(endings[0], NoticeSent)
        assert items == []


async def test_what_happens_while_the_journal_is_read_is_told_as_soon(open_bench: OpenBench) -> None:
    bench = await open_bench(notify=notify())
    arrived = [anyio.Event() for _ in range(3)]

    class Counting(Kept):
        async def send(self, notice: Notice) -> None:
            await super().send(notice)
            arrived[len(self.notices) - 1].set()

    kept = Counting()
    notifier = await notifier_of(bench, kept)
    zeroth, first, second = [await bench.start(goal) for goal in ("zero", "one", "two")]
    left = list[str]()

    async def meanwhile(step: str) -> None:
        if step == "read" and left:
            await bench.engine.contain_run(ALICE, left.pop(), "while it is read")

    notifier.on_step = lambda step: meanwhile(step)
    bench.engine.core.journal.listeners = (lambda written: notifier.ring() if notifier.heard(written) else None,)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: notifier.run(look_seconds=86400))
        with anyio.fail_after(sinks.SECONDS):
            await bench.engine.contain_run(ALICE, zeroth, "so that it is at work")
            await arrived[0].wait()
            left.append(second)
            await bench.engine.contain_run(ALICE, first, "at first")
            await arrived[2].wait()
        group.cancel_scope.cancel()
    assert [notice.data["goal"] for notice in kept.notices] == ["zero", "one", "two"]


async def test_what_another_process_is_sending_is_left_to_it(open_bench: OpenBench) -> None:
    bench = await open_bench(notify=notify())
    begun, go_on = anyio.Event(), anyio.Event()

    class Slow(Kept):
        async def send(self, notice: Notice) -> None:
            begun.set()
            await go_on.wait()
            await super().send(notice)

    slow, quick = Slow(), Kept()
    first, second = await notifier_of(bench, slow), await notifier_of(bench, quick)
    run = await contained(bench)
    async with anyio.create_task_group() as group:
        group.start_soon(first.drain)
        await begun.wait()
        await second.drain()
        go_on.set()
    assert (len(slow.notices), len(quick.notices)) == (1, 0)
    assert [type(each) for each in await told(bench, run)] == [NoticeSent]


# --- what does not arrive ---------------------------------------------------------------------------------------------


async def rounds(notifier: Notifier, bench: Bench, number: int) -> None:
    """So many rounds, with time in between."""
    for _ in range(number):
        await notifier.drain()
        later = bench.engine.core.now() + timedelta(hours=1)
        bench.engine.core.now = lambda later=later: later


async def test_a_notice_is_tried_again_and_then_given_up_where_people_see_it(open_bench: OpenBench) -> None:
    bench = await open_bench(notify=notify(attempts=3))
    late, never, refused = Kept(failing=2), Kept("webhook:ops", failing=99), Kept("mail", failing=99, again=False)
    names = {"desktop": late, "mail": refused, "webhook:ops": never}
    notifier = await notifier_of(bench, late, refused, never)
    notifier._wanted = dict.fromkeys(names, frozenset({"run_contained"}))
    run = await contained(bench)
    await notifier.drain()
    await notifier.drain()
    assert never.failing == 98, "not before its pause is over"
    await rounds(notifier, bench, 5)
    assert len(late.notices) == 1
    assert (99 - never.failing, 99 - refused.failing) == (3, 1)
    endings = {each.channel: each for each in await told(bench, run)}
    assert isinstance(endings["desktop"], NoticeSent)
    assert isinstance(endings["webhook:ops"], NoticeFailed)
    items = [item for item in await bench.engine.open_items(ALICE) if item.system == SYSTEM]
    assert sorted(item.why.partition(" could not be sent by ")[2] for item in items) == [
        "mail: nobody is there",
        "webhook:ops: nobody is there",
    ]
    desk = NoticeDesk(bench.engine.core)
    assert [row.status for row in await desk.rows(ALICE)] == ["DEAD", "DEAD"]
    assert await desk.rows(BOB) == []
    report = (await bench.engine.get_run(ALICE, run, view="report")).report
    assert report is not None
    assert any("could not be sent by mail: nobody is there" in line for line in report.failed)
    assert report.first_step.startswith("Look at what it did"), "a notice is not the first thing to see to"

    never.failing = 0
    assert await desk.retry(BOB) == 0
    assert await desk.retry(ALICE) == 2
    await rounds(notifier, bench, 2)
    assert len(never.notices) == 1
    [item] = [item for item in await bench.engine.open_items(ALICE) if item.system == SYSTEM]
    assert "by mail" in item.why, "what failed once more is open once more"
    assert [type(each).__name__ for each in await told(bench, run)].count("NoticeFailed") == 3
    closed = [each.event for each in await bench.engine.core.journal.read(RunId(run))]
    assert [event.why for event in closed if isinstance(event, ConflictResolved)] == ["it is tried again"] * 2


@pytest.mark.parametrize(("answer", "tries"), [(500, 2), (429, 2), (404, 1), (307, 1)])
async def test_a_webhook_is_repeated_where_that_may_help_and_never_redirected(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, answer: int, tries: int
) -> None:
    monkeypatch.setenv("OPS_SECRET", "s3cret")
    with sinks.web() as web:
        web.answers = [answer]
        hook = WebhookSettings(url=web.url, secret_variable="OPS_SECRET")
        bench = await open_bench(notify=NotifySection(webhooks={"ops": hook}))
        notifier = Notifier(bench.engine.core)
        await notifier.begin()
        run = await contained(bench)
        await rounds(notifier, bench, 3)
        requests = [web.arrived.get_nowait() for _ in range(web.arrived.qsize())]
    assert [request.path for request in requests] == ["/"] * tries
    assert len({request.headers["webhook-id"] for request in requests}) == 1
    assert all(sinks.is_signed(request, "s3cret") for request in requests)
    [ending] = await told(bench, run)
    assert isinstance(ending, NoticeSent if tries == 2 else NoticeFailed)


async def test_nothing_of_a_call_waits_for_a_channel_that_hangs(open_bench: OpenBench) -> None:
    bench = await open_bench(notify=notify())
    hanging = anyio.Event()

    class Hanging(Kept):
        async def send(self, notice: Notice) -> None:
            hanging.set()
            await anyio.sleep_forever()

    notifier = await notifier_of(bench, Hanging())
    bench.engine.core.journal.listeners = (lambda written: notifier.ring() if notifier.heard(written) else None,)
    other = await bench.start("another")
    async with anyio.create_task_group() as group:
        group.start_soon(notifier.run)
        await contained(bench)
        await hanging.wait()
        await bench.set(other, "a", "1")
        group.cancel_scope.cancel()
    later = await notifier_of(bench, Kept())
    await later.drain()
    [row] = await later.store.rows()
    assert row.status == "UNKNOWN"


async def test_who_tells_does_not_outlive_the_data_directory(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPS_SECRET", "s3cret")
    with sinks.web() as web:
        web.answers = [503] * 99
        hook = WebhookSettings(url=web.url, secret_variable="OPS_SECRET")
        bench = await open_bench(notify=NotifySection(webhooks={"ops": hook}))
        settings = bench.engine.core.settings
        await Notifier(bench.engine.core).begin()
        await contained(bench)
        await bench.engine.close()
        with anyio.fail_after(sinks.SECONDS):  # it would be tried again for twenty minutes
            async with anyio.create_task_group() as group:
                group.start_soon(watch_until_done, settings)
                await sinks.taken(web.arrived)
                settings.data.rename(tmp_path / "removed")


# --- the settings -----------------------------------------------------------------------------------------------------


def test_channels_are_called_by_their_kind_and_never_by_their_address() -> None:
    settings = NotifySettings(
        urls=("slack://aaaa/bbbb/cccc", "mailto://me:pw@example.org", "slack://dddd/eeee/ffff", "${TEAMS_URL}"),
        webhooks={"ops": WebhookSettings(url="https://example.org/x")},
    )
    assert channel_names(settings) == ["slack", "mailto", "slack-2", "teams_url", "webhook:ops"]


@pytest.mark.parametrize(
    "text",
    [
        'urls = ["s3cret-without-a-scheme"]',
        'webhooks.ops.url = "http://example.org/s3cret"',
        'webhooks.ops.url = "https://me:s3cret@example.org/"',
        'webhooks."../s3cret".url = "https://example.org/"',
        'events = ["everything"]',
    ],
)
def test_settings_that_cannot_be_meant_are_refused_without_repeating_an_address(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(f"[notify]\n{text}\n")
    with pytest.raises(SettingsError) as refused:
        load(tmp_path / "config.toml", environment={})
    assert "s3cret" not in refused.value.message or "../" in text


def test_the_notices_file_is_ours_alone(tmp_path: Path) -> None:
    import asyncio

    from takeback.server.notices.store import NoticeStore

    store = NoticeStore(tmp_path / "notices" / "notices.db")
    assert asyncio.run(store.begin(7)) == 7
    assert asyncio.run(store.begin(9)) == 7
    store.close()
    assert (tmp_path / "notices" / "notices.db").stat().st_mode & 0o077 == 0
    with sqlite3.connect(tmp_path / "notices" / "notices.db") as database:
        assert database.execute("SELECT position FROM place").fetchall() == [(7,)]
    database.close()
