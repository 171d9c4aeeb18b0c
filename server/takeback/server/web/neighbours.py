"""Whose program it is that has connected from this machine.

A key can be seen for a moment by others who use this machine: it stands among the arguments of whatever shows a notice or opens
a browser. So it opens the page to its person's programs alone, where the system tells whose a connection is: on Linux.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Final

TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""A program may reach an address of version 4 by a socket of version 6 too."""
ROOT: Final = 0
"""Needs no key to get at anything; a relay between machines may be its."""


def user_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """The user whose program has this connection to us; None: the system does not tell.

    :param client: its address of version 4 and port, as the connection has them.
    """
    if sys.platform != "linux":
        return None
    ends = [_end(*client), _end(*server)]
    for table in TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            parts = line.split()
            if [part[-13:] for part in parts[1:3]] == ends:
                return int(parts[7])
    return None


def is_ours(client: tuple[str, int], server: tuple[str, int]) -> bool:
    """Whether a connection is this person's, as far as the system tells."""
    user = user_of(client, server)
    return user is None or user in (ROOT, os.getuid())


def _end(host: str, port: int) -> str:
    # as the kernel writes it: the bytes of the address as one number of this machine
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"
