"""The `ObjectStore` port: content-addressed storage of states (before- and after-images).

Objects are named by a keyed digest of their content with the algorithm in the name (`blake3:…`), verified on every use and
never changed. Up to `SMALL` bytes they travel into the journal's own database with the intent that needs them (one fsync for
both); larger ones are files. `store.py` is the implementation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

SMALL = 32 * 1024
"""Bytes up to which an object lives in the journal's database."""


class ObjectError(Exception):
    """Base of what an object store refuses. `advice` is what the reader can do about it."""

    advice: str = "Run `takeback verify --objects` to see which stored objects are affected."


class ObjectMissing(ObjectError):
    """There is no object of this name."""


class ObjectCorrupt(ObjectError):
    """The stored bytes do not have the digest that their name promises."""


class QuotaExceeded(ObjectError):
    """The object, or the store with it, would be larger than allowed. Said before anything was read or written."""

    advice = "Raise [limits] in the configuration, or let `takeback gc` make room."


@dataclass(frozen=True, slots=True)
class Usage:
    """What the store holds."""

    objects: int
    stored_bytes: int
    """As they lie on disk (compressed)."""
    quota_bytes: int | None


class ObjectStore(ABC):
    """Put bytes, get bytes. All methods are safe to call from several tasks and processes at once."""

    @abstractmethod
    def name(self, data: bytes) -> str:
        """The name that these bytes have or would have; stores nothing."""

    @abstractmethod
    async def put(self, data: bytes) -> str:
        """Store bytes durably (fsynced on return) and return their name. Stored once, however often put.

        :raises QuotaExceeded: before anything was written.
        """

    @abstractmethod
    async def put_stream(self, stream: BinaryIO, size: int) -> tuple[str, ...]:
        """Store `size` bytes read from a file in blocks of 4 MiB; the names, in order. `size` is checked before reading."""

    @abstractmethod
    def small(self, data: bytes) -> tuple[str, Mapping[str, bytes]]:
        """For bytes of at most `SMALL`: the name, and the blobs to hand to `Journal.append` with the intent."""

    async def put_blobs(self, blobs: Mapping[str, bytes]) -> None:
        """Make what `small` gave durable by itself, where no intent is at hand that it could travel with.

        :raises QuotaExceeded: before anything was written.
        """
        for data in blobs.values():
            await self.put(data)

    @abstractmethod
    async def get(self, name: str) -> bytes:
        """The bytes of an object, verified.

        :raises ObjectMissing, ObjectCorrupt:
        """

    @abstractmethod
    async def has(self, name: str) -> bool:
        """Whether there is such an object (without reading it)."""

    @abstractmethod
    async def reserve(self, size: int) -> None:
        """Make sure that `size` more bytes fit under the quota and on the disk.

        :raises QuotaExceeded: they do not.
        """

    @abstractmethod
    def names(self) -> AsyncIterator[tuple[str, int]]:
        """Every object: name and stored bytes."""

    @abstractmethod
    async def drop(self, names: Iterable[str]) -> int:
        """Destroy objects (the garbage collector's); bytes freed. Unknown names are passed over."""

    @abstractmethod
    async def usage(self) -> Usage:
        """What the store holds now."""
