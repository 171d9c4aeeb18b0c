"""The page that a server opens when something waits for a person: one per data directory, gone when nobody needs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from tests.server.web.world import STRANGER, Page, Sender, environment, page_of, settings_for

from takeback.checkpoints.oslock import held
from takeback.server.settings import Settings
from takeback.server.web import address
from takeback.server.web.entering import entry
from takeback.server.web.links import links_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


@asynccontextmanager
async def chat(settings: Settings, **more: str) -> AsyncGenerator[Any]:
    """A client that cannot ask its person anything, with a server of its own."""
    env = environment(settings, settings.data.parent) | more
    async with Client(
        StdioServerParameters(command=sys.executable, args=["-m", "takeback", "serve"], env=env)
    ) as client:
        yield client


async def announce(client: Any, words: str) -> Any:
    return await client.call_tool("announce", {"text": words})


def link_in(result: Any) -> str:
    [link] = [part for block in result.content for part in block.text.split() if part.startswith("http://")]
    assert result.meta["io.github.takeback/page"] == link
    return link


async def over(settings: Settings) -> None:
    """Wait until the page has let go of its lock."""

    def wait() -> None:
        with held(os.fspath(settings.data / "page" / "page.lock")):
            assert address.running(settings.data) is None

    await asyncio.wait_for(asyncio.to_thread(wait), 20)


def knocks(settings: Settings, link: str) -> tuple[Sender, str]:
    """Somebody at the page who is not known yet, and the link's place on it."""
    where = address.running(settings.data)
    assert where is not None
    return Sender(Page(None, where.url("/enter"))), link.partition(where.base)[2]  # type: ignore[arg-type]


async def test_a_pending_answer_leads_to_the_page_without_a_key_and_the_page_goes_with_its_server(settings: Settings):
    async with chat(settings) as client:
        link = link_in(await announce(client, "hello"))
        stranger, place = knocks(settings, link)
        assert place.startswith("/approvals/apr_")
        assert "key" not in link
        assert stranger.get(place).status == 401, "whoever was answered is not thereby known"
        assert link_in(await announce(client, "again")).partition("/approvals")[0] == link.partition("/approvals")[0]
    await over(settings)
    assert (settings.data / "page" / "page.log").read_text() == ""


async def test_servers_that_ask_at_once_share_one_page_that_a_person_can_use(settings: Settings):
    async with chat(settings) as one, chat(settings) as two:
        asked = [await announce(one, "one"), await announce(two, "two")]
        links = [link_in(result) for result in asked]
        assert len({link.partition("/approvals")[0] for link in links}) == 1
        stranger, place = knocks(settings, links[1])
        where = address.running(settings.data)
        assert where is not None
        entered = stranger.send("GET", entry(settings, where).partition(str(where.port))[2])
        known = Sender(stranger.page, entered.headers["set-cookie"].partition("=")[2].partition(";")[0])
        html = known.get(place).text
        token = html.partition('/approve" autocomplete="off"><input type="hidden" name="form" value="')[2].partition(
            '"'
        )[0]
        assert known.post(f"{place}/approve", {"form": token}).status == 303
        assert (await announce(two, "two")).structured_content["status"] == "applied"
    process = json.loads((settings.data / "page" / "address.json").read_text())["process"]
    assert address.running(settings.data) is not None, "a person is looking at it"
    os.kill(process, signal.SIGTERM)
    await over(settings)


async def test_it_can_be_switched_off(settings: Settings):
    async with chat(settings, TAKEBACK_WEB__ON_DEMAND="false") as client:
        result = await announce(client, "hello")
    assert "http" not in "".join(block.text for block in result.content)
    assert not (settings.data / "page").exists()


async def test_another_principal_is_given_no_link_and_no_page_is_opened_for_it(settings: Settings):
    settings.data.mkdir()
    link = links_of(settings)
    assert link is not None
    assert await link(STRANGER, "/open") is None
    assert address.running(settings.data) is None


def command(settings: Settings, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = environment(settings, settings.data.parent) | more
    return subprocess.run(
        [sys.executable, "-m", "takeback", "web", *words], env=env, capture_output=True, text=True, timeout=30
    )


async def test_the_command_prints_an_address_that_lets_in_and_the_page_ends_when_it_is_not_used(settings: Settings):
    settings.data.mkdir()
    first = await asyncio.to_thread(command, settings, "--url", "--json", TAKEBACK_WEB__IDLE_SECONDS="1")
    url = json.loads(first.stdout)["url"]
    assert (
        Sender(Page(None, url)).send("GET", url.partition("127.0.0.1")[2].partition("/")[2].join(["/", ""])).status
        == 303
    )  # type: ignore[arg-type]
    await over(settings)


async def test_there_is_one_page_and_it_keeps_its_place(settings: Settings):
    settings.data.mkdir()
    folder = settings.data.parent
    async with page_of(settings, folder) as page:
        second = await asyncio.to_thread(command, settings)
        assert second.returncode == 0
        assert "It was open already." in second.stdout
        assert second.stdout.startswith(page.url("/enter?key="))
        assert page.entry not in second.stdout, "each key is another one"
    async with page_of(settings, folder) as again:
        assert (again.port, again.base) == (page.port, page.base)
    with socket.create_server(("127.0.0.1", page.port)):
        async with page_of(settings, folder) as elsewhere:
            assert elsewhere.base == page.base
            assert elsewhere.port != page.port
        refused = await asyncio.to_thread(command, settings, "--port", str(page.port))
    assert refused.returncode == 2
    assert f"cannot listen on port {page.port}" in refused.stderr


async def test_without_a_data_directory_nothing_is_made(settings: Settings):
    missing = await asyncio.to_thread(command, settings, "--url")
    assert missing.returncode == 3
    assert not settings.data.exists()
