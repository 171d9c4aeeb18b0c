"""Who is at this machine: the principal of everything that is started here, whatever door it comes through.

On one's own machine all clients belong to one person, so the operating system's user is the principal, and the command
line, the page and every client's server see the same runs.
"""

from __future__ import annotations

import getpass
import os
from functools import lru_cache


@lru_cache(maxsize=1)
def local_principal() -> str:
    """`local:<user>`, by the user id of the process (not by environment variables, which a client's configuration sets)."""
    try:
        import pwd

        return f"local:{pwd.getpwuid(os.getuid()).pw_name}"
    except (ImportError, KeyError):  # Windows; a container whose user id has no name
        pass
    try:
        return f"local:{getpass.getuser()}"
    except (OSError, KeyError):
        return "local:unknown"
