"""Views as the journal would answer them, for the pure parts."""

from __future__ import annotations

from typing import Any

from tests.checkpoints.history import ANNA, LATELY, NOW

from takeback.journal.ids import ActionId, ApprovalId, CheckpointId, RollbackId, RunId
from takeback.journal.states import ABSENT, Effect, State
from takeback.journal.views import ActionView, ApprovalView, CheckpointView, RollbackView, RunView, StepView

RUN = RunId("run_1")


def state(value: str) -> State:
    return ABSENT if value == "" else State(digest=f"v:{value}", kind="file")


def effect(object: str, before: str, after: str, *, system: str = "files") -> Effect:
    return Effect(system=system, object=object, before=state(before), after=state(after))


def action(position: int, *effects: Effect, **more: Any) -> ActionView:
    return ActionView(
        **{
            "id": f"act_{position}",
            "run_id": RUN,
            "version": position,
            "position": position,
            "tool": "write_file",
            "status": "applied",
            "at": LATELY,
            "effects": effects,
            "stands": True,
            **more,
        }
    )


def checkpoint(position: int, **more: Any) -> CheckpointView:
    return CheckpointView(
        **{"id": f"chk_{position}", "run_id": RUN, "version": position, "position": position, "at": LATELY, **more}
    )


def chk(position: int) -> CheckpointId:
    return CheckpointId(f"chk_{position}")


def act_id(position: int) -> ActionId:
    return ActionId(f"act_{position}")


def run(*steps: str, goal: str = "tidy up") -> RunView:
    return RunView(id=RUN, run_id=RUN, version=1, owner=ANNA, goal=goal, status="open", started_at=LATELY, steps=steps)


def approval(status: str = "requested", **more: Any) -> ApprovalView:
    return ApprovalView(
        **{
            "id": ApprovalId("apr_1"),
            "run_id": RUN,
            "version": 1,
            "status": status,
            "subject": "action",
            "tool": "send_email",
            "caller": ANNA,
            "argument_digest": "",
            "target_digest": "",
            "question": "Send “hello” to bob?",
            "reason": "cannot be taken back",
            "requested_at": LATELY,
            "expires_at": NOW,
            **more,
        }
    )


def merge_step(position: int, of: int, *effects: Effect) -> RollbackView:
    step = StepView(
        index=0,
        action_id=act_id(of),
        run_id=RUN,
        phase="concluded",
        position=position,
        effects=effects,
        outcome="merged",
    )
    return RollbackView(
        id=RollbackId(f"rbk_{position}"),
        run_id=RUN,
        version=position,
        status="complete",
        kind="rollback",
        by=ANNA,
        plan={},
        plan_digest="",
        started_at=LATELY,
        position=position - 1,
        steps=(step,),
    )
