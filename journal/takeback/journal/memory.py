"""The journal in memory: gone with its process, otherwise the same promises, the same fold and the same chain.

For tests, for shadow runs that nobody wants to keep, and as the shortest statement of what a journal does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar, cast

from takeback.journal.chain import Draft, Row, draft, link, recorded
from takeback.journal.erasure import Remains, erasures_of, foldable, remains
from takeback.journal.events import BaseEvent, Recorded
from takeback.journal.ids import RunId
from takeback.journal.keys import KeyRing, new_key
from takeback.journal.log import Journal, JournalError, Problem, Stale, Verification, ViewKey
from takeback.journal.projections import NAMES, Folded, PlanPart, StepPart, fold, status_of, touches, whole
from takeback.journal.verification import Checker
from takeback.journal.views import VIEWS, ActionView, AnyView, RollbackView

V = TypeVar("V", bound=AnyView)


class _Projections:
    """The views, and what finds actions by their objects."""

    def __init__(self) -> None:
        self.views: dict[tuple[str, str], Folded] = {}
        self.first: dict[tuple[str, str], int] = {}
        self.steps: dict[str, dict[str, StepPart]] = {}
        self.touched: set[tuple[str, str, int, str]] = set()

    def get(self, kind: str, id: str) -> Folded | None:
        return self.views.get((kind, id))

    def fold(self, event: Recorded) -> None:
        touched, action_id = touches(event), str(getattr(event.event, "action_id", ""))
        intent = self.get("action", action_id)
        if isinstance(intent, ActionView) and intent.status == "intended":
            said = {(effect.system, effect.object) for effect in intent.effects}
            touched = [place for place in touched if place not in said]
        for kind, id, view in fold(event, self.get):
            self.views[kind, id] = view
            self.first.setdefault((kind, id), event.position)
            if isinstance(view, StepPart):
                self.steps.setdefault(view.rollback_id, {})[id] = view
        for system, object in touched:
            action = self.get("action", action_id)
            if isinstance(action, ActionView):
                self.touched.add((system, object, action.position, action_id))

    def same(self, other: _Projections) -> bool:
        return (self.views, self.first, self.touched) == (other.views, other.first, other.touched)


class MemoryJournal(Journal):
    """See the module's docstring."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        """The events, by position."""
        self.transactions = 0
        """How often something was written."""
        self._ring = KeyRing.of(new_key())
        self._heads: dict[str, tuple[int, bytes]] = {}
        self._blobs: dict[str, bytes] = {}
        self._now = _Projections()
        self._closed = False

    # -- writing ----------------------------------------------------------------------------------------------------

    async def append(
        self,
        events: Sequence[BaseEvent],
        *,
        blobs: Mapping[str, bytes] | None = None,
        expect: Mapping[ViewKey, int] | None = None,
    ) -> Sequence[Recorded]:
        self._check_open()
        drafts = [draft(event) for event in events]
        for (kind, id), expected in (expect or {}).items():
            view = self._now.get(kind, id)
            found = 0 if view is None else view.version
            if found != expected:
                raise Stale(kind, id, expected, found)
        written = self._write(drafts)
        for name, data in (blobs or {}).items():
            self._blobs.setdefault(name, bytes(data))
        return written

    def _write(self, drafts: Sequence[Draft]) -> list[Recorded]:
        # nothing is awaited here, so a reader sees all of it or nothing
        key, written = self._ring.current, list[Recorded]()
        for each in drafts:
            run_id = each.event.run_id
            seq, previous = self._heads.get(run_id, (0, b""))
            position = len(self.rows) + 1
            row = link(each, position=position, seq=seq + 1, previous=previous, key_id=key.id, key=key.secret)
            self.rows.append(row)
            self._heads[run_id] = (row.seq, row.mac)
            self._now.fold(row.recorded())  # as it will be read, not as it was handed over
            written.append(recorded(row, each.event))
        self.transactions += 1
        for listener in self.listeners:
            listener(written)
        return written

    def rotate_key(self) -> str:
        """From here on chain new events with a fresh key; its id. Old events stay verifiable."""
        return self._ring.rotate()

    async def erase(self, positions: Sequence[int], *, by: str, why: str, at: datetime) -> None:
        self._check_open()
        wanted = sorted(set(positions))
        found = [self.rows[p - 1] if 0 < p <= len(self.rows) else None for p in wanted]
        erasures = erasures_of(found, wanted, by, why, at)
        self._write([draft(event) for event in erasures])
        for event in erasures:
            for position in event.positions:
                row = self.rows[position - 1]
                self.rows[position - 1] = Row(
                    position=row.position,
                    run_id=row.run_id,
                    seq=row.seq,
                    type=row.type,
                    at=row.at,
                    action_id=row.action_id,
                    payload=None,
                    salt=None,
                    payload_digest=row.payload_digest,
                    mac=row.mac,
                    key_id=row.key_id,
                )
        self._now = self._folded()

    # -- reading ----------------------------------------------------------------------------------------------------

    async def read(self, run_id: RunId | None = None, *, after: int = 0, limit: int = 1000) -> Sequence[Recorded]:
        self._check_open()
        rows = (row for row in self.rows[max(after, 0) :] if run_id is None or row.run_id == run_id)
        return [row.recorded() for row, _ in zip(rows, range(limit), strict=False)]

    async def chain_rows(self, run_id: RunId, *, after: int = 0, limit: int = 1000) -> Sequence[Row]:
        """The events of one run as they lie in the chain, with what it takes to verify them elsewhere."""
        self._check_open()
        rows = (row for row in self.rows[max(after, 0) :] if row.run_id == run_id)
        return [row for row, _ in zip(rows, range(limit), strict=False)]

    async def get(self, kind: type[V], id: str) -> V | None:
        self._check_open()
        view = self._now.get(NAMES[kind], id)
        return None if view is None else self._whole(cast("V", view))

    def _whole(self, view: V) -> V:
        if not isinstance(view, RollbackView):
            return view
        plan = self._now.get("plan", view.id)
        steps = self._now.steps.get(view.id, {})
        assert plan is None or isinstance(plan, PlanPart)
        return cast("V", whole(view, plan, [steps[id] for id in sorted(steps)]))

    async def find(
        self,
        kind: type[V],
        *,
        run_id: RunId | None = None,
        status: str | Sequence[str] | None = None,
        before: int | None = None,
        after: int | None = None,
        limit: int | None = None,
        oldest_first: bool = False,
    ) -> Sequence[V]:
        self._check_open()
        statuses = [status] if isinstance(status, str) else status
        name = NAMES[kind]
        found = [
            (self._now.first[key], view)
            for key, view in self._now.views.items()
            if key[0] == name
            and (run_id is None or view.run_id == run_id)
            and (statuses is None or status_of(view) in statuses)
            and (before is None or self._now.first[key] < before)
            and (after is None or self._now.first[key] > after)
        ]
        found.sort(key=lambda each: each[0], reverse=not oldest_first)
        return [self._whole(cast("V", view)) for _, view in found[:limit]]

    async def touching(
        self,
        system: str,
        objects: Iterable[str],
        *,
        nested: bool = False,
        after: int = 0,
        besides: Collection[str] = (),
    ) -> Sequence[ActionView]:
        self._check_open()
        asked = list(objects)
        found = {
            (position, action_id)
            for owner, object, position, action_id in self._now.touched
            if owner == system
            and position > after
            and action_id not in besides
            and any(_concerns(object, name, nested) for name in asked)
        }
        actions = [self._now.get("action", id) for id in dict.fromkeys(action_id for _, action_id in sorted(found))]
        return [action for action in actions if isinstance(action, ActionView)]

    async def position(self) -> int:
        self._check_open()
        return len(self.rows)

    async def heads(self, run_ids: Sequence[RunId] | None = None) -> Mapping[RunId, tuple[int, str]]:
        self._check_open()
        asked = sorted(self._heads) if run_ids is None else run_ids
        found = {RunId(run_id): self._heads[run_id] for run_id in asked if run_id in self._heads}
        return {run_id: (seq, mac.hex()) for run_id, (seq, mac) in found.items()}

    # -- small objects ----------------------------------------------------------------------------------------------

    async def blob(self, name: str) -> bytes | None:
        self._check_open()
        return self._blobs.get(name)

    async def blob_names(self) -> AsyncIterator[tuple[str, int]]:
        self._check_open()
        for name in sorted(self._blobs):
            if name in self._blobs:
                yield name, len(self._blobs[name])

    async def drop_blobs(self, names: Sequence[str]) -> int:
        self._check_open()
        return sum(len(self._blobs.pop(name, b"")) for name in names)

    # -- care -------------------------------------------------------------------------------------------------------

    async def verify(self) -> Verification:
        self._check_open()
        checker = Checker(self._ring, [], self._remains())
        for row in self.rows:
            checker.check(row)
        try:
            sound = self._folded().same(self._now)
        except ValueError as error:  # an event that cannot be read is reported as changed
            checker.add(Problem("projection", None, None, f"the views cannot be folded ({type(error).__name__})"))
        else:
            if not sound:
                checker.add(Problem("projection", None, None, "the views are not what the events say"))
        return checker.finish(newest_view=max((view.version for view in self._now.views.values()), default=0))

    def _remains(self) -> Remains:
        return remains(row.recorded().event for row in self.rows if row.type == "erased")

    def _folded(self) -> _Projections:
        anew, left = _Projections(), self._remains()
        for row in self.rows:
            anew.fold(foldable(row, left))
        return anew

    async def rebuild(self) -> int:
        self._check_open()
        self._now = self._folded()
        return sum(1 for kind, _ in self._now.views if kind in VIEWS)

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed")


def _concerns(object: str, asked: str, nested: bool) -> bool:
    if object == asked:
        return True
    return nested and (object.startswith(asked.rstrip("/") + "/") or asked.startswith(object.rstrip("/") + "/"))
