"""What a writer knows from its last transaction, so that the next one need not ask the database again.

All of it is what the transaction itself wrote or read, so it holds as long as nobody else has written since. SQLite counts the
commits of other connections (`PRAGMA data_version`), in this process or another; the number is looked at inside each
transaction, once nobody else can write any more. If it has changed, or a transaction was not committed, all is forgotten and
read anew: to forget costs some time, to remember wrongly would break a chain.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Final

from takeback.journal.projections import LIVE, Folded, StepPart, status_of
from takeback.journal.rows import Payloads, head, named, newest

_MOST: Final = 2048
"""Of each kind of thing so many are remembered; then one begins anew."""

Events = tuple[int, ...]
"""Positions of all events that went into a view."""


@dataclass(frozen=True, slots=True)
class KeptView:
    """A view as it lies in the database."""

    view: Folded
    first: int
    """Position of its first event."""
    events: Events | None
    """`None` if it is written down itself."""


@dataclass(slots=True)
class Kept:
    """See the module's docstring. Belongs to the thread of one connection."""

    newest: tuple[int, str | None] | None = None
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    views: dict[tuple[str, str], KeptView] = field(default_factory=dict[tuple[str, str], KeptView])
    """Of those from which something still has to happen: the others are hardly ever asked for again."""
    payloads: Payloads | None = None
    _version: int | None = None

    def forget(self) -> None:
        """Know nothing."""
        self.newest, self.payloads, self._version = None, None, None
        self.heads.clear()
        self.numbers.clear()
        self.views.clear()

    def check(self, connection: sqlite3.Connection) -> None:
        """Forget all if somebody else has committed since. To be called first in a transaction that writes."""
        version = int(connection.execute("PRAGMA data_version").fetchone()[0])
        if version != self._version or max(len(self.heads), len(self.numbers), len(self.views)) > _MOST:
            self.forget()
        self._version = version

    def newest_of(self, connection: sqlite3.Connection) -> tuple[int, str | None]:
        """See `rows.newest`."""
        if self.newest is None:
            self.newest = newest(connection)
        return self.newest

    def head(self, connection: sqlite3.Connection, run_id: str) -> tuple[int, bytes]:
        """See `rows.head`."""
        known = self.heads.get(run_id)
        return head(connection, run_id) if known is None else known

    def number(self, connection: sqlite3.Connection, name: str) -> int:
        """See `rows.named`."""
        known = self.numbers.get(name)
        if known is None:
            known = self.numbers[name] = named(connection, name)
        return known

    def payloads_of(self, connection: sqlite3.Connection) -> Payloads:
        """Payloads as the transaction sees them, with those that are known already."""
        if self.payloads is None:
            self.payloads = Payloads(connection)
        return self.payloads

    def note(self, kind: str, id: str, kept: KeptView) -> None:
        """A view has been written."""
        if status_of(kept.view) in LIVE or (isinstance(kept.view, StepPart) and kept.view.step.phase == "intended"):
            self.views[kind, id] = kept
        else:
            self.views.pop((kind, id), None)
