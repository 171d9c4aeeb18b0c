"""Workspaces on both engines, with a store of objects that is a real, if forgetful, implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from takeback.checkpoints.objects import ObjectMissing, ObjectStore, QuotaExceeded, Usage
from takeback.journal.states import Effect
from takeback.tools.files.staged import Staged
from takeback.tools.files.system import FileSystem
from takeback.tools.system import Drifted, Swapped

MIB = 1024 * 1024


class MemoryStore(ObjectStore):
    """Objects in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def name(self, data: bytes) -> str:
        return f"blake3:{blake3(data).hexdigest()}"

    async def put(self, data: bytes) -> str:
        self.kept[self.name(data)] = data
        return self.name(data)

    async def put_stream(self, stream: BinaryIO, size: int) -> tuple[str, ...]:
        return (await self.put(stream.read(size)),)

    def small(self, data: bytes) -> tuple[str, Mapping[str, bytes]]:
        return self.name(data), {self.name(data): data}

    async def get(self, name: str) -> bytes:
        try:
            return self.kept[name]
        except KeyError:
            raise ObjectMissing(name) from None

    async def has(self, name: str) -> bool:
        return name in self.kept

    async def reserve(self, size: int) -> None:
        if size > 1 << 40:
            raise QuotaExceeded("too large")

    async def names(self) -> AsyncIterator[tuple[str, int]]:
        for name, data in self.kept.items():
            yield name, len(data)

    async def drop(self, names: Iterable[str]) -> int:
        return sum(len(self.kept.pop(name, b"")) for name in list(names))

    async def usage(self) -> Usage:
        return Usage(len(self.kept), sum(map(len, self.kept.values())), None)


class World:
    """A workspace, its data directory, and the system over them."""

    def __init__(self, base: Path, portable: bool) -> None:
        self.root, self.data, self.portable = base / "work", base / "data", portable
        self.root.mkdir(parents=True)
        self.store = MemoryStore()
        self.system: FileSystem

    async def open(self, *roots: Path, trash_bytes: int = 1 << 40, object_bytes: int = 512 * MIB) -> FileSystem:
        self.system = await FileSystem.open(
            roots or [self.root],
            self.data,
            self.store,
            object_bytes=object_bytes,
            trash_bytes=trash_bytes,
            portable=self.portable,
        )
        return self.system

    async def commit(self, staged: Staged) -> Swapped:
        """What the engine does: the blobs become durable, then the swap."""
        self.store.kept.update(staged.blobs)
        swapped = await self.system.swap(staged.effects)
        assert isinstance(swapped, Swapped), swapped
        return swapped

    async def write(self, path: str, content: bytes) -> Swapped:
        return await self.commit(await self.system.stage_write(self.system.resolve(path), content))

    async def take_back(self, swapped: Swapped) -> Swapped:
        result = await self.system.swap(reverse(swapped.effects))
        assert isinstance(result, Swapped), result
        return result

    async def take_back_or_merge(self, swapped: Swapped) -> Swapped | str:
        """What a rollback does: swap back, and where somebody else was, merge; `str` says why not."""
        wanted = reverse(swapped.effects)
        present = await self.system.look([e.object for e in wanted], [e.before for e in wanted])
        if all(now.same(effect.before) for now, effect in zip(present, wanted, strict=True)):
            result = await self.system.swap(wanted)
            if isinstance(result, Swapped):
                return result
            present = result.present
        merged = await self.system.merge(wanted, present)
        if not hasattr(merged, "effects"):
            return merged.why
        self.store.kept.update(merged.blobs)
        result = await self.system.swap(merged.effects)
        return result.why if isinstance(result, Drifted) else result


def reverse(effects: Iterable[Effect]) -> tuple[Effect, ...]:
    """The effects that take these back."""
    return tuple(effect.reversed() for effect in reversed(list(effects)))
