"""The way without `openat2` and `renameat2`: macOS, older kernels, network file systems; and Windows by paths.

Folders are reached by walking descriptors, each step refusing links. Two names are exchanged in three steps: the old file
gets a second name in the trash, the new one is renamed over it, and the second name becomes the slot. The visible name is
never absent and the old file itself is kept, whatever its size; only somebody who *replaces* the file in the instant between
first and second step is not noticed. Folders, and files where there are no hard links, are set aside first, so that their name
is absent for that instant.

Windows has neither directory descriptors nor O_NOFOLLOW. There every call goes by path, with a check of each component before
it; a link put there at the same moment is not noticed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from takeback.tools.files.calls import Calls, Dir, Xattrs

_ASIDE = b".aside"
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES})


class PortableCalls(Calls):
    """Descriptor walk, hard links and plain renames."""

    one_step = False
    window = (
        "This system cannot exchange two files in one step, so a file that somebody else replaces in the same instant "
        "could be missed."
    )

    def open_below(self, root: Dir, parts: Sequence[bytes]) -> Dir:
        here = Dir(os.dup(root.fd), root.path)
        for part in parts:
            try:
                below = self.open_folder(here, part)
            except OSError as error:
                there = self.lstat(here, part)
                if there is not None and stat.S_ISLNK(there.st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), part) from error
                raise
            finally:
                here.close()
            here = below
        return here

    def place(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        there = self.lstat(a, a_name)
        if there is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), a_name)
        if not stat.S_ISDIR(there.st_mode):
            try:
                self.link(a, a_name, b, b_name)  # refuses a name that is taken, in one step
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                self.unlink(a, a_name)
                return
        if self.lstat(b, b_name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), b_name)
        self.rename(a, a_name, b, b_name)

    def exchange(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        aside = b_name + _ASIDE
        old, new = self.lstat(a, a_name), self.lstat(b, b_name)
        if old is None or new is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), a_name)
        linked = False
        if not stat.S_ISDIR(old.st_mode) and not stat.S_ISDIR(new.st_mode):
            try:
                self.link(a, a_name, b, aside)
                linked = True
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
        if not linked:
            self.rename(a, a_name, b, aside)
        try:
            if linked:
                self.rename(b, b_name, a, a_name)
            else:
                self.place(b, b_name, a, a_name)
        except OSError:
            self.settle(a, a_name, b, b_name)
            raise
        self.rename(b, aside, b, b_name)

    def settle(self, path: Dir, name: bytes, slot: Dir, slot_name: bytes) -> None:
        aside_name = slot_name + _ASIDE
        aside, held, there = self.lstat(slot, aside_name), self.lstat(slot, slot_name), self.lstat(path, name)
        if aside is not None:
            if held is None:
                self.rename(slot, aside_name, slot, slot_name)  # the new one is in place: finish
            elif there is None:
                self.place(slot, aside_name, path, name)
            elif _same(aside, there):
                self.unlink(slot, aside_name)
            else:
                self.rename(slot, aside_name, slot, b"kept-" + os.urandom(6).hex().encode() + b"-" + slot_name)
        elif held is not None and there is not None and not stat.S_ISDIR(held.st_mode) and _same(held, there):
            self.unlink(slot, slot_name)  # a rename by link and unlink, cut in two

    def clashes(self, slot_name: bytes) -> bool:
        return slot_name.endswith(_ASIDE)


def _same(a: os.stat_result, b: os.stat_result) -> bool:
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


class PathCalls(PortableCalls):
    """By paths, where the system has no directory descriptors (Windows)."""

    window = (
        "On Windows names are checked before they are used, not while: a link or a file put there in the same instant "
        "could be missed; owners, attributes and the times of links are not restored."
    )

    def open_root(self, path: bytes) -> Dir:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return Dir(-1, path)

    def open_below(self, root: Dir, parts: Sequence[bytes]) -> Dir:
        here = root
        for part in parts:
            here = self.open_folder(here, part)
        return Dir(-1, here.path)

    def open_folder(self, d: Dir, name: bytes) -> Dir:
        path = os.path.join(d.path, name)
        there = os.lstat(path)
        if stat.S_ISLNK(there.st_mode) or getattr(there, "st_reparse_tag", False):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if not stat.S_ISDIR(there.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return Dir(-1, path)

    def lstat(self, d: Dir, name: bytes) -> os.stat_result | None:
        try:
            return os.lstat(os.path.join(d.path, name))
        except FileNotFoundError:
            return None

    def stat_folder(self, d: Dir) -> os.stat_result:
        return os.lstat(d.path)

    def names(self, d: Dir) -> list[bytes]:
        return sorted(os.listdir(d.path))

    def entries(self, d: Dir) -> Iterator[tuple[bytes, os.stat_result]]:
        for name in self.names(d):
            there = self.lstat(d, name)
            if there is not None:
                yield name, there

    def readlink(self, d: Dir, name: bytes) -> bytes:
        return os.readlink(os.path.join(d.path, name))

    def open_file(self, d: Dir, name: bytes, flags: int, mode: int = 0o600) -> int:
        return os.open(os.path.join(d.path, name), flags, mode)

    def may_write(self, d: Dir, name: bytes) -> bool:
        return os.access(os.path.join(d.path, name), os.W_OK)

    def read_only(self, d: Dir) -> bool:
        return False

    def xattrs(self, d: Dir, name: bytes) -> Xattrs:
        return ()

    def xattrs_of(self, fd: int) -> Xattrs:
        return ()

    def mkdir(self, d: Dir, name: bytes, mode: int) -> None:
        os.mkdir(os.path.join(d.path, name), mode)

    def symlink(self, target: bytes, d: Dir, name: bytes) -> None:
        os.symlink(target, os.path.join(d.path, name))

    def link(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        os.link(os.path.join(a.path, a_name), os.path.join(b.path, b_name))

    def rename(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        os.replace(os.path.join(a.path, a_name), os.path.join(b.path, b_name))

    def unlink(self, d: Dir, name: bytes) -> None:
        os.unlink(os.path.join(d.path, name))

    def rmdir(self, d: Dir, name: bytes) -> None:
        os.rmdir(os.path.join(d.path, name))

    def utime(self, d: Dir, name: bytes, atime_ns: int, mtime_ns: int) -> None:
        path = os.path.join(d.path, name)
        if not os.path.islink(path):
            os.utime(path, ns=(atime_ns, mtime_ns))

    def utime_of(self, fd: int, d: Dir, name: bytes, atime_ns: int, mtime_ns: int) -> None:
        self.utime(d, name, atime_ns, mtime_ns)  # an open file has no times to set here, and cannot be renamed either

    def utime_folder(self, d: Dir, atime_ns: int, mtime_ns: int) -> None:
        os.utime(d.path, ns=(atime_ns, mtime_ns))

    def chmod(self, d: Dir, name: bytes, mode: int) -> None:
        os.chmod(os.path.join(d.path, name), mode)

    def chown(self, d: Dir, name: bytes, uid: int, gid: int) -> None:
        return None  # owners are access lists here, and stay with the file

    def set_xattr(self, d: Dir, name: bytes, key: str, value: bytes) -> None:
        return None

    def remove_xattr(self, d: Dir, name: bytes, key: str) -> None:
        return None

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        os.lseek(fd, offset, os.SEEK_SET)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def sync_folder(self, d: Dir) -> None:
        return None  # names are durable with the file here; folders cannot be flushed
