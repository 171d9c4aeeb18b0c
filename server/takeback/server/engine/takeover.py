"""A person takes a run over and returns it: meanwhile the agent only reads, and afterwards it is told what the person changed.

What the person changes needs no journal of its own: whatever is not as the run left it is somebody else's, and every rollback
treats it so. Taking over contains the run and writes down what its objects look like; returning compares, names a checkpoint
whose notes say what changed, and releases the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from pydantic import JsonValue

from takeback.journal.events import Caller, CheckpointNamed
from takeback.journal.ids import ActionId, CheckpointId, new_checkpoint_id
from takeback.journal.states import State
from takeback.journal.views import ActionView, CheckpointView, RunView
from takeback.server.engine import containment
from takeback.server.engine.answers import AnswerModel, EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.resume import present_of
from takeback.server.engine.settle import settle
from takeback.tools.system import TargetError

TAKEN: Final = "taken over"
RETURNED: Final = "returned"
IN_FLIGHT_SECONDS: Final = 30.0
"""How long a call in flight is waited for."""


class PersonsChange(AnswerModel):
    """What a person did to one object while they had the run."""

    system: str
    object: str
    shown: str
    """As people call it."""
    change: str
    """`created`, `changed` or `deleted`."""


class TakenOver(AnswerModel):
    """The answer of `take` and `return`."""

    run_id: str
    status: str
    checkpoint_id: str
    changes: list[PersonsChange] = []
    """What the person changed; only when it is returned."""
    text: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """An object as it was when the run was taken over."""

    system: str
    object: str
    state: State


class Takeover:
    """Taking over and returning: a person's acts, never offered as a tool."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def take(self, caller: Caller, run_id: str, reason: str = "") -> TakenOver:
        """Freeze a run and its children, and remember what its objects look like.

        :raises EngineError: unknown or foreign; it is contained or quarantined already; or its objects cannot be looked at.
        """
        run = await self._core.run(caller, run_id, "decide")
        if run.status in containment.HELD:
            raise EngineError(
                "contained", f"Run {run.id} is {run.status}: {run.why}.", "Release it first, or leave it as it is."
            )
        words = f"{TAKEN} by {caller.principal}" + (f": {reason}" if reason.strip() else "")
        run = await containment.contain(self._core, caller, run_id, words, "contained")
        for action in await self._core.journal.find(ActionView, run_id=run.run_id, status="intended"):
            # what is in flight is let to its end first: it is the agent's, not the person's
            await settle(self._core, ActionId(action.id), by=caller.principal, wait=IN_FLIGHT_SECONDS)
        seen = await self._seen(run)
        checkpoint_id = await self._name(
            run,
            TAKEN,
            {
                "taken_over_by": caller.principal,
                "objects": [
                    {"system": each.system, "object": each.object, "state": each.state.model_dump(mode="json")}
                    for each in seen
                ],
            },
        )
        return TakenOver(
            run_id=run.id,
            status=run.status,
            checkpoint_id=checkpoint_id,
            text=f"Run {run.id} is yours: its agent can only read until you return it with `takeback return {run.id}`.",
        )

    async def give_back(self, caller: Caller, run_id: str, note: str = "") -> TakenOver:
        """Release a run that was taken over, with a checkpoint that says what the person changed meanwhile.

        :param note: what the agent should know; it reads it in the checkpoint's notes.
        :raises EngineError: unknown or foreign, not taken over, or its objects cannot be looked at.
        """
        run = await self._core.run(caller, run_id, "decide")
        changes = await self._changes(await self._taken(run))
        told: list[JsonValue] = [f"{each.change} {each.shown}" for each in changes]
        checkpoint_id = await self._name(
            run, RETURNED, {"returned_by": caller.principal, "note": note, "changed_by_the_person": told}
        )
        run = await containment.release(self._core, caller, run_id, note or f"{RETURNED} by {caller.principal}")
        names = ", ".join(str(each) for each in told)
        return TakenOver(
            run_id=run.id,
            status=run.status,
            checkpoint_id=checkpoint_id,
            changes=changes,
            text=f"Run {run.id} is {run.status} again; its agent goes on from {checkpoint_id}. "
            + (f"While you had it you {names}." if changes else "None of its objects was changed while you had it."),
        )

    async def _taken(self, run: RunView) -> Sequence[_Seen]:
        if run.status not in containment.HELD or not run.why.startswith(TAKEN):
            raise EngineError(
                "not_taken", f"Run {run.id} is {run.status}, not taken over.", "takeback take RUN takes a run over."
            )
        for checkpoint in await self._core.journal.find(CheckpointView, run_id=run.run_id):  # the newest comes first
            if checkpoint.label == TAKEN and isinstance(checkpoint.notes, dict):
                return [_read(each) for each in cast("list[JsonValue]", checkpoint.notes.get("objects") or [])]
        return []  # whoever took it over died before the objects were looked at

    async def _changes(self, taken: Sequence[_Seen]) -> list[PersonsChange]:
        found: list[PersonsChange] = []
        for name in dict.fromkeys(each.system for each in taken):
            its = [each for each in taken if each.system == name]
            try:
                now = await self._core.systems[name].look([each.object for each in its], [each.state for each in its])
            except (KeyError, TargetError) as error:
                raise EngineError(
                    "unavailable", f"The objects of {name} cannot be looked at now.", "Try again when they can."
                ) from error
            found += [
                PersonsChange(
                    system=name,
                    object=each.object,
                    shown=self._core.display(name, each.object),
                    change=_change(each.state, state),
                )
                for each, state in zip(its, now, strict=True)
                if not state.same(each.state)
            ]
        return found

    async def _seen(self, run: RunView) -> Sequence[_Seen]:
        actions = await self._core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
        present = await present_of(self._core, actions)
        return [_Seen(system, object, state) for (system, object), state in sorted(present.items())]

    async def _name(self, run: RunView, label: str, notes: JsonValue) -> CheckpointId:
        checkpoint_id = new_checkpoint_id()
        event = CheckpointNamed(
            run_id=run.run_id, at=self._core.now(), checkpoint_id=checkpoint_id, label=label, notes=notes
        )
        await self._core.journal.append([event])
        return checkpoint_id


def _change(then: State, now: State) -> str:
    if then.absent:
        return "created"
    return "deleted" if now.absent else "changed"


def _read(told: JsonValue) -> _Seen:
    assert isinstance(told, dict)
    return _Seen(str(told["system"]), str(told["object"]), State.model_validate(told["state"]))
