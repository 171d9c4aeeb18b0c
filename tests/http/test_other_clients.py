"""Clients that others wrote, over HTTP: the Inspector, a scripted person in both eras, and Claude Code as the page says it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.house import ADA, BOB, House
from tests.node import Programs, programs

Run = Callable[..., str]
PAGE = Path(__file__).parents[2] / "docs" / "http.md"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs are started by their POSIX names")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program that must end well and have nothing to complain about."""
    fetched: Programs = programs()

    def make(name: str, *arguments: str, complaints: bool = False) -> str:
        done = subprocess.run(
            [fetched.program(name), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env=fetched.environment(tmp_path / "home", MCP_INSPECTOR_SECRET_STORE="memory"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert complaints or not done.stderr, done.stderr
        return done.stdout

    return make


def test_the_inspector_finds_nothing_wrong_with_the_list_of_tools(house: House, run: Run, era: str) -> None:
    where = ["--cli", house.url, "--transport", "http", "--header", f"Authorization: Bearer {ADA}"]
    said = run("mcp-inspector", *where, "--protocol-era", era, "--method", "tools/list", "--strict", "--format", "json")
    listed = json.loads(said)["result"]["tools"]
    assert {"read_file", "write_file", "rollback_run"} <= {tool["name"] for tool in listed}


@pytest.fixture
def person(house: House, run: Run, tmp_path: Path, era: str) -> Iterator[Run]:
    """A client with somebody at it, whose answers are given by commands."""
    servers = tmp_path / "servers.json"
    server = {"type": "streamable-http", "url": house.url, "headers": {"Authorization": f"Bearer {BOB}"}}
    servers.write_text(json.dumps({"mcpServers": {"takeback": server}}))

    def do(*arguments: str) -> str:
        # it complains that secrets are not kept; there are none
        return run("mcpdo", "--plain", "--config", str(servers), "--format", "json", *arguments, complaints=True)

    try:
        do("connect", "takeback", "--era", era)
        yield do
    finally:
        do("daemon", "stop")


def test_a_person_approves_an_irreversible_act(person: Run, era: str) -> None:
    text = f"dinner is ready, over HTTP, in the {era} era"
    asked: Any = json.loads(person("--connection", "takeback", "tools/call", "announce", f'text:="{text}"'))
    question = asked["elicitationPending"]
    assert "irreversible" in question["message"] and text in question["message"]
    respond = ["--connection", "takeback", "elicitation/respond", question["elicitationId"], "approve:=true"]
    assert json.loads(person(*respond))["structuredContent"]["status"] == "applied"


def test_claude_code_connects_by_the_line_on_the_page(house: House, run: Run) -> None:
    [line] = re.findall(r"^claude (mcp add .*)$", PAGE.read_text(encoding="utf-8"), re.M)
    told = re.fullmatch(r'mcp add --transport http takeback (\S+) --header "(Authorization: Bearer) TOKEN"', line)
    assert told and told[1].endswith("/mcp") and house.url.endswith("/mcp")
    run("claude", "mcp", "add", "--transport", "http", "takeback", house.url, "--header", f"{told[2]} {ADA}")
    [listed] = [each for each in run("claude", "mcp", "list").splitlines() if each.startswith("takeback:")]
    assert "Connected" in listed
