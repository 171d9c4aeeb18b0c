"""Removing only our change from rows that others changed too: column by column, or count by count. Pure in what it decides."""

from __future__ import annotations

from collections.abc import Sequence

from takeback.checkpoints.objects import ObjectStore
from takeback.journal.states import Effect, State
from takeback.tools.database import rows
from takeback.tools.database.postgres import images
from takeback.tools.database.postgres.driver import Line
from takeback.tools.database.postgres.images import Image, Value
from takeback.tools.system import Clash, Merged


async def merge(wanted: Sequence[Effect], present: Sequence[State], objects: ObjectStore) -> Merged | Clash:
    """See `TargetSystem.merge`."""
    effects: list[Effect] = []
    blobs: dict[str, bytes] = {}
    notes: list[str] = []
    for want, now in zip(wanted, present, strict=True):
        if now.same(want.after):
            continue
        if now.same(want.before):
            effects.append(want)
            continue
        match want.before.kind if not want.before.absent else want.after.kind:
            case "row":
                merged = await _row(want, now, objects, blobs)
            case images.KIND:
                merged = await _rows(want, now, objects, blobs)
            case "sequence":
                notes.append("a counter that was moved since stays where it is")
                continue
            case _:
                merged = Clash("somebody else changed the table, or put another in its place")
        if isinstance(merged, Clash):
            return merged
        if not merged.same(now):
            effects.append(want.model_copy(update={"before": now, "after": merged}))
    return Merged(tuple(effects), tuple(blobs.items()), "; ".join(notes))


async def _row(want: Effect, now: State, objects: ObjectStore, blobs: dict[str, bytes]) -> State | Clash:
    if now.kind not in ("row", "absent"):
        return Clash("something else stands in its place")
    base, goal, there = [await rows.row_of(state, objects) for state in (want.before, want.after, now)]
    merged = rows.merge(base, goal, there)
    if isinstance(merged, Clash):
        return merged
    shape = now.ref.get("shape")
    state, small = await rows.stored_state(merged, objects, **({"shape": shape} if shape is not None else {}))
    blobs |= small
    return state


async def _rows(want: Effect, now: State, objects: ObjectStore, blobs: dict[str, bytes]) -> State | Clash:
    image = await images.load(want.before, objects)
    if image is None or now.ref.get("image") != image.name:
        return Clash("the columns of the table are not what they were, or its rows cannot be compared")
    base, goal, there = [await images.values_of(state, image, objects) for state in (want.before, want.after, now)]
    values: list[Value] = []
    for place, (one, other, third) in enumerate(zip(base, goal, there, strict=True)):
        merged = _value(image, one, other, third)
        if isinstance(merged, Clash):
            return Clash(f"{merged.why} ({_named(image, image.rows[place])})")
        values.append(merged)
    state = image.state(values)
    if state.ref["side"]:
        return state
    name, small = await images.store(images.encoded_values(values), objects)
    blobs |= small
    return image.state(values, own=name)


def _value(image: Image, base: Value, goal: Value, there: Value) -> Value | Clash:
    if isinstance(base, int) and isinstance(goal, int) and isinstance(there, int):
        count = there + goal - base
        return count if count >= 0 else Clash("somebody else removed a row that was put in")
    merged = rows.merge(_dict(image, base), _dict(image, goal), _dict(image, there))
    if merged is None or isinstance(merged, Clash):
        return merged
    return tuple(None if (value := merged[column]) is None else str(value) for column in image.columns)


def _dict(image: Image, value: Value) -> rows.Row | None:
    return dict(zip(image.columns, value, strict=True)) if isinstance(value, tuple) else None


def _named(image: Image, row: Line) -> str:
    if not image.key:
        return "a table without a key"
    return ", ".join(f"{name} {rows.text_of(value)}" for name, value in zip(image.key, row, strict=True))
