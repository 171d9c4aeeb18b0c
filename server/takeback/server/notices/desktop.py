"""Notices on the desktop of this machine, by the program that each system has for it: nothing has to be installed for that."""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable

import anyio

from takeback.server.notices.channel import Channel, Notice, NotSent

SECONDS = 10.0
BODY = 600
"""Characters that a desktop still shows."""

Entry = Callable[[str], Awaitable[str | None]]
"""An address that lets one browser in at a place of the local page, once; None: there is no page."""

_SCRIPT = "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend run"
_WINDOWS = (
    "[void][Reflection.Assembly]::LoadWithPartialName('System.Windows.Forms');"
    "$n = New-Object System.Windows.Forms.NotifyIcon; $n.Icon = [System.Drawing.SystemIcons]::Information;"
    "$n.Visible = $true; $n.ShowBalloonTip(10000, $env:TAKEBACK_TITLE, $env:TAKEBACK_BODY, 'Info'); Start-Sleep 6"
)


class Desktop(Channel):
    """`desktop://`.

    It is where the person sits, so its notices have a link that lets their browser in. Only where a link can be followed:
    notices of macOS and Windows show no more than words, and a key that nobody can use is not made.
    """

    def __init__(self, name: str = "desktop", entry: Entry | None = None) -> None:
        self.name, self._entry = name, entry

    async def send(self, notice: Notice) -> None:
        program = shutil.which(_program())
        if program is None:
            raise NotSent(f"there is no program {_program()} on this machine", again=False)
        command, variables = _command(notice.title, notice.body[:BODY] + await self._link(notice.place))
        try:
            with anyio.fail_after(SECONDS):
                done = await anyio.run_process(
                    [program, *command[1:]],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    env=variables,
                    stderr=subprocess.PIPE,
                )
        except (OSError, TimeoutError) as error:
            raise NotSent(f"{command[0]} could not be run ({type(error).__name__})", again=True) from error
        if done.returncode:
            raise NotSent(f"{command[0]} ended with code {done.returncode}; perhaps nobody is logged in", again=True)

    async def _link(self, place: str) -> str:
        """As the last words of a notice, which are never cut off."""
        if self._entry is None or not place or sys.platform in ("darwin", "win32"):
            return ""
        link = await self._entry(place)
        return (
            "\nOn the page: takeback web --url" if link is None else f"\nOn the page (once, within ten minutes): {link}"
        )


def _program() -> str:
    return {"darwin": "osascript", "win32": "powershell"}.get(sys.platform, "notify-send")


def _command(title: str, body: str) -> tuple[list[str], dict[str, str] | None]:
    """Texts are handed over as arguments of their own, never as part of a script."""
    if sys.platform == "darwin":
        return [_program(), "-e", _SCRIPT, title, body], None
    if sys.platform == "win32":
        import os

        return [_program(), "-NoProfile", "-Command", _WINDOWS], {
            **os.environ,
            "TAKEBACK_TITLE": title,
            "TAKEBACK_BODY": body,
        }
    # the body is read as markup
    return [_program(), "--app-name=takeback", "--", title, html.escape(body, quote=False)], None
