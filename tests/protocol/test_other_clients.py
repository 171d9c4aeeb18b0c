"""Clients that others wrote, against our server as it is installed: the Inspector in both eras, and Claude Code."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.node import Programs, programs

Era = Literal["modern", "legacy"]
ERAS: tuple[Era, Era] = ("modern", "legacy")
Run = Callable[..., str]
IS_ERROR = 5
"""How the Inspector ends after a call that answered with an error."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs are started by their POSIX names")


@pytest.fixture
def fetched() -> Programs:
    return programs()


@pytest.fixture
def run(fetched: Programs, tmp_path: Path) -> Run:
    """Run a program that must end as it should and have nothing to complain about."""

    def make(name: str, *arguments: str, complaints: bool = False, code: int = 0) -> str:
        done = subprocess.run(
            [fetched.program(name), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env=fetched.environment(tmp_path / "home", MCP_INSPECTOR_SECRET_STORE="memory"),
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert complaints or not done.stderr, done.stderr
        return done.stdout

    return make


@pytest.fixture
def inspect(run: Run, command: list[str], tmp_path: Path) -> Callable[..., Any]:
    # the Inspector takes options after a command for its own
    script = tmp_path / "serve"
    script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    script.chmod(0o755)

    def make(era: Era, method: str, *arguments: str) -> Any:
        where = ["--cli", str(script), "--protocol-era", era]
        said = run("mcp-inspector", *where, "--method", method, "--format", "json", *arguments)
        return json.loads(said)["result"]

    return make


@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_finds_nothing_wrong_with_the_list_of_tools(inspect: Callable[..., Any], era: Era) -> None:
    listed = inspect(era, "tools/list", "--strict")
    assert {"read_file", "write_file", "rollback_run"} <= {tool["name"] for tool in listed["tools"]}


def test_the_inspector_reads_acts_and_takes_back_across_eras(inspect: Callable[..., Any], workspace: Path) -> None:
    def call(era: Era, tool: str, **arguments: Any) -> Any:
        given = ("--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        return inspect(era, "tools/call", *given)["structuredContent"]

    before = "one\ntwo\nthree\n"
    assert call("modern", "read_file", path="notes.txt")["content"] == before
    assert call("legacy", "write_file", path="notes.txt", content="new\n")["status"] == "applied"
    assert (workspace / "notes.txt").read_text() == "new\n"
    assert call("modern", "rollback_run", last=1)["status"] == "complete"
    assert (workspace / "notes.txt").read_text() == before


@pytest.fixture(params=ERAS)
def person(request: pytest.FixtureRequest, run: Run, command: list[str], tmp_path: Path) -> Iterator[Run]:
    """A client with somebody at it, whose answers are given by commands."""
    servers = tmp_path / "servers.json"
    servers.write_text(json.dumps({"mcpServers": {"takeback": {"command": command[0], "args": command[1:]}}}))

    def do(*arguments: str, code: int = 0) -> str:
        # it complains that secrets are not kept; there are none
        told = ["--plain", "--config", str(servers), "--format", "json", *arguments]
        return run("mcpdo", *told, complaints=True, code=code)

    try:
        do("connect", "takeback", "--era", request.param)
        yield do
    finally:
        do("daemon", "stop")


def test_a_person_approves_one_irreversible_act_and_declines_another(person: Run) -> None:
    def announce(text: str, *answer: str, code: int = 0) -> Any:
        asked = json.loads(person("--connection", "takeback", "tools/call", "announce", f'text:="{text}"'))
        question = asked["elicitationPending"]
        assert "irreversible" in question["message"]
        assert text in question["message"]
        respond = ["--connection", "takeback", "elicitation/respond", question["elicitationId"], *answer]
        return json.loads(person(*respond, code=code))["structuredContent"]

    assert announce("dinner is ready", "approve:=true")["status"] == "applied"
    assert announce("dinner is cold", "--decline", code=IS_ERROR)["status"] == "denied"


def test_claude_code_connects(run: Run, command: list[str]) -> None:
    run("claude", "mcp", "add", "takeback", "--", *command)
    listed = run("claude", "mcp", "list")
    [line] = [line for line in listed.splitlines() if line.startswith("takeback:")]
    assert "Connected" in line
    shown = run("claude", "mcp", "get", "takeback")
    assert "Connected" in shown
