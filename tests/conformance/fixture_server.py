"""The fixtures on our server, over HTTP on loopback: `fixture_server.py FOLDER` prints its port and serves."""

from __future__ import annotations

import asyncio
import socket
import sys
import warnings
from pathlib import Path

import uvicorn
from mcp.shared.exceptions import MCPDeprecationWarning

import takeback.tools.memory
from takeback.server.engine.engine import Engine
from takeback.server.mcp.app import build_server
from takeback.server.mcp.tasks import TasksExtension
from takeback.server.settings import LimitSettings, Settings, ToolSettings, WorkspaceSettings

warnings.simplefilter("ignore", MCPDeprecationWarning)  # what the 2025 protocol still requires


async def main(folder: Path) -> None:
    from tests.conformance.fixtures import add_fixtures

    workspace = folder / "workspace"
    workspace.mkdir()
    settings = Settings(
        workspace=WorkspaceSettings(roots=(workspace,)),
        data=folder / "data",
        key_file=folder / "keys" / "chain.key",
        anchor_file=folder / "anchors" / "heads.log",
        limits=LimitSettings(ballast_bytes=4096),
        tools=ToolSettings(modules=(Path(takeback.tools.memory.__file__),)),
    )
    engine = await Engine.open(settings)
    server = build_server(engine, settings)
    extensions = server._extensions  # pyright: ignore[reportPrivateUsage] -- the one that is mounted is the one that is tested
    [tasks] = [extension for extension in extensions if isinstance(extension, TasksExtension)]
    add_fixtures(server, tasks)
    listening = socket.create_server(("127.0.0.1", 0))
    serving = uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning"))
    print(listening.getsockname()[1], flush=True)
    try:
        await serving.serve(sockets=[listening])
    finally:
        await engine.close()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    asyncio.run(main(Path(sys.argv[1])))
