"""Starts the server once as a client would: by the very words of the configuration, and with as little around it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from takeback.server.engine.answers import EngineError

_SECONDS = 90.0
"""A first start through uv fetches packages; a client would wait about as long."""
_SHOWN = 400


async def starts(entry: Mapping[str, Any], project: Path) -> int:
    """How many tools it offers.

    :param entry: what stands in the configuration.
    :param project: what the client's own word for the project's folder stands for.
    :raises EngineError: it does not start or does not answer; with what it said about that.
    """
    import anyio
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    words = [str(word).replace("${workspaceFolder}", str(project)) for word in entry["args"]]
    environment = {str(name): str(value) for name, value in dict(entry.get("env") or {}).items()}
    if sys.platform != "win32":
        environment = {"PATH": os.defpath, **environment}
    # clients start servers in folders of their own choice
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        tempfile.TemporaryDirectory() as folder,
    ):
        parameters = StdioServerParameters(command=str(entry["command"]), args=words, env=environment, cwd=folder)
        why = f"did not answer within {_SECONDS:.0f} seconds"
        try:
            with anyio.fail_after(_SECONDS):
                async with Client(stdio_client(parameters, said)) as client:
                    return len((await client.list_tools()).tools)
        except TimeoutError:
            pass
        except Exception as error:  # whatever keeps it from starting is what is asked about
            why = f"did not start ({_innermost(error)})"
        said.seek(0)
        words_said = " ".join(said.read().split())[-_SHOWN:].rstrip(".")
    raise EngineError(
        "not_started",
        f"The server {why}" + (f'. It said: "{words_said}".' if words_said else "."),
        f"Try it yourself: {entry['command']} {' '.join(words)}",
    )


def _innermost(error: BaseException) -> str:
    match error:
        case BaseExceptionGroup(exceptions=(first, *_)):
            return _innermost(first)
        case _:
            return str(error).rstrip(".") or type(error).__name__
