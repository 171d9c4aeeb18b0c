"""How a plan or a rollback is answered: each step in a line, what is open, and the whole in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from takeback.journal.events import Caller, UndoOutcome
from takeback.journal.ids import ActionId, RollbackId, RunId
from takeback.journal.states import altered
from takeback.journal.views import OpenItem, RunView
from takeback.server.engine.answers import OpenItemAnswer, RollbackAnswer, StepAnswer
from takeback.server.engine.calling import Names, known_by, named_alike, near, open_item_answers
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.outcome import Done
from takeback.server.engine.outgoing import gone_out
from takeback.server.engine.plan import Decision, Plan, PlanStep
from takeback.server.engine.report import rollback_report, shown
from takeback.server.engine.wishes import Wish

EXPECTED: dict[Decision, UndoOutcome] = {
    "restore": "restored",
    "merge": "merged",
    "already_undone": "already_undone",
    "compensate": "compensated",
    "conflict": "conflict",
    "irreversible": "irreversible",
    "in_doubt": "failed",
    "blocked": "skipped",
    "skip": "skipped",
}
"""The outcome word that each decision would end in, for dry runs."""


async def planned(core: Core, caller: Caller, wish: Wish, plan: Plan, why: str = "") -> RollbackAnswer:
    """What is answered where nothing is done: the plan, step by step.

    :param why: nothing is done though it was asked for.
    """
    names = await _names(core, plan)
    steps = [await _step_answer(core, step, names) for step in sorted(plan.steps, key=_told)]
    text = rollback_report(_for_people(names, steps, plan), "planned", [], plan.goal.kind)
    if why:
        text = f"{why}\n\n{text}"
    return RollbackAnswer(
        status="planned",
        plan_digest=plan.digest,
        run_id=wish.runs[0] if wish.runs else None,
        steps=steps,
        other_runs=await _visible(core, caller, plan.other_runs),
        report=text,
    )


async def _names(core: Core, plan: Plan) -> Names:
    # the act's own effects come last: they say how an object was called when the act was done
    return await known_by(core, (each for step in plan.steps for each in (*step.wanted, *step.effects)))


async def _step_answer(core: Core, step: PlanStep, names: Names, done: Done | None = None) -> StepAnswer:
    preview = ""
    if done is None and all(effect.system in core.systems for effect in step.effects):
        shown_first = step.effects[:3]
        try:
            told = [(await core.systems[effect.system].describe(effect)).title for effect in shown_first]
            preview = "; ".join(map(shown, told))
        except Exception as error:  # third-party code: the plan is no worse for not being described
            preview = f"it cannot be shown: {fault(error)}"
    return StepAnswer(
        action_id=step.action_id,
        run_id=step.run_id,
        tool=step.tool,
        object=step.object,
        objects=[effect.object for effect in step.wanted],
        called=named_alike(names, [(effect.system, effect.object) for effect in step.wanted]),
        outcome=done.outcome if done else _expected(step),
        why=done.why if done else step.why,
        preview=preview,
    )


def _expected(step: PlanStep) -> UndoOutcome:
    """What a step will come to, as far as can be told before."""
    gone = step.decision == "conflict" and any(map(gone_out, step.wanted, step.present))
    return "irreversible" if gone or step.remains else EXPECTED[step.decision]


async def _visible(core: Core, caller: Caller, runs: Iterable[RunId]) -> list[str]:
    """Of these runs, those whose ids the caller may be told."""
    views = [(run_id, await core.journal.get(RunView, run_id)) for run_id in runs]
    return [run_id for run_id, view in views if view is not None and core.may_see(caller, view)]


async def answered(
    core: Core,
    caller: Caller,
    rollback_id: RollbackId,
    plan: Plan,
    done: Sequence[Done],
    status: Literal["complete", "partial", "failed"],
    retracted: Sequence[ActionId],
    touched: Sequence[RunId],
) -> RollbackAnswer:
    """What is answered once a rollback is over."""
    names = await _names(core, plan)
    steps = [await _step_answer(core, one.step, names, one) for one in sorted(done, key=lambda one: _told(one.step))]
    left: list[OpenItem] = []
    for run_id in touched:
        for item in await core.journal.find(OpenItem, run_id=run_id, status="open", oldest_first=True):
            if item.rollback_id == rollback_id:
                left.append(item)
    items = await open_item_answers(core, left)
    run = await core.journal.get(RunView, touched[0])
    return RollbackAnswer(
        status=status,
        rollback_id=rollback_id,
        plan_digest=plan.digest,
        run_id=touched[0],
        run_status=run.status if run else None,
        steps=steps,
        retracted=list(retracted),
        open_items=items,
        other_runs=await _visible(core, caller, plan.other_runs),
        warnings=list(dict.fromkeys(warning for one in done for warning in one.warnings)),
        report=rollback_report(_for_people(names, steps, plan), status, called(core, items), plan.goal.kind),
    )


def _for_people(names: Names, steps: Sequence[StepAnswer], plan: Plan) -> list[StepAnswer]:
    """The same steps with objects as people call them (paths relative to their root, events by their titles)."""
    # of what is not touched no effects are wanted
    effects = (effect for step in plan.steps for effect in (*step.effects, *step.wanted))
    called = {effect.object: names(effect.system, effect.object) for effect in effects}
    return [
        altered(
            step,
            object=called.get(step.object) or names("", step.object),
            objects=[called.get(each, each) for each in step.objects],
        )
        for step in steps
    ]


def called(core: Core, items: Sequence[OpenItemAnswer]) -> list[OpenItemAnswer]:
    """The same items with objects as people call them."""
    display = near(core)
    return [altered(item, object=item.called or display(item.system, item.object)) for item in items]


def _told(step: PlanStep) -> int:
    """Where a step stands among those that people are told of.

    A rollback's are told as they are done. A redo's in the order in which the actions were once done: the steps that it takes
    back ran side by side, so that the order in which they ended says nothing.
    """
    index = step.entry_id.rpartition("/")[2]
    return -int(index) if "/" in step.entry_id and index.isdigit() else 0
