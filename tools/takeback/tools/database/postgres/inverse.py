"""The one inverse: in one transaction compare everything, put everything back, read everything back, COMMIT. Or nothing.

Blocking: runs in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from takeback.journal.states import Effect, State
from takeback.tools.database import names
from takeback.tools.database.postgres import catalog, graveyard, reading, references, sequences, writing
from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.connecting import fix
from takeback.tools.database.postgres.driver import Connection, Line
from takeback.tools.database.postgres.effects import SCHEMA, table_state
from takeback.tools.database.postgres.failures import ServerFailure
from takeback.tools.database.postgres.graveyard import Yard
from takeback.tools.database.postgres.images import Value
from takeback.tools.database.postgres.looking import Asked, Found, look
from takeback.tools.database.postgres.writing import LostRace, TableWork
from takeback.tools.database.rows import Row
from takeback.tools.system import Refused


@dataclass(frozen=True, slots=True)
class Want:
    """One effect to make true, with what its states stand for."""

    effect: Effect
    asked: Asked
    row: Row | None = None
    """For a row: as it is to be."""
    values: tuple[Value, ...] = ()
    """For the rows of an image: as they are to be."""


@dataclass(frozen=True, slots=True)
class Drift:
    """It is not as the effects say, or constraints do not allow it. Nothing was changed."""

    found: tuple[Found, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Swap:
    """The effects are in the transaction, read back; COMMIT is left."""

    found: tuple[Found, ...]
    """As read back."""
    refs: dict[str, dict[str, JsonValue]]
    """Of tables that came or went, by object: where they can be found from now on."""
    already: bool = False
    warnings: tuple[str, ...] = ()


def silent(connection: Connection) -> bool:
    """Whether the role may keep triggers and cascades from running."""
    return connection.value("SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET')") == "t"


def begin(connection: Connection, *, seconds_ms: int, quiet: bool) -> None:
    """Begin the transaction of a swap.

    :param quiet: triggers and foreign keys sleep.
    """
    connection.run("BEGIN ISOLATION LEVEL READ COMMITTED")
    fix(connection, seconds_ms=seconds_ms)
    if quiet:
        connection.run("SET LOCAL session_replication_role = replica")


def swap(connection: Connection, wants: Sequence[Want], *, quiet: bool, yard: Yard) -> Swap | Drift:
    """Make the effects true inside the open transaction.

    :raises ServerFailure: the server refused it; the transaction has to be left.
    :raises Refused: it cannot be done at all.
    """
    asks = [want.asked for want in wants]
    found = look(connection, asks, lock=True)
    if all(now.digest == want.effect.after.digest for now, want in zip(found, wants, strict=True)):
        return Swap(tuple(found), {}, already=True)
    for now, want in zip(found, wants, strict=True):
        if now.digest != want.effect.before.digest:
            return Drift(tuple(found), _drifted(want, now))
    refs: dict[str, dict[str, JsonValue]] = {}
    try:
        _return_tables(connection, wants)
        work = _work(connection, wants, found)
        # checks, generated columns and triggers may call functions by the names that the role usually finds them under
        connection.run("SET LOCAL search_path TO DEFAULT")
        warnings = _write(connection, work, quiet=quiet)
        connection.run("SET LOCAL search_path = pg_catalog, pg_temp")
        _bind_tables(connection, wants, refs)
        _leave_tables(connection, wants, found, refs, yard)
    except (LostRace, references.Dangling, graveyard.CannotWait, _Changed) as error:
        return Drift(tuple(found), f"{error}")
    except ServerFailure as error:
        if error.code[:2] == "23":
            return Drift(tuple(found), _constraint(error))
        if error.code in ("42P07", "42P06", "42710"):
            return Drift(tuple(found), "something else has the name of what would be put back")
        raise
    awake = any(now.info is not None and (now.info.loud or (now.info.noisy and not quiet)) for now in found)
    for index, (now, want) in enumerate(zip(found, wants, strict=True)):
        if want.asked.what == "sequence" and (drift := _count(connection, want, now)) is not None:
            if awake:
                counter = names.key_text(want.asked.name.key or ())
                warnings += (f"The counter {counter} stays where it is: putting back drew numbers from it.",)
                continue
            return Drift((*found[:index], drift, *found[index + 1 :]), "others draw numbers from the counter")
    after = look(connection, asks)
    wrong = [want for want, now in zip(wants, after, strict=True) if now.digest != want.effect.after.digest]
    if wrong and not awake:
        raise Refused(
            f"{', '.join(want.effect.object for want in wrong[:3])} did not read back as it was put back, so nothing was done.",
            advice="Look at the table's types, constraints and rules; then settle it by hand.",
        )
    if wrong:
        warnings += ("Triggers changed what was put back.",)
    return Swap(tuple(after), refs, warnings=warnings)


class _Changed(Exception):
    """A table is not as it was left."""


def _drifted(want: Want, now: Found) -> str:
    match want.asked.what:
        case "row":
            if now.info is None:
                return "the table is not there any more, or has another key"
            return "somebody else changed the row" if now.line is not None else "somebody else deleted the row"
        case "rows":
            if not now.comparable:
                return "the columns of the table are not what they were"
            return "somebody else changed rows of the table"
        case "sequence":
            return "somebody else used the counter"
        case "table":
            return "somebody else changed the table, or put another in its place"
        case "database" | "schema":
            return "it cannot be compared"


def _constraint(error: ServerFailure) -> str:
    kinds = {
        "23505": "the unique constraint",
        "23503": "the foreign key",
        "23514": "the check",
        "23P01": "the exclusion",
    }
    kind = kinds.get(error.code, "a constraint")
    return f"{kind} {error.constraint} of {error.table} does not allow it any more"


# -- rows ------------------------------------------------------------------------------------------------------------------


def _work(connection: Connection, wants: Sequence[Want], found: Sequence[Found]) -> list[TableWork]:
    work: dict[int, TableWork] = {}
    for want, now in zip(wants, found, strict=True):
        info = now.info
        if want.asked.what not in ("row", "rows") or info is None:
            continue
        each = work.setdefault(info.oid, TableWork(info))
        if want.asked.what == "row":
            _pair(each, now.place, now.line, _line(info, want.row))
        elif info.keyed:
            assert want.asked.image is not None
            _, places = reading.present(connection, info, want.asked.image.rows, lock=True)
            for place, is_, shall in zip(places, now.values, want.values, strict=True):
                _pair(each, place, _as_line(is_), _as_line(shall))
        else:
            _recount(connection, each, want, now)
    return list(work.values())


def _as_line(value: Value) -> Line | None:
    return value if isinstance(value, tuple) else None


def _pair(work: TableWork, place: str, is_: Line | None, shall: Line | None) -> None:
    if is_ == shall:
        return
    if is_ is None:
        assert shall is not None
        work.come.append(shall)
    elif shall is None:
        work.gone.append((place, is_))
    else:
        work.changed.append((place, is_, shall))


def _recount(connection: Connection, work: TableWork, want: Want, now: Found) -> None:
    image = want.asked.image
    assert image is not None
    located = reading.located(connection, work.info, image.rows)
    for row, places, is_, shall in zip(image.rows, located, now.values, want.values, strict=True):
        assert isinstance(is_, int) and isinstance(shall, int)
        if len(places) != is_:
            raise LostRace(work.info.shown)
        work.gone.extend((place, row) for place in places[: max(0, is_ - shall)])
        work.come.extend([row] * max(0, shall - is_))


def _line(info: TableInfo, row: Row | None) -> Line | None:
    if row is None:
        return None
    if set(row) != {column.name for column in info.stored}:
        raise _Changed("the columns of the table are not what they were")
    return tuple(None if (value := row[column.name]) is None else str(value) for column in info.stored)


def _write(connection: Connection, work: Sequence[TableWork], *, quiet: bool) -> tuple[str, ...]:
    if quiet:
        writing.replace(connection, work)
        connection.run("SET LOCAL search_path = pg_catalog, pg_temp")
        references.check(connection, work)
        return _loud(work)
    connection.run("SET LOCAL search_path = pg_catalog, pg_temp")
    ordered = references.in_order(connection, work)
    connection.run("SET LOCAL search_path TO DEFAULT")
    last: ServerFailure | None = None
    for order in writing.ORDERS:
        try:
            with graveyard.savepoint(connection, "_takeback_order"):
                writing.amend(connection, ordered, order)
            break
        except ServerFailure as error:
            if error.code[:2] != "23":
                raise
            last = last or error
    else:
        assert last is not None
        raise last
    noisy = [each.info.shown for each in work if each.info.noisy]
    return (f"Triggers and cascades of {', '.join(noisy)} ran again.",) if noisy else ()


def _loud(work: Sequence[TableWork]) -> tuple[str, ...]:
    names = [each.info.shown for each in work if each.info.loud]
    return (f"Triggers of {', '.join(names)} that are always on ran again.",) if names else ()


# -- counters --------------------------------------------------------------------------------------------------------------


def _count(connection: Connection, want: Want, now: Found) -> Found | None:
    """Set a counter; what stands there instead, if it must not be set."""
    assert now.sequence is not None
    shall = (str(want.effect.after.ref.get("value")), bool(want.effect.after.ref.get("called")))
    schema, name = catalog.unqualified(str((want.asked.name.key or ("",))[0]))
    step = sequences.direction(connection, now.oid)
    # what was set back on purpose is set back again, whatever rows there are
    back = sequences.backwards(now.sequence, shall, step) and not want.effect.after.ref.get("back")
    if back and sequences.in_use(connection, now.oid, shall, now.sequence, _held(want.effect.after)):
        return replace(now, in_use=True)
    if not sequences.set_back(connection, schema, name, now.sequence, shall):
        return replace(now, in_use=True)
    return None


def _held(state: State) -> list[int]:
    held = state.ref.get("held")
    return [each for each in held if isinstance(each, int)] if isinstance(held, list) else []


# -- tables ----------------------------------------------------------------------------------------------------------------


def _returning(wants: Sequence[Want]) -> Iterator[tuple[Want, int]]:
    # the tables that come back, with their numbers
    for want in wants:
        if want.asked.what == "table" and not want.effect.after.absent:
            yield want, int(str(want.effect.after.ref.get("oid", 0)))


def _return_tables(connection: Connection, wants: Sequence[Want]) -> None:
    for want, oid in _returning(wants):
        schema, _ = catalog.unqualified(want.asked.name.table or "")
        graveyard.exhume(connection, oid, schema)


def _bind_tables(connection: Connection, wants: Sequence[Want], refs: dict[str, dict[str, JsonValue]]) -> None:
    # after the rows: the same act may have emptied what the table refers to
    for want, oid in _returning(wants):
        state = want.effect.after
        keys = state.ref.get("keys")
        info = graveyard.bind(connection, oid, [str(each) for each in keys] if isinstance(keys, list) else [])
        if catalog.definition(connection, oid) != state.digest.removeprefix("table:"):
            raise _Changed("the table was altered while it waited")
        refs[want.effect.object] = {**state.ref, "content": graveyard.content(connection, info)}


def _leave_tables(
    connection: Connection,
    wants: Sequence[Want],
    found: Sequence[Found],
    refs: dict[str, dict[str, JsonValue]],
    yard: Yard,
) -> None:
    for want, now in zip(wants, found, strict=True):
        state = want.effect.before
        if want.asked.what != "table" or not want.effect.after.absent:
            continue
        info = now.info
        if info is None or str(state.ref.get("oid")) != str(info.oid):
            raise _Changed("another table stands in its place")
        wanted = state.ref.get("content")
        connection.run(f"LOCK TABLE {info.sql} IN ACCESS EXCLUSIVE MODE")
        if wanted and graveyard.content(connection, info) != wanted:
            raise _Changed("somebody else put rows into the table, or changed some")
        _nobody_refers(connection, info)
        turn = graveyard.bury(connection, info, yard)
        refs[want.effect.object] = {
            **state.ref,
            "grave": turn.grave,
            "keys": list(turn.keys),
            "content": turn.content,
            "schema": info.schema,
        }


def _nobody_refers(connection: Connection, info: TableInfo) -> None:
    # what DROP TABLE … RESTRICT says, without dropping
    connection.run("SAVEPOINT _takeback_verdict")
    try:
        connection.run(f"DROP TABLE {info.sql} RESTRICT")
    except ServerFailure as error:
        if error.code != "2BP01":
            raise
        raise _Changed("something else has come to depend on the table") from error
    finally:
        connection.run("ROLLBACK TO SAVEPOINT _takeback_verdict")


def with_refs(effect: Effect, state: State, refs: dict[str, dict[str, JsonValue]]) -> Effect:
    """The effect as read back, with the references under which both sides can be found from now on."""
    ref = refs.get(effect.object)
    if state.kind == "sequence" and state.digest == effect.after.digest:
        # what is known of the counter holds as well when it is moved there once more
        known = {name: value for name, value in effect.after.ref.items() if name in ("back", "held")}
        state = state.model_copy(update={"ref": {**known, **state.ref}})
    if ref is None:
        return effect.model_copy(update={"after": state})
    if effect.after.absent:
        before = effect.before.model_copy(update={"ref": ref})
        return effect.model_copy(update={"before": before, "after": state})
    whole = table_state(state.digest.removeprefix("table:"), **ref)
    return effect.model_copy(update={"after": whole})


UNDOABLE = ("row", "rows", "sequence", "table")
"""Kinds of objects that a swap can change."""
__all__ = ["SCHEMA", "UNDOABLE", "Drift", "Swap", "Want", "begin", "silent", "swap", "with_refs"]
