"""What takeback is measured beside: an MCP server whose one tool writes a file. With `--fsync` the file is durable too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp.server import MCPServer

ROOT = Path(sys.argv[1])
FSYNC = "--fsync" in sys.argv
server = MCPServer("bare", log_level="ERROR")


@server.tool()
async def write_file(path: str, content: str) -> dict[str, str]:
    """Write a file."""
    target = ROOT / path
    beside = target.with_name(f".{target.name}.new")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(content)
        if FSYNC:
            file.flush()
            os.fsync(file.fileno())
    beside.replace(target)
    return {"path": path}


server.run("stdio")
