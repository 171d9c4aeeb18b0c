"""A real engine over real files, and clients of both protocol eras connected to it in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from tests.server.mcp.eras import Connect, Era

import takeback.tools.memory
from takeback.server.engine.engine import Engine
from takeback.server.mcp.app import TakebackServer, build_server
from takeback.server.settings import LimitSettings, Settings, ToolSettings, WorkspaceSettings


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "notes.txt").write_text("one\ntwo\nthree\n")
    return folder


@pytest.fixture
def settings(tmp_path: Path, workspace: Path) -> Settings:
    return Settings(
        workspace=WorkspaceSettings(roots=(workspace,)),
        data=tmp_path / "data",
        key_file=tmp_path / "keys" / "chain.key",
        anchor_file=tmp_path / "anchors" / "heads.log",
        limits=LimitSettings(ballast_bytes=4096),
        tools=ToolSettings(modules=(Path(takeback.tools.memory.__file__), Path(__file__).with_name("slow_tools.py"))),
    )


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    opened = await Engine.open(settings)
    yield opened
    await opened.close()


@pytest.fixture
def server(engine: Engine, settings: Settings) -> TakebackServer:
    return build_server(engine, settings)


@pytest.fixture(params=["modern", "legacy"])
def era(request: pytest.FixtureRequest) -> Era:
    return request.param


@pytest.fixture
def connect(server: TakebackServer, era: Era) -> Connect:
    def make(**options: Any) -> Client:
        return Client(server, mode="legacy" if era == "legacy" else "auto", **options)

    return make
