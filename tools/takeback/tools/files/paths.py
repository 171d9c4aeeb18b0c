r"""Names: from what a user writes to the id of an object, and from the id to bytes below a root.

An object's id is its absolute path as the folder spells it. Names are bytes; bytes that are not UTF-8 are written `\xNN`, and a
backslash that happens to stand before `xNN` is written `\x5c`, so that every name has exactly one id and every id one name.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final

from takeback.tools.files.calls import Calls, Dir
from takeback.tools.files.refusals import refusal, refuse
from takeback.tools.files.staged import Root
from takeback.tools.system import Unavailable

RESERVED: Final = b".takeback"
"""Ours wherever it lies below a root: never shown, never touched by a tool."""

_REMEMBERED: Final = 8192
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_WINDOWS_RESERVED = re.compile(rb"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$")
_SPELLING_MATTERS = sys.platform in {"darwin", "win32"}


def escape(name: bytes) -> str:
    """Bytes as text, reversibly."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(
            f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char
            for char in _ESCAPED.sub(r"\\x5cx\1", name.decode("utf-8", "surrogateescape"))
        )
    return _ESCAPED.sub(r"\\x5cx\1", text) if "\\x" in text else text


def unescape(text: str) -> bytes:
    """The bytes that `escape` made the text of."""
    if "\\x" not in text:
        return text.encode("utf-8")
    parts = _ESCAPED.split(text)
    return b"".join(bytes.fromhex(part) if index % 2 else part.encode("utf-8") for index, part in enumerate(parts))


class Place:
    """Where an object lies: a root, and the components below it (none for the root itself)."""

    __slots__ = ("above", "object", "parts", "root", "root_dir", "shown")

    def __init__(self, object_id: str, shown: str, root: Root, root_dir: Dir, parts: tuple[bytes, ...]) -> None:
        self.object, self.shown, self.root, self.root_dir, self.parts = object_id, shown, root, root_dir, parts
        self.above: Place | None = None
        """The folder it lies in, once somebody has asked `Names.parent` for it."""

    @property
    def name(self) -> bytes:
        """The last component."""
        return self.parts[-1]


class Names:
    """The roots of a workspace, held open, and the names below them."""

    def __init__(self, calls: Calls, roots: Sequence[Path], data: Path) -> None:
        """
        :raises Refused: a root is no folder, overlaps another, or contains the data directory (or lies in it).
        """
        self._calls = calls
        self._dirs: list[Dir] = []
        self._left: list[Dir] = []
        self._lock = Lock()
        self._spellings: list[tuple[str, str]] = []
        self._known: dict[str, Place] = {}
        self.roots: list[Root] = []
        data_path = os.path.realpath(data)
        for given in roots:
            real = os.path.realpath(given)
            if not os.path.isdir(real):
                raise refuse("bad_root", f"The workspace {given} is not a folder.", "Create it, or name another one.")
            for other in self.roots:
                if _inside(real, str(other.path)) or _inside(str(other.path), real):
                    raise refuse("bad_root", f"The workspaces {given} and {other.path} overlap.", "Name one of them.")
            if _inside(data_path, real) or _inside(real, data_path):
                raise refuse(
                    "bad_root",
                    f"The workspace {given} and the data directory lie in one another.",
                    "Choose a data directory outside the workspace.",
                )
            self.roots.append(Root(self._free_name(os.path.basename(real) or "root"), Path(real)))
            self._spellings.append((os.path.abspath(given), real))
            self._dirs.append(calls.open_root(os.fsencode(real)))

    def close(self) -> None:
        """Let go of the roots."""
        for folder in (*self._dirs, *self._left):
            folder.close()

    def present(self) -> None:
        """Make sure that each root is the folder at its path: people move and replace their folders while we run.

        :raises Unavailable: it is gone, or is a link now.
        """
        for root, folder in zip(self.roots, self._dirs, strict=True):
            try:
                there = os.lstat(root.path)
                held = self._calls.stat_folder(folder)
                if (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino):
                    self._reopen(root, folder)
            except PermissionError:
                continue  # the way there is closed to us by now; what is held open still serves
            except OSError as error:
                raise _no_root(root) from error

    def _reopen(self, root: Root, folder: Dir) -> None:
        if os.path.realpath(root.path) != str(root.path):
            raise _no_root(root)  # a link stands there or above it now: where that leads nobody has allowed
        fresh = self._calls.open_root(os.fsencode(root.path))
        with self._lock:
            # whoever is at work with the old one keeps it to the end
            self._left.append(Dir(folder.fd, folder.path))
            folder.fd = fresh.fd

    def _free_name(self, wanted: str) -> str:
        taken = {root.name for root in self.roots}
        name, number = wanted, 1
        while name in taken:
            number += 1
            name = f"{wanted}-{number}"
        return name

    def resolve(self, path: str) -> Place:
        """What a user wrote, as a place.

        :raises Refused: outside_roots, symlink_in_path, bad_name, reserved, not_a_directory.
        """
        if "\0" in path:
            raise refuse("bad_name", "The path contains a zero byte.", "Remove it.")
        try:
            raw = os.fsencode(path) if sys.platform == "win32" else unescape(path)
        except UnicodeEncodeError as error:
            raise refuse("bad_name", "The path is not valid Unicode.", "Write undecodable bytes as \\xNN.") from error
        if b"\0" in raw:
            raise refuse("bad_name", "The path contains a zero byte.", "Remove it.")
        place = self._place(self._absolute(raw, path), path)
        with self._reach(place) as folder:
            if folder is None or not place.parts or not _SPELLING_MATTERS:
                return place
            return self._as_spelled(place, folder)

    def locate(self, object_id: str) -> Place:
        """The place of an id that `resolve` made (perhaps long ago, in another process).

        :raises Refused: no root of today contains it.
        """
        place = self._known.get(object_id)
        if place is None:
            raw = os.fsencode(object_id) if sys.platform == "win32" else unescape(object_id)
            place = self._place(raw, object_id)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[object_id] = place
        return place

    def lstat(self, place: Place) -> os.stat_result | None:
        """What lies at a place, not followed if it is a link; `None` if nothing does.

        :raises Refused: the way there leads through a link.
        """
        if not place.parts:
            return os.lstat(place.root.path)
        with self._reach(place) as folder:
            try:
                return None if folder is None else self._calls.lstat(folder, place.name)
            except OSError as error:
                raise refusal(error, place.shown) from error

    def child(self, place: Place, name: bytes) -> str:
        """The id of something in the folder."""
        return os.path.join(place.object, escape(name))

    def parent(self, place: Place) -> Place | None:
        """The folder a place lies in; `None` above the root."""
        if not place.parts:
            return None
        if place.above is not None:
            return place.above
        name = os.path.dirname(place.object)
        known = self._known.get(name)
        if known is None:
            known = self._make(place.root, place.root_dir, place.parts[:-1])
            if known.object == name and len(self._known) < _REMEMBERED:
                self._known[name] = known
        place.above = known
        return known

    def _absolute(self, raw: bytes, shown: str) -> bytes:
        if os.path.isabs(raw):
            return os.path.normpath(raw)
        first = os.path.normpath(raw).split(os.sep.encode(), 1)[0]
        base = self.roots[0]
        if len(self.roots) > 1 and self._calls.lstat(self._dirs[0], first) is None:
            named = next((root for root in self.roots if os.fsencode(root.name) == first), None)
            if named is not None:
                base, raw = named, os.path.relpath(os.path.normpath(raw), first)
        joined = os.path.normpath(os.path.join(os.fsencode(base.path), raw))
        if not _inside(os.fsdecode(joined), str(base.path)):
            raise self._outside(shown)
        return joined

    def _place(self, absolute: bytes, shown: str) -> Place:
        text = os.fsdecode(absolute)
        for root, folder, (given, real) in zip(self.roots, self._dirs, self._spellings, strict=True):
            for base in {real, given}:
                if _inside(text, base):
                    below = os.fsencode(os.path.relpath(text, base)) if text != base else b"."
                    parts = () if below == b"." else tuple(below.split(os.sep.encode()))
                    self._check(parts, shown)
                    return self._make(root, folder, parts)
        raise self._outside(shown)

    def _make(self, root: Root, folder: Dir, parts: tuple[bytes, ...]) -> Place:
        escaped = [escape(part) for part in parts]
        base = escape(os.fsencode(root.path))
        shown = os.path.join(*escaped) if escaped else root.name
        if len(self.roots) > 1 and escaped:
            shown = os.path.join(root.name, shown)
        return Place(os.path.join(base, *escaped), shown, root, folder, parts)

    def _outside(self, shown: str) -> Exception:
        where = ", ".join(str(root.path) for root in self.roots) or "none"
        return refuse("outside_roots", f"{shown} lies outside the workspace.", f"Use a path in: {where}.")

    @staticmethod
    def _check(parts: Sequence[bytes], shown: str) -> None:
        for part in parts:
            spelled = part.lower() if _SPELLING_MATTERS else part
            if spelled == RESERVED:
                raise refuse("reserved", f"{shown} is kept for takeback's own use.", "Choose another name.")
            if sys.platform == "win32" and (_WINDOWS_RESERVED.match(part) or part[-1:] in b". "):
                raise refuse("bad_name", f"Windows does not take the name {shown}.", "Choose another name.")

    @contextmanager
    def _reach(self, place: Place) -> Generator[Dir | None]:
        """The folder a place lies in, or `None` if there is no such folder yet."""
        try:
            folder = self._calls.open_below(place.root_dir, place.parts[:-1])
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            raise refusal(error, place.shown) from error
        with folder:
            yield folder

    def _as_spelled(self, place: Place, folder: Dir) -> Place:
        """Where case or Unicode form do not tell names apart, the one that the folder shows."""
        there = self._calls.lstat(folder, place.name)
        if there is None:
            return place
        names = self._calls.names(folder)
        if place.name in names:
            return place
        for name in names:
            other = self._calls.lstat(folder, name)
            if other is not None and (other.st_dev, other.st_ino) == (there.st_dev, there.st_ino):
                return self._make(place.root, place.root_dir, (*place.parts[:-1], name))
        return place


def _no_root(root: Root) -> Unavailable:
    error = Unavailable(
        f"The workspace {root.path} is not there any more.",
        advice="Put the folder back, or start with another workspace.",
    )
    error.code = "no_workspace"
    return error


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder if folder.endswith(os.sep) else folder + os.sep)
