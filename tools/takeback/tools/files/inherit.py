"""What a new file or folder inherits from the folder it will lie in, given to it while it is still staged elsewhere.

The group under a set-group-id folder, and default access lists (POSIX.1e, as acl(5) describes).
"""

from __future__ import annotations

import stat
import struct
from typing import Final

from takeback.tools.files.calls import Calls, Dir

_ACCESS: Final = "system.posix_acl_access"
_DEFAULT: Final = "system.posix_acl_default"
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def inherit(calls: Calls, parent: Dir | None, d: Dir, name: bytes, *, is_folder: bool) -> None:
    """Give a staged object what it would have got, had it been made in its folder."""
    if parent is None:
        return
    above, own = calls.stat_folder(parent), calls.lstat(d, name)
    if own is None:
        return
    mode = stat.S_IMODE(own.st_mode)
    if above.st_mode & stat.S_ISGID:
        if own.st_gid != above.st_gid:
            calls.chown(d, name, -1, above.st_gid)
        if is_folder:
            mode |= stat.S_ISGID
            calls.chmod(d, name, mode)
    default = dict(calls.xattrs_of(parent.fd)).get(_DEFAULT) if parent.fd >= 0 else None
    if default is None:
        return
    asked = 0o777 if is_folder else 0o666  # with a default list the umask does not count
    calls.chmod(d, name, mode & ~0o777 | asked)
    calls.set_xattr(d, name, _ACCESS, access_list(default, asked))
    if is_folder:
        calls.set_xattr(d, name, _DEFAULT, default)


def access_list(default: bytes, asked: int) -> bytes:
    """The access list that a new object gets from a folder's default list and the mode it was asked for."""
    entries = list(struct.iter_unpack("<HHI", default[4:]))
    has_mask = any(tag == _MASK for tag, _, _ in entries)
    limits = {_USER_OBJ: asked >> 6 & 7, _OTHER: asked & 7, _MASK if has_mask else _GROUP_OBJ: asked >> 3 & 7}
    packed = b"".join(struct.pack("<HHI", tag, perm & limits.get(tag, 7), who) for tag, perm, who in entries)
    return default[:4] + packed
