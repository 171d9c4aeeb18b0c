"""Holds: a tool or family, a system or a part of one, a principal that must not act, in whatever run, until a person decides.

All holds are one view of the journal, so another process sees them with its next call, and an intent that was admitted before a
hold came is refused with it: it names the version of the view at which it was admitted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from takeback.journal.events import BaseEvent, Caller
from takeback.journal.guarding import HOLDS, HoldKind, ScopeContained, ScopeReleased
from takeback.journal.log import ViewKey
from takeback.journal.states import Effect
from takeback.journal.views import ActionView, ApprovalView, Hold, HoldsView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.containment import FIRST_LOOK, HELD, Level
from takeback.server.engine.core import Core
from takeback.server.engine.plan import Entry
from takeback.tools.contract import AnyTool
from takeback.tools.outbox.acts import done_effects, is_act
from takeback.tools.outbox.port import SYSTEM as OUTBOX
from takeback.tools.outbox.port import Outgoing

KEY: Final = ViewKey("holds", HOLDS)
BY_TRIGGER: Final = "trigger:"
"""How whoever contains begins where it was no person."""
ADVICE: Final = "A person lets it go on with `takeback release`; `takeback contained` shows what is held."


async def present(core: Core) -> HoldsView:
    """All holds there are."""
    found = await core.journal.get(HoldsView, HOLDS)
    return found or HoldsView(id=HOLDS, run_id=HOLDS, version=0, status="open")


def check(view: HoldsView, *, principal: str, tool: AnyTool | None, effects: Iterable[Effect] = ()) -> None:
    """Refuse an act that one of the holds is about.

    :raises EngineError: `contained`.
    """
    effects = tuple(effects) if view.holds else ()
    for hold in view.holds:
        if _meets(hold, principal, tool, effects):
            raise refusal(hold)


def _meets(hold: Hold, principal: str, tool: AnyTool | None, effects: tuple[Effect, ...]) -> bool:
    match hold.kind:
        case "principal":
            return hold.name == principal
        case "tool":
            return tool is not None and hold.name in (tool.name, tool.family)
        case "system":
            return any(inside(effect, hold.name) for effect in effects)


def inside(effect: Effect, name: str) -> bool:
    """Whether an effect is in a system, or in the part of one that has this name."""
    # a database that is a file is called by that file's key
    object, below = effect.object.removeprefix("files:"), name.rstrip("/") + "/"
    if name in (effect.system, object) or object.startswith(below):
        return True
    for state in (effect.before, effect.after):  # of one that is called back, what it was
        given = state.ref.get("message") if effect.system == OUTBOX else None
        if isinstance(given, dict):
            message = Outgoing.model_validate(given, strict=False)
            # a message in the outbox belongs to the mailbox or calendar that sends it: `mail:work`
            if name == message.carrier.rpartition(":")[2]:
                return True
            # and an act that waits there, to what it will change
            if is_act(message) and any(inside(later, name) for later in done_effects(message)):
                return True
    return False


def refusal(hold: Hold) -> EngineError:
    """What whoever meets a hold is told."""
    what = {"tool": "The tool", "system": "The system", "principal": "The principal"}[hold.kind]
    return EngineError("contained", f"{what} {hold.name} is {hold.level}: {hold.reason}.", ADVICE)


async def check_read(core: Core, caller: Caller, tool: AnyTool) -> None:
    """Refuse reading where something is quarantined: the tool, its family, the principal, or a run of the same client.

    A reading call belongs to no run, so a quarantined run's client may not read at all. Looking at runs and taking them back is
    not meant by that.

    :raises EngineError: `contained`.
    """
    view = await present(core)
    for hold in view.holds:
        named = hold.name == caller.principal if hold.kind == "principal" else hold.name in (tool.name, tool.family)
        if hold.level == "quarantined" and named:
            raise refusal(hold)
    found = await core.journal.find(RunView, status="quarantined", limit=FIRST_LOOK)
    if len(found) == FIRST_LOOK:
        found = await core.journal.find(RunView, status="quarantined")
    for run in found:
        if run.owner.principal == caller.principal and run.owner.client == caller.client and not run.alone:
            raise EngineError(
                "contained",
                f"Run {run.id} of the same client is quarantined, so nothing is read now: {run.why}.",
                "It can be looked at with get_run and rolled back; a person releases it with `takeback release`.",
            )


async def frozen(core: Core, run: RunView, action: ActionView) -> bool:
    """Whether a hold keeps what an act holds in the outbox from leaving."""
    view = await present(core)
    try:
        check(view, principal=run.owner.principal, tool=core.tools.get(action.tool), effects=action.effects)
    except EngineError:
        return True
    return False


async def check_entries(core: Core, entries: Iterable[Entry]) -> None:
    """Refuse to bring back what was done where nothing may be done now.

    :raises EngineError: `contained`.
    """
    view = await present(core)
    for entry in entries if view.holds else ():
        run = await core.journal.get(RunView, entry.run_id)
        owner = core.nobody.principal if run is None else run.owner.principal
        check(view, principal=owner, tool=core.tools.get(entry.tool), effects=entry.effects)


async def check_not_frozen(core: Core, approval: ApprovalView) -> None:
    """Refuse consent to what must not be done now: it could still be refused, and asked anew later.

    :raises EngineError: `contained`.
    """
    run = await core.journal.get(RunView, approval.run_id)
    if run is not None and (run.status in HELD or run.before_seal in HELD):
        raise EngineError(
            "contained",
            f"Run {run.id} is contained, and its questions are frozen with it: {run.why or 'no reason given'}.",
            f"Release it first with `takeback release {run.id}`, or refuse with `takeback deny {approval.id}`.",
        )
    principal = approval.caller.principal if run is None else run.owner.principal
    check(await present(core), principal=principal, tool=core.tools.get(approval.tool))


async def contain(core: Core, caller: Caller, kind: HoldKind, name: str, reason: str, level: Level) -> Hold:
    """Let a tool or family, a system or a principal act no more. A person's act. Doing it twice may only tighten.

    :raises EngineError: no reason given, nothing has such a name, or it is not the caller's to decide.
    """
    if not reason.strip():
        raise EngineError("invalid", "Containing something needs a reason.", "Say what looked wrong.")
    name = _known(core, kind, name)
    reason = reason.strip().rstrip(".")
    role = _deciding(core, caller, kind, name, (await present(core)).of(kind, name))
    event: BaseEvent = ScopeContained(
        run_id=HOLDS, at=core.now(), kind=kind, name=name, level=level, reason=reason, by=caller.principal, role=role
    )
    await core.journal.append([event])
    hold = (await present(core)).of(kind, name)
    assert hold is not None, "a hold is there once its event is durable"
    return hold


async def release(core: Core, caller: Caller, kind: HoldKind, name: str, reason: str) -> Hold:
    """A person lets it act again; what was held.

    :raises EngineError: it is not contained, or it is not the caller's to decide.
    """
    view = await present(core)
    hold = view.of(kind, name) or view.of(kind, _place(core, name) if kind == "system" else name)
    if hold is None:
        raise EngineError(
            "not_contained", f"The {kind} {name} is not contained.", "`takeback contained` shows what is held."
        )
    role = _deciding(core, caller, kind, hold.name, hold)
    event: BaseEvent = ScopeReleased(
        run_id=HOLDS, at=core.now(), kind=kind, name=hold.name, by=caller.principal, reason=reason, role=role
    )
    await core.journal.append([event])
    return hold


def _deciding(core: Core, caller: Caller, kind: HoldKind, name: str, hold: Hold | None) -> str:
    """The role under which the caller decides about a hold; none is needed where nobody has one, or for oneself.

    Who was contained by another person does not let themselves go, nor take the hold over by tightening it.

    :raises EngineError: `not_allowed`.
    """
    others = hold is not None and hold.by != caller.principal and not hold.by.startswith(BY_TRIGGER)
    if kind == "principal" and name == caller.principal and not others:
        return ""
    role = core.role(caller, "decide")
    if role is None and core.settings.roles.given:
        raise EngineError(
            "not_allowed",
            f"Containing and releasing {name} concerns others too, and you are no operator.",
            "Ask an operator ([roles] in the configuration); what is your own you can contain run by run.",
        )
    return role or ""


def _known(core: Core, kind: HoldKind, name: str) -> str:
    """The name under which a hold stands."""
    if not name.strip():
        raise EngineError("invalid", f"The {kind} needs a name.", "Name what is to be contained.")
    if kind == "tool":
        known = {one for tool in core.tools.values() for one in (tool.name, tool.family) if one}
        if name not in known:
            raise EngineError(
                "not_found", f"There is no tool or family {name!r}.", f"There are: {', '.join(sorted(known))}."
            )
    return _place(core, name) if kind == "system" else name


def _place(core: Core, name: str) -> str:
    # the name of a database, calendar or mailbox has neither; what has is a path
    return core.resolve(name) if name not in core.systems and ("/" in name or "." in name) else name
