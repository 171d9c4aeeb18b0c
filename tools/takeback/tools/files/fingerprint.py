"""Fingerprints: what an object is now, in one digest, taken again in the same way when it is compared.

The prefix of a digest says how it was taken:

=========  ==========================================================================================================
`blake3:`  files up to 8 MiB and links: type, mode, owner, mtime, xattrs, size and content
`stat:`    larger files: the same, but device and inode instead of the content
`tree:`    folders with all that is in them: one walk of their stats, never their content
`dir:`     a folder as a thing that was created: that it is one, its mode and owner; not what is in it
=========  ==========================================================================================================

Times of access and of change of the inode are no part of any: renaming into the trash and back changes them.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final, Literal

from blake3 import blake3

from takeback.journal.states import ABSENT, State, altered, trusted
from takeback.tools.files.calls import OPEN_READ, Calls, Dir, Xattrs, disk_bytes
from takeback.tools.files.held import close
from takeback.tools.files.refusals import refuse

HASHED: Final = 8 * 1024 * 1024
"""Bytes up to which a file's content is part of its fingerprint."""

Owner = tuple[int, int, int]
"""Permission bits, user and group."""
Way = Literal["blake3", "stat", "tree", "dir"]
_BLOCK = 1024 * 1024


class Torn(Exception):
    """The file was being written while it was read, again and again."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A state, and what was read on the way to it."""

    state: State
    stat: os.stat_result | None
    data: bytes | None = None
    """The whole content, if it was asked for and hashed."""
    xattrs: Xattrs = ()


NOTHING: Final = Measured(ABSENT, None)


def way_of(digest: str) -> Way | None:
    """How a digest was taken; `None` for an absent object."""
    match digest.partition(":")[0]:
        case "blake3":
            return "blake3"
        case "stat":
            return "stat"
        case "tree":
            return "tree"
        case "dir":
            return "dir"
        case _:
            return None


def kind_of(mode: int) -> str:
    """The word for a type of file."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"


def content_digest(data: bytes) -> str:
    """What reads answer as `digest`."""
    return f"blake3:{blake3(data).hexdigest()}"


def _digest(way: Way, facts: list[object]) -> str:
    return f"{way}:{blake3(repr(facts).encode('utf-8', 'surrogatepass')).hexdigest()}"


def _head(there: os.stat_result) -> list[object]:
    return [stat.S_IFMT(there.st_mode), stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid]


def _unchanged(a: os.stat_result, b: os.stat_result) -> bool:
    return (a.st_size, a.st_mtime_ns, a.st_ctime_ns, a.st_ino) == (b.st_size, b.st_mtime_ns, b.st_ctime_ns, b.st_ino)


def measure(
    calls: Calls, d: Dir, name: bytes, way: Way | None = None, *, keep: bool = False, read_to: int = HASHED
) -> Measured:
    """What stands under the name.

    :param way: how, if the result is to be compared; by size and type otherwise.
    :param keep: hand over the content too, where it is read.
    :param read_to: bytes up to which the content is read; above `HASHED` it is no part of the digest all the same.
    :raises Refused: a FIFO, device or socket.
    :raises Torn: it never held still.
    """
    for _ in range(16):
        there = calls.lstat(d, name)
        if there is None:
            return NOTHING
        try:
            if stat.S_ISREG(there.st_mode):
                if way == "stat" or there.st_size > max(HASHED, read_to):
                    return _by_identity(calls, d, name, there)
                found = _file(calls, d, name, keep=keep)
                if found is not None and there.st_size > HASHED:
                    identity = _by_identity(calls, d, name, there)
                    state = altered(identity.state, content=found.state.content)
                    return Measured(state, there, found.data, identity.xattrs)
                if found is not None:
                    return found
            elif stat.S_ISLNK(there.st_mode):
                return _link(calls, d, name, there)
            elif stat.S_ISDIR(there.st_mode):
                return _folder(calls, d, name, there, deep=way != "dir")
            else:
                raise refuse(
                    "not_a_file",
                    f"{os.fsdecode(name)!r} is a FIFO, a device or a socket.",
                    "Only files, folders and links can be used.",
                )
        except FileNotFoundError:
            continue  # it vanished between two looks: look again
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}:
                raise
    raise Torn


def _by_identity(calls: Calls, d: Dir, name: bytes, there: os.stat_result) -> Measured:
    xattrs = calls.xattrs(d, name)
    facts = [*_head(there), there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, xattrs]
    return Measured(State(digest=_digest("stat", facts), kind="file", size=there.st_size), there, None, xattrs)


def file_digest(there: os.stat_result, xattrs: Xattrs, content: str) -> str:
    """The fingerprint of a file whose content digest is known."""
    return planned_digest(there, xattrs, content, size=there.st_size, mtime_ns=there.st_mtime_ns)


def planned_digest(
    there: os.stat_result, xattrs: Xattrs, content: str, *, size: int, mtime_ns: int, owner: Owner | None = None
) -> str:
    """The fingerprint that a file will have with other content and time, and nothing else different.

    :param owner: mode and owner, where these are others too.
    """
    head = _head(there) if owner is None else [stat.S_IFMT(there.st_mode), *owner]
    return _digest("blake3", [*head, mtime_ns, xattrs, size, content])


def _file(calls: Calls, d: Dir, name: bytes, *, keep: bool) -> Measured | None:
    fd = calls.open_file(d, name, OPEN_READ)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return None
        xattrs = calls.xattrs_of(fd)
        data, content = _read(fd, before.st_size, keep=keep)
        after = os.fstat(fd)
    finally:
        close(fd)
    if not _unchanged(before, after):
        return None
    digest = file_digest(after, xattrs, content)
    state = trusted(State, digest=digest, kind="file", content=content, size=after.st_size)
    return Measured(state, after, data, xattrs)


def _read(fd: int, size: int, *, keep: bool) -> tuple[bytes | None, str]:
    if keep or size <= _BLOCK:
        parts: list[bytes] = []
        while part := os.read(fd, max(size, 4096) + 1):
            parts.append(part)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return data, content_digest(data)
    hasher = blake3()
    while part := os.read(fd, _BLOCK):
        hasher.update(part)
    return None, f"blake3:{hasher.hexdigest()}"


def _link(calls: Calls, d: Dir, name: bytes, there: os.stat_result) -> Measured:
    target = calls.readlink(d, name)
    xattrs = calls.xattrs(d, name)
    facts = [*_head(there), there.st_mtime_ns, xattrs, target]
    return Measured(State(digest=_digest("blake3", facts), kind="symlink", size=len(target)), there, target, xattrs)


def _folder(calls: Calls, d: Dir, name: bytes, there: os.stat_result, *, deep: bool) -> Measured:
    if not deep:
        return Measured(State(digest=_digest("dir", _head(there)), kind="directory"), there)
    hasher = blake3(repr([*_head(there), there.st_ino, calls.xattrs(d, name)]).encode())
    with calls.open_folder(d, name) as folder:
        size = _walk(calls, folder, there.st_dev, b"", hasher)
    return Measured(State(digest=f"tree:{hasher.hexdigest()}", kind="directory", size=size), there)


def _walk(calls: Calls, folder: Dir, device: int, prefix: bytes, hasher: blake3) -> int:
    size = 0
    lines: list[bytes] = []
    below: list[bytes] = []
    for name, there in calls.entries(folder):
        if there.st_dev != device:
            raise refuse(
                "other_mount",
                "Another file system is mounted inside the folder.",
                "Unmount it first, or work on what lies beside it.",
            )
        mode, owner = there.st_mode, (there.st_uid, there.st_gid)
        if stat.S_ISDIR(mode):
            # a folder's own size and times change with what is put into it, which its entries tell anyway
            lines.append(b"%b/ %o %d %d %d" % (name, mode, *owner, there.st_ino))
            below.append(name)
        else:
            size += disk_bytes(there)
            facts = (mode, *owner, there.st_ino, there.st_size, there.st_mtime_ns)
            lines.append(b"%b\0 %o %d %d %d %d %d" % (name, *facts))
    lines.sort()
    hasher.update(b"%b\0%d\0%b\0" % (prefix, len(lines), b"\0".join(lines)))
    below.sort()
    for name in below:
        with calls.open_folder(folder, name) as child:
            size += _walk(calls, child, device, prefix + name + b"/", hasher)
    return size


def is_empty(calls: Calls, d: Dir, name: bytes) -> bool:
    """Whether the folder has nothing in it."""
    with calls.open_folder(d, name) as folder:
        return not calls.names(folder)
