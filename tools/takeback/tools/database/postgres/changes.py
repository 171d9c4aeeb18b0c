"""What an action changed, as plain values: rows before and after, counters before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.driver import Line

Pair = tuple[Line | None, Line | None]
"""A row before and after; `None` where there was none."""


@dataclass(frozen=True, slots=True)
class Count:
    """How often a row stands in a table that has no key."""

    row: Line
    before: int
    after: int


@dataclass(slots=True)
class TableChange:
    """The rows of one table that an action changed."""

    info: TableInfo
    pairs: list[Pair] = field(default_factory=lambda: list[Pair]())
    """For a table with a key: one for each key that is not as it was."""
    counts: list[Count] = field(default_factory=lambda: list[Count]())
    """For a table without: one for each row that stands there more or less often than it did."""

    @property
    def rows(self) -> int:
        """How many rows changed."""
        return len(self.pairs) + sum(abs(count.after - count.before) for count in self.counts)

    def tally(self) -> tuple[int, int, int]:
        """Inserted, updated and deleted rows."""
        inserted = sum(1 for before, _ in self.pairs if before is None)
        deleted = sum(1 for _, after in self.pairs if after is None)
        updated = len(self.pairs) - inserted - deleted
        inserted += sum(max(0, count.after - count.before) for count in self.counts)
        deleted += sum(max(0, count.before - count.after) for count in self.counts)
        return inserted, updated, deleted


@dataclass(frozen=True, slots=True)
class SequenceChange:
    """A counter that an action moved."""

    oid: int
    shown: str
    before: tuple[str, bool]
    """Last value, and whether it has been handed out."""
    after: tuple[str, bool]
    back: bool = False
    """Whether it was set to hand out again what it had handed out."""
    held: tuple[int, ...] = ()
    """Numbers between the two that rows had already before, without having drawn them from it."""


@dataclass(frozen=True, slots=True)
class TableTurn:
    """A table that came or went."""

    info: TableInfo
    definition: str
    """Fingerprint (`catalog.definition`)."""
    content: str
    """Fingerprint of all its rows, as it was made or when it went (`graveyard.content`)."""
    dropped: bool
    grave: str = ""
    """The schema in which it waits."""
    name: str = ""
    keys: tuple[str, ...] = ()
    """Statements that give it back the foreign keys that were taken off it for as long as it waits."""


@dataclass(slots=True)
class Captured:
    """All that an action changed."""

    tables: list[TableChange] = field(default_factory=lambda: list[TableChange]())
    sequences: list[SequenceChange] = field(default_factory=lambda: list[SequenceChange]())
    turns: list[TableTurn] = field(default_factory=lambda: list[TableTurn]())
    altered: list[TableInfo] = field(default_factory=lambda: list[TableInfo]())
    """Tables whose definition changed."""
    unkept: list[tuple[TableInfo, int]] = field(default_factory=lambda: list[tuple[TableInfo, int]]())
    """Tables whose rows' images are not kept, and how many rows changed at least."""
    lasting: list[str] = field(default_factory=lambda: list[str]())
    """Why the action cannot be taken back: one reason each."""
    reshaped: int = 0
    """Changes of the schema beside those of `turns` and `altered`."""
    warnings: list[str] = field(default_factory=lambda: list[str]())


def paired(info: TableInfo, before: Iterable[Line], after: Iterable[Line]) -> list[Pair]:
    """Rows that one side has and the other has not, matched by key.

    Both may hold versions that came and went in between: those stand on both sides and cancel each other out, in whatever
    order they were seen.
    """
    gone, come = Counter(before), Counter(after)
    both = gone & come
    gone -= both
    come -= both
    places = info.places
    by_key: dict[Line, Line] = {}
    for row in come.elements():
        by_key[tuple(row[place] for place in places)] = row
    pairs: list[Pair] = []
    for row in gone.elements():
        pairs.append((row, by_key.pop(tuple(row[place] for place in places), None)))
    pairs.extend((None, row) for row in by_key.values())
    return pairs


def record(row: Line) -> str:
    """A row in the one spelling that PostgreSQL gives to `ROW(…)::text`."""
    return "(" + ",".join("" if value is None else _field(value) for value in row) + ")"


def _field(value: str) -> str:
    if value and not any(char in '"\\(), \t\n\r\v\f' for char in value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '""') + '"'
