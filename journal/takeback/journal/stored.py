"""The `views` and `touched` tables: the present as the SQLite journal keeps it. Plain functions of a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Final, TypeVar, cast

from takeback.journal.events import BaseEvent, Recorded
from takeback.journal.frames import pack, point, points, unpack
from takeback.journal.kept import Events, Kept, KeptView
from takeback.journal.projections import (
    KINDS,
    LIVE,
    NAMES,
    Folded,
    PlanPart,
    StepPart,
    fold,
    status_of,
    touches,
    whole,
)
from takeback.journal.rows import Payloads, as_bytes, number_of
from takeback.journal.views import ActionView, AnyView, CheckpointView, RollbackView

V = TypeVar("V", bound=AnyView)

_FOLLOWING: Final = frozenset(["action", "checkpoint", "step", "plan"])
"""Kinds of which there is one for each event or two: they are folded when they are read, and need not be written. The others
change often, or are few and read more often than written."""

_MOST_EVENTS: Final = 4
"""A view that more events went into is written down after all."""

_BEGINS: Final = frozenset(["action.intended", "action.shadowed", "action.denied"])


class Views:
    """The views as a transaction sees them: what is stored, under what it has changed so far."""

    def __init__(
        self, connection: sqlite3.Connection, payloads: Payloads, *, plain: bool = False, kept: Kept | None = None
    ) -> None:
        """:param plain: write documents as plain JSON, for comparing.
        :param kept: what is known from earlier transactions.
        """
        self._connection, self._payloads, self._plain = connection, payloads, plain
        self._kept = Kept() if kept is None else kept
        self._stored: dict[tuple[str, str], Folded | None] = {}
        self._events: dict[tuple[str, str], Events | None] = {}
        self._first: dict[tuple[str, str], int] = {}
        self._changed: dict[tuple[str, str], tuple[Folded, int]] = {}
        self._touched: set[tuple[str, str, int, str]] = set()

    def get(self, kind: str, id: str) -> Folded | None:
        """The present view; a rollback without its parts."""
        changed = self._changed.get((kind, id))
        if changed is not None:
            return changed[0]
        if (kind, id) not in self._stored:
            known = self._kept.views.get((kind, id))
            if known is not None:
                self._stored[kind, id], self._events[kind, id] = known.view, known.events
                self._first[kind, id] = known.first
                return known.view
            found = self._connection.execute(
                "SELECT doc, first_position FROM views WHERE kind = ? AND id = ?", (kind, id)
            ).fetchone()
            doc = None if found is None else as_bytes(found[0])
            self._stored[kind, id] = None if doc is None else read_view(kind, id, doc, self._payloads)
            self._events[kind, id] = () if doc is None else points(doc)
            if found is not None:
                self._first[kind, id] = int(found[1])
        return self._stored[kind, id]

    def version(self, kind: str, id: str) -> int:
        """Version of the present view, 0 if there is none."""
        changed = self._changed.get((kind, id))
        if changed is not None:
            return changed[0].version
        known = self._kept.views.get((kind, id))
        if known is not None:
            return known.view.version
        found = self._connection.execute("SELECT version FROM views WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return 0 if found is None else int(found[0])

    def like(self, event: BaseEvent) -> int | None:
        """Position of an earlier event of the same run that says much of what this one says: its action's intent."""
        action_id = getattr(event, "action_id", None)
        if action_id is None or getattr(event, "type", "") in _BEGINS:
            return None
        changed = self._changed.get(("action", action_id))
        if changed is not None:
            return changed[1] if changed[0].run_id == event.run_id else None
        known = self._kept.views.get(("action", action_id))
        if known is not None:
            return known.first if known.view.run_id == event.run_id else None
        found = self._connection.execute(
            "SELECT first_position FROM views WHERE kind = 'action' AND id = ? "
            "AND run = (SELECT row FROM names WHERE name = ?)",
            (action_id, event.run_id),
        ).fetchone()
        return None if found is None else int(found[0])

    def fold(self, recorded: Recorded) -> None:
        """Take one event in."""
        touched, action_id = touches(recorded), str(getattr(recorded.event, "action_id", ""))
        if touched:
            said = self._said(action_id)
            touched = [place for place in touched if place not in said]
        for kind, id, view in fold(recorded, self.get):
            if kind in _FOLLOWING:
                self._events[kind, id] = self._went_into(kind, id, view, recorded.position)
            first = self._first.setdefault((kind, id), recorded.position)
            self._changed[kind, id] = (view, first)
        for system, object in touched:
            action = self.get("action", action_id)
            if isinstance(action, ActionView):
                self._touched.add((system, object, action.position, action_id))

    def _said(self, action_id: str) -> set[tuple[str, str]]:
        """What the intent of an action said that it touches, so that its conclusion need not say it again."""
        action = self.get("action", action_id)
        if not isinstance(action, ActionView) or action.status != "intended":
            return set()
        return {(effect.system, effect.object) for effect in action.effects}

    def _went_into(self, kind: str, id: str, view: Folded, position: int) -> Events | None:
        if kind == "action":
            self.get(kind, id)
            earlier = self._events.get((kind, id), ())
        elif isinstance(view, CheckpointView) and view.action_id is not None:
            return self._events.get(("action", view.action_id))  # whose conclusion it is; told just before
        else:
            earlier = ()  # each event tells all of it
        return None if earlier is None or len(earlier) >= _MOST_EVENTS else (*earlier, position)

    def write(self) -> None:
        """Write the changes."""
        runs = {
            run_id: self._kept.number(self._connection, run_id)
            for run_id in {view.run_id for view, _ in self._changed.values()}
        }
        self._connection.executemany(
            "INSERT INTO views(kind, id, run, status, live, first_position, version, doc) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(kind, id) DO UPDATE SET "
            "run = excluded.run, status = excluded.status, live = excluded.live, version = excluded.version, "
            "doc = excluded.doc",
            [
                self._row(kind, id, runs[view.run_id], view, first)
                for (kind, id), (view, first) in self._changed.items()
            ],
        )
        if self._touched:
            self._connection.executemany("INSERT OR IGNORE INTO touched VALUES (?, ?, ?, ?)", sorted(self._touched))
        self._changed.clear()
        self._stored.clear()
        self._events.clear()
        self._first.clear()
        self._touched.clear()

    def _row(self, kind: str, id: str, run: int, view: Folded, first: int) -> tuple[object, ...]:
        status, events = status_of(view), self._events.get((kind, id))
        if self._plain:
            events, doc = None, document(view)
        elif events and all(self._payloads.get(position) is not None for position in events):
            doc = point(events)
        else:
            events, doc = None, pack(document(view))
        self._kept.note(kind, id, KeptView(view, first, events))
        return (kind, id, run, status, status in LIVE, first, view.version, doc)


def document(view: Folded) -> bytes:
    """A view as JSON, without defaults."""
    return view.model_dump_json(exclude_defaults=True).encode()


def read_view(kind: str, id: str, doc: bytes, payloads: Payloads) -> Folded:
    """The view in a row.

    :raises ValueError: it cannot be read, or its events are not there.
    """
    events = points(doc)
    if events is None:
        return KINDS[kind].model_validate_json(unpack(doc, payloads.get))
    views: dict[tuple[str, str], Folded] = {}

    def get(kind: str, id: str) -> Folded | None:
        return views.get((kind, id))

    for position in events:
        for change in fold(payloads.event(position), get):
            views[change.kind, change.id] = change.view
    try:
        return views[kind, id]
    except KeyError:
        raise ValueError(f"the events at {events} tell nothing about {kind} {id}") from None


def view(connection: sqlite3.Connection, kind: type[V], id: str) -> V | None:
    """One view, put together."""
    found = connection.execute("SELECT doc FROM views WHERE kind = ? AND id = ?", (NAMES[kind], id)).fetchone()
    return None if found is None else _assembled(connection, kind, id, found[0], Payloads(connection))


def _assembled(connection: sqlite3.Connection, kind: type[V], id: str, doc: object, payloads: Payloads) -> V:
    view = read_view(NAMES[kind], id, as_bytes(doc), payloads)
    if not isinstance(view, RollbackView):
        return cast("V", view)
    plans = connection.execute("SELECT id, doc FROM views WHERE kind = 'plan' AND id = ?", (view.id,)).fetchall()
    steps = connection.execute(
        "SELECT id, doc FROM views WHERE kind = 'step' AND id >= ? AND id < ? ORDER BY id",
        (f"{view.id}/", f"{view.id}0"),
    ).fetchall()
    parts = [
        read_view(part, part_id, as_bytes(doc), payloads)
        for part, found in (("plan", plans), ("step", steps))
        for part_id, doc in found
    ]
    plan = next((part for part in parts if isinstance(part, PlanPart)), None)
    return cast("V", whole(view, plan, [part for part in parts if isinstance(part, StepPart)]))


def find(
    connection: sqlite3.Connection,
    kind: type[V],
    *,
    run_id: str | None,
    statuses: Sequence[str] | None,
    before: int | None,
    after: int | None,
    limit: int | None,
    oldest_first: bool,
) -> list[V]:
    """Views of a kind."""
    terms, values = ["kind = ?"], [cast("object", NAMES[kind])]
    if run_id is not None:
        terms.append("run = ?")
        values.append(number_of(connection, run_id))
    if statuses is not None:
        terms.append(f"status IN ({', '.join('?' * len(statuses))})")
        values.extend(statuses)
        if LIVE.issuperset(statuses):
            terms.append("live")  # tells the planner that the small index will do
    if before is not None:
        terms.append("first_position < ?")
        values.append(before)
    if after is not None:
        terms.append("first_position > ?")
        values.append(after)
    order = "ASC" if oldest_first else "DESC"
    values.append(-1 if limit is None else limit)
    found = connection.execute(
        f"SELECT id, doc FROM views WHERE {' AND '.join(terms)} ORDER BY first_position {order} LIMIT ?",  # noqa: S608  # the terms are those above
        values,
    ).fetchall()
    payloads = Payloads(connection)
    return [_assembled(connection, kind, id, doc, payloads) for id, doc in found]


def touching(
    connection: sqlite3.Connection,
    system: str,
    objects: Iterable[str],
    *,
    nested: bool,
    after: int,
    besides: Collection[str] = (),
) -> list[ActionView]:
    """Actions with an effect on one of the objects, oldest first."""
    found: set[tuple[int, str]] = set()
    asked: set[str] = set()
    for object in objects:
        names = {object, *ancestors(object)} if nested else {object}
        for name in names - asked:
            found.update(
                connection.execute(
                    "SELECT position, action_id FROM touched WHERE system = ? AND object = ? AND position > ?",
                    (system, name, after),
                )
            )
        asked |= names
        if nested:
            found.update(
                connection.execute(
                    "SELECT position, action_id FROM touched WHERE system = ? AND object >= ? AND object < ? "
                    "AND position > ?",
                    (system, *below(object), after),
                )
            )
    wanted = dict.fromkeys(action_id for _, action_id in sorted(found) if action_id not in besides)
    actions = [view(connection, ActionView, action_id) for action_id in wanted]
    return [action for action in actions if action is not None]


def ancestors(object: str) -> list[str]:
    """The objects above one, nearest first; `/` separates."""
    parts = object.rstrip("/").split("/")
    return ["/".join(parts[:count]) or "/" for count in range(len(parts) - 1, 0, -1)]


def below(object: str) -> tuple[str, str]:
    """First and past-the-last name that an object below this one can have."""
    stem = object.rstrip("/")
    return f"{stem}/", f"{stem}0"  # "0" is the character after "/"
