"""What the journal tells of a rollback that is over, for whoever did not hear its answer."""

from __future__ import annotations

from typing import Literal

from takeback.journal.events import Caller
from takeback.journal.ids import RollbackId
from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import RollbackAnswer, StepAnswer
from takeback.server.engine.calling import known_by, named_alike, open_item_answers
from takeback.server.engine.core import Core
from takeback.server.engine.report import rollback_report
from takeback.server.engine.rollback_answers import called


async def rollback_told(
    core: Core, caller: Caller, rollback_id: RollbackId
) -> RollbackAnswer | Literal["running", "never begun"]:
    """The answer of a rollback as its events tell it.

    :raises EngineError: it is somebody else's.
    """
    view = await core.journal.get(RollbackView, rollback_id)
    if view is None:
        return "never begun"
    await core.run(caller, view.run_id, "look")
    if view.status == "running":
        return "running"
    steps = await steps_told(core, view, named=False)
    for_people = await steps_told(core, view)
    runs = dict.fromkeys([view.run_id, *(step.run_id for step in view.steps)])
    left = [
        item
        for run_id in runs
        for item in await core.journal.find(OpenItem, run_id=run_id, status="open", oldest_first=True)
        if item.rollback_id == rollback_id
    ]
    items = await open_item_answers(core, left)
    run = await core.journal.get(RunView, view.run_id)
    return RollbackAnswer(
        status=view.status,
        rollback_id=rollback_id,
        plan_digest=view.plan_digest,
        run_id=view.run_id,
        run_status=run.status if run is not None else None,
        steps=steps,
        retracted=list(view.retracted),
        open_items=items,
        report=rollback_report(for_people, view.status, called(core, items), view.kind),
    )


async def steps_told(core: Core, view: RollbackView, *, named: bool = True) -> list[StepAnswer]:
    """What became of each step.

    :param named: objects by the names that people use, else by their ids.
    """
    steps: list[StepAnswer] = []
    acts = [(step, await core.journal.get(ActionView, step.action_id)) for step in view.steps]
    # an undo's effects hold nothing of what was there before it, so that the act's own say how its objects are called
    names = await known_by(
        core, (each for step, act in acts for each in (*step.effects, *(act.effects if act else ())))
    )
    for step, action in acts:
        effects = step.effects or (action.effects if action is not None else ())
        places = list(dict.fromkeys((effect.system, effect.object) for effect in effects))
        objects = list(dict.fromkeys(names(*place) if named else place[1] for place in places))
        steps.append(
            StepAnswer(
                action_id=step.action_id,
                run_id=step.run_id,
                tool=action.tool if action is not None else "",
                object=objects[0] if objects else "",
                objects=objects,
                called=[] if named else named_alike(names, places),
                outcome=step.outcome,
                why=step.why,
            )
        )
    return steps
