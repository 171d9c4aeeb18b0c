"""How many bytes the store holds: a running count that several processes share.

A record of 36 bytes in one file, changed under a lock, counted up *before* an object is written and down after one is gone:
a process that dies in between leaves the count too high, never too low. It is in doubt, and `read` says so, when it is
missing, torn, or from before the machine was last started (it is not fsynced). Then, and before anybody is refused because of
it, the store counts anew.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from typing import Final, NamedTuple

from takeback.checkpoints.oslock import held

_RECORD: Final = struct.Struct(">QQQQ")
_CRC: Final = struct.Struct(">I")
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class Count(NamedTuple):
    """What the store holds, as far as counted."""

    objects: int
    stored_bytes: int
    serial: int
    """Grows with every change: equal serials mean that nothing has happened in between."""


class Counter:
    """The shared count of one store."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "usage")
        self._lock = os.path.join(folder, "usage.lock")
        self._boot = _boot()

    def read(self) -> Count | None:
        """The count; `None` if it is in doubt."""
        try:
            with open(self._path, "rb", buffering=0) as file:
                record = file.read(_RECORD.size + _CRC.size)
        except FileNotFoundError:
            return None
        if len(record) != _RECORD.size + _CRC.size:
            return None
        body = record[: _RECORD.size]
        boot, serial, objects, stored = _RECORD.unpack(body)
        if _CRC.unpack(record[_RECORD.size :])[0] != zlib.crc32(body) or boot != self._boot:
            return None
        return Count(objects, stored, serial)

    def add(self, objects: int, stored_bytes: int) -> None:
        """Count a change. A count in doubt stays in doubt, and one that cannot be written (a full disk) becomes so."""
        with held(self._lock):
            count = self.read()
            if count is None:
                return
            try:
                self._write(count.objects + objects, count.stored_bytes + stored_bytes, count.serial + 1)
            except OSError:
                with suppress(OSError):
                    os.unlink(self._path)

    def take(self, stored_bytes: int, quota: int) -> bool:
        """Count an object of this size in, if it fits under the quota. False if not, or if the count is in doubt."""
        with held(self._lock):
            count = self.read()
            if count is None or count.stored_bytes + stored_bytes > quota:
                return False
            self._write(count.objects + 1, count.stored_bytes + stored_bytes, count.serial + 1)
        return True

    def replace(self, objects: int, stored_bytes: int, *, since: Count | None) -> Count:
        """Write what was found by counting.

        :param since: the count when counting began. What was added meanwhile is added again, because the counting may have
            missed it; what was removed is not subtracted, because the counting may have missed that too. So a race makes the
            count too high, and the next counting mends it.
        """
        with held(self._lock):
            count = self.read()
            if count is not None and since is not None:
                objects += max(0, count.objects - since.objects)
                stored_bytes += max(0, count.stored_bytes - since.stored_bytes)
            serial = 1 + (count.serial if count is not None else 0)
            self._write(objects, stored_bytes, serial)
        return Count(objects, stored_bytes, serial)

    def _write(self, objects: int, stored_bytes: int, serial: int) -> None:
        body = _RECORD.pack(self._boot, serial, max(0, objects), max(0, stored_bytes))
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            os.write(fd, body + _CRC.pack(zlib.crc32(body)))
        finally:
            os.close(fd)


def _boot() -> int:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return zlib.crc32(file.read().encode("ascii"))
    except OSError:
        # elsewhere a power cut may leave the count low by what was stored in the last half minute
        return 0
