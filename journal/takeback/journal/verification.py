"""Recomputing the chain: what was changed, left out, put in another order, cut off or put back."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from takeback.journal import tables
from takeback.journal.anchors import Anchor
from takeback.journal.chain import Row, action_of, decode, digest, holds
from takeback.journal.erasure import Remains
from takeback.journal.ids import RunId
from takeback.journal.keys import KeyRing
from takeback.journal.log import Problem, Verification
from takeback.journal.rows import Payloads, rows
from takeback.journal.schema import connect_reader, create_projections
from takeback.journal.stored import document, read_view

_SUSPECTS = 64
"""How many events of a run with a wrong mac are looked at for having changed places."""


@dataclass(slots=True)
class _Run:
    """How far the chain of a run has been followed."""

    seq: int = 0
    mac: bytes = b""
    position: int = 0
    anchored: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    suspects: list[Row] = field(default_factory=list[Row])
    neighbours: set[bytes] = field(default_factory=set[bytes])


class Checker:
    """Follows all chains at once, given the rows by position."""

    def __init__(self, ring: KeyRing, anchors: Sequence[Anchor], remains: Remains) -> None:
        self._ring, self._anchors, self._remains = ring, anchors, remains
        self._runs: defaultdict[str, _Run] = defaultdict(_Run)
        for anchor in anchors:
            self._runs[anchor.run_id].anchored.setdefault(anchor.seq, set()).add(anchor.mac)
        self._problems: list[Problem] = []
        self._unknown: set[tuple[str, str]] = set()
        self._events = self._erased = self._position = 0
        self._gaps = False

    def check(self, row: Row) -> None:
        """Take in the next row."""
        if row.position != self._position + 1:
            self._gaps = True
            self._say("missing", None, self._position + 1, f"no event at {_span(self._position + 1, row.position - 1)}")
        self._position = row.position
        self._events += 1
        self._content(row)
        self._place(row)

    def _content(self, row: Row) -> None:
        if row.payload is None or row.salt is None:
            self._erased += 1
            if row.payload is not None or row.salt is not None:
                self._say("changed", row, row.position, "only half of the payload was erased")
            elif row.position not in self._remains:
                self._say("changed", row, row.position, "the payload is gone, and no erasure is recorded")
            return
        if digest(row.salt, row.payload) != row.payload_digest:
            self._say("changed", row, row.position, "the payload is not the one that was written")
            return
        try:
            event = decode(row.type, row.payload)
        except ValueError:
            self._say("changed", row, row.position, "the payload cannot be read as what its type says")
            return
        if (event.run_id, event.at.isoformat(), action_of(event)) != (row.run_id, row.at, row.action_id):
            self._say("changed", row, row.position, "the columns do not say what the payload says")

    def _place(self, row: Row) -> None:
        run = self._runs[row.run_id]
        linked = True
        if row.seq <= run.seq:
            self._say("reordered", row, row.position, f"event {row.seq} of the run comes after event {run.seq}")
            linked = False
        elif row.seq != run.seq + 1:
            self._say("missing", row, row.position, f"the run has no event {_span(run.seq + 1, row.seq - 1)}")
            linked = False  # its predecessor is not there to be compared with
        key = self._ring.find(row.key_id)
        if key is None:
            if (row.run_id, row.key_id) not in self._unknown:
                self._unknown.add((row.run_id, row.key_id))
                self._say("unknown_key", row, row.position, f"chained with {row.key_id}, which is not at hand")
        elif linked and not holds(row, key.secret, run.mac):
            run.suspects.append(row)
            run.neighbours.update((run.mac, row.mac))
        anchored = run.anchored.get(row.seq)
        if anchored and anchored != {row.mac.hex()}:
            self._say("rolled_back", row, row.position, f"event {row.seq} of the run was once another one")
        run.seq, run.mac, run.position = max(run.seq, row.seq), row.mac, row.position

    def finish(self, *, newest_view: int) -> Verification:
        """What was found. `newest_view` is the highest version that any view has."""
        for run in self._runs.values():
            self._suspects(run)
        self._tails(newest_view)
        problems = sorted(self._problems, key=lambda problem: (problem.position or 0, problem.kind))
        runs = sum(1 for run in self._runs.values() if run.seq)
        return Verification(self._events, runs, self._erased, tuple(problems))

    def _suspects(self, run: _Run) -> None:
        seqs = {row.seq for row in run.suspects[:_SUSPECTS]}
        for index, row in enumerate(run.suspects):
            moved = index < _SUSPECTS and any(
                holds(row, key.secret, previous, seq=seq)
                for key in [self._ring.find(row.key_id)]
                if key is not None
                for seq in seqs
                for previous in run.neighbours
            )
            if moved:
                self._say(
                    "reordered", row, row.position, f"the event stands at place {row.seq}, where it was not written"
                )
            else:
                self._say("changed", row, row.position, "the mac does not fit the event and its predecessor")

    def _tails(self, newest_view: int) -> None:
        # an old copy is whole in itself: without gaps, and its views know of nothing that came later
        old_copy = newest_view <= self._position and not self._gaps
        for run_id, run in self._runs.items():
            last = max(run.anchored, default=0)
            if last <= run.seq:
                continue
            kind = "rolled_back" if old_copy else "cut_off"
            self._problems.append(
                Problem(kind, RunId(run_id), None, f"the run had {last} events once and has {run.seq} now")
            )
        highest = max((anchor.position for anchor in self._anchors), default=0)
        if newest_view > max(self._position, highest):
            self._problems.append(
                Problem("cut_off", None, newest_view, "a view tells of an event that is not there any more")
            )

    def _say(self, kind: str, row: Row | None, position: int, detail: str) -> None:
        self._problems.append(Problem(kind, None if row is None else row.run_id, position, detail))

    def add(self, problem: Problem) -> None:
        """Add what somebody else found."""
        self._problems.append(problem)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def verify_sqlite(path: Path, ring: KeyRing, anchors: Sequence[Anchor]) -> Verification:
    """Verify the journal in a file, as it is at one moment, without holding anybody up."""
    connection = connect_reader(path)
    scratch = sqlite3.connect("", isolation_level=None)
    try:
        connection.execute("BEGIN")
        checker = Checker(ring, anchors, tables.all_remains(connection))
        for row in rows(connection):
            checker.check(row)
        for problem in _projections(connection, scratch):
            checker.add(problem)
        newest = connection.execute("SELECT coalesce(max(version), 0) FROM views").fetchone()
        return checker.finish(newest_view=int(newest[0]))
    finally:
        scratch.close()
        connection.close()


def _projections(connection: sqlite3.Connection, scratch: sqlite3.Connection) -> Iterable[Problem]:
    create_projections(scratch)
    scratch.execute("BEGIN")
    try:
        tables.refold(scratch, source=connection)
    except ValueError as error:  # an event that cannot be read was reported already
        yield Problem("projection", None, None, f"the views cannot be folded ({type(error).__name__})")
        return
    select = (
        "SELECT kind, id, name, status, live, first_position, version, doc FROM views LEFT JOIN names ON names.row = run "
        "ORDER BY kind, id",
        "SELECT system, object, position, action_id FROM touched ORDER BY 1, 2, 3, 4",
    )
    payloads = Payloads(connection)
    for statement, names in zip(select, (("kind", "id"), ("system", "object")), strict=True):
        found = (_unpacked(row, payloads) for row in connection.execute(statement))
        for stored, folded in _aligned(found, scratch.execute(statement)):
            shown = stored or folded
            assert shown is not None
            what = (
                "is missing"
                if stored is None
                else "tells of no event"
                if folded is None
                else "is not what the events say"
            )
            yield Problem("projection", None, None, f"{names[0]} {shown[0]}, {names[1]} {shown[1]}: the view {what}")


def _unpacked(row: tuple[object, ...], payloads: Payloads) -> tuple[object, ...]:
    # the same view can lie there in more than one way, so views are compared and not frames
    kind, id, *_, doc = row
    if not isinstance(doc, bytes):
        return row
    try:
        return (*row[:-1], document(read_view(str(kind), str(id), doc, payloads)))
    except (ValueError, KeyError):
        return row


def _aligned(
    left: Iterator[tuple[object, ...]], right: Iterator[tuple[object, ...]]
) -> Iterator[tuple[tuple[object, ...] | None, tuple[object, ...] | None]]:
    """Rows that differ between two queries in the same order, beside each other where their first two columns agree."""
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        first = None if a is None else (str(a[0]), str(a[1]))
        second = None if b is None else (str(b[0]), str(b[1]))
        if first == second:
            if a != b:
                yield a, b
            a, b = next(left, None), next(right, None)
        elif second is None or (first is not None and first < second):
            yield a, None
            a = next(left, None)
        else:
            yield None, b
            b = next(right, None)
