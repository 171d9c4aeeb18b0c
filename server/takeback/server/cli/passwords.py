"""How a command gets a password: typed without echo, or as one line of standard input. Never as an argument."""

from __future__ import annotations

import getpass
import sys

from takeback.server.engine.answers import EngineError


def asked_password(name: str, username: str) -> str:
    """Ask for it.

    :raises EngineError: none was given.
    """
    if sys.stdin.isatty():
        given = getpass.getpass(f"Password of {username} for {name}: ")
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        raise EngineError("invalid", "No password was given.", "Type it, or give it as one line of standard input.")
    return given
