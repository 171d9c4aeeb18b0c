"""Finds other servers in a client that also write files: with two `write_file` the model takes the one without a journal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final

from takeback.server.install.entry import APP, is_ours

_KNOWN: Final = re.compile(
    r"""(?:^|[/@_-])(?:
        (?:mcp-?)?(?:server-)?filesystem(?:-mcp)?(?:-server)?
      | (?:fast|rust|secure|easy)-(?:mcp-)?filesystem(?:-mcp)?
      | desktop-?commander(?:-mcp)?
      | text-editor-mcp(?:-server)? | mcp-(?:server-)?text-editor | files?-mcp(?:-server)? | mcp-files?
    )(?:@[\w.^~-]+|:[\w.-]+)?$""",
    re.X | re.I,
)
_PROGRAM: Final = re.compile(r"\.(?:[cm]?js|ts|py|exe|cmd)$", re.I)


def file_servers(servers: Mapping[str, Any]) -> dict[str, str]:
    """By name, what starts each server that writes files beside ours. Disabled ones are left out."""
    found: dict[str, str] = {}
    for name, server in servers.items():
        if isinstance(server, dict) and not is_ours(server):
            given: dict[str, Any] = server  # pyright: ignore[reportUnknownVariableType] -- JSON
            word = None if given.get("disabled") is True else _telling(given)
            if word is not None:
                found[name] = word
    return found


def _telling(server: Mapping[str, Any]) -> str | None:
    """The word of the command that names a known file server. Folders it may touch are not looked at."""
    rest = server.get("args")
    words: list[str] = [str(server.get("command", "")), *(map(str, rest) if isinstance(rest, list) else ())]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] -- JSON
    for place, word in enumerate(words):
        path = word.replace("\\", "/")
        absolute = path.startswith(("/", "~", ".", "${")) or path[1:3] == ":/"
        if not absolute:
            if _KNOWN.search(_PROGRAM.sub("", path)):
                return word
        elif place == 0 or _PROGRAM.search(path):
            # a program by its path: the name of the package is the program's own name or one of its folders'
            parts = [_PROGRAM.sub("", part) for part in PurePath(path).parts]
            if any(_KNOWN.search(part) and part.lower() != "filesystem" for part in parts):
                return word
    return None


def extensions(folder: Path) -> dict[str, str]:
    """Claude Desktop's installed extensions that write files, or are takeback itself: title by name. Switched-off ones are
    left out, and so is what cannot be read: it is only looked at, never changed.

    :param folder: where Claude Desktop keeps its configuration.
    """
    found: dict[str, str] = {}
    for manifest in sorted((folder / "Claude Extensions").glob("*/manifest.json")):
        id = manifest.parent.name
        told = _object(manifest)
        settings = _object(folder / "Claude Extensions Settings" / f"{id}.json")
        name = str(told.get("name", ""))
        if settings.get("isEnabled", True) and (name == APP or _KNOWN.search(name) or id.endswith(".filesystem")):
            found[name or id] = str(told.get("display_name") or name or id)
    return found


def _object(file: Path) -> dict[str, Any]:
    try:
        value: Any = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] -- JSON
