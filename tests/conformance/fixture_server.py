"""`takeback serve --http` with the suite's fixtures among its tools: `fixture_server.py FOLDER` says on stderr where it serves.

Everything is as it is for people (settings, gate, listener, engine, extensions, the end), but for two things. What the suite
asks for by fixed names, and in forms that no tool of ours has (images, questions, prompts), is added to the server that
`build_server` makes. And because the suite cannot be told a token, its requests get one on their way to the gate; without it
the gate would turn them away, which `tests/http` shows.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPDeprecationWarning

import takeback.tools.memory
from takeback.server.mcp import app, http_serve
from takeback.server.mcp.http_gate import Gate
from takeback.server.mcp.tasks import TasksExtension
from takeback.server.settings import HttpSettings, LimitSettings, Settings, ToolSettings, WorkspaceSettings

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

warnings.simplefilter("ignore", MCPDeprecationWarning)  # what the 2025 protocol still requires

TOKEN = "the-token-of-the-conformance-suite"


class GateWithToken(Gate):
    """The gate, and a client's part before it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not any(name == b"authorization" for name, _ in scope["headers"]):
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {TOKEN}".encode())]}
        await super().__call__(scope, receive, send)


def with_fixtures(build: Any) -> Any:
    """`build_server`, and the fixtures."""
    from tests.conformance.fixtures import add_fixtures

    def built(*given: Any, **more: Any) -> Any:
        server = build(*given, **more)
        extensions = server._extensions  # the one that is mounted is the one that is tested
        [tasks] = [extension for extension in extensions if isinstance(extension, TasksExtension)]
        add_fixtures(server, tasks)
        return server

    return built


def main(folder: Path) -> int:
    workspace = folder / "workspace"
    workspace.mkdir()
    settings = Settings(
        workspace=WorkspaceSettings(roots=(workspace,)),
        data=folder / "data",
        key_file=folder / "keys" / "chain.key",
        anchor_file=folder / "anchors" / "heads.log",
        limits=LimitSettings(ballast_bytes=4096),
        tools=ToolSettings(modules=(Path(takeback.tools.memory.__file__),)),
        http=HttpSettings(port=0),
    )
    app.build_server = with_fixtures(app.build_server)
    http_serve.Gate = GateWithToken  # type: ignore[misc] -- a gate like it
    return asyncio.run(http_serve.serve_http(settings, TOKEN))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    sys.exit(main(Path(sys.argv[1])))
