"""The fast way on Linux: `openat2` to stay below a root, `renameat2` to exchange two names in one step.

Both are called through the C library, because Python offers neither. Whether they exist is found by trying; where they do
not, `portable.py` is the way.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from takeback.tools.files.calls import OPEN_FOLDER, Calls, Dir

_SYS_OPENAT2 = 437  # the same number on every architecture that has it
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 2, 4, 8
_NOREPLACE, _EXCHANGE = 1, 2
_AGAIN = frozenset({errno.EAGAIN, errno.EINTR})


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class NativeCalls(Calls):
    """`openat2` and `renameat2`. Make one with `native_calls`."""

    one_step = True

    def __init__(self, library: ctypes.CDLL) -> None:
        self._syscall: Callable[..., int] = library.syscall
        self._renameat2: Callable[..., int] = library.renameat2
        # with O_NOFOLLOW too, a link at the end would be called "not a folder"; RESOLVE_NO_SYMLINKS refuses it as a link
        self._how = _How(OPEN_FOLDER & ~os.O_NOFOLLOW, 0, _BENEATH | _NO_MAGICLINKS | _NO_SYMLINKS)
        self._how_at = ctypes.byref(self._how)

    def open_below(self, root: Dir, parts: Sequence[bytes]) -> Dir:
        path = b"/".join(parts) or b"."
        while True:
            fd = self._syscall(
                ctypes.c_long(_SYS_OPENAT2),
                ctypes.c_int(root.fd),
                ctypes.c_char_p(path),
                self._how_at,
                ctypes.c_size_t(24),
            )
            if fd >= 0:
                return Dir(fd, os.path.join(root.path, *parts))
            code = ctypes.get_errno()
            if code not in _AGAIN:  # EAGAIN: a folder on the way was renamed meanwhile
                raise OSError(code, os.strerror(code), path)

    def exchange(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        self.renameat2(a, a_name, b, b_name, _EXCHANGE)

    def place(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        self.renameat2(a, a_name, b, b_name, _NOREPLACE)

    def renameat2(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes, flags: int) -> None:
        """The call itself."""
        if self._renameat2(a.fd, a_name, b.fd, b_name, ctypes.c_uint(flags)):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), a_name, None, b_name)


def native_calls(probe_in: bytes) -> NativeCalls | None:
    """The fast way if kernel and file system have it, found by trying in a folder of ours; else `None`."""
    if sys.platform != "linux":
        return None
    library: Any = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return None
    calls = NativeCalls(library)
    token = b".probe-" + os.urandom(6).hex().encode()
    names = [token + b"a", token + b"b"]
    folder = calls.open_root(probe_in)
    try:
        for name in names:
            calls.mkdir(folder, name, 0o700)
        calls.open_below(folder, [names[0]]).close()
        calls.exchange(folder, names[0], folder, names[1])
        calls.place(folder, names[0], folder, token + b"c")
        names[0] = token + b"c"
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.E2BIG, errno.EOPNOTSUPP}:
            return None
        raise
    finally:
        for name in names:
            calls.remove_tree(folder, name)
        folder.close()
    return calls
