"""The clients: where each keeps its configuration on each system, and how it is written there. Pure, but for `Machine.here`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Final, Literal, Self, get_args

Client = Literal["claude-desktop", "claude-code", "cursor", "vscode"]
Platform = Literal["linux", "darwin", "win32"]
CLIENTS: Final[tuple[Client, ...]] = get_args(Client)


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs from client to client."""

    title: str
    section: str
    """The member of the configuration that holds the servers."""
    comments: bool
    """Whether the client reads comments in it."""
    project: tuple[str, ...] | None
    """The file of a project, below its folder."""
    here: str
    """How the configuration of a project names the project's own folder; empty: only by its absolute path. (Claude Code starts
    servers in the folder that a person stands in, which may lie deeper, and calls that one the project.)"""
    then: str
    """What a person does next."""


KINDS: Final[Mapping[Client, Kind]] = {
    "claude-desktop": Kind(
        "Claude Desktop", "mcpServers", False, None, "", "Quit Claude Desktop altogether and start it again."
    ),
    "claude-code": Kind(
        "Claude Code", "mcpServers", False, (".mcp.json",), "", "Start a new session; /mcp shows the server."
    ),
    "cursor": Kind(
        "Cursor", "mcpServers", True, (".cursor", "mcp.json"), "${workspaceFolder}",
        "Reload the window; the settings list the server under MCP.",
    ),
    "vscode": Kind(
        "VS Code", "servers", True, (".vscode", "mcp.json"), "${workspaceFolder}",
        "Run “MCP: List Servers” in VS Code and start it there.",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """Where configuration lies depends on the system, the user's home, a few variables, and how a client was packaged."""

    platform: Platform
    home: str
    environment: Mapping[str, str]
    packages: Sequence[str] = ()
    """On Windows: the folders below `%LOCALAPPDATA%\\Packages` that begin with `Claude_`."""

    @classmethod
    def here(cls) -> Self:
        """This machine."""
        system: str = sys.platform
        platform: Platform = "win32" if system == "win32" else "darwin" if system == "darwin" else "linux"
        packages: list[str] = []
        if platform == "win32":
            folder = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "Packages"
            found = sorted(folder.glob("Claude_*")) if folder.is_dir() else []
            # what another installation left behind has no configuration folder
            found.sort(key=lambda each: not (each / "LocalCache" / "Roaming" / "Claude").is_dir())
            packages = [each.name for each in found]
        return cls(platform, str(Path.home()), dict(os.environ), tuple(packages))


def config_path(
    client: Client, platform: Platform, home: str, env: Mapping[str, str], packages: Sequence[str] = ()
) -> PurePath:
    """Where the client keeps its user's configuration.

    :param home: the user's home folder.
    :param env: environment variables; the ones that move configuration are honoured.
    :param packages: see `Machine.packages`. A packaged Claude Desktop reads a file of its own and never the usual one.
    """
    flavour = PureWindowsPath if platform == "win32" else PurePosixPath
    base: PurePath = flavour(home)
    match client:
        case "cursor":
            return base / ".cursor" / "mcp.json"
        case "claude-code":
            return (flavour(env["CLAUDE_CONFIG_DIR"]) if env.get("CLAUDE_CONFIG_DIR") else base) / ".claude.json"
        case "claude-desktop":
            if platform == "win32" and packages:
                local: PurePath = flavour(env.get("LOCALAPPDATA") or base / "AppData" / "Local")
                folder = local / "Packages" / packages[0] / "LocalCache" / "Roaming"
            else:
                folder = _applications(platform, base, env)
            return folder / "Claude" / "claude_desktop_config.json"
        case "vscode":
            return _applications(platform, base, env) / "Code" / "User" / "mcp.json"


def project_path(client: Client, folder: Path) -> Path | None:
    """Where the client looks for the configuration of a project; `None` if it has none."""
    parts = KINDS[client].project
    return folder.joinpath(*parts) if parts else None


def _applications(platform: Platform, home: PurePath, env: Mapping[str, str]) -> PurePath:
    flavour = type(home)
    match platform:
        case "darwin":
            return home / "Library" / "Application Support"
        case "win32":
            return flavour(env.get("APPDATA") or home / "AppData" / "Roaming")
        case "linux":
            return flavour(env.get("XDG_CONFIG_HOME") or home / ".config")
