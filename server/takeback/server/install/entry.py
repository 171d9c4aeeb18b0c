"""What stands in a client's configuration: the command, by its absolute path, and its arguments.

Clients start servers with a small PATH, in a folder of their own choice, and with none of the variables of one's shell.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any, Final

from takeback.server.install.clients import Client

APP: Final = "takeback"


@dataclass(frozen=True, slots=True)
class Launcher:
    """How this installation is started from anywhere."""

    command: str
    arguments: tuple[str, ...] = ()
    note: str = ""
    """What a person should know about it."""


def launcher(
    *,
    prefix: str = sys.prefix,
    executable: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Launcher:
    """How to start takeback by absolute paths.

    The environment that `uvx` and `pipx run` make is thrown away some day, so there the tool itself is named, with what it
    was told to run.

    :param prefix: the Python environment we run in.
    :param executable: its interpreter.
    """
    variables = os.environ if environment is None else environment
    parts = PurePath(prefix).parts
    path = variables.get("PATH")
    if any(part.startswith(("archive-v", "environments-v", "builds-v")) for part in parts):
        uv = variables.get("UV") or shutil.which("uv", path=path)
        if uv:
            return Launcher(
                os.path.abspath(uv),
                ("tool", "run", "--from", requirement(), APP),
                "uv starts it; the first start after its cache was emptied takes longer."
                " A lasting installation: uv tool install takeback.",
            )
    passing = os.path.exists(os.path.join(prefix, "pipx_metadata.json")) and PurePath(prefix).parent.name != "venvs"
    if passing and (pipx := shutil.which("pipx", path=path)):
        return Launcher(
            os.path.abspath(pipx),
            ("run", "--spec", requirement(), APP),
            "pipx starts it from a cache of two weeks; a lasting installation: pipx install takeback.",
        )
    script = shutil.which(APP, path=os.path.dirname(executable))
    if script is None:
        return Launcher(os.path.abspath(executable), ("-m", APP))
    linked = shutil.which(APP, path=path)
    if linked and os.path.realpath(linked) == os.path.realpath(script):
        script = linked  # a link in a folder of programs outlives the environment that it leads to
    return Launcher(os.path.abspath(script))


def requirement() -> str:
    """What to ask an installer for to get this very installation: a place it was installed from, or name and version."""
    try:
        found = distribution(APP)
    except PackageNotFoundError:
        return APP
    direct = found.read_text("direct_url.json")
    return str(json.loads(direct)["url"]) if direct else f"{APP}=={found.version}"


def entry(
    client: Client, launched: Launcher, workspaces: Sequence[str], data: str | None = None, config: str | None = None
) -> dict[str, Any]:
    """The server as the client's configuration has it.

    :param workspaces: folders, absolute or in the client's own words for the project.
    :param data: the data directory, absolute; by default the user's.
    :param config: the configuration file, absolute.
    """
    arguments = [*launched.arguments, "serve"]
    for workspace in workspaces:
        arguments += ["--workspace", workspace]
    for name, value in (("--data", data), ("--config", config)):
        if value is not None:
            arguments += [name, value]
    written: dict[str, Any] = {"command": launched.command, "args": arguments}
    return {"type": "stdio", **written} if client in ("vscode", "claude-code") else written


def is_ours(server: Any) -> bool:
    """Whether an entry starts takeback, by whatever way."""
    words = _words(server)
    return "serve" in words and any(PurePath(word.replace("\\", "/")).stem == APP for word in words)


def workspaces_of(server: Any) -> list[str]:
    """The folders that an entry of ours names."""
    words = _words(server)
    return [after for word, after in pairwise(words) if word == "--workspace"]


def _words(server: Any) -> list[str]:
    if not isinstance(server, dict):
        return []
    given: dict[str, Any] = server  # pyright: ignore[reportUnknownVariableType] -- JSON
    rest = given.get("args")
    return [str(word) for word in (given.get("command", ""), *(rest if isinstance(rest, list) else ()))]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] -- JSON


def folders(given: Sequence[Path]) -> list[str]:
    """Absolute, as they were written otherwise."""
    return [os.path.abspath(each.expanduser()) for each in given]
