"""A view of the workspace with changes that nobody else sees: what a staged run has written, over what is really there.

Nothing is copied and nothing on disk is touched. The view holds only what differs: files by their content, new folders, what is
gone, and what lies under another name than it really does. The file tools work on it as on the real one, so that reading,
listing and searching show a run its own changes; a swap changes the view.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from blake3 import blake3

from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.files.fingerprint import content_digest
from takeback.tools.files.refusals import refuse
from takeback.tools.files.showing import compared
from takeback.tools.files.staged import FileInfo, Staged
from takeback.tools.files.system import FileSystem
from takeback.tools.system import Clash, Drifted, Merged, Preview, Swapped

MOST_BYTES: Final = 64 * 1024 * 1024
"""What the files of one view may hold in all: they are in memory."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    mode: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class _Folder:
    """Made here; nothing real is in it."""

    mtime_ns: int


@dataclass(frozen=True, slots=True)
class _Real:
    """What really lies under this name, with all below it."""

    object: str


@dataclass(frozen=True, slots=True)
class _Gone:
    """Nothing."""


_Node = _File | _Folder | _Real | _Gone
_Nodes = dict[str, _Node]
_GONE: Final = _Gone()


class Overlay(FileSystem):
    """The view. Looks like the file system that it lies over, and is used by one run at a time."""

    def __init__(self, base: FileSystem) -> None:
        # the names are the same; everything that touches the disk goes through `base`
        self._base, self.roots = base, base.roots
        self._nodes: _Nodes = {}
        self._wanted: dict[str, tuple[Callable[[_Nodes], None], bytes | None, bytes | None]] = {}
        self._numbers = count()

    # -- names -----------------------------------------------------------------------------------------------------------

    def resolve(self, path: str) -> str:
        return self._base.resolve(path)

    def display(self, object: str) -> str:
        return self._base.display(object)

    def ancestors(self, object: str) -> Sequence[str]:
        return self._base.ancestors(object)

    # -- looking ---------------------------------------------------------------------------------------------------------

    def _find(self, object: str) -> _Node:
        at = object
        while (node := self._nodes.get(at)) is None:
            above = os.path.dirname(at)
            if above == at:
                return _Real(object)
            at = above
        if at == object:
            return node
        return _Real(node.object + object[len(at) :]) if isinstance(node, _Real) else _GONE

    async def stat(self, object: str) -> FileInfo | None:
        match self._find(object):
            case _Gone():
                return None
            case _Real(real):
                info = await self._base.stat(real)
                return None if info is None else _named(info, object)
            case _File() as file:
                return _info(object, "file", len(file.content), file.mode, file.mtime_ns)
            case _Folder(mtime_ns):
                return _info(object, "directory", 0, 0o755, mtime_ns)

    async def listing(self, object: str, *, recursive: bool, limit: int) -> list[FileInfo]:
        found, below = self._find(object), object.rstrip(os.sep) + os.sep
        touched = [name for name in self._nodes if name.startswith(below)]
        if isinstance(found, _Real) and not touched:
            infos = await self._base.listing(found.object, recursive=recursive, limit=limit)
            return [_named(info, object + info.object[len(found.object) :]) for info in infos]
        real: list[FileInfo] = []
        if isinstance(found, _Real):
            infos = await self._base.listing(found.object, recursive=False, limit=limit)
            real = [_named(info, object + info.object[len(found.object) :]) for info in infos]
        elif not isinstance(found, _Folder):
            raise refuse("not_found", f"{self.display(object)} is no folder.", "List the folder above it.")
        children = {info.object: info for info in real if info.object not in self._nodes}
        for name in touched:
            if os.path.dirname(name) == object and (info := await self.stat(name)) is not None:
                children[name] = info
        told: list[FileInfo] = []
        for name in sorted(children):
            told.append(children[name])
            if recursive and children[name].kind == "directory" and len(told) < limit:
                told += await self.listing(name, recursive=True, limit=limit - len(told))
            if len(told) >= limit:
                break
        return told[:limit]

    async def read_bytes(self, object: str, *, limit: int) -> tuple[bytes, State]:
        node = self._find(object)
        if isinstance(node, _Real):
            return await self._base.read_bytes(node.object, limit=limit)
        if isinstance(node, _Gone):
            raise refuse(
                "not_found", f"{self.display(object)} does not exist.", "List its folder to see what is there."
            )
        if not isinstance(node, _File):
            raise refuse("not_a_file", f"{self.display(object)} is not a regular file.", "Name a file.")
        if len(node.content) > limit:
            raise refuse("too_large", f"{self.display(object)} has more than {limit:,} bytes.", "Read it in parts.")
        return node.content, _state_of(node)

    async def open_read(self, object: str) -> int:
        node = self._find(object)
        if isinstance(node, _Real):
            return await self._base.open_read(node.object)
        if not isinstance(node, _File):
            raise refuse("not_a_file", f"{self.display(object)} is not a regular file.", "Name a file.")
        with tempfile.TemporaryFile() as file:
            file.write(node.content)
            file.flush()
            file.seek(0)
            return os.dup(file.fileno())

    async def look(self, objects: Sequence[str], like: Sequence[State | None] = ()) -> Sequence[State]:
        return [await self._state(object) for object in objects]

    async def _state(self, object: str) -> State:
        match self._find(object):
            case _Gone():
                return ABSENT
            case _Real(real):
                return (await self._base.look([real]))[0]
            case _File() as file:
                return _state_of(file)
            case _Folder():
                return _FOLDER

    # -- preparing -------------------------------------------------------------------------------------------------------

    async def stage_write(self, object: str, content: bytes, *, create_parents: bool = True) -> Staged:
        shown, there = self.display(object), await self.stat(object)
        if there is not None and there.kind == "directory":
            raise refuse("is_directory", f"{shown} is a folder.", "Name a file in it.")
        if there is not None and there.kind != "file":
            raise refuse("is_symlink", f"{shown} is no regular file.", "Delete it first, or write what it points to.")
        held = sum(len(node.content) for node in self._nodes.values() if isinstance(node, _File))
        if held + len(content) > MOST_BYTES:
            raise refuse("too_large", f"A stage holds at most {MOST_BYTES:,} bytes.", "Publish what is staged first.")
        effects = await self._folders_for(object)
        file = _File(content, there.mode if there is not None else 0o644, time.time_ns())
        before = await self._state(object)
        old = (await self.read_bytes(object, limit=MOST_BYTES))[0] if there is not None else b""

        def change(nodes: _Nodes) -> None:
            nodes[object] = file

        return self._prepared(
            [*effects, (object, before, _state_of(file))], change, "Put the earlier content back.", old, content
        )

    async def stage_delete(self, object: str, *, recursive: bool) -> Staged:
        there = await self._must_exist(object)
        if there.kind == "directory" and not recursive and await self.listing(object, recursive=False, limit=1):
            shown = self.display(object)
            raise refuse(
                "not_empty", f"The folder {shown} is not empty.", "Pass recursive to delete it with all in it."
            )
        before = await self._state(object)

        def change(nodes: _Nodes) -> None:
            _forget(nodes, object)
            nodes[object] = _GONE

        return self._prepared([(object, before, ABSENT)], change, "Put it back from the trash.")

    async def stage_move(self, source: str, destination: str, *, overwrite: bool) -> Staged:
        effects = await self._to(source, destination, overwrite=overwrite, verb="moved")
        moved = await self._state(source)

        def change(nodes: _Nodes) -> None:
            taken = _taken(nodes, source, self._find(source))
            _forget(nodes, source)
            nodes[source] = _GONE
            _forget(nodes, destination)
            nodes.update({destination + name: node for name, node in taken.items()})

        before = await self._state(destination)
        return self._prepared(
            [*effects, (source, moved, ABSENT), (destination, before, moved)],
            change,
            "Move it back; what it replaced comes back from the trash.",
        )

    async def stage_copy(self, source: str, destination: str, *, overwrite: bool) -> Staged:
        effects = await self._to(source, destination, overwrite=overwrite, verb="copied")
        copied = await self._state(source)

        def change(nodes: _Nodes) -> None:
            taken = _taken(nodes, source, self._find(source))
            _forget(nodes, destination)
            nodes.update({destination + name: node for name, node in taken.items()})

        before = await self._state(destination)
        return self._prepared(
            [*effects, (destination, before, copied)],
            change,
            "Remove the copy; what it replaced comes back from the trash.",
        )

    async def stage_directory(self, object: str) -> Staged:
        if await self.stat(object) is not None:
            raise refuse("exists", f"{self.display(object)} exists already.", "Use it, or choose another name.")
        effects = [*await self._folders_for(object), (object, ABSENT, _FOLDER)]
        made = _Folder(time.time_ns())

        def change(nodes: _Nodes) -> None:
            nodes[object] = made

        return self._prepared(effects, change, "Remove the folder if it is empty.")

    async def _must_exist(self, object: str) -> FileInfo:
        info = await self.stat(object)
        if info is None:
            shown = self.display(object)
            raise refuse("not_found", f"{shown} does not exist.", "List its folder to see what is there.")
        return info

    async def _to(self, source: str, destination: str, *, overwrite: bool, verb: str) -> list[_Change]:
        """The folders that are missing above a destination.

        :raises Refused: it cannot be put there.
        """
        await self._must_exist(source)
        shown = self.display(destination)
        if destination == source or destination.startswith(source.rstrip(os.sep) + os.sep):
            raise refuse(
                "into_itself", f"{self.display(source)} cannot be {verb} into itself.", "Choose a place outside it."
            )
        there = await self.stat(destination)
        if there is not None and not overwrite:
            raise refuse("exists", f"{shown} exists already.", "Choose another name, or pass overwrite.")
        if there is not None and there.kind == "directory":
            raise refuse("is_directory", f"{shown} is a folder.", "Delete it first, or name something in it.")
        return await self._folders_for(destination)

    async def _folders_for(self, object: str) -> list[_Change]:
        missing: list[str] = []
        above = os.path.dirname(object)
        while (info := await self.stat(above)) is None:
            missing.insert(0, above)
            if (above := os.path.dirname(above)) == missing[0]:
                break
        if info is not None and info.kind != "directory":
            shown = self.display(object)
            raise refuse("not_a_directory", f"A part of {shown} is a file, not a folder.", "Check the path.")
        return [(folder, ABSENT, _FOLDER) for folder in missing]

    def _prepared(
        self,
        changes: Sequence[_Change],
        change: Callable[[_Nodes], None],
        how: str,
        before: bytes | None = None,
        after: bytes | None = None,
    ) -> Staged:
        token = str(next(self._numbers))
        folders = [object for object, was, will in changes[:-1] if was.absent and will is _FOLDER]

        def whole(nodes: _Nodes) -> None:
            for folder in folders:
                nodes[folder] = _Folder(time.time_ns())
            change(nodes)

        self._wanted[token] = whole, before, after

        async def discard() -> None:
            self._wanted.pop(token, None)

        effects = tuple(
            Effect(
                system=self.name, object=object, before=was, after=will.model_copy(update={"ref": {"staged": token}})
            )
            for object, was, will in changes
        )
        return Staged(effects=effects, blobs={}, discard=discard, how=how)

    # -- changing --------------------------------------------------------------------------------------------------------

    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        wanted = self._wanted.pop(str(effects[-1].after.ref.get("staged")), None)
        if wanted is None:
            present = tuple(await self.look([effect.object for effect in effects]))
            return Drifted(present, "it is not a change of this view")
        wanted[0](self._nodes)
        return Swapped(tuple(effects))

    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        return Clash("a view is not merged")

    async def describe(self, effect: Effect) -> Preview:
        words = {"created": "create", "changed": "change", "deleted": "delete", "unchanged": "leave"}
        shown = self.display(effect.object)
        kind = "folder " if "directory" in (effect.before.kind, effect.after.kind) else ""
        title = f"{words[effect.verb]} {kind}{shown}"
        _, before, after = self._wanted.get(str(effect.after.ref.get("staged")), (None, None, None))
        if effect.after.kind != "file" or before is None or after is None:
            return Preview(title)
        return compared(title, before, after, shown)


_Change = tuple[str, State, State]
_FOLDER: Final = State(digest="staged:directory", kind="directory")


def _state_of(file: _File) -> State:
    told = blake3(f"{file.mode:o} {content_digest(file.content)}".encode()).hexdigest()
    content = content_digest(file.content)
    return State(digest=f"staged:{told}", kind="file", content=content, size=len(file.content))


def _forget(nodes: _Nodes, object: str) -> None:
    """Of an object and all below it."""
    for name in [name for name in nodes if name == object or name.startswith(object.rstrip(os.sep) + os.sep)]:
        del nodes[name]


def _taken(nodes: _Nodes, object: str, top: _Node) -> _Nodes:
    """An object with all below it, by the names below it."""
    below = object.rstrip(os.sep) + os.sep
    return {"": top} | {name[len(object) :]: node for name, node in nodes.items() if name.startswith(below)}


def _named(info: FileInfo, object: str) -> FileInfo:
    return replace(info, object=object, name=os.path.basename(object) or info.name)


def _info(object: str, kind: str, size: int, mode: int, mtime_ns: int) -> FileInfo:
    return FileInfo(
        object=object,
        name=os.path.basename(object),
        kind="directory" if kind == "directory" else "file",
        size=size,
        mode=mode,
        uid=os.getuid() if hasattr(os, "getuid") else 0,
        gid=os.getgid() if hasattr(os, "getgid") else 0,
        mtime_ns=mtime_ns,
        ctime_ns=mtime_ns,
        nlink=1,
    )
