"""A real server in a real process, spoken to over its standard streams."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import StdioServerParameters
from tests.signs import SECONDS

import takeback.tools.memory

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
}
SLOW_TOOLS = Path(__file__).parents[1] / "server" / "mcp" / "slow_tools.py"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "notes.txt").write_text("one\ntwo\nthree\n")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    file = tmp_path / "takeback.toml"
    modules = [str(Path(takeback.tools.memory.__file__)), str(SLOW_TOOLS)]
    file.write_text(
        f"key_file = {json.dumps(str(tmp_path / 'keys' / 'chain.key'))}\n"
        f"anchor_file = {json.dumps(str(tmp_path / 'anchors' / 'heads.log'))}\n"
        "[limits]\nframe_bytes = 1000000\nread_bytes = 100000\nballast_bytes = 4096\n"
        f"[tools]\nmodules = {json.dumps(modules)}\n"
    )
    return file


@pytest.fixture
def command(workspace: Path, data: Path, configuration: Path) -> list[str]:
    return [
        sys.executable, "-m", "takeback", "serve",
        "--workspace", str(workspace), "--data", str(data), "--config", str(configuration),
    ]  # fmt: skip


@pytest.fixture
def parameters(command: list[str]) -> StdioServerParameters:
    return StdioServerParameters(command=command[0], args=command[1:])


class Raw:
    """A client that writes bytes and reads lines."""

    def __init__(self, command: list[str], *, legacy: bool = False, **options: Any) -> None:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        self.process: subprocess.Popen[bytes] = subprocess.Popen(command, env=dict(os.environ), **options)
        self.legacy = legacy
        self.errors: list[bytes] = []
        threading.Thread(target=self._collect_errors, daemon=True).start()

    def _collect_errors(self) -> None:
        if self.process.stderr is not None:
            self.errors.extend(self.process.stderr)

    def send(self, frame: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(frame)
        self.process.stdin.flush()

    def ask(self, id: object, method: str, **params: Any) -> None:
        if not self.legacy:
            params["_meta"] = {**ENVELOPE, **params.get("_meta", {})}
        self.send(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n")

    def tell(self, method: str, **params: Any) -> None:
        self.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode() + b"\n")

    def call(self, id: object, tool: str, **arguments: Any) -> None:
        self.ask(id, "tools/call", name=tool, arguments=arguments)

    def answer(self) -> dict[str, Any]:
        """The next line, which has to be a message."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, b"".join(self.errors).decode()
        return json.loads(line)

    def answer_to(self, id: object) -> dict[str, Any]:
        """The next answer to this request; others are passed over."""
        while (message := self.answer()).get("id") != id or "method" in message:
            pass
        return message

    def initialize(self) -> dict[str, Any]:
        self.ask(
            0, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "raw", "version": "1"}
        )
        answer = self.answer_to(0)
        self.tell("notifications/initialized")
        return answer

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(timeout=SECONDS)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # a broken pipe that still had bytes to flush
                    stream.close()


Start = Callable[..., Raw]


@pytest.fixture
def start(command: list[str]) -> Iterator[Start]:
    running: list[Raw] = []

    def make(**options: Any) -> Raw:
        raw = Raw(command, **options)
        running.append(raw)
        if options.get("legacy"):
            raw.initialize()
        return raw

    yield make
    for raw in running:
        raw.stop()
