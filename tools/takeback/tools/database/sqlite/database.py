"""A SQLite database: the verbs of the port, each one connection and one hop into a worker thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

import apsw

from takeback.checkpoints.objects import ObjectError, ObjectStore
from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.database import names, rows
from takeback.tools.database.port import Bounds, Database, Description, Execution, Rows, Statement
from takeback.tools.database.rows import Row
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.database.sqlite import describing, restoring, swapping
from takeback.tools.database.sqlite import merging as merges
from takeback.tools.database.sqlite import statements as running
from takeback.tools.database.sqlite.execution import Runner, executed
from takeback.tools.database.sqlite.guard import Guard
from takeback.tools.database.sqlite.images import RowsImage, load_bytes, store_bytes, store_rows
from takeback.tools.database.sqlite.looking import CACHED, Found, Images, Looker
from takeback.tools.database.sqlite.opening import Absent, DatabaseFile, configured_path, told
from takeback.tools.database.sqlite.refusals import target_error, tool_error
from takeback.tools.database.sqlite.statements import Clock
from takeback.tools.database.sqlite.states import whole_state
from takeback.tools.database.sqlite.swapping import Outcome, Wanted
from takeback.tools.database.sqlite.threads import in_thread
from takeback.tools.database.workspace import Workspace
from takeback.tools.system import Clash, Drifted, Merged, Preview, Refused, Swapped, TargetError

T = TypeVar("T")


class SqliteDatabase(Database):
    """One SQLite file. Nothing is held open between two calls."""

    kind: ClassVar[Literal["sqlite", "postgresql"]] = "sqlite"

    def __init__(self, id: str, file: DatabaseFile, scratch: Path, objects: ObjectStore) -> None:
        """
        :param scratch: a folder of takeback's own, for images while they are copied.
        """
        super().__init__(id, objects)
        self.file, self._scratch = file, scratch

    @classmethod
    def configured(cls, name: str, settings: DatabaseSettings, data: Path, objects: ObjectStore) -> Self:
        """A database of the configuration. That its path leads through links is its owner's choice.

        :raises Refused: its url names no file.
        """
        given = configured_path(settings.url)

        def find() -> tuple[str, os.stat_result | None]:
            path = os.path.realpath(given)
            try:
                return path, os.lstat(path)
            except FileNotFoundError:
                return path, None

        return cls(name, DatabaseFile(find, data, name), data, objects)

    @classmethod
    def in_workspace(cls, id: str, workspace: Workspace, data: Path, objects: ObjectStore) -> Self:
        """A SQLite file of the workspace."""
        return cls(id, DatabaseFile(partial(workspace.find, id), data, workspace.shown(id)), data, objects)

    # -- for the tools -------------------------------------------------------------------------------------------------------

    async def describe_all(self) -> Description:
        return await self._as_tool(partial(self._read, describing.describe_all))

    async def query(self, statement: Statement, bounds: Bounds) -> Rows:
        clock = Clock(bounds.seconds)
        return await self._as_tool(lambda: self._query(statement, bounds, clock), clock)

    def _query(self, statement: Statement, bounds: Bounds, clock: Clock) -> Rows:
        running.all_of([statement])

        def ask(connection: apsw.Connection) -> Rows:
            connection.execute("PRAGMA query_only = ON")
            clock.watch(connection)
            done = running.run(connection, Guard(reading=True), statement, bounds)
            return done.returned or Rows(columns=[], rows=[])

        return self._read(ask)

    async def execute(self, statements: Sequence[Statement], bounds: Bounds) -> Execution:
        runner = Runner(self.file, statements, bounds)
        ran = await self._as_tool(runner.go, runner.clock)
        return await executed(self.id, ran, self.objects)

    # -- the verbs of `TargetSystem` -----------------------------------------------------------------------------------------

    async def look(self, objects: Sequence[str], like: Sequence[State | None]) -> Sequence[State]:
        images = await self._images([state for state in like if state is not None])
        found = await self._as_target(lambda: self._look(objects, like, images))
        return [await self._state(each) for each in found]

    def _look(self, objects: Sequence[str], like: Sequence[State | None], images: Images) -> list[Found]:
        def look(connection: apsw.Connection) -> list[Found]:
            looker = Looker(connection, images)
            return [looker.look(object, state) for object, state in zip(objects, like, strict=True)]

        try:
            return self._read(look)
        except Absent:
            return [ABSENT for _ in objects]

    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        if any(names.parse(effect.object).table is None for effect in effects):
            return await self._swap_whole(effects)
        images = await self._images([state for effect in effects for state in (effect.before, effect.after)])
        wanted = [await self._wanted(effect) for effect in effects]
        outcome = await self._as_target(lambda: self._swap(wanted, images))
        if outcome.done:
            return Swapped(tuple(effects), already=outcome.already)
        return Drifted(tuple([await self._state(each) for each in outcome.present]), outcome.why)

    def _swap(self, wanted: Sequence[Wanted], images: Images) -> Outcome:
        connection = self.file.connect(write=True, cached=CACHED)
        try:
            return swapping.swap(connection, wanted, images)
        finally:
            connection.close(True)

    async def _swap_whole(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        [effect] = effects
        now = await self._as_target(lambda: self._read_or_absent(restoring.image))
        if now is None or not whole_state(now.digest, (), None).same(effect.before):
            present = ABSENT if now is None else whole_state(now.digest, (), None)
            if present.same(effect.after):
                return Swapped((effect,), already=True)
            return Drifted((present,), "somebody else has changed the database since")
        if not effect.after.objects:
            raise Refused("The image of this database is not kept.", advice="Restore it from a copy.")
        kept, blobs = await store_bytes(now.image, self.objects)
        await self.objects.put_blobs(blobs)
        image = await self._load(effect.after.objects)
        why = await self._as_target(
            lambda: restoring.restore(self.file, image, effect.before.digest, effect.after.digest, self._scratch)
        )
        if why is not None:
            return Drifted((whole_state(why, (), None),), "somebody else has changed the database since")
        before = whole_state(effect.before.digest, kept, len(now.image))
        return Swapped((effect.model_copy(update={"before": before}),))

    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        images = await self._images([state for effect in wanted for state in (effect.before, effect.after)])
        wishes: list[merges.Wish] = []
        for effect, now in zip(wanted, present, strict=True):
            if _is_row(effect):
                parts = [await self._row(state) for state in (effect.before, effect.after, now)]
                wishes.append(merges.Wish(effect, now, *parts))
            else:
                wishes.append(merges.Wish(effect, now))
        merged = await self._as_target(lambda: self._read(lambda connection: merges.merge(connection, wishes, images)))
        if isinstance(merged, Clash):
            return merged
        return await self._merged(wishes, merged)

    async def _merged(self, wishes: Sequence[merges.Wish], merged: merges.MergedRows) -> Merged | Clash:
        effects: list[Effect] = []
        blobs: dict[str, bytes] = {}
        for index, wish in enumerate(wishes):
            before, after = wish.present, wish.present
            if index in merged.rows:
                after, small = await rows.stored_state(merged.rows[index], self.objects)
                blobs.update(small)
            elif index in merged.states:
                after = merged.states[index]
            elif index in merged.images and merged.images[index].changeset:
                stored = await store_rows(merged.images[index], self.objects)
                blobs.update(stored.blobs)
                before = stored.state("before").model_copy(update={"digest": wish.present.digest})
                after = stored.state("after")
            if before.same(after):
                continue
            effects.append(Effect(system=names.SYSTEM, object=wish.effect.object, before=before, after=after))
        return Merged(tuple(effects), tuple(blobs.items()))

    async def happened(self, effects: Sequence[Effect]) -> bool | None:
        before = await self.look([effect.object for effect in effects], [effect.before for effect in effects])
        if all(now.same(effect.before) for now, effect in zip(before, effects, strict=True)):
            return False
        after = await self.look([effect.object for effect in effects], [effect.after for effect in effects])
        if all(now.same(effect.after) for now, effect in zip(after, effects, strict=True)):
            return True
        raise Refused(
            "Somebody has changed these rows since, so that nobody can tell whether the statement took effect.",
            advice="Look at the rows, then settle it with resolve_conflict.",
        )

    async def describe(self, effect: Effect) -> Preview:
        before, after = (
            (await self._row(effect.before), await self._row(effect.after)) if _is_row(effect) else (None, None)
        )
        return describing.preview(effect, before, after)

    # -- states --------------------------------------------------------------------------------------------------------------

    async def _state(self, found: Found) -> State:
        if isinstance(found, State):
            return found
        state, blobs = await rows.stored_state(found[0], self.objects)
        await self._keep(blobs)
        return state

    async def _keep(self, blobs: dict[str, bytes]) -> None:
        try:
            await self.objects.put_blobs(blobs)
        except ObjectError as error:
            raise Refused(f"A row cannot be kept: {error}", advice=error.advice) from error

    async def _row(self, state: State) -> Row | None:
        try:
            return await rows.row_of(state, self.objects) if state.kind in ("row", "absent") else None
        except ObjectError as error:
            raise Refused(f"The image of a row cannot be read: {error}", advice=error.advice) from error

    async def _wanted(self, effect: Effect) -> Wanted:
        if not _is_row(effect):
            return Wanted(effect)
        return Wanted(effect, await self._row(effect.before), await self._row(effect.after))

    async def _images(self, states: Sequence[State]) -> Images:
        found: dict[str, RowsImage] = {}
        for state in states:
            id = state.ref.get("image")
            if state.kind == "rows" and isinstance(id, str) and id not in found and state.objects:
                try:
                    found[id] = RowsImage.from_bytes(await self._load(state.objects))
                except ValueError as error:
                    raise Refused(
                        f"The image of rows cannot be read: {error}.", advice="Run `takeback verify`."
                    ) from error
        return found

    async def _load(self, names_of: Sequence[str]) -> bytes:
        try:
            return await load_bytes(names_of, self.objects)
        except ObjectError as error:
            raise Refused(f"An image cannot be read: {error}", advice=error.advice) from error

    # -- threads -------------------------------------------------------------------------------------------------------------

    def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Work on one state of the database, which others may go on changing meanwhile."""
        connection = self.file.connect(write=False, cached=CACHED)
        try:
            connection.execute("BEGIN")
            return work(connection)
        finally:
            connection.close(True)

    def _read_or_absent(self, work: Callable[[apsw.Connection], T]) -> T | None:
        try:
            return self._read(work)
        except Absent:
            return None

    async def _as_tool(self, work: Callable[[], T], clock: Clock | None = None) -> T:
        try:
            return await in_thread(work, clock.stop if clock is not None else _nothing)
        except apsw.Error as error:
            raise tool_error(error, preparing=False) from error
        except TargetError as error:
            raise told(error) from error

    async def _as_target(self, work: Callable[[], T]) -> T:
        try:
            return await in_thread(work, _nothing)
        except apsw.Error as error:
            raise target_error(error) from error


def _is_row(effect: Effect) -> bool:
    name = names.parse(effect.object)
    return name.key is not None and name.table != names.SEQUENCE


def _nothing() -> None:
    return None
