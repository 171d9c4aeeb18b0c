"""Races that were planted: each is a way of being wrong that only some schedules show."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.schedules import stories
from tests.schedules.world import Story

from takeback.journal import tables, writer
from takeback.server.engine.locks import Locks
from takeback.server.engine.rollback import Rollbacks
from takeback.tools.memory_system import MemorySystem


def _without_locks(which: str) -> Callable[[], None]:
    hold = Locks.hold

    @asynccontextmanager
    async def holding(self: Locks, exclusive: Any, shared: Any = (), **more: Any) -> AsyncGenerator[None, None]:
        if self._folder.name == which:
            yield
            return
        async with hold(self, exclusive, shared, **more):
            yield

    def plant() -> None:
        Locks.hold = holding  # type: ignore[method-assign, assignment] -- the mutant

    return plant


def _nothing_in_flight_is_waited_for() -> None:
    async def settled(self: Any, runs: Any) -> None: ...

    Rollbacks._settle_in_flight = settled  # type: ignore[method-assign] -- the mutant


def _what_came_before_the_seal_is_not_looked_at_again() -> None:
    async def renewed(self: Any, wish: Any) -> Any:
        return wish

    Rollbacks._renewed = renewed  # type: ignore[method-assign] -- the mutant


def _a_version_is_not_held_against(kind: str) -> Callable[[], None]:
    def plant() -> None:
        write = tables.write_batch

        def careless(connection: Any, entries: Any, *more: Any) -> Any:
            for entry in entries:
                for view in [view for view in entry.expect if view.kind == kind]:
                    entry.expect.pop(view)
            return write(connection, entries, *more)

        tables.write_batch = careless

    return plant


def _whoever_goes_away_takes_the_others_along() -> None:
    def tell(waiting: Any, results: Any) -> None:
        for index, (_, outcome) in enumerate(waiting):
            outcome.set_result(results[index])

    writer._tell = tell


def _what_is_there_is_overwritten_unseen() -> None:
    async def swap(self: Any, effects: Any) -> Any:
        from takeback.tools.system import Swapped

        await self.step("swap")
        for effect in effects:
            self.edit(effect.object, await self._text(effect.after))
        return Swapped(tuple(effects))

    MemorySystem.swap = swap  # type: ignore[method-assign] -- the mutant


MUTANTS: dict[str, tuple[Callable[[], None], Story]] = {
    "objects are not locked": (_without_locks("objects"), stories.calls_at_once),
    "runs are not locked": (_without_locks("runs"), stories.two_rollbacks_at_once),
    "a rollback does not wait for what is in flight": (
        _nothing_in_flight_is_waited_for,
        stories.a_rollback_while_tools_run,
    ),
    "a rollback plans on what it saw before it sealed": (
        _what_came_before_the_seal_is_not_looked_at_again,
        stories.a_rollback_while_tools_run,
    ),
    "a consent is not bound to its version": (
        _a_version_is_not_held_against("approval"),
        stories.a_consent_is_spent_once,
    ),
    "a key's version is not held against": (_a_version_is_not_held_against("key"), stories.one_key_many_callers),
    "a run's version is not held against": (_a_version_is_not_held_against("run"), stories.a_rollback_while_tools_run),
    "a cancelled caller breaks its batch": (
        _whoever_goes_away_takes_the_others_along,
        stories.one_transaction_for_many,
    ),
    "a swap does not look": (_what_is_there_is_overwritten_unseen, stories.a_person_in_between),
}
