"""Which servers of a client write files beside ours."""

from __future__ import annotations

from typing import Any

import pytest

from takeback.server.install.others import file_servers


def found(command: str, *args: str, **more: Any) -> str | None:
    return file_servers({"it": {"command": command, "args": list(args), **more}}).get("it")


@pytest.mark.parametrize(
    "words",
    [
        ("npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/ada"),
        ("npx", "-y", "@modelcontextprotocol/server-filesystem@2026.8.31", "/home/ada"),
        ("cmd", "/c", "npx", "-y", "@modelcontextprotocol/server-filesystem", r"C:\Users\ada"),
        ("mcp-server-filesystem", "/home/ada"),
        ("/usr/local/bin/mcp-server-filesystem", "/home/ada"),
        (r"C:\tools\mcp-server-filesystem.exe", r"C:\Users\ada"),
        ("docker", "run", "-i", "--rm", "mcp/filesystem", "/projects"),
        ("docker", "run", "mcp/filesystem:latest"),
        ("node", "/opt/server-filesystem/dist/index.js", "/home/ada"),
        ("uvx", "mcp-server-filesystem"),
        ("rust-mcp-filesystem", "/home/ada"),
        ("npx", "@wonderwhy-er/desktop-commander@latest"),
        ("npx", "-y", "@cyanheads/filesystem-mcp-server"),
        ("npx", "-y", "fast-filesystem-mcp"),
        ("mcp-filesystem-server", "/home/ada"),
    ],
)
def test_file_servers_are_known_by_what_starts_them(words: tuple[str, ...]):
    assert found(*words) in words


@pytest.mark.parametrize(
    "words",
    [
        ("npx", "-y", "@modelcontextprotocol/server-github"),
        ("npx", "-y", "@modelcontextprotocol/server-memory", "/home/ada/filesystem"),
        ("node", "/home/ada/filesystem/github-mcp/index.js"),
        ("uvx", "mcp-server-sqlite", "--db-path", "./filesystem.db"),
        ("/usr/bin/takeback", "serve", "--workspace", "/home/ada/server-filesystem"),
        ("uvx", "takeback", "serve", "--workspace", "filesystem"),
        ("uv", "tool", "run", "--from", "takeback", "takeback", "serve"),
        ("", ),
    ],
)  # fmt: skip
def test_others_are_left_in_peace(words: tuple[str, ...]):
    assert found(*words) is None


def test_a_server_that_is_off_already_is_no_matter():
    assert found("mcp-server-filesystem", disabled=True) is None
    assert found("mcp-server-filesystem", disabled=False) is not None


def test_entries_of_any_shape_are_looked_at_without_stumbling():
    odd: dict[str, Any] = {
        "a": None,
        "b": [],
        "c": {"url": "https://x/mcp"},
        "d": {"command": 1, "args": "x"},
        "e": "x",
    }
    assert file_servers(odd) == {}
