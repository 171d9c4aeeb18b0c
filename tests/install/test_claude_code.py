"""The real Claude Code: its own command writes, its own health check connects."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.install.conftest import Desk
from tests.node import Programs, programs

BEFORE = {
    "numStartups": 3,
    "mcpServers": {
        "files": {
            "type": "stdio",
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-filesystem", "/"],
            "env": {},
        }
    },
}


@pytest.fixture
def npm() -> Programs:
    return programs()


def test_claude_code_is_connected_by_its_own_command_and_disconnected_again(
    npm: Programs, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    environment = npm.environment(desk.home)
    monkeypatch.setenv("PATH", environment["PATH"])
    file = desk.home / ".claude.json"
    file.write_text(json.dumps(BEFORE, indent=2))
    done = desk.install("claude-code", "--switch-off", "--yes")
    assert done.code == 0, done.err
    assert "Claude Code writes the file itself" in done.out
    assert set(json.loads(file.read_text())["mcpServers"]) == {"takeback"}
    listed = subprocess.run(
        [npm.program("claude"), "mcp", "list"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=desk.site,
    )
    assert "Connected" in listed.stdout, listed.stdout + listed.stderr
    assert desk.install("claude-code", "--json").json["status"] == "unchanged"
    assert desk("claude-code", "--remove", "--yes").code == 0
    after = json.loads(file.read_text())
    assert after["mcpServers"] == BEFORE["mcpServers"]
    assert after["numStartups"] == 3


def test_what_claude_code_says_against_it_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    if os.name != "posix":
        pytest.skip("programs are made with POSIX modes")
    broken = Path(os.environ["PATH"]) / "claude"
    broken.write_text("#!/bin/sh\necho 'no room left' >&2\nexit 1\n")
    broken.chmod(0o755)
    done = desk.install("claude-code", "--yes")
    assert done.code == 4
    assert "claude mcp add-json takeback failed: no room left." in done.err
