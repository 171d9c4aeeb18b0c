"""Acts of tools that wait in the outbox: doing them when their time has come, and what the journal then says of their action.

As long as it waits, an action's effect is that it is held, and it is taken back like a message. Once it is done (or nobody
knows whether it was), its effects are those of its tool, and it is taken back by the tool's `compensate`, as any other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, cast

import anyio
from pydantic import JsonValue, ValidationError

from takeback.journal.events import ActionSettled, BaseEvent
from takeback.journal.ids import ActionId, RunId
from takeback.journal.log import Stale, ViewKey
from takeback.journal.states import ABSENT, Effect
from takeback.journal.views import ActionView
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.outgoing import holding
from takeback.tools import adapt
from takeback.tools.adapt import MemoError
from takeback.tools.contract import AnyTool, CompensableTool, ToolError, Unknown
from takeback.tools.outbox import acts
from takeback.tools.outbox.port import SYSTEM, Carrier, Delivered, NotSent, Outgoing
from takeback.tools.outbox.rows import Row, when
from takeback.tools.outbox.system import state_of
from takeback.tools.system import Unavailable

log = logging.getLogger(__name__)

LOCK_SECONDS: Final = 30.0
"""How long a due act waits for the objects that somebody else is at work on; then it is tried again later."""
MADE_UP_FOR: Final = "nobody knew whether it took effect, and it was made up for as if it had"
ATTEMPTS: Final = 5


class ActCarrier(Carrier):
    """Does the held acts of one tool."""

    def __init__(self, core: Core, tool: AnyTool) -> None:
        self.name, self._core = acts.carrier_of(tool.name), core
        self._tool = cast("CompensableTool[Any, Any, Any]", tool)

    async def deliver(self, message: Outgoing, content: bytes) -> Delivered:
        """See the port: what the tool returns goes with it."""
        tool, core = self._tool, self._core
        action = await core.journal.get(ActionView, message.reference)
        if action is None:
            raise NotSent("the journal does not know its action", again=False)
        try:
            given, memo = acts.read(content)
            arguments = tool.arguments.model_validate_json(json.dumps(given))
            value = adapt.load_memo(tool, memo)
        except (ValueError, ValidationError, MemoError) as error:
            raise NotSent(f"{tool.name} cannot read what was held: {fault(error)}", again=False) from error
        try:
            async with core.locks.hold(action.locks, timeout=LOCK_SECONDS):
                with anyio.fail_after(tool.timeout):
                    outcome, words = await adapt.apply(tool, arguments, value)
        except LockTimeout as error:
            raise NotSent(f"somebody else is at work on it: {error}", again=True) from error
        except ToolError as error:  # the tool's word that nothing has happened
            raise NotSent(str(error), again=error.code == Unavailable.code) from error
        return Delivered(words, returned=outcome)

    async def happened(self, message: Outgoing) -> bool | None:
        """See the port: the tool looks."""
        found = await self.outcome(message.reference)
        return None if isinstance(found, Unknown) else found is not False

    async def outcome(self, action_id: str) -> JsonValue | bool | Unknown:
        """What the act returned, as the tool finds it: `False` if it did not happen, `UNKNOWN` if nobody can say.

        :raises Exception: whatever the tool raises.
        """
        action = await self._core.journal.get(ActionView, action_id)
        if action is None:
            return False
        found = await adapt.happened(self._tool, action.memo)
        if found is False or isinstance(found, Unknown):
            return found
        return adapt.dump_outcome(self._tool, found)

    async def correction(self, message: Outgoing, content: bytes, *, sent_at: str, reference: str) -> None:
        """There is none: the tool makes up for its act."""
        return


def carriers_of(core: Core) -> dict[str, Carrier]:
    """A carrier for each tool that holds its acts."""
    made = [ActCarrier(core, tool) for tool in core.tools.values() if acts.holds(tool)]
    return {carrier.name: carrier for carrier in made}


async def record(core: Core, row: Row, told: Sequence[BaseEvent]) -> None:
    """Write down where a held act stands, together with what its action amounts to since.

    :raises JournalError: it cannot be written.
    """
    for _ in range(ATTEMPTS):
        action = await core.journal.get(ActionView, row.action_id)
        settled = await _settled(core, row, action) if action is not None else None
        if settled is None or action is None:
            await core.record(told)
            return
        try:
            await core.record([settled, *told], expect={ViewKey("action", action.id): action.version})
        except Stale:
            continue
        return
    log.warning("the action of %s keeps changing; it is told at the next start", row.id)


async def _settled(core: Core, row: Row, action: ActionView) -> ActionSettled | None:
    """What the action amounts to by now, if that is not what the journal says."""
    if action.status != "applied" or not action.stands:
        return None
    waits = bool(holding(action.effects))
    effects: tuple[Effect, ...] = ()
    returned: JsonValue = None
    if row.status in ("SENT", "UNKNOWN"):
        effects = acts.done_effects(row.message) if waits else ()
        returned = await _returned(core, row) if row.status == "SENT" and action.outcome is None else None
        why = f"it was done at {when(row.changed_at)}" if row.status == "SENT" else "nobody knows whether it was done"
    else:
        if not waits:
            held = state_of(row.id, row.message, row.window, "held", {"release_at": row.release_time})
            effects = (Effect(system=SYSTEM, object=row.id, before=ABSENT, after=held),)
        why = "it was not done, and waits in the outbox again"
    if not effects and returned is None:
        return None
    return ActionSettled(
        run_id=RunId(row.run_id),
        at=core.now(),
        action_id=ActionId(row.action_id),
        outcome="applied",
        by="outbox",
        why=why,
        effects=effects,
        returned=returned,
    )


async def _returned(core: Core, row: Row) -> JsonValue:
    kept = await core.outbox.store.read(lambda rows: rows.returned(row.id))
    if kept is not None:
        return kept
    carrier = core.outbox.carriers.get(row.message.carrier)
    try:
        with anyio.fail_after(core.settings.limits.step_seconds):
            found = await carrier.outcome(row.action_id) if isinstance(carrier, ActCarrier) else False
    except Exception as error:  # third-party code: `compensate` is then told that nobody knows, and looks
        log.info("%s cannot be asked what it returned: %s", row.message.carrier, fault(error))
        return None
    return None if found is False or isinstance(found, Unknown) else found


async def left(core: Core, action_id: str) -> ActionView | None:
    """The action, if it was held and has been done meanwhile, or nobody knows: from now on its tool makes up for it."""
    rows = [row for row in await core.outbox.of_action(action_id) if acts.is_act(row.message)]
    gone = [row for row in rows if row.status in ("SENT", "UNKNOWN")]
    if not gone:
        return None
    for row in gone:
        await record(core, row, [])
    action = await core.journal.get(ActionView, action_id)
    return action if action is not None and not holding(action.effects) else None


async def catch_up(core: Core, run_id: RunId) -> None:
    """Write down of a run's acts what the sender did not come to write, before it is planned what is taken back."""
    if not core.outbox.store.file.exists():
        return
    for row in await core.outbox.rows(None, everything=True):
        if row.run_id == run_id and row.told != row.status and acts.is_act(row.message):
            await record(core, row, [])


async def made_up_for(core: Core, action_id: str) -> list[Row]:
    """An act of which nobody knew was made up for: it is not looked for any more. The rows, as they are now."""
    if not core.outbox.store.file.exists():
        return []
    closed: list[Row] = []
    for row in await core.outbox.of_action(action_id):
        if acts.is_act(row.message) and await core.outbox.move(
            row.id, "CANCELLED", only=("UNKNOWN",), detail=MADE_UP_FOR, content=None, told=""
        ):
            closed.append(replace(row, status="CANCELLED", detail=MADE_UP_FOR))
    return closed
