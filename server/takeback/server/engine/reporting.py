"""Gathering what a report about a run is made of, and fetching the results that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from takeback.checkpoints.checkpoint import included
from takeback.checkpoints.objects import ObjectError
from takeback.journal.events import Caller, RunForked
from takeback.journal.ids import RunId
from takeback.journal.log import JournalError
from takeback.journal.states import Effect, State
from takeback.journal.views import ActionView, ApprovalView, CheckpointView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import Download, EngineError, FailureReport
from takeback.server.engine.calling import FEW, MOST, Names, effects_of, known_by, near
from takeback.server.engine.core import Core
from takeback.server.engine.held_acts import MADE_UP_FOR
from takeback.server.engine.report import Around, failure_report
from takeback.server.engine.steps import Progress, progress_of
from takeback.server.engine.whereabouts import messages_of, sentences
from takeback.server.engine.wording import full_stop, listed, name, sentence
from takeback.tools.outbox.parting import rest_of
from takeback.tools.outbox.rows import Row, when
from takeback.tools.system import TargetError

MOST_DOWNLOADS: Final = 20
SIDES: Final = ("before", "after")
_WITH_CONTENT: Final = frozenset({"file", "event", "message", "text"})


async def report_run(
    core: Core, run: RunView, *, whole: bool = True, opened: bool = True, titled: bool = True
) -> FailureReport:
    """What became of a run.

    :param whole: with the text, the timeline and the results that can be fetched; without, only where the run stands.
    :param opened: with what waits for a person.
    :param titled: events and messages by their titles, and not by their ids.
    """
    actions = await core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
    items = await core.journal.find(OpenItem, run_id=run.run_id, status="open", oldest_first=True) if opened else ()
    approvals = await core.journal.find(ApprovalView, run_id=run.run_id, status="requested", oldest_first=True)
    effects = [*await effects_of(core, items), *(effect for action in actions for effect in action.effects)]
    names = await known_by(core, effects if titled else (), most=MOST if whole else FEW)
    around = Around(
        checkpoints=await named_checkpoints(core, run),
        rollbacks=await core.journal.find(RollbackView, run_id=run.run_id, oldest_first=True) if whole else (),
        approvals=[approval for approval in approvals if approval.expires_at > core.now()],
        inherited=await inherited(core, run),
        downloads=await downloads(core, actions, names) if whole else (),
        since=await since(core, run),
        titles=titles(core),
        mail=sentences(await messages_of(core, run.run_id, actions)),
        messages=await _messages(core, run) if whole else (),
        display=names,
    )
    report = failure_report(run, actions, items, core.now(), around)
    return report if whole else report.short()


def titles(core: Core) -> dict[str, str]:
    """What tools are called, by name."""
    return {name: tool.title for name, tool in core.tools.items()}


async def _messages(core: Core, run: RunView) -> list[str]:
    if not core.outbox.store.file.exists():
        return []
    try:
        rows = [row for row in await core.outbox.rows(None, everything=True) if row.run_id == run.id]
    except TargetError:
        return ["What became of its messages could not be looked up: the outbox is out of reach."]
    return [_message(row) for row in sorted(rows, key=lambda row: bool(rest_of(row.message)))]


def _message(row: Row) -> str:
    whom = listed([sentence(each) for each in row.message.recipients]) or row.message.carrier
    what = f"The message {name(row.message.subject)} to {whom}"
    match row.status:
        case "HELD":
            return f"{what} is held until {row.release_time}, and can be called back until then."
        case "SENDING":
            return f"{what} is being sent just now."
        case "SENT":
            # whom it did not reach stands there too
            more = f": {sentence(row.detail)}" if row.detail and len(row.message.recipients) > 1 else ""
            return full_stop(f"{what} went out at {when(row.changed_at)}{more}")
        case "CANCELLED" if row.detail == MADE_UP_FOR:
            return f"{what}: {MADE_UP_FOR}."
        case "CANCELLED":
            return f"{what} was called back, and nobody got it."
        case "UNKNOWN":
            return f"Nobody knows whether the message {name(row.message.subject)} to {whom} went out."
        case "LATE" | "DEAD":
            return f"{what} was not sent: {full_stop(sentence(row.detail) or 'it waits for a person')}"
        case "WAITING":
            return f"{what} is a correction, and waits for a person's consent."


async def report_of(core: Core, run_id: RunId) -> FailureReport | None:
    """Where the run stands after a failed call: done, preserved, failed, remaining, first step.

    `None` if the journal cannot say. Without the whole text: for that there are `get_run` and the resource, under `report`.
    """
    try:
        run = await core.journal.get(RunView, run_id)
        # what was open before is not what the caller has to see to first
        return None if run is None else await report_run(core, run, whole=False, opened=False)
    except JournalError:
        return None  # the failure itself is answered all the same


async def progress(core: Core, run: RunView, actions: Sequence[ActionView] | None = None) -> Progress:
    """How far the run has come in its plan.

    :param actions: all of the run, if they are at hand.
    """
    if actions is None:
        actions = await core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
    return progress_of(run, actions, await named_checkpoints(core, run), inherited=await inherited(core, run))


async def named_checkpoints(core: Core, run: RunView) -> Sequence[CheckpointView]:
    """The checkpoints that somebody named; none for a run without a plan, because only steps are told by them."""
    if not run.steps:
        return ()
    found = await core.journal.find(CheckpointView, run_id=run.run_id, oldest_first=True)
    return [view for view in found if view.label is not None]


async def inherited(core: Core, run: RunView) -> list[ActionView]:
    """The acts of the runs that this one was forked from, up to where it was, oldest first."""
    chain: list[list[ActionView]] = []
    while run.forked_from is not None and run.steps:
        checkpoint = await core.journal.get(CheckpointView, run.forked_from)
        parent = await core.journal.get(RunView, checkpoint.run_id) if checkpoint is not None else None
        if checkpoint is None or parent is None:
            break
        actions = await core.journal.find(ActionView, run_id=parent.run_id, oldest_first=True)
        chain.append(up_to(actions, checkpoint))
        run = parent
    return [action for part in reversed(chain) for action in part]


def up_to(actions: Sequence[ActionView], checkpoint: CheckpointView) -> list[ActionView]:
    """What a checkpoint stands on, and what failed right after it: a step is not done for whoever goes on from there if it
    failed in the end."""
    later = (
        action.position for action in actions if not included(action, checkpoint.position) and action.checkpoint_id
    )
    until = min(later, default=None)
    return [action for action in actions if until is None or action.position < until]


async def since(core: Core, run: RunView) -> datetime:
    """When the run came into its present status."""
    # the view's version is the position of the last event that changed it
    newest = await core.journal.read(run.run_id, after=run.version - 1, limit=1)
    if newest and newest[0].event is not None and not isinstance(newest[0].event, RunForked):
        return newest[0].event.at
    return run.ended_at or run.started_at


# --- results ----------------------------------------------------------------------------------------------------------


async def downloads(core: Core, actions: Sequence[ActionView], names: Names | None = None) -> list[Download]:
    """What a run made, newest content of each object first, as far as it can be had now."""
    found: list[Download] = []
    display = names or near(core)
    seen: set[tuple[str, str]] = set()
    for action, number, effect in _made(actions):
        if (effect.system, effect.object) in seen:
            continue
        seen.add((effect.system, effect.object))
        if len(found) == MOST_DOWNLOADS:
            break
        try:
            content = await _content(core, effect, "after")
        except EngineError:
            continue
        found.append(
            Download(
                name=display(effect.system, effect.object),
                what=_which(action, effect),
                uri=f"takeback://objects/{action.id}/{number}/after",
                size=len(content),
            )
        )
    return found[::-1]


def _which(action: ActionView, effect: Effect) -> str:
    which = f"as {action.tool} left it" if action.stands else f"as {action.tool} had made it, taken back since"
    named = effect.after.kind in ("event", "message") and action.summary
    return f"{which} ({sentence(action.summary).rstrip('.')})" if named else which


def _made(actions: Sequence[ActionView]) -> Iterator[tuple[ActionView, int, Effect]]:
    for action in sorted(actions, key=lambda action: action.position, reverse=True):
        if action.status == "applied":
            for number, effect in enumerate(action.effects):
                if not effect.after.absent and effect.after.kind in _WITH_CONTENT:
                    yield action, number, effect


async def stored_content(core: Core, caller: Caller, action_id: str, number: str, side: str) -> bytes:
    """The content of one effect of an action, before or after it.

    :raises EngineError: unknown or foreign (the same answer), or its content is not kept.
    """
    action = await core.journal.get(ActionView, action_id)
    run = await core.journal.get(RunView, action.run_id) if action is not None else None
    index = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else -1
    known = run is not None and await core.allows(caller, run.owner.principal, run.run_id, "look")
    if action is None or not known or not 0 <= index < len(action.effects) or side not in SIDES:
        raise EngineError(
            "not_found", "There is no such stored object.", "get_run with view report names those there are."
        )
    return await _content(core, action.effects[index], side)


async def _content(core: Core, effect: Effect, side: str) -> bytes:
    state = effect.before if side == "before" else effect.after
    system = core.systems.get(effect.system)
    gone = EngineError(
        "not_kept",
        f"The content of {core.display(effect.system, effect.object)} is not kept.",
        "Look at what is there.",
    )
    if system is None or state.absent or (state.size or 0) > core.settings.limits.read_bytes:
        raise gone
    try:
        kept = await system.read(state)
        if kept is not None:
            return kept
        # what stands is not copied; it is read from where it stands, as long as nobody has changed it
        present: State = (await system.look([effect.object], [state]))[0]
        now = await system.read(present) if present.same(state) else None
    except (TargetError, ObjectError) as error:
        raise gone from error
    if now is None:
        raise gone
    return now
