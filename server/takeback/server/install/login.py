"""What starts the sender at login, on each system: one small file, in the place that the system reads. Pure.

It does not replace the sender that a server starts: whichever is first does the work, and it ends when nothing is held.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Final

from takeback.server.install.clients import Platform

UNIT: Final = "takeback-sender.service"
LABEL: Final = "io.github.takeback.sender"
_ABOUT: Final = "Sends what takeback holds in its outbox, and ends when nothing is held"


@dataclass(frozen=True, slots=True)
class Autostart:
    """The file, and what else switches it on."""

    title: str
    path: PurePath
    text: str
    link: PurePath | None = None
    """A link to the file that has to be there as well (what `systemctl --user enable` makes)."""
    now: str = ""
    """How to start it without logging in again."""


def autostart(platform: Platform, home: str, env: Mapping[str, str], words: Sequence[str], log: str) -> Autostart:
    """What starts the sender at login.

    :param words: the command, by absolute paths.
    :param log: the file that its messages go to.
    """
    match platform:
        case "linux":
            folder = PurePosixPath(env.get("XDG_CONFIG_HOME") or PurePosixPath(home) / ".config") / "systemd" / "user"
            return Autostart(
                "systemd",
                folder / UNIT,
                _unit(words),
                folder / "default.target.wants" / UNIT,
                f"systemctl --user daemon-reload && systemctl --user start {UNIT}",
            )
        case "darwin":
            path = PurePosixPath(home) / "Library" / "LaunchAgents" / f"{LABEL}.plist"
            return Autostart("launchd", path, _agent(words, log), now=f"launchctl load {_quoted(str(path))}")
        case "win32":
            roaming = PureWindowsPath(env.get("APPDATA") or PureWindowsPath(home) / "AppData" / "Roaming")
            startup = roaming / "Microsoft" / "Windows" / "Start Menu" / "Programs" / "Startup"
            return Autostart("the Startup folder", startup / "takeback-sender.cmd", _script(words))


def _unit(words: Sequence[str]) -> str:
    return (
        f"[Unit]\nDescription={_ABOUT}\n\n[Service]\nExecStart={' '.join(map(_systemd, words))}\n"
        "Restart=on-failure\nRestartSec=60\n\n[Install]\nWantedBy=default.target\n"
    )


def _systemd(word: str) -> str:
    for sign, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$"), ("\n", "\\n")):
        word = word.replace(sign, escaped)
    return f'"{word}"'


def _agent(words: Sequence[str], log: str) -> str:
    content = {
        "Label": LABEL,
        "ProgramArguments": list(words),
        "RunAtLoad": True,
        "ProcessType": "Background",
        "StandardErrorPath": log,
    }
    return plistlib.dumps(content, sort_keys=False).decode("utf-8")


def _script(words: Sequence[str]) -> str:
    # start takes a first word in quotes for a title; a percent sign would name a variable
    command = " ".join(f'"{word}"' for word in words).replace("%", "%%")
    return f'@rem {_ABOUT}\r\n@chcp 65001 >nul\r\n@start "takeback" /min {command}\r\n'


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
