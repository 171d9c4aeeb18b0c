"""What is left of an event whose payload was erased: its bones, without anything that somebody said or did.

The bones (ids, kinds, outcomes) are kept by the `erased` event, under the chain like everything else, so that a rebuild
comes to the same views as the erasure did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from takeback.journal.chain import Row, decode, encode, recorded
from takeback.journal.events import BaseEvent, Erased, Recorded
from takeback.journal.ids import RunId
from takeback.journal.log import JournalError

_BLANKS: Final[dict[str, object]] = {
    "goal": "",
    "steps": (),
    "step": None,
    "summary": "",
    "reason": "",
    "why": "",
    "message": "",
    "advice": "",
    "detail": "",
    "label": "",
    "question": "",
    "next_step": "",
    "about": "",
    "requested": {},
    "unseen": "",
    "targets": (),
    "how": "",
    "evidence": {},
    "answer": {},
    "argument_digest": "",
    "target_digest": "",
    "effects": (),
    "locks": (),
    "memo": None,
    "outcome": None,
    "output": None,
    "notes": None,
    "plan": None,
    "warnings": (),
    "checks": (),
    "digest": None,
    "compensation": None,
    "system": "",
    "object": "",
    "base": None,
    "ours": None,
    "theirs": None,
    "message_id": "",
}
"""What takes the place of each field that can hold somebody's words or data. Idempotency keys stay: without them a repeated
call would act twice."""

_KEPT: Final = frozenset(
    {
        ("run.finished", "outcome"),
        ("action.settled", "outcome"),
        ("rollback.step", "outcome"),
        ("trigger.fired", "answer"),
    }
)
"""Type and field where the name stands for one of a few words of ours, without which no view could be told."""


def bones(event: BaseEvent) -> BaseEvent:
    """The same event without its content."""
    type = str(getattr(event, "type"))  # noqa: B009  # declared by each member, not by their base class
    fields = event.__class__.model_fields
    update: dict[str, object] = {}
    for name, blank in _BLANKS.items():
        if name not in fields or (type, name) in _KEPT:
            continue
        update[name] = blank
    if type == "action.intended":
        # the promise itself goes with the details; how well it could be taken back remains as `reversibility`
        update["compensation"] = _no_promise(event)
    if type == "checkpoint.named":
        update["next_step"] = None
    return event.model_copy(update=update)


def _no_promise(event: BaseEvent) -> object:
    compensation = getattr(event, "compensation")  # noqa: B009  # only asked of intents
    return compensation.model_copy(update={"how": ""})


def remains_of(event: BaseEvent) -> JsonValue:
    """The bones, as they are journaled."""
    return encode(bones(event)).decode()


Remains = Mapping[int, JsonValue]
"""Bones by position."""


def remains(erasures: Iterable[BaseEvent | None]) -> dict[int, JsonValue]:
    """All bones that the given `erased` events keep."""
    found: dict[int, JsonValue] = {}
    for event in erasures:
        if isinstance(event, Erased):
            found.update({int(position): left for position, left in event.remains.items()})
    return found


def foldable(row: Row, remains: Remains) -> Recorded:
    """The event of a row for the fold: itself, or its bones."""
    if row.payload is not None:
        return row.recorded()
    left = remains.get(row.position)
    return recorded(row, decode(row.type, left.encode()) if isinstance(left, str) else None)


def erasures_of(rows: Sequence[Row | None], positions: Sequence[int], by: str, why: str, at: datetime) -> list[Erased]:
    """The events that record an erasure, one per run. What is erased already is passed over.

    :raises JournalError: there is no event at one of the positions, or it is itself the record of an erasure.
    """
    runs: dict[RunId, dict[str, JsonValue]] = {}
    for position, row in zip(positions, rows, strict=True):
        if row is None:
            raise JournalError(f"there is no event at position {position}")
        if row.type == "erased":
            raise JournalError(f"the event at position {position} records an erasure; it holds nothing to erase")
        if row.payload is not None:
            runs.setdefault(row.run_id, {})[str(position)] = remains_of(decode(row.type, row.payload))
    return [
        Erased(run_id=run_id, at=at, positions=tuple(int(p) for p in left), by=by, why=why, remains=left)
        for run_id, left in runs.items()
    ]
