"""What takeback is measured beside: the same file tools on a bare MCP server, with nothing behind them.

With `--fsync` what is written is durable too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp.server import MCPServer

ROOT = Path(sys.argv[1])
FSYNC = "--fsync" in sys.argv
server = MCPServer("bare", log_level="ERROR")


def put(target: Path, content: str) -> None:
    """Write beside and rename."""
    beside = target.with_name(f".{target.name}.new")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(content)
        if FSYNC:
            file.flush()
            os.fsync(file.fileno())
    beside.replace(target)
    if FSYNC:
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@server.tool()
async def write_file(path: str, content: str) -> dict[str, str]:
    """Write a file."""
    put(ROOT / path, content)
    return {"path": path}


@server.tool()
async def edit_file(path: str, old_text: str, new_text: str) -> dict[str, str]:
    """Replace text in a file."""
    target = ROOT / path
    put(target, target.read_text(encoding="utf-8").replace(old_text, new_text, 1))
    return {"path": path}


@server.tool()
async def read_file(path: str) -> dict[str, str]:
    """Read a file."""
    return {"content": (ROOT / path).read_text(encoding="utf-8")}


server.run("stdio")
