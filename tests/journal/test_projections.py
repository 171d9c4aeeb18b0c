"""What each event makes of the views."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from takeback.journal import events as e
from takeback.journal.ids import ActionId, ApprovalId, CheckpointId, ConflictId, RollbackId, RunId
from takeback.journal.log import Journal
from takeback.journal.views import (
    ActionView,
    ApprovalView,
    CheckpointView,
    KeyView,
    OpenItem,
    RollbackView,
    RunView,
    key_id,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RUN = RunId("run_a")
ACT = ActionId("act_1")
RBK = RollbackId("rbk_1")
ME = e.Caller(principal="me")


async def run_of(journal: Journal) -> RunView:
    run = await journal.get(RunView, RUN)
    assert run is not None
    return run


async def action_of(journal: Journal, id: str = ACT) -> ActionView:
    action = await journal.get(ActionView, id)
    assert action is not None
    return action


async def key_status(journal: Journal) -> str:
    key = await journal.get(KeyView, key_id(RUN, "write_file", "k"))
    assert key is not None
    return key.status


def finished(outcome: Any = "done") -> e.RunFinished:
    return e.RunFinished(
        run_id=RUN, at=NOW, status="failed" if outcome == "failed" else "finished", outcome=outcome, summary="over"
    )


def contained(level: Any = "contained") -> e.RunContained:
    return e.RunContained(run_id=RUN, at=NOW, level=level, reason="looks wrong", by="operator")


RELEASED = e.RunReleased(run_id=RUN, at=NOW, by="operator")
STALLED = e.RunStalled(run_id=RUN, at=NOW, reason="nobody moved")
SEALED = e.RunSealed(run_id=RUN, at=NOW, rollback_id=RBK)


def reopened(status: Any) -> e.RunReopened:
    return e.RunReopened(run_id=RUN, at=NOW, rollback_id=RBK, status=status)


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([], "open"),
        ([finished()], "finished"),
        ([finished("abandoned")], "finished"),
        ([finished("idle")], "finished"),
        ([finished("failed")], "failed"),
        ([contained()], "contained"),
        ([contained("quarantined")], "quarantined"),
        ([contained(), RELEASED], "open"),
        ([finished(), contained(), RELEASED], "finished"),
        ([finished("failed"), contained(), RELEASED], "failed"),
        ([SEALED], "sealed"),
        ([SEALED, contained(), RELEASED], "sealed"),
        ([SEALED, reopened("rolled_back")], "rolled_back"),
        ([STALLED], "stalled"),
        ([STALLED, STALLED.model_copy(update={"over": True})], "open"),
        ([e.RunForked(run_id=RUN, at=NOW, fork_run_id=RunId("run_b"), checkpoint_id=CheckpointId("chk"))], "open"),
    ],
)
async def test_the_status_of_a_run_follows_its_events(
    journal: Journal, make: Any, events: Sequence[e.BaseEvent], status: str
) -> None:
    await journal.append([make.started(RUN), *events])
    run = await run_of(journal)
    assert run.status == status
    assert run.version == 1 + len(events)


async def test_acts_of_a_run_do_not_change_its_view(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.intended(RUN, ACT), make.applied(RUN, ACT)])
    assert (await run_of(journal)).version == 1


async def test_a_sealed_run_remembers_what_it_was(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), finished(), SEALED])
    run = await run_of(journal)
    assert (run.before_seal, run.sealed_by, run.outcome) == ("finished", RBK, "done")
    await journal.append([reopened("open")])
    run = await run_of(journal)
    assert (run.before_seal, run.sealed_by, run.outcome, run.ended_at) == (None, None, None, None)


async def test_an_intent_does_not_stand_until_it_is_applied(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.intended(RUN, ACT)])
    action = await action_of(journal)
    assert (action.status, action.stands, action.position, action.version) == ("intended", False, 2, 2)
    assert action.effects[0].after.digest == "blake3:new"
    await journal.append([make.applied(RUN, ACT)])
    action = await action_of(journal)
    assert (action.status, action.stands, action.position, action.version) == ("applied", True, 2, 3)
    assert action.effects[0].after.digest == "blake3:observed"
    assert (action.summary, action.answer) == ("wrote hello", {"content": "hello"})
    assert action.requested == {"content": "hello"}
    checkpoint = await journal.get(CheckpointView, f"chk_{ACT}")
    assert checkpoint is not None
    assert (checkpoint.action_id, checkpoint.position, checkpoint.step) == (ACT, 3, "one")


def settled(outcome: Any, **more: Any) -> e.ActionSettled:
    return e.ActionSettled(run_id=RUN, at=NOW, action_id=ACT, outcome=outcome, by="recovery", why="looked", **more)


DOUBT = e.ActionInDoubt(run_id=RUN, at=NOW, action_id=ACT, reason="the process died")
FAILED = e.ActionFailed(run_id=RUN, at=NOW, action_id=ACT, tool="write_file", code="gone", message="no such folder")


async def test_a_doubt_ends_with_what_was_found(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.intended(RUN, ACT, key="k"), DOUBT])
    action = await action_of(journal)
    assert (action.status, action.stands, action.error) == ("in_doubt", False, "the process died")
    assert await key_status(journal) == "in_doubt"
    await journal.append([settled("applied", checkpoint_id=CheckpointId("chk_s"))])
    action = await action_of(journal)
    assert (action.status, action.stands, action.error, action.checkpoint_id) == ("applied", True, "", "chk_s")
    assert action.effects[0].after.digest == "blake3:new"
    assert await key_status(journal) == "taken"
    assert await journal.get(CheckpointView, "chk_s") is not None


@pytest.mark.parametrize(("end", "status"), [(settled("not_applied"), "not_applied"), (FAILED, "failed")])
async def test_what_did_not_happen_frees_its_key(journal: Journal, make: Any, end: e.BaseEvent, status: str) -> None:
    await journal.append([make.started(RUN), make.intended(RUN, ACT, key="k")])
    assert await key_status(journal) == "in_flight"
    await journal.append([end])
    action = await action_of(journal)
    assert (action.status, action.stands) == (status, False)
    assert await key_status(journal) == "free"
    assert await journal.find(CheckpointView) == []


async def test_calls_without_an_intent_are_actions_too(journal: Journal, make: Any) -> None:
    early = FAILED.model_copy(update={"intended": False})
    denied = e.ActionDenied(
        run_id=RUN, at=NOW, action_id=ActionId("act_2"), tool="t", requested={}, policy_rule="r", reason="not here"
    )
    shadowed = e.ActionShadowed(
        run_id=RUN,
        at=NOW,
        action_id=ActionId("act_3"),
        tool="t",
        requested={"a": 1},
        effects=(make.effect("/w/x"),),
        reversibility="compensable",
    )
    await journal.append([early, denied, shadowed])
    found = await journal.find(ActionView, oldest_first=True)
    assert [(each.status, each.stands, each.position) for each in found] == [
        ("failed", False, 1),
        ("denied", False, 2),
        ("shadowed", False, 3),
    ]
    assert (found[0].error_code, found[1].error, found[2].reversibility) == ("gone", "not here", "compensable")


async def test_a_named_checkpoint_is_kept_as_it_was_said(journal: Journal, make: Any) -> None:
    named = e.CheckpointNamed(
        run_id=RUN, at=NOW, checkpoint_id=CheckpointId("chk_n"), label="before the move", notes={"a": [1]}, pinned=True
    )
    await journal.append([make.started(RUN), named])
    view = await journal.get(CheckpointView, "chk_n")
    assert view is not None
    assert (view.label, view.notes, view.pinned, view.position) == ("before the move", {"a": [1]}, True, 2)


async def test_an_approval_goes_from_question_to_use(journal: Journal) -> None:
    id = ApprovalId("apr_1")
    asked = e.ApprovalRequested(
        run_id=RUN,
        at=NOW,
        approval_id=id,
        subject="action",
        tool="t",
        caller=ME,
        argument_digest="a",
        target_digest="b",
        question="Really?",
        reason="cannot be undone",
        expires_at=NOW + timedelta(minutes=15),
    )
    seen: list[tuple[str, str, str]] = []
    for event in (
        asked,
        e.ApprovalGranted(run_id=RUN, at=NOW, approval_id=id, by="me", lane="page"),
        e.ApprovalUsed(run_id=RUN, at=NOW, approval_id=id, used_by=ACT),
    ):
        await journal.append([event])
        view = await journal.get(ApprovalView, id)
        assert view is not None
        seen.append((view.status, view.by, view.used_by))
    assert seen == [("requested", "", ""), ("granted", "me", ""), ("used", "me", ACT)]
    assert [each.id for each in await journal.find(ApprovalView, status="used")] == [id]


def step(index: int, phase: Any = "concluded", **more: Any) -> e.RollbackStep:
    return e.RollbackStep(
        run_id=RUN, at=NOW, rollback_id=more.pop("rollback_id", RBK), index=index, phase=phase, action_id=ACT, **more
    )


def rollback(kind: Any = "rollback", id: str = RBK, redoes: Any = None) -> e.RollbackStarted:
    return e.RollbackStarted(
        run_id=RUN,
        at=NOW,
        rollback_id=RollbackId(id),
        kind=kind,
        by=ME,
        plan={"steps": [1, 2]},
        plan_digest="p",
        redoes=redoes,
    )


async def test_taking_back_and_redoing_moves_the_action_and_its_key(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.intended(RUN, ACT, key="k"), make.applied(RUN, ACT)])
    await journal.append([rollback(), step(0, "intended")])
    assert (await action_of(journal)).stands
    await journal.append([step(0, outcome="restored", stands=False)])
    action = await action_of(journal)
    assert (action.status, action.stands, action.taken_back_by, action.undo_outcome) == (
        "applied",
        False,
        RBK,
        "restored",
    )
    assert await key_status(journal) == "free"
    await journal.append([e.RollbackFinished(run_id=RUN, at=NOW, rollback_id=RBK, status="complete", retracted=(ACT,))])

    redo = RollbackId("rbk_2")
    await journal.append([rollback("redo", redo, redoes=RBK)])
    await journal.append([step(0, outcome="restored", stands=True, rollback_id=redo)])
    await journal.append([e.RollbackFinished(run_id=RUN, at=NOW, rollback_id=redo, status="complete")])
    action = await action_of(journal)
    assert (action.stands, action.taken_back_by) == (True, None)
    assert await key_status(journal) == "taken"
    first = await journal.get(RollbackView, RBK)
    assert first is not None
    assert (first.redone_by, first.retracted, first.status) == (redo, (ACT,), "complete")


async def test_a_key_that_another_action_uses_by_now_is_not_moved_by_the_first(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.intended(RUN, ACT, key="k"), make.applied(RUN, ACT)])
    await journal.append([rollback(), step(0, outcome="restored", stands=False)])
    await journal.append([make.intended(RUN, "act_2", key="k")])
    await journal.append([step(1, outcome="restored", stands=True)])
    key = await journal.get(KeyView, key_id(RUN, "write_file", "k"))
    assert key is not None
    assert (key.status, key.action_id) == ("in_flight", "act_2")


async def test_a_step_that_changed_nothing_leaves_the_action_as_it_was(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.intended(RUN, ACT), make.applied(RUN, ACT)])
    version = (await action_of(journal)).version
    await journal.append([rollback(), step(0, outcome="conflict", why="somebody wrote")])
    action = await action_of(journal)
    assert (action.stands, action.undo_outcome, action.version) == (True, None, version)


async def test_a_rollback_is_read_with_its_plan_and_its_steps_in_order(journal: Journal, make: Any) -> None:
    effect = make.effect("/w/a")
    await journal.append([make.started(RUN), rollback()])
    for index in (10, 2, 1):
        await journal.append([step(index, "intended", effects=(effect,))])
    await journal.append([step(2, outcome="failed", why="no", attempt=2)])
    await journal.append([rollback(id="rbk_10"), step(0, "intended", rollback_id="rbk_10")])
    view = await journal.get(RollbackView, RBK)
    assert view is not None
    assert view.plan == {"steps": [1, 2]}
    assert [(each.index, each.phase, each.position, each.attempt) for each in view.steps] == [
        (1, "intended", 5, 1),
        (2, "concluded", 6, 2),
        (10, "intended", 3, 1),
    ]
    assert (view.status, view.version, view.position) == ("running", 6, 2)
    assert view.steps[0].effects == (effect,)
    assert [each.id for each in await journal.find(RollbackView, status="running")] == ["rbk_10", RBK]
    assert (await journal.find(RollbackView))[1] == view


async def test_an_open_item_stays_open_until_it_is_settled(journal: Journal) -> None:
    id = ConflictId("cfl_1")
    opened = e.ConflictOpened(
        run_id=RUN,
        at=NOW,
        conflict_id=id,
        kind="conflict",
        action_id=ACT,
        system="files",
        object="/w/a",
        why="both changed line 3",
        next_step="choose",
    )
    await journal.append([opened])
    assert [each.id for each in await journal.find(OpenItem, status="open")] == [id]
    await journal.append([e.ConflictResolved(run_id=RUN, at=NOW, conflict_id=id, choice="theirs", by="me")])
    assert await journal.find(OpenItem, status="open") == []
    item = await journal.get(OpenItem, id)
    assert item is not None
    assert (item.choice, item.resolved_by, item.resolved_at, item.why) == ("theirs", "me", NOW, "both changed line 3")


async def test_events_about_nothing_change_nothing(journal: Journal, make: Any) -> None:
    await journal.append([finished(), SEALED, make.applied(RUN, ACT), DOUBT, settled("applied")])
    await journal.append([e.ApprovalDenied(run_id=RUN, at=NOW, approval_id=ApprovalId("a"), by="me", lane="x")])
    await journal.append([e.ConflictResolved(run_id=RUN, at=NOW, conflict_id=ConflictId("c"), choice="ours", by="me")])
    await journal.append([e.RollbackFinished(run_id=RUN, at=NOW, rollback_id=RBK, status="failed")])
    for kind in (RunView, ActionView, CheckpointView, ApprovalView, OpenItem, RollbackView, KeyView):
        assert await journal.find(kind) == []
