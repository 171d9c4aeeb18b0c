"""Which of the two ways of calling the file system is the one here: found by trying."""

from __future__ import annotations

import os
from collections.abc import Sequence

from takeback.tools.files.calls import Calls
from takeback.tools.files.native import native_calls
from takeback.tools.files.paths import RESERVED
from takeback.tools.files.portable import PathCalls, portable_calls


def choose_calls(data: bytes, roots: Sequence[bytes] = (), *, portable: bool) -> Calls:
    """The fast way where it exists, else the portable one: tried in the data directory, and in roots on other devices."""
    if os.open not in os.supports_dir_fd:
        return PathCalls()
    native = None if portable else native_calls(data)
    if native is None or not all(_native_in(root, data) for root in roots):
        return portable_calls(data)
    return native


def _native_in(root: bytes, data: bytes) -> bool:
    """Whether the file system of a root can exchange names too; network and shared folders often cannot."""
    try:
        there = os.stat(root)
        if there.st_dev == os.stat(data).st_dev:
            return True
        ours = os.path.join(root, RESERVED)
        if os.path.isdir(ours) and not os.path.islink(ours):
            return native_calls(ours) is not None
        try:
            return native_calls(root) is not None
        finally:
            os.utime(root, ns=(there.st_atime_ns, there.st_mtime_ns))
    except OSError:
        return True  # it is not there, or read-only: whoever changes something in it is told so
