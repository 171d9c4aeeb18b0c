"""Anchors: what the heads of the chains were, written down outside the data directory.

A chain cannot tell that its tail was cut off, or that an old copy of the whole journal was put back: both are sound in
themselves. So after each commit one line names the new heads of the runs that were written to. The line is not fsynced: the
event is durable without it, and what a power cut may cost is the proof of the last seconds, not an event. Several journals
may share one file; each line names its journal. When the file has grown it is compacted to the newest line of each run.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from takeback.journal.oslock import FileLock

COMPACT_BYTES: Final = 4 * 1024 * 1024

_LINE: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head as it once was."""

    run_id: str
    seq: int
    mac: str
    """Hex."""
    position: int
    """Of the journal when this was written."""


class AnchorFile:
    """The append-only file. `append` and `read` may be called by several processes at once."""

    def __init__(self, path: Path, *, compact_bytes: int = COMPACT_BYTES) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=5)
        self._least = compact_bytes
        self._compact_at = compact_bytes

    def append(self, journal: str, position: int, heads: Mapping[str, tuple[int, bytes]]) -> None:
        """Write down the heads of the runs that a commit wrote to.

        :raises OSError: the line could not be written.
        """
        anchored = {run_id: [seq, mac.hex()] for run_id, (seq, mac) in heads.items()}
        line = _LINE({"journal": journal, "position": position, "heads": anchored}) + "\n"
        with self._lock.held():
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                size = os.fstat(fd).st_size
                # a line that a crash tore is closed first, so that it cannot swallow this one
                torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n" if hasattr(os, "pread") else False
                data = (b"\n" if torn else b"") + line.encode("ascii")
                written = os.write(fd, data)
                if written != len(data):
                    raise OSError("the anchor was written in part")
            finally:
                os.close(fd)
            if size > self._compact_at:
                self._compact()

    def read(self, journal: str) -> list[Anchor]:
        """Everything that was anchored for a journal, oldest first. Torn lines are passed over."""
        return [
            Anchor(run_id, int(seq), str(mac), position)
            for name, position, heads in self._lines()
            if name == journal
            for run_id, (seq, mac) in heads.items()
        ]

    def close(self) -> None:
        """Let go of the file."""
        self._lock.close()

    def _lines(self) -> list[tuple[str, int, dict[str, tuple[int, str]]]]:
        try:
            text = self.path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return []
        lines: list[tuple[str, int, dict[str, tuple[int, str]]]] = []
        for line in text.splitlines():
            try:
                said = cast("dict[str, object]", json.loads(line))
                heads = cast("dict[str, tuple[int, str]]", said["heads"])
                lines.append((str(said["journal"]), int(cast("int", said["position"])), heads))
            except (ValueError, KeyError, TypeError):
                continue
        return lines

    def _compact(self) -> None:
        # of one run the newest head says all that the older ones said; heads that contradict each other are evidence and
        # both stay
        newest: dict[tuple[str, str], int] = {}
        kept: dict[tuple[str, str, int, str], int] = {}
        for journal, position, heads in self._lines():
            for run_id, (seq, mac) in heads.items():
                newest[journal, run_id] = max(seq, newest.get((journal, run_id), 0))
                kept[journal, run_id, seq, mac] = position
        lines = [
            _LINE({"journal": journal, "position": position, "heads": {run_id: [seq, mac]}})
            for (journal, run_id, seq, mac), position in kept.items()
            if newest[journal, run_id] == seq
        ]
        fresh = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            with open(fd, "w", encoding="ascii") as file:
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self.path)
        finally:
            fresh.unlink(missing_ok=True)
        self._compact_at = max(self._least, 2 * self.path.stat().st_size)
