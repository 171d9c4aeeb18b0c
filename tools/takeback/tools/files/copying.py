"""Copying into a staged place: files with their holes, links as links, folders with all that is in them.

Mode, extended attributes and mtime go along; the copy belongs to whoever makes it.
"""

from __future__ import annotations

import os
import stat

from takeback.tools.files.calls import OPEN_NEW, OPEN_READ, Calls, Dir, Xattrs
from takeback.tools.files.capture import extents
from takeback.tools.files.held import close
from takeback.tools.files.paths import RESERVED
from takeback.tools.files.refusals import refuse

_CHUNK = 1024 * 1024


def copy_into(calls: Calls, source: Dir, name: bytes, target: Dir, new_name: bytes) -> None:
    """Copy what the name stands for to a free name that nobody else can see; durable.

    :raises Refused: a FIFO, device or socket is among it.
    """
    there = calls.lstat(source, name)
    if there is None:
        raise FileNotFoundError(2, "it vanished while it was copied", name)
    if stat.S_ISLNK(there.st_mode):
        calls.symlink(calls.readlink(source, name), target, new_name)
        calls.utime(target, new_name, there.st_atime_ns, there.st_mtime_ns)
    elif stat.S_ISREG(there.st_mode):
        _copy_file(calls, source, name, target, new_name)
    elif stat.S_ISDIR(there.st_mode):
        calls.mkdir(target, new_name, 0o700)
        with calls.open_folder(source, name) as inside, calls.open_folder(target, new_name) as copy:
            for child in calls.names(inside):
                if child != RESERVED:
                    copy_into(calls, inside, child, copy, child)
            calls.sync_folder(copy)
        calls.chmod(target, new_name, stat.S_IMODE(there.st_mode))
        _set_xattrs(calls, target, new_name, calls.xattrs(source, name))
        calls.utime(target, new_name, there.st_atime_ns, there.st_mtime_ns)
    else:
        raise refuse(
            "not_a_file",
            f"{os.fsdecode(name)!r} is a FIFO, a device or a socket.",
            "Only files, folders and links can be copied.",
        )


def _copy_file(calls: Calls, source: Dir, name: bytes, target: Dir, new_name: bytes) -> None:
    old = calls.open_file(source, name, OPEN_READ)
    try:
        new = calls.open_file(target, new_name, OPEN_NEW, 0o600)
        try:
            there = os.fstat(old)
            for offset, length in extents(old, there.st_size):
                _copy_range(calls, old, new, offset, length)
            calls.truncate(new, there.st_size)
            calls.chmod(target, new_name, stat.S_IMODE(there.st_mode))
            _set_xattrs(calls, target, new_name, calls.xattrs_of(old))
            calls.utime(target, new_name, there.st_atime_ns, there.st_mtime_ns)
            calls.sync(new)
        finally:
            os.close(new)
    finally:
        close(old)


def _copy_range(calls: Calls, old: int, new: int, offset: int, length: int) -> None:
    end = offset + length
    while offset < end:
        os.lseek(old, offset, os.SEEK_SET)
        data = os.read(old, min(_CHUNK, end - offset))
        if not data:
            return  # it was cut meanwhile
        calls.pwrite(new, data, offset)
        offset += len(data)


def _set_xattrs(calls: Calls, target: Dir, name: bytes, xattrs: Xattrs) -> None:
    for key, value in xattrs:
        try:
            calls.set_xattr(target, name, key, value)
        except PermissionError:
            if not key.startswith(("trusted.", "security.")):
                raise
