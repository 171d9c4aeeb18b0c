"""Notices on the desktop of this machine, by the program that each system has for it: nothing has to be installed for that."""

from __future__ import annotations

import html
import shutil
import subprocess
import sys

import anyio

from takeback.server.notices.channel import Channel, Notice, NotSent

SECONDS = 10.0
BODY = 600
"""Characters that a desktop still shows."""

_SCRIPT = "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend run"
_WINDOWS = (
    "[void][Reflection.Assembly]::LoadWithPartialName('System.Windows.Forms');"
    "$n = New-Object System.Windows.Forms.NotifyIcon; $n.Icon = [System.Drawing.SystemIcons]::Information;"
    "$n.Visible = $true; $n.ShowBalloonTip(10000, $env:TAKEBACK_TITLE, $env:TAKEBACK_BODY, 'Info'); Start-Sleep 6"
)


class Desktop(Channel):
    """`desktop://`."""

    def __init__(self, name: str = "desktop") -> None:
        self.name = name

    async def send(self, notice: Notice) -> None:
        command, variables = _command(notice.title, notice.body[:BODY])
        program = shutil.which(command[0])
        if program is None:
            raise NotSent(f"there is no program {command[0]} on this machine", again=False)
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


def _command(title: str, body: str) -> tuple[list[str], dict[str, str] | None]:
    """Texts are handed over as arguments of their own, never as part of a script."""
    if sys.platform == "darwin":
        return ["osascript", "-e", _SCRIPT, title, body], None
    if sys.platform == "win32":
        import os

        return ["powershell", "-NoProfile", "-Command", _WINDOWS], {
            **os.environ,
            "TAKEBACK_TITLE": title,
            "TAKEBACK_BODY": body,
        }
    # the body is read as markup
    return ["notify-send", "--app-name=takeback", "--", title, html.escape(body, quote=False)], None
