"""A person's machine: an agent at work on files and mail, the page as a process of its own, and a browser or a bare socket."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import takeback.tools.memory
from takeback.journal.events import Caller
from takeback.server.engine.answers import CallAnswer
from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine
from takeback.server.principal import local_principal
from takeback.server.settings import ApprovalSection, LimitSettings, Settings, ToolSettings, WorkspaceSettings

MODULES = (Path(takeback.tools.memory.__file__), Path(__file__).with_name("later.py"))
AGENT = Caller(principal=local_principal(), client="some-agent", client_version="1")
STRANGER = Caller(principal="token:mallory", client="some-agent", client_version="1")


def settings_for(folder: Path, **more: Any) -> Settings:
    site = folder / "site"
    site.mkdir(parents=True, exist_ok=True)
    return Settings(
        **{
            "workspace": WorkspaceSettings(roots=(site,)),
            "data": folder / "data",
            "key_file": folder / "chain.key",
            "anchor_file": folder / "anchors.log",
            "limits": LimitSettings(ballast_bytes=4096),
            "approvals": ApprovalSection(run_per_minute=1000, person_per_minute=1000),  # asked at a machine's pace
            "tools": ToolSettings(modules=MODULES, off=("database", "calendar")),
            **more,
        }
    )


@dataclass
class World:
    """The agent's side."""

    settings: Settings
    engine: Engine

    @property
    def site(self) -> Path:
        return self.settings.workspace.roots[0]

    async def run(self, goal: str = "Publish the report", *, caller: Caller = AGENT, **more: Any) -> str:
        return (await self.engine.start_run(caller, goal, **more)).run_id

    async def call(self, run_id: str, tool: str, *, caller: Caller = AGENT, **arguments: Any) -> CallAnswer:
        return await self.engine.call(Call(tool, arguments, caller, run_id=run_id))

    async def done(self, run_id: str, tool: str, *, caller: Caller = AGENT, **arguments: Any) -> CallAnswer:
        answer = await self.call(run_id, tool, caller=caller, **arguments)
        assert answer.status in ("applied", "held"), answer
        return answer

    async def asks(self, run_id: str, text: str, **more: Any) -> str:
        """The agent wants to do something that cannot be taken back; the question's id."""
        answer = await self.call(run_id, "announce", text=text, **more)
        assert answer.status == "pending_approval", answer
        assert answer.approval_id is not None
        return answer.approval_id

    async def conflict(self, name: str = "plan.txt") -> tuple[str, str]:
        """The agent's change was not taken back, because a person changed the same line; the run and the open item."""
        file = self.site / name
        file.write_text("one\ntwo\nthree\n")
        run_id = await self.run(f"Rewrite {name}")
        await self.done(run_id, "edit_file", path=name, edits=[{"old_text": "two", "new_text": "two of the agent"}])
        file.write_text("one\ntwo of a person\nthree\n")
        answer = await self.engine.rollback(AGENT, run_id=run_id)
        [item] = answer.open_items
        return run_id, item.conflict_id

    async def letter(self, run_id: str, **more: Any) -> str:
        """A message that is held for an hour; its id."""
        told = {
            "to": ["bob@example.org"],
            "subject": "The report",
            "body": "It is out.\n",
            "hold_seconds": 3600,
            **more,
        }
        await self.done(run_id, "send_email", **told)
        [newest, *_] = sorted(await self.engine.desk.rows(AGENT), key=lambda row: -row.held_at)
        return newest.id


@asynccontextmanager
async def world_in(folder: Path, **more: Any) -> AsyncGenerator[World]:
    settings = settings_for(folder, **more)
    engine = await Engine.open(settings)
    try:
        yield World(settings, engine)
    finally:
        await engine.close()


@dataclass
class Page:
    """The page's process."""

    process: subprocess.Popen[bytes]
    entry: str
    """Lets one browser in, once."""

    @property
    def port(self) -> int:
        return urlsplit(self.entry).port or 0

    @property
    def base(self) -> str:
        return urlsplit(self.entry).path.removesuffix("/enter")

    def url(self, place: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{self.base}{place}"


def environment(settings: Settings, folder: Path) -> dict[str, str]:
    """In which a command finds this world."""
    config = folder / "config.toml"
    config.write_text(
        f"[workspace]\nroots = ['{settings.workspace.roots[0]}']\n[limits]\nballast_bytes = 4096\n"
        f"[tools]\nmodules = {json.dumps([str(module) for module in settings.tools.modules])}\noff = ['database', 'calendar']\n"
        f"[roles]\nauditors = {json.dumps(settings.roles.auditors)}\n"
    )
    return os.environ | {
        "TAKEBACK_CONFIG": str(config),
        "TAKEBACK_DATA": str(settings.data),
        "TAKEBACK_KEY_FILE": str(settings.key_file),
        "TAKEBACK_ANCHOR_FILE": str(settings.anchor_file),
    }


@asynccontextmanager
async def page_of(settings: Settings, folder: Path, *options: str) -> AsyncGenerator[Page]:
    """`takeback web`, as a person starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "takeback", "web", *options],
        env=environment(settings, folder),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        yield Page(process, line.decode().strip())
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 10)
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Sender:
    """Somebody who sends whatever they like to the page's port."""

    page: Page
    cookie: str = ""
    host: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, place: str, body: bytes | None = None, **headers: str | None) -> Answer:
        """A header of None is left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.page.port, timeout=20)
        sent: dict[str, str | None] = {"Host": self.host or f"127.0.0.1:{self.page.port}"}
        if self.cookie:
            sent["Cookie"] = f"takeback={self.cookie}"
        if method == "POST":
            sent["Origin"] = f"http://127.0.0.1:{self.page.port}"
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(method, place, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            if body:
                with contextlib.suppress(ConnectionError):
                    connection.send(body)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, place: str, **headers: str | None) -> Answer:
        return self.send("GET", self.page.base + place, **headers)

    def post(self, place: str, fields: Mapping[str, str], **headers: str | None) -> Answer:
        return self.send("POST", self.page.base + place, urlencode(fields).encode(), **headers)
