"""What the kit needs of a tool's surroundings: a way to look at the world, an object store, a call's context."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import pytest
from pydantic import BaseModel

from takeback.checkpoints.objects import SMALL, ObjectMissing, ObjectStore, Usage
from takeback.journal.events import Caller
from takeback.journal.ids import new_action_id, new_run_id
from takeback.tools.contract import CallContext
from takeback.tools.outbox.settings import OutboxSettings
from takeback.tools.outbox.system import OutboxSystem
from takeback.tools.registry import Limits, NoSettings, Services

BLOCK = 4 * 1024 * 1024


def forgot(fact: str, advice: str) -> NoReturn:
    """Fail with one sentence of what was forgotten and one of how to mend it; no traceback, it would point into the kit."""
    pytest.fail(f"{fact}\n  To mend it: {advice}", pytrace=False)


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


@dataclass(frozen=True)
class World:
    """How to look at what a tool changes. All functions may be plain or async."""

    snapshot: Callable[[], Any | Awaitable[Any]]
    """Everything the tool could change, as a value that compares equal if and only if nothing changed."""
    foreign_edit: Callable[[], Any | Awaitable[Any]] | None = None
    """Change, as somebody else would, what the example call changed. May return a function that says whether that edit is still
    there. Reversible tools whose system can `write` do without."""
    leftovers: Callable[[], Any | Awaitable[Any]] | None = None
    """What the snapshot does not show and a discarded preparation must not leave either: staged files, drafts."""

    async def look(self) -> Any:
        """A snapshot, now."""
        return await _settled(self.snapshot())

    async def remains(self) -> Any:
        """The leftovers, now."""
        return None if self.leftovers is None else await _settled(self.leftovers())

    async def edit(self) -> Callable[[], Any] | None:
        """Let somebody else change something; the function that tells whether it is still there."""
        assert self.foreign_edit is not None
        kept = await _settled(self.foreign_edit())
        return kept if callable(kept) else None


class KitObjects(ObjectStore):
    """An object store in memory. Small objects count as stored once they are `keep`t, as the journal does it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def keep(self, blobs: Mapping[str, bytes]) -> None:
        """Store what travels with an intent."""
        self.kept.update(blobs)

    def name(self, data: bytes) -> str:
        from blake3 import blake3

        return f"blake3:{blake3(data).hexdigest()}"

    async def put(self, data: bytes) -> str:
        self.kept[self.name(data)] = bytes(data)
        return self.name(data)

    async def put_stream(self, stream: BinaryIO, size: int) -> tuple[str, ...]:
        names: list[str] = []
        while size > 0:
            block = stream.read(min(BLOCK, size))
            if not block:
                break
            size -= len(block)
            names.append(await self.put(block))
        return tuple(names)

    def small(self, data: bytes) -> tuple[str, Mapping[str, bytes]]:
        if len(data) > SMALL:
            raise ValueError(f"{len(data)} bytes are not small")
        return self.name(data), {self.name(data): bytes(data)}

    async def get(self, name: str) -> bytes:
        try:
            return self.kept[name]
        except KeyError:
            raise ObjectMissing(f"there is no object {name}") from None

    async def has(self, name: str) -> bool:
        return name in self.kept

    async def reserve(self, size: int) -> None:
        """There is always room."""

    async def names(self) -> AsyncIterator[tuple[str, int]]:
        for name, data in list(self.kept.items()):
            yield name, len(data)

    async def drop(self, names: Iterable[str]) -> int:
        return sum(len(self.kept.pop(name, b"")) for name in names)

    async def usage(self) -> Usage:
        return Usage(len(self.kept), sum(map(len, self.kept.values())), None)


async def _nobody(done: float, total: float | None, words: str) -> None: ...


def call_context(objects: ObjectStore) -> CallContext:
    """The context of one fresh call."""
    return CallContext(
        run_id=new_run_id(),
        action_id=new_action_id(),
        caller=Caller(principal="kit", client="conformance"),
        objects=objects,
        progress=_nobody,
    )


def kit_services(folder: Path, settings: BaseModel | None = None) -> Services:
    """What a tool or family is opened with, on a folder of the test's own."""
    objects = KitObjects()
    return Services(
        data=folder / "data",
        objects=objects,
        roots=(folder,),
        outbox=OutboxSystem(folder / "data", objects, OutboxSettings()),
        settings=settings or NoSettings(),
        limits=Limits(object_bytes=64 * BLOCK, trash_bytes=64 * BLOCK, read_bytes=2 * BLOCK),
        portable_files=False,
    )


_SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|api_?key|credential|private_?key|authorization", re.IGNORECASE
)


def find_secrets(value: object, name: str = "", depth: int = 0) -> set[str]:
    """Strings that their name or type calls secret, in a value and what it is made of. Short ones would be found anywhere."""
    reveal = getattr(value, "get_secret_value", None)
    if callable(reveal):
        value, name = reveal(), "secret"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return {value} if len(value) >= 4 and _SECRET_NAME.search(name) else set()
    if depth > 3:
        return set()
    if isinstance(value, Mapping):
        named = cast("Mapping[object, object]", value)
        return {found for key, part in named.items() for found in find_secrets(part, f"{name} {key}", depth + 1)}
    if isinstance(value, list | tuple | set | frozenset):
        parts = cast("Iterable[object]", value)
        return {found for part in parts for found in find_secrets(part, name, depth + 1)}
    fields = cast("dict[str, object] | None", getattr(value, "__dict__", None))
    return set() if fields is None else find_secrets(fields, name, depth)
