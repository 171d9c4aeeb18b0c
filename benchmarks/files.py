"""What journaling costs: `write_file` over stdio, beside a bare MCP server that only writes. Prints one JSON document.

All servers run at once and are called in turn, so that whatever else the machine does falls on all of them alike; the ratios
are worth more than the milliseconds. Options: `--calls N` (default 200), `--bytes N` (size of the file, default 4096).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from mcp import Client, StdioServerParameters

BARE = Path(__file__).with_name("_bare_server.py")
WARM_UP = 10
STARTS = 7


def servers(folder: Path) -> dict[str, StdioServerParameters]:
    """Each with a workspace of its own on the same disk."""
    for name in ("bare", "bare_fsync", "takeback"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "config.toml").touch()
    return {
        "bare": StdioServerParameters(command=sys.executable, args=[str(BARE), str(folder / "bare")]),
        "bare_fsync": StdioServerParameters(
            command=sys.executable, args=[str(BARE), str(folder / "bare_fsync"), "--fsync"]
        ),
        "takeback": StdioServerParameters(
            command=sys.executable,
            args=["-m", "takeback", "serve", "--workspace", str(folder / "takeback"), "--data", str(folder / "data")],
            env={
                "TAKEBACK_CONFIG": str(folder / "config.toml"),
                "TAKEBACK_KEY_FILE": str(folder / "key" / "journal.json"),
                "TAKEBACK_ANCHOR_FILE": str(folder / "key" / "anchors"),
            },
        ),
    }


async def starts(folder: Path, times: int) -> dict[str, list[float]]:
    """Seconds from the start of the process to the list of tools; the first start of each (which compiles) is not counted."""
    took: dict[str, list[float]] = {}
    for _ in range(times + 1):
        for name, parameters in servers(folder).items():
            begin = time.perf_counter()
            async with Client(parameters) as client:
                await client.list_tools()
                took.setdefault(name, []).append(time.perf_counter() - begin)
    return {name: each[1:] for name, each in took.items()}


async def measure(folder: Path, calls: int, size: int) -> dict[str, object]:
    """Milliseconds by server: of the start up to the list of tools, of an overwrite, of a new file."""
    started = await starts(folder, STARTS)
    overwrite: dict[str, list[float]] = {}
    create: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        clients: dict[str, Client] = {}
        for name, parameters in servers(folder).items():
            clients[name] = await stack.enter_async_context(Client(parameters))
            overwrite[name], create[name] = [], []
        runs = {"takeback": {"run_id": await _run(clients["takeback"])}}
        for number in range(calls + WARM_UP):
            content = f"{number:08d}" + "x" * max(0, size - 8)
            for path, times in (("same.txt", overwrite), (f"new-{number}.txt", create)):
                for name, client in clients.items():
                    arguments = {"path": path, "content": content, **runs.get(name, {})}
                    begin = time.perf_counter()
                    answer = await client.call_tool("write_file", arguments)
                    took = time.perf_counter() - begin
                    if answer.is_error:
                        raise SystemExit(f"{name} refused to write: {answer.content}")
                    if number >= WARM_UP:
                        times[name].append(took)
    return {
        "start_to_tools_list": _told(started),
        "overwrite_file": _told(overwrite),
        "create_file": _told(create),
    }


async def _run(client: Client) -> str:
    answer = await client.call_tool("start_run", {"goal": "benchmark"})
    assert answer.structured_content is not None
    return str(answer.structured_content["run_id"])


def _told(times: dict[str, list[float]]) -> dict[str, object]:
    medians = {name: statistics.median(each) for name, each in times.items()}
    p95 = {name: sorted(each)[int(len(each) * 0.95)] for name, each in times.items() if len(each) > 1}
    return {
        "median_ms": {name: round(1000 * value, 3) for name, value in medians.items()},
        "p95_ms": {name: round(1000 * value, 3) for name, value in p95.items()},
        "takeback_to_bare": round(medians["takeback"] / medians["bare"], 2),
        "takeback_to_bare_fsync": round(medians["takeback"] / medians["bare_fsync"], 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--bytes", type=int, default=4096)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="takeback-bench-") as folder:
        result = asyncio.run(measure(Path(folder), given.calls, given.bytes))
    about = {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()}
    print(
        json.dumps({"benchmark": "files", "calls": given.calls, "bytes": given.bytes, "on": about, **result}, indent=2)
    )


if __name__ == "__main__":
    main()
