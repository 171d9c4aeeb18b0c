"""The notice on a person's own desktop lets their browser in at what it is about; no other notice, and nobody else."""

from __future__ import annotations

import asyncio
import email
import email.policy
import http.client
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import unquote

import pytest
import pytest_asyncio
from tests.server.notices import sinks
from tests.server.web.world import AGENT, STRANGER, Page, Sender, World, world_in

from takeback.journal.events import MailMoved
from takeback.journal.ids import ActionId
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.notices.contents import notice_of
from takeback.server.notices.notifier import Notifier
from takeback.server.notices.settings import WebhookSettings
from takeback.server.settings import NotifySection
from takeback.server.web import address, detached
from takeback.server.web.entering import entry_on_demand
from takeback.server.web.neighbours import user_of
from takeback.server.web.settings import WebSettings

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # imported by apprise
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    """Whose page is not open."""
    hook = WebhookSettings(url="http://127.0.0.1:9/", secret_variable="OPS_SECRET")
    notify = NotifySection(urls=("desktop://", "${MAIL_URL}"), webhooks={"ops": hook})
    folder = tmp_path_factory.mktemp("told")
    async with world_in(folder, notify=notify, triggers=TriggerSettings.off()) as made:
        yield made
        for page in detached._children:
            page.terminate()
            await asyncio.to_thread(page.wait, sinks.SECONDS)


NOBODY = 65534


def link_of(shown: Path) -> str:
    """The link at the end of what a desktop was given."""
    [*_, body, rest] = shown.read_text().split("\0")
    assert rest == ""
    return body.rpartition(" ")[2].replace("&amp;", "&")


async def test_only_the_desktop_gets_a_link_with_a_key_and_it_opens_the_question_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown = sinks.desktop(tmp_path / "bin")
    monkeypatch.setenv("OPS_SECRET", "s3cret")
    monkeypatch.setenv("PATH", sinks.path_with(tmp_path / "bin"))
    with sinks.web() as web, sinks.mail() as mail:
        monkeypatch.setenv("MAIL_URL", mail.url)
        core = world.engine.core
        hook = world.settings.notify.webhooks["ops"].model_copy(update={"url": web.url})
        told = world.settings.notify.model_copy(update={"webhooks": {"ops": hook}})
        settings = world.settings.model_copy(update={"notify": told})
        monkeypatch.setattr(core, "settings", settings)
        # however long a busy machine takes; the page, once it is open, helps with telling
        notifier = Notifier(core, entry=entry_on_demand(settings, within=sinks.SECONDS))
        await notifier.begin()
        asked = await world.asks(await world.run(), "the report is out")
        assert address.running(world.settings.data) is None
        await notifier.drain()
        request = await sinks.taken(web.arrived)
        letter = email.message_from_bytes(await sinks.taken(mail.arrived), policy=email.policy.default)
        while await notifier.unfinished():  # noqa: ASYNC110 -- noted by whichever process sent it
            await asyncio.sleep(0.01)
        [row] = await notifier.store.rows(channel="desktop")
        notifier.store.close()
    link = link_of(shown)
    for other in (
        request.body.decode(),
        str(request.headers),
        unquote(letter.as_string()),
        letter.get_content(),
        str(row),
    ):
        assert "/enter" not in other
        assert "key=" not in other
        assert asked in other or other in (str(row), str(request.headers))
    where = address.running(world.settings.data)
    assert where is not None, "the page was opened for it"
    assert link.startswith(where.url("/enter?key="))
    browser = Sender(Page(None, where.url("/enter")))  # type: ignore[arg-type]
    path = link.partition(str(where.port))[2]
    if os.geteuid() == 0:  # somebody else of this machine, who has seen it among the arguments
        assert as_another_user(where.port, path) == 403
    entered = browser.send("GET", path)
    assert (entered.status, entered.headers["location"]) == (303, f"{where.base}/approvals/{asked}")
    cookie = entered.headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert "the report is out" in Sender(browser.page, cookie).get(f"/approvals/{asked}").text
    assert browser.send("GET", path).status == 403, "a key opens once"


def as_another_user(port: int, path: str) -> int:
    """What the page answers to a program of another user."""
    os.seteuid(NOBODY)
    try:
        made = socket.socket()
    finally:
        os.seteuid(0)
    made.connect(("127.0.0.1", port))
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = made
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


async def test_each_notice_leads_to_what_it_is_about_and_those_of_others_runs_nowhere(world: World):
    core = world.engine.core

    async def place(run_id: str, kind: str) -> str:
        [first, *_] = [each for each in await core.journal.read(run_id) if each.event and each.event.type == kind]
        notice = await notice_of(core, first, "journal")
        assert notice is not None
        assert "place" not in notice.data
        return notice.place

    run_id, item = await world.conflict()
    [back] = (await world.engine.get_run(AGENT, run_id)).rollbacks
    assert await place(run_id, "rollback.finished") == f"/open/{item}", "what is left of it is one thing"
    await world.engine.settle(AGENT, item, "asked her: it is fine")
    assert await place(run_id, "rollback.finished") == f"/rollbacks/{back}"
    await world.engine.contain_run(AGENT, run_id, "it looked wrong")
    assert await place(run_id, "run.contained") == f"/runs/{run_id}"
    event = MailMoved(type="mail.late", run_id=run_id, at=core.now(), action_id=ActionId("act"), message_id="msg_1")  # type: ignore[arg-type]
    await core.journal.append([event])
    assert await place(run_id, "mail.late") == "/mail/msg_1"
    theirs = await world.run(caller=STRANGER)
    await world.engine.contain_run(STRANGER, theirs, "it looked wrong")
    assert await place(theirs, "run.contained") == ""


async def test_without_a_page_the_notice_names_the_command_that_opens_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = world.settings.model_copy(update={"data": tmp_path / "data", "web": WebSettings(on_demand=False)})
    assert await entry_on_demand(settings)("/") is None, "it is not opened where that is switched off"
    assert not (tmp_path / "data").exists()
    late = world.settings.model_copy(update={"data": tmp_path / "nowhere" / "data"})
    assert await entry_on_demand(late, within=0)("/") is None, "a notice does not wait for it"


async def test_the_system_tells_whose_a_connection_is():
    with socket.create_server(("127.0.0.1", 0)) as server:
        for family in (socket.AF_INET, socket.AF_INET6):
            with socket.socket(family) as client:
                mapped = "127.0.0.1" if family == socket.AF_INET else "::ffff:127.0.0.1"
                await asyncio.to_thread(client.connect, (mapped, server.getsockname()[1]))
                peer, _ = server.accept()
                with peer:
                    assert user_of(peer.getpeername(), peer.getsockname()) == os.geteuid()
    assert user_of(("127.0.0.1", 1), ("127.0.0.1", 2)) is None
