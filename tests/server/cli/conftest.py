"""A person at a terminal, and an agent that has been at work."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from takeback.journal.events import Caller
from takeback.server.cli.app import run
from takeback.server.engine.answers import CallAnswer
from takeback.server.engine.engine import Call, Engine
from takeback.server.principal import local_principal
from takeback.server.roots import remember
from takeback.server.settings import Settings, WorkspaceSettings

AGENT = Caller(principal=local_principal(), client="some-agent", client_version="1")


@dataclass
class Answered:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Desk:
    """One person's machine."""

    settings: Settings
    capture: pytest.CaptureFixture[str]
    site: Path
    answers: list[CallAnswer] = field(default_factory=list)
    run_id: str = ""

    def __call__(self, *words: str) -> Answered:
        self.capture.readouterr()
        code = run(list(words))
        printed = self.capture.readouterr()
        return Answered(int(code), printed.out, printed.err)

    def agent(
        self, *calls: tuple[str, dict[str, Any]], goal: str = "Publish the report", caller: Caller = AGENT
    ) -> str:
        """Let an agent do something in a run of its own; the run's id."""

        async def start(engine: Engine) -> str:
            return (await engine.start_run(caller, goal)).run_id

        self.run_id = self.ask(start)
        self.again(*calls, caller=caller)
        return self.run_id

    def again(self, *calls: tuple[str, dict[str, Any]], caller: Caller = AGENT) -> None:
        """Let the agent do something in the same run, in another process as far as the engine can tell."""

        async def act(engine: Engine) -> None:
            for tool, arguments in calls:
                self.answers.append(await engine.call(Call(tool, arguments, caller, run_id=self.run_id)))

        self.ask(act)

    def ask(self, question: Callable[[Engine], Any]) -> Any:
        """Something of the engine itself."""

        async def work() -> Any:
            engine = await Engine.open(self.settings)
            try:
                return await question(engine)
            finally:
                await engine.close()

        return asyncio.run(work())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    site = tmp_path / "site"
    site.mkdir()
    settings = Settings(
        workspace=WorkspaceSettings(roots=(site,)),
        data=tmp_path / "data",
        key_file=tmp_path / "key.json",
        anchor_file=tmp_path / "anchors",
    )
    remember(settings.data, settings.workspace.roots)
    (tmp_path / "config.toml").touch()
    for name, value in {
        "TAKEBACK_CONFIG": tmp_path / "config.toml",
        "TAKEBACK_DATA": settings.data,
        "TAKEBACK_KEY_FILE": tmp_path / "key.json",
        "TAKEBACK_ANCHOR_FILE": tmp_path / "anchors",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(site)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return Desk(settings, capsys, site)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], None]:
    """Put a person with these answers in front of the terminal."""

    class Person(io.StringIO):
        def isatty(self) -> bool:
            return True

    def sit_down(lines: Sequence[str]) -> None:
        monkeypatch.setattr("sys.stdin", Person("".join(f"{line}\n" for line in lines)))

    return sit_down
