"""The times of the folders in which names come and go: put back with what is taken back, where nobody else touched the folder.

The refs of an effect say what its folder's mtime was before the act, and what the act left. Several acts in one folder are
followed in thought, one after the other, as if each had put the time back by itself; the folder is touched once, at the end.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from takeback.journal.states import Effect
from takeback.tools.files.calls import Dir
from takeback.tools.files.steps import side_ref
from takeback.tools.files.workbench import Workbench

_AS_LEFT: Final = -1
"""Stands for the mtime that a folder has when all is done."""


@dataclass(slots=True)
class _Folder:
    effect: Effect
    """One of those in it, by which it is reached."""
    now: int | None
    """Its mtime as it was when it was looked at last."""
    wanted: int | None
    """What it is to be after the acts so far; `None`: there is no folder."""


class FolderTimes:
    """The mtimes of the folders of one visit."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._folders: dict[str, _Folder] = {}
        self._was: dict[tuple[int, str], int | None] = {}
        self._left: dict[tuple[int, str], int | None] = {}

    def begin(self, effects: Sequence[Effect]) -> None:
        """Before an act."""
        for key, effect in self._own(effects).items():
            now = self._mtime(effect)
            folder = self._folders.get(key)
            if folder is None:
                folder = self._folders[key] = _Folder(effect, now, now)
            elif folder.now != now:  # somebody else put something there between our acts
                folder.now = folder.wanted = now
            self._note(self._was, effects, key, folder.wanted)

    def end(self, effects: Sequence[Effect]) -> None:
        """After an act: where the folder's mtime was what our own earlier act left, it is to be what it was before that."""
        for key, effect in self._own(effects).items():
            folder = self._folders[key]
            folder.now = self._mtime(effect)
            was, folder.wanted = folder.wanted, _AS_LEFT
            for each in effects:
                said = side_ref(each).get("dir")
                if self._key(each) == key and isinstance(said, dict) and said.get("left") == was:
                    wanted = said.get("was")
                    folder.wanted = wanted if isinstance(wanted, int) else _AS_LEFT
            self._note(self._left, effects, key, folder.wanted)

    def put_back(self) -> None:
        """Give each folder the mtime that it is to have, unless somebody else has touched it since our last act in it."""
        for folder in self._folders.values():
            there = self._folder(folder.effect)
            if folder.wanted in (None, _AS_LEFT) or there is None:
                continue
            now = self._bench.calls.stat_folder(there)
            if now.st_mtime_ns == folder.now:
                self._bench.calls.utime_folder(there, now.st_atime_ns, folder.wanted)

    def sync(self) -> None:
        """Make the names durable: one flush a folder."""
        for folder in self._folders.values():
            there = self._folder(folder.effect)
            if there is not None:
                self._bench.calls.sync_folder(there)

    def ref(self, effect: Effect) -> dict[str, JsonValue]:
        """What the effect's refs say about its folder's mtime."""
        place = (id(effect), self._key(effect))
        if place not in self._was:
            return {}
        was, left = self._was[place], self._left.get(place, _AS_LEFT)
        try:
            now = self._mtime(effect) if _AS_LEFT in (was, left) else None
        except OSError:
            now = None  # it cannot be reached any more, which takes nothing back
        return {"dir": {"was": now if was == _AS_LEFT else was, "left": now if left == _AS_LEFT else left}}

    # -- where they are ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _key(effect: Effect) -> str:
        return os.path.dirname(effect.object)

    def _own(self, effects: Sequence[Effect]) -> dict[str, Effect]:
        """The folders of an act, each with one effect in it; what is changed in place changes no names."""
        return {self._key(effect): effect for effect in effects if not side_ref(effect).get("in_place")}

    def _note(
        self, where: dict[tuple[int, str], int | None], effects: Sequence[Effect], key: str, mtime: int | None
    ) -> None:
        for effect in effects:
            if self._key(effect) == key and not side_ref(effect).get("in_place"):
                where[id(effect), key] = mtime

    def _folder(self, effect: Effect) -> Dir | None:
        return self._bench.parent(self._bench.names.locate(effect.object))

    def _mtime(self, effect: Effect) -> int | None:
        folder = self._folder(effect)
        return None if folder is None else self._bench.calls.stat_folder(folder).st_mtime_ns
