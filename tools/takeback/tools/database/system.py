"""The target system of all databases: finds the database that an object belongs to, and hands the verb on to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar

from takeback.checkpoints.objects import ObjectError, ObjectStore
from takeback.journal.states import Effect, State
from takeback.tools.database import names, rows
from takeback.tools.database.port import Database
from takeback.tools.system import Clash, Drifted, Merged, Preview, Refused, Swapped, TargetError, TargetSystem

Opener = Callable[[], Database]


class NoDatabase(Refused):
    """There is no such database (any more)."""

    code = "not_found"
    advice = "Call list_databases to see which there are."


class DatabaseSystem(TargetSystem):
    """Databases by id: those that are configured, and SQLite files by the path of the file."""

    name = names.SYSTEM
    side_by_side: ClassVar[bool] = False

    def __init__(
        self,
        configured: Mapping[str, Opener],
        objects: ObjectStore,
        *,
        by_file: Callable[[str], Database] | None = None,
    ) -> None:
        """
        :param configured: what opens each configured database, by its name.
        :param by_file: opens the SQLite file that an id `files:PATH` names.
        """
        self.objects = objects
        self.configured = configured
        self._by_file = by_file
        self._open: dict[str, Database] = {}

    def database(self, id: str) -> Database:
        """The database of that id, opened if need be.

        :raises NoDatabase: there is none.
        :raises TargetError: it cannot be opened.
        """
        found = self._open.get(id)
        if found is None:
            if id in self.configured:
                found = self.configured[id]()
            elif self._by_file is not None and id.startswith("files:"):
                found = self._by_file(id)
            else:
                raise NoDatabase(f"There is no database {id!r}.")
            self._open[id] = found
        return found

    async def close(self) -> None:
        """Let go of all of them."""
        while self._open:
            await self._open.popitem()[1].close()

    # -- the port ------------------------------------------------------------------------------------------------------------

    async def look(self, objects: Sequence[str], like: Sequence[State | None] = ()) -> Sequence[State]:
        likes = list(like) or [None] * len(objects)
        by_database: dict[str, list[int]] = {}
        for index, object in enumerate(objects):
            by_database.setdefault(names.parse(object).database, []).append(index)
        found: dict[int, State] = {}
        for id, indexes in by_database.items():
            looked = await self.database(id).look([objects[i] for i in indexes], [likes[i] for i in indexes])
            found.update(zip(indexes, looked, strict=True))
        return [found[index] for index in range(len(objects))]

    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        return await self._owner(effects).swap(effects) if effects else Swapped(())

    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        return await self._owner(wanted).merge(wanted, present) if wanted else Merged(())

    async def happened(self, effects: Sequence[Effect]) -> bool | None:
        return await self._owner(effects).happened(effects) if effects else None

    async def describe(self, effect: Effect) -> Preview:
        return await self._owner([effect]).describe(effect)

    async def read(self, state: State) -> bytes | None:
        if state.kind != "row":
            return None
        try:
            row = await rows.row_of(state, self.objects)
        except ObjectError as error:
            raise Refused(f"The image of this row cannot be read: {error}", advice=error.advice) from error
        return None if row is None else rows.to_json(row)

    async def write(self, object: str, content: bytes, present: State) -> Effect:
        if names.parse(object).key is None or present.kind not in ("row", "absent"):
            raise Refused(f"{self.display(object)} is no row.", advice="Choose theirs or ours.")
        try:
            row = rows.from_json(content)
        except ValueError as error:
            raise Refused(
                f"This is no row: {error}.",
                advice='Send a JSON object of columns, such as {"id": 5, "status": "open"}.',
            ) from error
        there = await rows.row_of(present, self.objects)
        if there is not None and there.keys() != row.keys():
            raise Refused("The columns are not those of the row.", advice=f"Send all of them: {', '.join(there)}.")
        after, blobs = await rows.stored_state(row, self.objects)
        await self.objects.put_blobs(blobs)
        return Effect(system=self.name, object=object, before=present, after=after)

    def locked_as(self, object: str) -> str:
        return names.parse(object).database

    def display(self, object: str) -> str:
        """The object as people call it: `orders 5 in shop`."""
        try:
            name = names.parse(object)
        except ValueError:
            return object
        database = name.database.removeprefix("files:")
        if name.table is None:
            return f"database {database}"
        key = "" if name.key is None else f" {names.key_text(name.key)}"
        table = "counter" if name.table == names.SEQUENCE else name.table
        return f"{table}{key} in {database}"

    def resolve(self, path: str) -> str:
        """The object that somebody means.

        :raises NoDatabase: it names none of a database.
        """
        name = names.parse(path)
        if name.database in self.configured or (name.table is not None and name.database.startswith("files:")):
            return path
        raise NoDatabase(f"{path!r} names nothing in a database.")

    def _owner(self, effects: Sequence[Effect]) -> Database:
        owners = {names.parse(effect.object).database for effect in effects}
        if len(owners) > 1:
            raise Refused("One action cannot change two databases.", advice="Take them back one by one.")
        return self.database(owners.pop())

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        freed, failed = 0, list[TargetError]()
        for id in self.configured:
            try:
                freed += await self.database(id).collect(keep, older_than_ns=older_than_ns)
            except TargetError as error:  # the others are collected all the same
                failed.append(error)
        if failed:
            raise failed[0]
        return freed
