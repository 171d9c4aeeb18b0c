"""What was captured, as effects: states with fingerprints and images, counts and samples, and how it is taken back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from takeback.checkpoints.objects import ObjectStore
from takeback.journal.states import ABSENT, Effect, Reversibility, State
from takeback.tools.database import names, rows
from takeback.tools.database.port import Changed, Samples
from takeback.tools.database.postgres import images
from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.changes import Captured, TableChange, TableTurn
from takeback.tools.database.postgres.driver import Line

SCHEMA: Final = "@schema"
"""Stands in the place of a table for what belongs to none."""
_NUMBERS: Final = frozenset({"smallint", "integer", "bigint"})


@dataclass(slots=True)
class Told:
    """What the engine and people are told of an execution."""

    effects: list[Effect] = field(default_factory=lambda: list[Effect]())
    changed: list[Changed] = field(default_factory=lambda: list[Changed]())
    samples: Samples = field(default_factory=Samples)
    blobs: dict[str, bytes] = field(default_factory=lambda: dict[str, bytes]())
    reversibility: Reversibility = "reversible"
    reason: str = ""
    how: str = "Put the earlier rows back."


def row_of(info: TableInfo, line: Line | None) -> rows.Row | None:
    """A row with its columns' names."""
    return None if line is None else {column.name: value for column, value in zip(info.stored, line, strict=True)}


def key_of(info: TableInfo, line: Line) -> tuple[JsonValue, ...]:
    """A key as it stands in the name of an object: whole numbers as such."""
    typed = {column.name: column.type for column in info.stored}
    return tuple(
        int(value) if value is not None and typed[name] in _NUMBERS else value
        for name, value in zip(info.key, line, strict=True)
    )


def key_line(key: tuple[JsonValue, ...]) -> Line:
    """A key as PostgreSQL reads it."""
    return tuple(None if value is None else str(value) for value in key)


def sequence_state(value: tuple[str, bool], **ref: JsonValue) -> State:
    """The state of a counter."""
    digest = f"sequence:{value[0]}:{'used' if value[1] else 'next'}"
    return State(digest=digest, kind="sequence", content=digest, ref={**ref, "value": value[0], "called": value[1]})


def table_state(definition: str, **ref: JsonValue) -> State:
    """The state of a table as a whole."""
    return State(digest=f"table:{definition}", kind="table", content=f"table:{definition}", ref=ref)


async def tell(id: str, captured: Captured, xid: str, *, silent: bool, objects: ObjectStore) -> Told:
    """The effects of what was captured.

    :param id: of the database.
    :param silent: whether an undo may keep triggers and cascades silent.
    """
    told = Told()
    many = sum(change.rows for change in captured.tables) > rows.AS_OBJECTS
    for turn in captured.turns:
        told.effects.append(_turned(id, turn, xid))
        told.changed.append(Changed(table=turn.info.shown, note="dropped" if turn.dropped else "created"))
    for change in captured.tables:
        inserted, updated, deleted = change.tally()
        told.changed.append(Changed(table=change.info.shown, inserted=inserted, updated=updated, deleted=deleted))
        told.samples.pairs[change.info.shown] = _samples(change)
        if many or not change.info.keyed:
            told.effects.append(await _together(id, change, xid, objects, told.blobs))
        else:
            told.effects += await _one_by_one(id, change, xid, objects, told.blobs)
    for sequence in captured.sequences:
        held: dict[str, JsonValue] = {"held": [*sequence.held]} if sequence.held else {}
        told.effects.append(
            Effect(
                system=names.SYSTEM,
                object=names.sequence(id, sequence.shown),
                before=sequence_state(sequence.before, **held),
                after=sequence_state(sequence.after, xid=xid, back=sequence.back),
            )
        )
        told.changed.append(
            Changed(table=f"counter {sequence.shown}", note=f"went from {sequence.before[0]} to {sequence.after[0]}")
        )
    _without_images(id, captured, xid, told)
    _judge(captured, told, silent=silent)
    return told


def _without_images(id: str, captured: Captured, xid: str, told: Told) -> None:
    for info, count in captured.unkept:
        told.effects.append(
            Effect(
                system=names.SYSTEM,
                object=str(names.Name(id, info.shown)),
                before=State(digest="rows:unkept:before", kind=images.KIND),
                after=State(digest="rows:unkept:after", kind=images.KIND, ref={"xid": xid}),
            )
        )
        note = f"more than {count:,} rows changed" if count else "rows changed that could not be read"
        told.changed.append(Changed(table=info.shown, note=note))
    for info in captured.altered:
        told.effects.append(
            Effect(
                system=names.SYSTEM,
                object=str(names.Name(id, info.shown)),
                before=State(digest="table:earlier", kind="table"),
                after=State(digest="table:altered", kind="table", ref={"xid": xid}),
            )
        )
        told.changed.append(Changed(table=info.shown, note="altered"))
    if captured.lasting and not told.effects:
        told.effects.append(
            Effect(
                system=names.SYSTEM,
                object=str(names.Name(id, SCHEMA, ("change",))),
                before=State(digest="schema:before", kind="schema"),
                after=State(digest="schema:after", kind="schema", ref={"xid": xid}),
            )
        )
        told.changed.append(Changed(table="schema", note="changed"))


def _judge(captured: Captured, told: Told, *, silent: bool) -> None:
    if captured.lasting:
        told.reversibility = "irreversible"
        told.reason = f"It cannot be taken back: {'; '.join(dict.fromkeys(captured.lasting))}."
        told.how = "It cannot be taken back."
        return
    noisy = sorted(change.info.shown for change in captured.tables if change.info.noisy)
    loud = sorted(change.info.shown for change in captured.tables if change.info.loud)
    if loud or (noisy and not silent):
        told.reversibility = "compensable"
        told.reason = (
            f"The role may not keep triggers and cascades silent, so those of {', '.join(noisy)}"
            if not silent
            else f"Triggers of {', '.join(loud)} are always on, so they"
        ) + " run again when the rows are put back."
        told.how = "Put the earlier rows back; triggers and cascades run again."


async def _one_by_one(
    id: str, change: TableChange, xid: str, objects: ObjectStore, blobs: dict[str, bytes]
) -> list[Effect]:
    info = change.info
    made: list[Effect] = []
    for before, after in change.pairs:
        line = before if before is not None else after
        assert line is not None
        key = key_of(info, tuple(line[place] for place in info.places))
        was, small = await rows.stored_state(row_of(info, before), objects, shape=info.shape)
        blobs |= small
        now, small = await rows.stored_state(row_of(info, after), objects, shape=info.shape, xid=xid)
        blobs |= small
        made.append(Effect(system=names.SYSTEM, object=names.row(id, info.shown, key), before=was, after=now))
    return made


async def _together(id: str, change: TableChange, xid: str, objects: ObjectStore, blobs: dict[str, bytes]) -> Effect:
    name, small = await images.store(images.encoded(change), objects)
    blobs |= small
    keys, before, after = images.sides(change)
    info = change.info
    image = images.Image(
        name=name,
        columns=tuple(column.name for column in info.stored),
        key=info.key,
        shape=info.shape,
        rows=tuple(keys),
        before=tuple(before),
        after=tuple(after),
    )
    return Effect(
        system=names.SYSTEM,
        object=str(names.Name(id, info.shown)),
        before=image.state(before),
        after=image.state(after, xid=xid),
    )


def _turned(id: str, turn: TableTurn, xid: str) -> Effect:
    whole = table_state(
        turn.definition,
        oid=turn.info.oid,
        schema=turn.info.schema,
        grave=turn.grave,
        keys=list(turn.keys),
        content=turn.content,
        xid=xid,
    )
    nothing = ABSENT.model_copy(update={"ref": {"xid": xid}})
    before, after = (whole, nothing) if turn.dropped else (ABSENT, whole)
    return Effect(system=names.SYSTEM, object=str(names.Name(id, turn.info.shown)), before=before, after=after)


def _samples(change: TableChange) -> list[tuple[rows.Row | None, rows.Row | None]]:
    info = change.info
    pairs = [(row_of(info, before), row_of(info, after)) for before, after in change.pairs[: rows.SHOWN]]
    for count in change.counts[: rows.SHOWN - len(pairs)]:
        row = row_of(info, count.row)
        pairs.append((row, None) if count.before > count.after else (None, row))
    return pairs
