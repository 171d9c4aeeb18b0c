"""The small table of file system calls that everything here goes through: always a directory and one name in it.

Names are bytes. A name is never followed if it is a link, and never has more than one component, so nothing that happens to
the folders above it can lead a call out of its root. `native.py` and `portable.py` fill in how folders are opened and how two
names are exchanged; tests replace single calls to stop the world at a chosen step.
"""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Final, Self

_CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)
_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
_BINARY: int = getattr(os, "O_BINARY", 0)

OPEN_FOLDER = os.O_RDONLY | _DIRECTORY | _NOFOLLOW | _CLOEXEC
OPEN_READ = os.O_RDONLY | _NOFOLLOW | _CLOEXEC | _NONBLOCK | _BINARY
OPEN_WRITE = os.O_RDWR | _NOFOLLOW | _CLOEXEC | _NONBLOCK | _BINARY
OPEN_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC | _BINARY

_NO_XATTRS = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENODATA, errno.ENOSYS, errno.EPERM})

Xattrs = tuple[tuple[str, bytes], ...]

KEPT: Final = b"kept-"
"""How names in a trash begin under which somebody's work lies that could be put nowhere else: never collected."""


@dataclass(slots=True)
class Dir:
    """An open folder. `path` serves platforms without directory descriptors, and nothing else."""

    fd: int
    path: bytes

    def close(self) -> None:
        """Let go; harmless when done twice."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Overtaken(FileExistsError):
    """Somebody saved in the middle of an exchange that is not one step."""

    def __init__(self, name: bytes, kept: bytes) -> None:
        super().__init__(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self.kept = kept
        """Where, in the folder of the slot, the file lies that theirs came after."""


class Calls(ABC):
    """The calls, on directory descriptors. All raise `OSError`."""

    one_step: ClassVar[bool]
    """Whether `exchange` and `place` are one indivisible step."""
    window: str = ""
    """What is then not certain, in a sentence for people; empty if all is."""

    # -- how folders are reached and names exchanged ---------------------------------------------------------------------

    def open_root(self, path: bytes) -> Dir:
        """Open a folder by its path: roots and our own folders only."""
        return Dir(os.open(path, os.O_RDONLY | _DIRECTORY | _CLOEXEC), path)

    @abstractmethod
    def open_below(self, root: Dir, parts: Sequence[bytes]) -> Dir:
        """Open a folder below a root without following a single link (`ELOOP` if there is one)."""

    @abstractmethod
    def exchange(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        """Make both names stand for what the other one stood for. `b` is ours (a slot of the trash).

        :raises Overtaken: somebody put another file there meanwhile. Theirs stays, and ours is where it was.
        """

    @abstractmethod
    def place(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        """Rename; `EEXIST` if the new name is taken. Unless this is one step, the old name has to be ours."""

    def take(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        """Rename whatever stands there now to a name that is ours alone; `EEXIST` if it is taken."""
        self.place(a, a_name, b, b_name)

    def settle(self, path: Dir, name: bytes, slot: Dir, slot_name: bytes) -> bytes | None:
        """Finish or take back an exchange that was cut in two; nothing to do where it is one step.

        :returns: where in the slot's folder the earlier file lies now, if somebody had put another one in its place meanwhile.
        """
        return None

    def clashes(self, slot_name: bytes) -> bool:
        """Whether a name in the trash is only the second half of another slot."""
        return False

    # -- looking ---------------------------------------------------------------------------------------------------------

    def lstat(self, d: Dir, name: bytes) -> os.stat_result | None:
        """What the name stands for; `None` if nothing."""
        try:
            return os.stat(name, dir_fd=d.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def stat_folder(self, d: Dir) -> os.stat_result:
        """Of the open folder itself."""
        return os.fstat(d.fd)

    def names(self, d: Dir) -> list[bytes]:
        """What is in the folder, sorted by bytes."""
        return sorted(os.fsencode(name) for name in os.listdir(d.fd))

    def entries(self, d: Dir) -> Iterator[tuple[bytes, os.stat_result]]:
        """What is in the folder with its stats, in any order; what vanishes meanwhile is left out."""
        with os.scandir(d.fd) as found:
            for entry in found:
                try:
                    yield os.fsencode(entry.name), entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue

    def readlink(self, d: Dir, name: bytes) -> bytes:
        """Where the link points, as written."""
        return os.readlink(name, dir_fd=d.fd)

    def open_file(self, d: Dir, name: bytes, flags: int, mode: int = 0o600) -> int:
        """Open a file; never waits for the other end of a FIFO."""
        return os.open(name, flags, mode, dir_fd=d.fd)

    def open_folder(self, d: Dir, name: bytes) -> Dir:
        """Open a folder in a folder; a link is refused."""
        return Dir(os.open(name, OPEN_FOLDER, dir_fd=d.fd), os.path.join(d.path, name))

    def may_write(self, d: Dir, name: bytes) -> bool:
        """Whether the file's own permissions let this process write it."""
        return os.access(name, os.W_OK, dir_fd=d.fd, effective_ids=os.access in os.supports_effective_ids)

    def read_only(self, d: Dir) -> bool:
        """Whether the file system is mounted read-only."""
        return hasattr(os, "fstatvfs") and bool(os.fstatvfs(d.fd).f_flag & os.ST_RDONLY)

    def xattrs(self, d: Dir, name: bytes) -> Xattrs:
        """Extended attributes of a name (a link's own), sorted; ACLs are among them."""
        if not hasattr(os, "listxattr") or not _PROC:
            return ()
        return _xattrs(b"/proc/self/fd/%d/%s" % (d.fd, name), follow=False)

    def xattrs_of(self, fd: int) -> Xattrs:
        """Extended attributes of an open file."""
        return _xattrs(fd, follow=True) if hasattr(os, "listxattr") else ()

    # -- changing --------------------------------------------------------------------------------------------------------

    def mkdir(self, d: Dir, name: bytes, mode: int) -> None:
        """Make a folder."""
        os.mkdir(name, mode, dir_fd=d.fd)

    def symlink(self, target: bytes, d: Dir, name: bytes) -> None:
        """Make a link."""
        os.symlink(target, name, dir_fd=d.fd)

    def link(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        """Give a file (or a link itself) a second name."""
        os.link(a_name, b_name, src_dir_fd=a.fd, dst_dir_fd=b.fd, follow_symlinks=False)

    def rename(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        """Rename, replacing what stands there."""
        os.replace(a_name, b_name, src_dir_fd=a.fd, dst_dir_fd=b.fd)

    def unlink(self, d: Dir, name: bytes) -> None:
        """Remove a name that is not a folder's."""
        os.unlink(name, dir_fd=d.fd)

    def rmdir(self, d: Dir, name: bytes) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=d.fd)

    def utime(self, d: Dir, name: bytes, atime_ns: int, mtime_ns: int) -> None:
        """Set the times of a name (a link's own)."""
        os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=d.fd, follow_symlinks=False)

    def utime_folder(self, d: Dir, atime_ns: int, mtime_ns: int) -> None:
        """Set the times of the open folder itself."""
        os.utime(d.fd, ns=(atime_ns, mtime_ns))

    def utime_of(self, fd: int, d: Dir, name: bytes, atime_ns: int, mtime_ns: int) -> None:
        """Set the times of an open file (where that cannot be done, of what its name stands for)."""
        os.utime(fd, ns=(atime_ns, mtime_ns))

    def chmod(self, d: Dir, name: bytes, mode: int) -> None:
        """Set permission bits; only for names that nobody else can exchange for a link (staged ones)."""
        os.chmod(name, mode, dir_fd=d.fd)

    def chown(self, d: Dir, name: bytes, uid: int, gid: int) -> None:
        """Set the owner (a link's own)."""
        os.chown(name, uid, gid, dir_fd=d.fd, follow_symlinks=False)

    def set_xattr(self, d: Dir, name: bytes, key: str, value: bytes) -> None:
        """Set an extended attribute (a link's own)."""
        if hasattr(os, "setxattr") and _PROC:
            os.setxattr(b"/proc/self/fd/%d/%s" % (d.fd, name), key, value, follow_symlinks=False)

    def remove_xattr(self, d: Dir, name: bytes, key: str) -> None:
        """Remove an extended attribute; one that is gone already is no error (ACL pairs go together on XFS)."""
        if hasattr(os, "removexattr") and _PROC:
            try:
                os.removexattr(b"/proc/self/fd/%d/%s" % (d.fd, name), key, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise

    def remove_xattr_of(self, fd: int, key: str) -> None:
        """The same for an open file."""
        try:
            os.removexattr(fd, key)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of it."""
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written

    def truncate(self, fd: int, size: int) -> None:
        """Cut or extend (with a hole) to a size."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Make an open file durable."""
        os.fsync(fd)

    def sync_folder(self, d: Dir) -> None:
        """Make the folder's names durable."""
        os.fsync(d.fd)

    # -- built from the above --------------------------------------------------------------------------------------------

    def same_mount(self, a: Dir, b: Dir) -> bool:
        """Whether a rename between the two folders can work: tried with a name that does not exist.

        Equal device numbers are not enough (bind mounts); the mounts are compared before the name is looked up.
        """
        if self.stat_folder(a).st_dev != self.stat_folder(b).st_dev:
            return False
        try:
            self.rename(a, b".takeback-no-such-name", b, b".takeback-no-such-name")
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise  # read-only, or no right to write there: better known now than later
        return False

    def remove_tree(self, d: Dir, name: bytes) -> None:
        """Destroy a name with everything below it; a name that is gone is no error."""
        there = self.lstat(d, name)
        if there is None:
            return
        if not stat.S_ISDIR(there.st_mode):
            self.unlink(d, name)
            return
        if there.st_mode & 0o700 != 0o700:
            self.chmod(d, name, 0o700)
        with self.open_folder(d, name) as folder:
            for child in self.names(folder):
                self.remove_tree(folder, child)
        self.rmdir(d, name)


def disk_bytes(there: os.stat_result) -> int:
    """What a file takes up: less than its size if it has holes."""
    blocks: int | None = getattr(there, "st_blocks", None)
    return there.st_size if blocks is None else min(there.st_size, blocks * 512)


_PROC = os.path.isdir("/proc/self/fd")


def _xattrs(where: int | bytes, *, follow: bool) -> Xattrs:
    found: list[tuple[str, bytes]] = []
    try:
        for key in os.listxattr(where, follow_symlinks=follow):
            try:
                found.append((key, os.getxattr(where, key, follow_symlinks=follow)))
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            raise
    return tuple(sorted(found))
