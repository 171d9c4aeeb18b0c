"""What the events of an action make of its view, its checkpoint and its idempotency key."""

from __future__ import annotations

from pydantic import JsonValue

from takeback.journal import events as e
from takeback.journal.events import BaseEvent
from takeback.journal.folds.parts import Change, Lookup, changed, known
from takeback.journal.ids import ActionId
from takeback.journal.states import STRATEGIES, Compensation, trusted
from takeback.journal.views import ActionView, CheckpointView, KeyView, key_id


def intended(event: e.ActionIntended, position: int, get: Lookup) -> list[Change]:
    """An action is about to be done; its key is in flight."""
    action = trusted(
        ActionView,
        id=event.action_id,
        run_id=event.run_id,
        version=position,
        position=position,
        tool=event.tool,
        status="intended",
        at=event.at,
        caller=event.caller,
        tool_version=event.tool_version,
        step=event.step,
        parent_action_id=event.parent_action_id,
        requested=event.requested,
        argument_digest=event.argument_digest,
        effects=event.effects,
        reversibility=event.reversibility,
        reason=event.reason,
        memo=event.memo,
        compensation=event.compensation,
        idempotency_key=event.idempotency_key,
        policy_rule=event.policy_rule,
        approval_id=event.approval_id,
        locks=event.locks,
        together=event.together,
    )
    changes = [Change("action", event.action_id, action)]
    if event.idempotency_key is not None:
        id = key_id(event.run_id, event.tool, event.idempotency_key)
        key = KeyView(
            id=id,
            run_id=event.run_id,
            version=position,
            key=event.idempotency_key,
            tool=event.tool,
            action_id=event.action_id,
            argument_digest=event.argument_digest,
            status="in_flight",
        )
        changes.append(Change("key", id, key))
    return changes


def applied(event: e.ActionApplied, position: int, get: Lookup) -> list[Change]:
    """An action took effect: it stands, is a checkpoint, and its key is taken."""
    action = known(get, ActionView, event.action_id)
    if action is None:
        return []
    applied = changed(
        action,
        position,
        status="applied",
        stands=True,
        concluded_at=event.at,
        effects=event.effects,
        checkpoint_id=event.checkpoint_id,
        outcome=event.outcome,
        answer=event.answer,
        summary=event.summary,
        digest=event.digest,
        warnings=event.warnings,
    )
    output: JsonValue = dict(event.answer) or None
    return [
        applied,
        _automatic(event.checkpoint_id, event, action, position, output),
        *key_becomes(action, position, get, "taken"),
    ]


def _automatic(checkpoint_id: str, event: BaseEvent, action: ActionView, position: int, output: JsonValue) -> Change:
    view = trusted(
        CheckpointView,
        id=checkpoint_id,
        run_id=event.run_id,
        version=position,
        # of those that became visible in one step all intents stand before the first outcome; the checkpoint lies between them
        position=action.position if action.together else position,
        at=event.at,
        action_id=ActionId(action.id),
        step=action.step,
        output=output,
    )
    return Change("checkpoint", checkpoint_id, view)


def key_becomes(action: ActionView, position: int, get: Lookup, status: str) -> list[Change]:
    """The key of an action in another status, unless another action uses it by now."""
    if action.idempotency_key is None:
        return []
    key = known(get, KeyView, key_id(action.run_id, action.tool, action.idempotency_key))
    if key is None or key.action_id != action.id:
        return []  # the key was free in between, and another action uses it now
    return [changed(key, position, status=status)]


def failed(event: e.ActionFailed, position: int, get: Lookup) -> list[Change]:
    """Nothing happened; the key is free."""
    told: dict[str, object] = {
        "status": "failed",
        "concluded_at": event.at,
        "error_code": event.code,
        "error": event.message,
        "advice": event.advice,
    }
    action = known(get, ActionView, event.action_id)
    if action is not None:
        return [changed(action, position, **told), *key_becomes(action, position, get, "free")]
    action = _unintended(event, event.action_id, position, event.tool, event.step)
    return [changed(action, position, **told, requested=event.requested)]


def _unintended(event: BaseEvent, action_id: ActionId, position: int, tool: str, step: str | None) -> ActionView:
    return ActionView(
        id=action_id,
        run_id=event.run_id,
        version=position,
        position=position,
        tool=tool,
        status="failed",
        at=event.at,
        concluded_at=event.at,
        step=step,
    )


def shadowed(event: e.ActionShadowed, position: int, get: Lookup) -> list[Change]:
    """Nothing happened, and that was the purpose."""
    action = _unintended(event, event.action_id, position, event.tool, event.step)
    return [
        changed(
            action,
            position,
            status="shadowed",
            requested=event.requested,
            effects=event.effects,
            reversibility=event.reversibility,
            reason=event.reason,
            summary=event.summary,
            policy_rule=event.policy_rule,
            would=event.would,
            compensation=Compensation(strategy=STRATEGIES[event.reversibility], how=event.how) if event.how else None,
        )
    ]


def denied(event: e.ActionDenied, position: int, get: Lookup) -> list[Change]:
    """Nothing happened, because it must not."""
    action = _unintended(event, event.action_id, position, event.tool, event.step)
    return [
        changed(
            action,
            position,
            status="denied",
            requested=event.requested,
            policy_rule=event.policy_rule,
            error_code="denied",
            error=event.reason,
        )
    ]


def in_doubt(event: e.ActionInDoubt, position: int, get: Lookup) -> list[Change]:
    """Nobody knows; neither does the key."""
    action = known(get, ActionView, event.action_id)
    if action is None:
        return []
    doubt = changed(
        action, position, status="in_doubt", concluded_at=event.at, error_code="in_doubt", error=event.reason
    )
    return [doubt, *key_becomes(action, position, get, "in_doubt")]


def settled(event: e.ActionSettled, position: int, get: Lookup) -> list[Change]:
    """The doubt is over, one way or the other."""
    action = known(get, ActionView, event.action_id)
    if action is None:
        return []
    if event.outcome == "not_applied":
        settled = changed(action, position, status="not_applied", stands=False, concluded_at=event.at)
        return [settled, *key_becomes(action, position, get, "free")]
    settled = changed(
        action,
        position,
        status="applied",
        stands=True,
        concluded_at=event.at,
        effects=event.effects or action.effects,
        outcome=action.outcome if event.returned is None else event.returned,
        checkpoint_id=event.checkpoint_id or action.checkpoint_id,
        error_code="",
        error="",
    )
    changes = [settled, *key_becomes(action, position, get, "taken")]
    if event.checkpoint_id is not None:
        changes.append(_automatic(event.checkpoint_id, event, action, position, None))
    return changes


def named_checkpoint(event: e.CheckpointNamed, position: int, get: Lookup) -> list[Change]:
    """A position got a name."""
    view = CheckpointView(
        id=event.checkpoint_id,
        run_id=event.run_id,
        version=position,
        position=position,
        at=event.at,
        label=event.label,
        step=event.step,
        output=event.output,
        next_step=event.next_step,
        notes=event.notes,
        pinned=event.pinned,
    )
    return [Change("checkpoint", event.checkpoint_id, view)]
