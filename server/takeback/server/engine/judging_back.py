"""The way back is judged too: a step of a rollback that policy denies stays open for a person, one that it asks about waits.

Only rules that are about compensations can stand in the way. A person who consents does so to exactly this step, as the
object stands now; then the rollback is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from takeback.journal.events import ApprovalUsed, Caller
from takeback.journal.ids import ApprovalId, RollbackId
from takeback.journal.log import Stale, ViewKey
from takeback.journal.states import Effect, Reversibility
from takeback.journal.views import ActionView, RollbackView
from takeback.server.engine import approvals
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.labels import labels_of
from takeback.server.engine.plan import PlanStep
from takeback.server.engine.policy import Judged, Verdict
from takeback.server.engine.report import shown

TOOL = "rollback_run"
"""What a consent to a step is bound to, beside the action."""


def judge_back(core: Core, step: PlanStep, action: ActionView | None = None) -> Verdict:
    """What policy says of a step.

    :param action: for a step that is made up for.
    """
    if not core.policy.judges_back:
        return Verdict("allow", "default.compensation")
    effects = _effects(step, action)
    return _verdict(
        core,
        step.tool,
        (action.caller if action is not None else None) or core.nobody,
        effects,
        "compensable" if step.decision == "compensate" else "reversible",
    )


def check_put_back(core: Core, tool: str, caller: Caller, effects: Sequence[Effect]) -> None:
    """An earlier content that is put back, or a conflict that is settled, by whoever is no person at their own door: policy
    judges it like a step of a rollback, so that nobody gets by another tool what a rollback may not do.

    :raises EngineError: a rule denies it, or wants a person, who can do it themselves.
    """
    if core.persons_door or not core.policy.judges_back:
        return
    verdict = _verdict(core, tool, caller, effects, "reversible")
    if verdict.decision != "allow":
        why = f": {verdict.reason}" if verdict.reason else ""
        raise EngineError(
            "denied",
            f"Policy rule {verdict.rule} does not let {tool} do this by itself{why}.",
            "A person can do it, on the page or at the command line (takeback resolve, takeback versions).",
        )


async def check_consents_spent(core: Core, action_ids: Iterable[str]) -> None:
    """A consent is good for one time: what a person had to agree to is not brought back by whoever is no person at their own
    door.

    :raises EngineError: `denied`.
    """
    for action_id in () if core.persons_door else action_ids:
        action = await core.journal.get(ActionView, action_id)
        if action is not None and action.approval_id is not None:
            raise EngineError(
                "denied",
                f"A person had to agree to the act {action.id}, and did so for one time; it is not brought back without them.",
                "Make the call anew, so that they are asked; or they bring it back at the command line or on the page.",
            )


async def stands_in_the_way(core: Core, rollback_id: RollbackId, step: PlanStep) -> str:
    """Why a step must not be done now; empty if it may. A consent that it needed is spent by that."""
    if not core.policy.judges_back:
        return ""
    action = await core.journal.get(ActionView, step.action_id)
    verdict = judge_back(core, step, action)
    if verdict.decision == "allow":
        return ""
    said = f"policy rule {verdict.rule} "
    if verdict.decision != "ask":
        return said + f"does not allow it: {verdict.reason}"
    try:
        return await _asked(core, rollback_id, step, action, verdict, said)
    except EngineError as error:
        return said + f"wants a person's consent: {fault(error)}"


def _verdict(core: Core, tool: str, caller: Caller, effects: Sequence[Effect], reversibility: Reversibility) -> Verdict:
    return core.policy.judge(
        Judged(
            tool=tool,
            known=True,
            caller=caller,
            mode="act",
            scope=(),
            effects=tuple(effects),
            labels=tuple(labels_of(core.settings, effect) for effect in effects),
            reversibility=reversibility,
            reason="",
            at=core.now(),
            compensation=True,
        )
    )


async def _asked(
    core: Core, rollback_id: RollbackId, step: PlanStep, action: ActionView | None, verdict: Verdict, said: str
) -> str:
    rollback = await core.journal.get(RollbackView, rollback_id)
    effects = _effects(step, action)
    approval = await approvals.find_or_ask(
        core,
        approvals.Wanted(
            run_id=step.run_id,
            caller=rollback.by if rollback is not None else core.nobody,
            tool=TOOL,
            argument_digest=f"step:{step.action_id}",
            target_digest=approvals.target_digest(effects, {}),
            question=await _question(core, step, action, effects),
            reason=verdict.reason,
        ),
    )
    if approval.status == "denied":
        return said + "wanted a person's consent, and they refused"
    if approval.status != "granted":
        return said + f"wants a person's consent first: {approval.id}"
    try:
        await core.record(
            [
                ApprovalUsed(
                    run_id=approval.run_id,
                    at=core.now(),
                    approval_id=ApprovalId(approval.id),
                    used_by=rollback_id,
                )
            ],
            expect={ViewKey("approval", approval.id): approval.version},
        )
    except Stale:
        return said + "wants a person's consent, and the one there was has just been used"
    return ""


async def _question(core: Core, step: PlanStep, action: ActionView | None, effects: Sequence[Effect]) -> str:
    lines: list[str] = []
    for effect in effects[:20]:
        system = core.systems.get(effect.system)
        if system is not None and effect.after.kind != "opaque":
            lines.append(shown((await system.describe(effect)).title))
    lines += [f"and {len(effects) - 20} more"] if len(effects) > 20 else []
    what = "; ".join(lines) or shown(action.summary if action is not None else step.object)
    how = action.compensation.how if action is not None and action.compensation is not None else ""
    return f"Take back what {step.tool} did ({step.action_id}): {what}" + (f"\n{shown(how)}" if how else "")


def _effects(step: PlanStep, action: ActionView | None) -> tuple[Effect, ...]:
    """What the step does to the world as it stands now."""
    wanted = step.wanted or step.effects
    if not wanted and action is not None:
        return tuple(effect.reversed() for effect in action.effects)
    if len(step.present) != len(wanted):
        return wanted
    return tuple(effect.model_copy(update={"before": now}) for effect, now in zip(wanted, step.present, strict=True))
