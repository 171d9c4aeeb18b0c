"""File tools over stdio, as a client sees them, beside the official file server and a bare one. Prints one JSON document.

All servers run at once and are called in turn, so that whatever else the machine does falls on all of them alike; the ratios
are worth more than the milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from _setting import BARE, Row, finish, median, official, p95, say, scaled, scratch
from mcp import Client, StdioServerParameters

from takeback.server.engine.triggers.settings import TriggerSettings

WARM_UP = 15
SIZE = 4096
CALLERS = 16
TEXT = "x" * 63 + "\n"

Arguments = dict[str, object]
Times = dict[str, list[float]]


class Server:
    """One of the servers, running, and how its tools are spelt."""

    def __init__(self, name: str, root: Path, client: Client, pid: int | None) -> None:
        self.name, self.root, self.pid = name, root, pid
        self._client = client
        self.run: Arguments = {}

    def path(self, name: str) -> str:
        return str(self.root / name) if self.name == "official" else name

    async def call(self, tool: str, arguments: Arguments) -> dict[str, object]:
        answer = await self._client.call_tool(tool, arguments)
        if answer.is_error:
            raise SystemExit(f"{self.name} refused {tool}: {answer.content}")
        return answer.structured_content or {}

    async def write(self, name: str, content: str) -> None:
        await self.call("write_file", {"path": self.path(name), "content": content, **self.run})

    async def edit(self, name: str, old: str, new: str) -> None:
        match self.name:
            case "official":
                arguments: Arguments = {"edits": [{"oldText": old, "newText": new}]}
            case "takeback":
                arguments = {"edits": [{"old_text": old, "new_text": new}], **self.run}
            case _:
                arguments = {"old_text": old, "new_text": new}
        await self.call("edit_file", {"path": self.path(name), **arguments})

    async def read(self, name: str) -> None:
        tool = "read_text_file" if self.name == "official" else "read_file"
        await self.call(tool, {"path": self.path(name)})


def parameters(folder: Path) -> dict[str, StdioServerParameters]:
    """Each with a workspace of its own on the same disk."""
    roots = {name: folder / name for name in ("official", "bare", "bare_fsync", "takeback")}
    for root in roots.values():
        root.mkdir(exist_ok=True)
    # the triggers count as ever, but a benchmark is not stopped for its haste
    (folder / "config.toml").write_text(
        "[triggers]\n" + "".join(f'{name}.answer = "off"\n' for name in TriggerSettings.model_fields)
    )
    bare = [str(BARE), str(roots["bare"])]
    own = ["-m", "takeback", "serve", "--workspace", str(roots["takeback"]), "--data", str(folder / "data")]
    found = {
        "bare": StdioServerParameters(command=sys.executable, args=bare),
        "bare_fsync": StdioServerParameters(
            command=sys.executable, args=[str(BARE), str(roots["bare_fsync"]), "--fsync"]
        ),
        "takeback": StdioServerParameters(
            command=sys.executable,
            args=own,
            env={
                **({"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}),
                "TAKEBACK_CONFIG": str(folder / "config.toml"),
                "TAKEBACK_KEY_FILE": str(folder / "key" / "journal.json"),
                "TAKEBACK_ANCHOR_FILE": str(folder / "key" / "anchors"),
            },
        ),
    }
    command = official()
    if command is not None:
        found["official"] = StdioServerParameters(command=command[0], args=[*command[1:], str(roots["official"])])
    return found


async def starts(folder: Path, times: int) -> Times:
    """Seconds from the start of the process to the list of tools; the first start of each (which compiles) is not counted."""
    took: Times = {}
    for _ in range(times + 1):
        for name in ("bare", "takeback"):
            begin = time.perf_counter()
            async with Client(parameters(folder)[name]) as client:
                await client.list_tools()
                took.setdefault(name, []).append(time.perf_counter() - begin)
    return {name: each[1:] for name, each in took.items()}


async def in_turn(servers: list[Server], rounds: int, one: Callable[[Server, int], Awaitable[None]]) -> Times:
    """Seconds of one kind of call, the servers called in turn."""
    times: Times = {server.name: [] for server in servers}
    for number in range(rounds + WARM_UP):
        for server in servers:
            begin = time.perf_counter()
            await one(server, number)
            if number >= WARM_UP:
                times[server.name].append(time.perf_counter() - begin)
    return times


async def at_once(servers: list[Server], rounds: int) -> dict[str, float]:
    """Writes a second, 16 callers at once, each on a file of its own."""
    took: Times = {server.name: [] for server in servers}

    async def caller(server: Server, number: int, tasks: int) -> None:
        for again in range(tasks):
            await server.write(f"own-{number}.txt", f"{again:08d}" + "x" * SIZE)

    for _ in range(rounds):
        for server in servers:
            begin = time.perf_counter()
            await asyncio.gather(*(caller(server, number, 5) for number in range(CALLERS)))
            took[server.name].append((time.perf_counter() - begin) / (CALLERS * 5))
    return {name: 1000 / median(each) for name, each in took.items()}


def resident(pid: int | None) -> float:
    """Resident memory of a process in MiB; 0 where that cannot be had."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0.0


def children() -> set[int]:
    """Processes that this one has started and that are alive."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        found.update(int(pid) for pid in path.read_text().split())
    return found


async def measure(folder: Path) -> list[Row]:
    """All rows."""
    rounds = scaled(300, 80, "BENCH_CALLS")
    say("files: cold starts")
    started = await starts(folder, scaled(9, 3))
    async with AsyncExitStack() as stack:
        servers: list[Server] = []
        for name, each in parameters(folder).items():
            before = children()
            client = await stack.enter_async_context(Client(each))
            new = children() - before
            servers.append(Server(name, folder / name, client, next(iter(new), None)))
        by_name = {server.name: server for server in servers}
        ours = by_name["takeback"]
        run = await ours.call("start_run", {"goal": "measure"})
        ours.run = {"run_id": run["run_id"]}
        say("files: writes")
        body = TEXT * (SIZE // len(TEXT))
        write = await in_turn(servers, rounds, lambda s, n: s.write("same.txt", f"{n:08d}" + body[8:]))
        memory = {name: resident(by_name[name].pid) for name in ("bare", "takeback")}
        say("files: new files, edits, reads")
        create = await in_turn(servers, rounds, lambda s, n: s.write(f"new-{n}.txt", body))
        for server in servers:
            await server.write("edit.txt", "mark 0\n" + body)
        edit = await in_turn(servers, rounds, lambda s, n: s.edit("edit.txt", f"mark {n}\n", f"mark {n + 1}\n"))
        read = await in_turn(servers, rounds, lambda s, n: s.read("same.txt"))
        say(f"files: {CALLERS} callers at once")
        rate = await at_once(servers, scaled(8, 3))
        say("files: memory")
        for number in range(1000):
            for name in ("bare", "takeback"):
                await by_name[name].write("same.txt", f"{number:08d}")
        later = {name: resident(by_name[name].pid) for name in ("bare", "takeback")}
    beside = "official" if "official" in by_name else "bare"
    words = "official node server" if beside == "official" else "bare mcp server"

    def calls(what: str, times: Times, goal: float) -> Row:
        note = ", ".join(f"{name} {median(each):.2f} ms" for name, each in times.items() if name.startswith("bare"))
        return Row(
            what, median(times["takeback"]), "ms", median(times[beside]), words, goal, note=note,
            p95=p95(times["takeback"]), reference_p95=p95(times[beside]),
        )  # fmt: skip

    rows = [
        calls("write_file over an existing 4 KiB file", write, 1.6),
        Row("the same, p95", p95(write["takeback"]), "ms", p95(write[beside]), words, 2.5),
        calls("edit_file", edit, 1.5),
        calls("write_file, new file", create, 1.2),
        calls("read_file", read, 1.1),
        Row(
            f"writes, {CALLERS} callers", rate["takeback"], "calls/s", rate[beside], words, 0.6, at_least=True,
            note=f"bare {rate['bare']:.0f}/s, bare with fsync {rate['bare_fsync']:.0f}/s",
        ),
        Row(
            "cold start to tools/list", median(started["takeback"]), "ms", median(started["bare"]), "bare mcp server", 1.15
        ),
    ]  # fmt: skip
    if later["takeback"]:
        note = f"{memory['takeback']:.0f} MiB before the last 1,000 calls"
        rows.append(Row("resident memory", later["takeback"], "MiB", later["bare"], "bare mcp server", 1.3, note=note))
    return rows


def main() -> None:
    """Measure and print."""
    with scratch() as folder:
        rows = asyncio.run(measure(folder))
    finish("files", rows)


if __name__ == "__main__":
    main()
