"""The way without `openat2` and `renameat2`: macOS, older kernels, network file systems; and Windows by paths.

Folders are reached by walking descriptors, each step refusing links. Two names are exchanged in three steps: whatever stands
under the visible name is renamed out of the way, the new file gets that name as a second one (which is refused if somebody has
made a file there by then), and what came out takes the slot. So the name is absent for an instant, and nothing that anybody
saved is ever replaced or removed. A crash in that instant is settled by the next try. Where there are no hard links, names can
only be looked at before a rename: a file put there in between is replaced.

Windows has neither directory descriptors nor O_NOFOLLOW. There every call goes by path, with a check of each component before
it; a link put there at the same moment is not noticed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from takeback.tools.files.calls import KEPT, OPEN_NEW, Calls, Dir, Overtaken, Xattrs

_ASIDE = b".aside"
_BETWEEN = (
    "This disk has neither an exchange of two files in one step nor hard links, so a file that somebody else puts there in "
    "the same instant could be missed."
)
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES})


class PortableCalls(Calls):
    """Descriptor walk, hard links and plain renames."""

    one_step = False

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
        if self._named_too(a, a_name, b, b_name):
            self.unlink(a, a_name)

    def take(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        if self.lstat(b, b_name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), b_name)
        self.rename(a, a_name, b, b_name)

    def carry(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes, ours: Dir, spare: bytes) -> bool:
        """Rename where both names are other people's; `EEXIST` if the new one is taken. Finishes one that was cut in two.

        `spare` is a free name in a folder of ours on the same mount, for what has to be laid aside on the way. False if what
        lies there then is somebody's, and has to stay.
        """
        here, there = self.lstat(a, a_name), self.lstat(b, b_name)
        cut = here is not None and there is not None and _same(here, there)
        if cut or self._named_too(a, a_name, b, b_name):
            with suppress(FileNotFoundError):  # somebody removed it meanwhile
                self.take(a, a_name, ours, spare)
            return self.settle_carry(a, a_name, b, b_name, ours, spare)
        return True

    def settle_carry(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes, ours: Dir, spare: bytes) -> bool:
        """What lies under the spare name goes where it belongs. False if it is somebody's, and has to stay there."""
        laid = self.lstat(ours, spare)
        if laid is None:
            return True
        ends = [(folder, name, self.lstat(folder, name)) for folder, name in ((a, a_name), (b, b_name))]
        if any(there is not None and _same(laid, there) for *_, there in ends):
            self.unlink(ours, spare)
            return True
        for folder, name, there in ends:  # somebody saved under one of the names meanwhile
            if there is None:
                with suppress(FileExistsError):
                    self.place(ours, spare, folder, name)
                    return True
        return False

    def exchange(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> None:
        if self.lstat(b, b_name) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), b_name)
        aside = b_name + _ASIDE
        self.take(a, a_name, b, aside)
        try:
            self.place(b, b_name, a, a_name)
        except OSError as error:
            kept = self.settle(a, a_name, b, b_name)
            if kept is not None:
                raise Overtaken(a_name, kept) from error
            raise
        with suppress(FileNotFoundError):  # another process took us for dead, and has settled it
            self.rename(b, aside, b, b_name)

    def settle(self, path: Dir, name: bytes, slot: Dir, slot_name: bytes) -> bytes | None:
        aside_name = slot_name + _ASIDE
        aside, held, there = self.lstat(slot, aside_name), self.lstat(slot, slot_name), self.lstat(path, name)
        if aside is None:
            if held is not None and there is not None and not stat.S_ISDIR(held.st_mode) and _same(held, there):
                self.unlink(slot, slot_name)  # a rename by link and unlink, cut in two
        elif held is None or (there is not None and _same(held, there)):
            if held is not None:
                self.unlink(slot, slot_name)
            self.rename(slot, aside_name, slot, slot_name)  # the new one is in place: finish
        elif there is not None and _same(aside, there):
            self.unlink(slot, aside_name)
        else:
            try:
                self.place(slot, aside_name, path, name)
            except FileExistsError:
                kept = KEPT + os.urandom(6).hex().encode() + b"-" + slot_name
                self.rename(slot, aside_name, slot, kept)
                return kept
        return None

    def clashes(self, slot_name: bytes) -> bool:
        return slot_name.endswith(_ASIDE)

    def _named_too(self, a: Dir, a_name: bytes, b: Dir, b_name: bytes) -> bool:
        """Give it the other name as a second one; `EEXIST` if that is taken.

        :returns: false where that is impossible (folders, no hard links): it was renamed, with a look before it.
        """
        there = self.lstat(a, a_name)
        if there is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), a_name)
        if not stat.S_ISDIR(there.st_mode):
            try:
                self.link(a, a_name, b, b_name)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self.window = _BETWEEN
            else:
                return True
        if self.lstat(b, b_name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), b_name)
        self.rename(a, a_name, b, b_name)
        return False


def portable_calls(probe_in: bytes) -> PortableCalls:
    """The portable way; whether there are hard links is found by trying in a folder of ours."""
    calls = PortableCalls()
    token = b".probe-" + os.urandom(6).hex().encode()
    names = [token + b"a", token + b"b"]
    with calls.open_root(probe_in) as folder:
        try:
            os.close(calls.open_file(folder, names[0], OPEN_NEW))
            calls.place(folder, names[0], folder, names[1])
        finally:
            for name in names:
                calls.remove_tree(folder, name)
    return calls


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
