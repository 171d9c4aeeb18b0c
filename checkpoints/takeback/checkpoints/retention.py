"""The collector: marks what the journal needs, then takes what is left and old. And the check that nothing needed is missing.

Why a crash, or somebody at work meanwhile, costs no undo:

- Marking reads the journal's position first, then the views; before each batch of deletions the events since then are read
  too, and whatever they name is kept.
- An object that has been put, but is not in an intent yet, is younger than the grace period; putting it again makes it
  young again. Age is measured from the moment marking began, by the clock of the disk that holds the objects.
- Each deletion stands alone and only ever removes what is not needed: a crash leaves garbage for the next time.
- One collector at a time, held apart by an OS lock.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol, TypeVar

from takeback.checkpoints.needed import background_of, states_of, why_action, why_rollback
from takeback.checkpoints.objects import ObjectCorrupt, ObjectError, ObjectMissing, ObjectStore
from takeback.checkpoints.oslock import held
from takeback.checkpoints.store import FileObjectStore
from takeback.journal.events import Recorded
from takeback.journal.ids import RunId
from takeback.journal.log import Journal
from takeback.journal.states import Effect, State
from takeback.journal.views import ActionView, CheckpointView, CollectedCall, OpenItem, RollbackView, RunView

Progress = Callable[[float, float | None, str], Awaitable[None]]
"""Told how far it is: done, total, words."""

GRACE_SECONDS: Final = 3600.0
"""How long an object may wait between being put and being named by an intent."""
_NAME: Final = re.compile(r"blake3:[0-9a-f]{64}")
_EVENTS: Final = 1000
_VIEWS: Final = 100
"""So many are looked at together: a view is up to a hundred times as large in memory as it is in the journal."""
_BATCH: Final = 200

P = TypeVar("P", ActionView, RollbackView, CheckpointView)


class CollectorBusy(ObjectError):
    """Another collector is at work on this store."""

    advice = "Wait until it has finished."


class Trash(Protocol):
    """A target system, as far as the collector knows it."""

    name: str

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        """Destroy what is kept for states outside `keep` if it is older than this many nanoseconds; bytes freed."""
        ...


class Live(NamedTuple):
    """What the journal needs."""

    names: dict[str, str]
    """Names of objects, and the id of (one of) what needs them."""
    states: list[State]
    """States that must stay restorable, for the target systems' own trash."""
    position: int
    """The journal was read at least up to here."""
    marked: dict[str, int]
    """Version of each view that has been marked, by its id."""
    whole: set[RunId]
    """Runs of which everything has been marked that was there by then."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did; in a dry run: would do."""

    objects: int = 0
    bytes: int = 0
    trash_bytes: int = 0
    """Freed by the target systems. Not known in a dry run."""
    temporary: int = 0
    """Files left by writers that died."""
    kept: int = 0
    """Objects that stay: needed, or too young to tell."""
    problems: tuple[str, ...] = ()
    """What could not be done; the next collection tries again."""


async def live_states(journal: Journal, *, now: datetime, keep_days: float) -> Live:
    """Mark: which objects and states are needed (`needed.py` has the rules).

    :param now: with a time zone.
    """
    position = await journal.position()
    runs = await journal.find(RunView)
    items = await journal.find(OpenItem, status="open")
    rollbacks = [rollback async for rollback in _all(journal, RollbackView)]
    background = background_of(
        runs=runs,
        checkpoints=[checkpoint async for checkpoint in _all(journal, CheckpointView) if checkpoint.pinned],
        rollbacks=rollbacks,
        open_items=items,
        now=now,
        keep_days=keep_days,
    )
    kept = {RunId(run.id) for run in runs if background.run_reason(RunId(run.id)) is not None}
    live = Live({}, [], position, {}, kept)
    async for action in _all(journal, ActionView):
        if why_action(action, background) is not None:
            _mark(live, action)
    for rollback in rollbacks:
        if why_rollback(rollback, background) is not None:
            _mark(live, rollback)
    for item in items:
        _mark(live, item)
    for call in await journal.find(CollectedCall, status=("collected", "begun")):
        if call.run_id in kept:
            _mark_text(live, call.model_dump_json(), call.id)  # its arguments, for when it is carried out
    return live


async def collect(
    journal: Journal,
    store: FileObjectStore,
    systems: Sequence[Trash] = (),
    *,
    now: datetime,
    keep_days: float,
    dry_run: bool = False,
    progress: Progress | None = None,
    grace_seconds: float = GRACE_SECONDS,
) -> Collected:
    """Destroy what nobody needs any more. May be stopped at any moment.

    :raises CollectorBusy: another one is at work.
    """
    with held(os.fspath(store.folder / "collect.lock"), wait=False) as alone:
        if not alone:
            raise CollectorBusy("another collection is at work on this data directory")
        grace_ns = int(grace_seconds * 1_000_000_000)
        before_ns = store.files.clock_ns() - grace_ns
        sweep = _Sweep(journal, store, dry_run, progress or _silent, before_ns)
        sweep.live = await live_states(journal, now=now, keep_days=keep_days)
        if not dry_run:
            await sweep.trash(systems, grace_ns)
        await sweep.files()
        await sweep.small()
        sweep.temporary()
        return Collected(**sweep.counts, problems=tuple(sweep.problems))


@dataclass(slots=True)
class _Sweep:
    """One collection at work."""

    journal: Journal
    store: FileObjectStore
    dry_run: bool
    progress: Progress
    before_ns: int
    live: Live = field(default_factory=lambda: Live({}, [], 0, {}, set()))
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("objects", "bytes", "trash_bytes", "temporary", "kept"), 0)
    )
    problems: list[str] = field(default_factory=lambda: list[str]())

    async def catch_up(self) -> Mapping[str, str]:
        """Keep also what was written to the journal since marking; all that is needed up to now."""
        runs: set[RunId] = set()
        actions: set[str] = set()
        rollbacks: set[str] = set()
        while events := await self.journal.read(after=self.live.position, limit=_EVENTS):
            for recorded in events:
                _mark_event(self.live, recorded)
                # a run in which something happens is live now, whatever it was when marking began
                runs.add(recorded.run_id)
                actions.add(str(getattr(recorded.event, "action_id", None) or ""))
                rollbacks.add(str(getattr(recorded.event, "rollback_id", None) or ""))
            self.live = self.live._replace(position=events[-1].position)
        for run_id in runs - self.live.whole:
            async for action in _all(self.journal, ActionView, run_id):
                _mark(self.live, action)
            async for rollback in _all(self.journal, RollbackView, run_id):
                _mark(self.live, rollback)
            self.live.whole.add(run_id)
        # of the others all has been marked but what has happened since
        for action_id in actions - {""}:
            _mark(self.live, await self.journal.get(ActionView, action_id))
        for rollback_id in rollbacks - {""}:
            _mark(self.live, await self.journal.get(RollbackView, rollback_id))
        return self.live.names

    async def trash(self, systems: Sequence[Trash], grace_ns: int) -> None:
        for system in systems:
            await self.progress(0, None, f"collecting the trash of {system.name}")
            await self.catch_up()
            try:
                self.counts["trash_bytes"] += await system.collect(self.live.states, older_than_ns=grace_ns)
            except Exception as error:  # a system that is out of reach must not keep the others from being swept
                self.problems.append(f"The trash of {system.name} could not be collected: {error}")

    async def files(self) -> None:
        doomed: list[tuple[str, int]] = []
        for found in self.store.files.scan():
            name = f"blake3:{found.digest}"
            if name in self.live.names or found.written_ns >= self.before_ns:
                self.counts["kept"] += 1
            else:
                doomed.append((name, found.stored_bytes))
        for start in range(0, len(doomed), _BATCH):
            await self.progress(start, len(doomed), "collecting stored files")
            batch = doomed[start : start + _BATCH]
            if self.dry_run:
                self._count(len(batch), sum(size for _, size in batch))
                continue
            needed = await self.catch_up()
            names = [name for name, _ in batch if name not in needed]
            try:
                gone, freed = await self.store.sweep_files(names, written_before_ns=self.before_ns)
            except OSError as error:
                self.problems.append(f"Some stored files could not be removed ({error.strerror}).")
                continue
            self._count(gone, freed)
            self.counts["kept"] += len(batch) - gone

    async def small(self) -> None:
        doomed: list[tuple[str, int]] = []
        async for name, size in self.journal.blob_names():
            if not _NAME.fullmatch(name):
                continue
            if name in self.live.names:
                self.counts["kept"] += 1
            else:
                doomed.append((name, size))
        for start in range(0, len(doomed), _BATCH):
            await self.progress(start, len(doomed), "collecting small objects")
            batch = doomed[start : start + _BATCH]
            if self.dry_run:
                self._count(len(batch), sum(size for _, size in batch))
                continue
            needed = await self.catch_up()
            try:
                gone, freed = await self.store.sweep_small(
                    [name for name, _ in batch if name not in needed], self.catch_up
                )
            except ObjectError as error:
                self.problems.append(f"Some small objects could not be removed: {error}.")
                continue
            self._count(gone, freed)
            self.counts["kept"] += len(batch) - gone

    def temporary(self) -> None:
        for found in list(self.store.files.temporary()):
            if found.written_ns < self.before_ns:
                if not self.dry_run:
                    self.store.files.remove_temporary(found.digest)
                self.counts["temporary"] += 1
                self.counts["bytes"] += found.stored_bytes

    def _count(self, objects: int, size: int) -> None:
        self.counts["objects"] += objects
        self.counts["bytes"] += size


# -- questions -----------------------------------------------------------------------------------------------------


async def missing(effect: Effect, store: ObjectStore, *, side: Literal["before", "after"] = "before") -> list[str]:
    """Which stored objects are gone that would be needed to put the effect's `before` back (or `after`, for a redo)."""
    state = effect.before if side == "before" else effect.after
    return [name for name in state.objects if not await store.has(name)]


async def available(effect: Effect, store: ObjectStore, *, side: Literal["before", "after"] = "before") -> bool:
    """Whether the store still has all it takes to put the effect's `before` back (or `after`, for a redo).

    Ask before a plan is shown, and again once the run is sealed: from then on the collector keeps what the run needs.
    """
    return not await missing(effect, store, side=side)


@dataclass(frozen=True, slots=True)
class ObjectProblem:
    """One thing that is wrong with the stored objects."""

    kind: Literal["missing", "corrupt"]
    name: str
    needed_by: str
    """Id of (one of) what needs the object; empty if nothing does."""
    detail: str


async def verify_objects(
    journal: Journal,
    store: ObjectStore,
    progress: Progress | None = None,
    *,
    now: datetime,
    keep_days: float,
) -> list[ObjectProblem]:
    """Reread every stored object and check that each one that is needed exists. Changes nothing."""
    report = progress or _silent
    live = await live_states(journal, now=now, keep_days=keep_days)
    problems: dict[str, ObjectProblem] = {}
    seen: set[str] = set()
    done = 0
    async for name, _ in store.names():
        done += 1
        if name in seen:
            continue
        if done % _BATCH == 0:
            await report(done, None, "rereading stored objects")
        seen.add(name)
        try:
            await store.get(name)
        except ObjectMissing:
            continue  # collected since it was listed; if it is needed, it is found missing below
        except ObjectCorrupt as error:
            problems[name] = ObjectProblem("corrupt", name, live.names.get(name, ""), str(error))
    for state in live.states:
        for name in state.objects:
            if name not in problems and not await store.has(name):
                problems[name] = ObjectProblem("missing", name, live.names.get(name, ""), "the object is not there")
    return list(problems.values())


# -- marking -------------------------------------------------------------------------------------------------------


async def _all(journal: Journal, kind: type[P], run_id: RunId | None = None) -> AsyncIterator[P]:
    after = 0
    while page := await journal.find(kind, run_id=run_id, after=after, limit=_VIEWS, oldest_first=True):
        for view in page:
            yield view
        after = page[-1].position


def _mark(live: Live, view: ActionView | RollbackView | OpenItem | None) -> None:
    """Keep the view's states, and every object that is named anywhere in it (a memo, an outcome, a plan)."""
    if view is None or live.marked.get(view.id) == view.version:
        return
    live.marked[view.id] = view.version
    live.states.extend(states_of(view))
    _mark_text(live, view.model_dump_json(), view.id)


def _mark_event(live: Live, recorded: Recorded) -> None:
    if recorded.event is not None:
        _mark_text(live, recorded.event.model_dump_json(), str(recorded.run_id))


def _mark_text(live: Live, text: str, needed_by: str) -> None:
    names: Iterable[str] = _NAME.findall(text)
    for name in names:
        live.names.setdefault(name, needed_by)


async def _silent(done: float, total: float | None, words: str) -> None:
    """Tell nobody."""
