"""The second half of an acting call: intend, commit, check, conclude, answer. Shielded from cancellation by its caller.

No effect without a durable intent, no "applied" without a durable outcome. From the intent on every way out is an event; an
error in the commit is `failed` only if it is proven that nothing happened, else the world is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import anyio

from takeback.journal.events import (
    ActionApplied,
    ActionFailed,
    ActionInDoubt,
    ActionIntended,
    ApprovalUsed,
    BaseEvent,
)
from takeback.journal.ids import ActionId, new_checkpoint_id
from takeback.journal.log import JournalBroken, JournalError, Stale
from takeback.journal.states import STRATEGIES, Compensation, Effect, State
from takeback.server.engine.answers import CallAnswer, ErrorInfo, UndoInfo
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.guard import Guard
from takeback.server.engine.outgoing import belong, leaves_soon, moved, release_of
from takeback.server.engine.policy import Verdict
from takeback.server.engine.report import shown
from takeback.server.engine.reporting import report_of
from takeback.server.engine.seen import Seen
from takeback.server.engine.settle import settle_held
from takeback.server.engine.work import Again, Work, journaled, replayed, without_secrets
from takeback.tools.contract import Committed, Prepared, ToolError
from takeback.tools.system import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

NOBODY_KNOWS = "Nobody knows yet whether it took effect, and that could not be written down."
COMMIT_RETRIES = (0.05, 0.2)


class Actor:
    """Acts for one engine."""

    def __init__(self, core: Core, seen: Seen, guard: Guard) -> None:
        self._core, self._seen, self._guard = core, seen, guard

    async def act(self, work: Work, prepared: Prepared, verdict: Verdict) -> CallAnswer:
        await self._intend(work, prepared, verdict)
        try:
            committed = await self.commit(work, prepared.commit)
        except ToolError as error:
            await self._conclude_failed(work, error)
            raise
        except (Exception, anyio.get_cancelled_exc_class()) as error:  # the world has to be asked what came of it
            log.warning("%s broke off in its commit: %s", work.tool.name, type(error).__name__)
            return await self._after_break(work, error)
        try:
            return await self._conclude(work, prepared, committed)
        except Exception as error:  # a fault in saying what was done does not undo it
            log.warning("%s broke off after its commit: %s", work.tool.name, type(error).__name__)
            return await self._after_break(work, error)

    async def _intend(self, work: Work, prepared: Prepared, verdict: Verdict) -> None:
        events = self.intent(work, prepared, verdict)
        try:
            recorded = await self._core.journal.append(events, blobs=prepared.blobs, expect=work.expect)
        except Stale as error:
            raise Again from error
        work.intended = True
        await self._guard.intended(work, recorded)

    def intent(
        self, work: Work, prepared: Prepared, verdict: Verdict, *, together: tuple[ActionId, ...] = ()
    ) -> list[BaseEvent]:
        """What has to be durable before anything becomes visible.

        :param together: the actions that become visible with it, itself among them.
        """
        events: list[BaseEvent] = [*work.fired]
        if work.approval_id is not None:
            events.append(
                ApprovalUsed(
                    run_id=work.run.run_id, at=self._core.now(), approval_id=work.approval_id, used_by=work.action_id
                )
            )
        carried = work.call.carried
        events.append(
            ActionIntended(
                run_id=work.run.run_id,
                at=self._core.now(),
                action_id=work.action_id,
                tool=work.tool.name,
                tool_version=work.tool.version,
                caller=work.call.caller,
                step=work.call.step,
                requested=journaled(work.call.arguments),
                argument_digest=work.argument_digest,
                effects=prepared.effects,
                reversibility=prepared.reversibility,
                reason=prepared.reason,
                memo=prepared.memo,
                compensation=Compensation(
                    strategy=STRATEGIES[prepared.reversibility],
                    how=prepared.how,
                    allowed_until=self._until(prepared),
                ),
                idempotency_key=work.call.idempotency_key,
                policy_rule=verdict.rule,
                parent_action_id=None if carried is None else carried.call_id,
                approval_id=work.approval_id if carried is None else carried.approval_id,
                locks=work.lock_names(),
                counts=dict(prepared.counts),
                tool_schema=self._guard.schema(work.tool),
                together=together,
            )
        )
        return events

    async def commit(self, work: Work, commit: Callable[[], Awaitable[T]]) -> T:
        """Let it become visible; what was only out of reach for a moment is tried again.

        :raises ToolError: proven: nothing happened.
        """
        for pause in (*COMMIT_RETRIES, None):
            try:
                with anyio.fail_after(work.tool.timeout):
                    committed = await commit()
            except ToolError as error:
                # nothing happened; what was only out of reach for a moment is tried again
                if error.code != Unavailable.code or pause is None or not await self._guard.still_free(work):
                    raise
                await anyio.sleep(pause)
            else:
                return committed
        raise AssertionError("the last attempt returns or raises")

    async def _conclude(self, work: Work, prepared: Prepared, committed: Committed) -> CallAnswer:
        core = self._core
        mismatches = mismatches_of(core, prepared.effects, committed.effects)
        events = await self._guard.observed(work, committed.effects, mismatches)
        applied = self.applied(work, prepared, committed, mismatches)
        events.append(applied)
        release_at = release_of(committed.effects)
        if release_at is not None:
            await belong(
                core,
                committed.effects,
                run_id=work.run.run_id,
                action_id=work.action_id,
                owner=work.call.caller.principal,
            )
            events += moved(committed.effects, run_id=work.run.run_id, action_id=work.action_id, at=core.now())
        try:
            recorded = await core.journal.append(events)
        except JournalError as error:
            return self._undurable(work, error, "The change was made, but its outcome could not be written down.")
        self._guard.concluded(work.run.run_id, recorded)
        self._seen.note_effects(work.call.caller, committed.effects)
        answer = self.answer(work, prepared, committed, applied, release_at)
        return answer.anchored(f"{recorded[-1].seq}:{recorded[-1].mac}")

    def applied(
        self, work: Work, prepared: Prepared, committed: Committed, mismatches: Sequence[str] = ()
    ) -> ActionApplied:
        """That it took effect, as it was read back."""
        warnings = [*work.warnings, *committed.warnings]
        if mismatches:
            warnings.append(
                f"Right after the act these were no longer as it left them: {', '.join(map(shown, mismatches))}."
            )
        return ActionApplied(
            run_id=work.run.run_id,
            at=self._core.now(),
            action_id=work.action_id,
            checkpoint_id=new_checkpoint_id(),
            effects=prepared.effects if mismatches else committed.effects,
            outcome=committed.outcome,
            answer=without_secrets(committed.result.model_dump(mode="json")),
            summary=committed.summary,
            digest=committed.digest,
            warnings=tuple(warnings),
        )

    def answer(
        self, work: Work, prepared: Prepared, committed: Committed, applied: ActionApplied, release_at: str | None
    ) -> CallAnswer:
        """What is told of an act once that is durable."""
        return CallAnswer(
            status="applied" if release_at is None else "held",
            release_at=release_at,
            run_id=work.run.id,
            action_id=work.action_id,
            checkpoint_id=applied.checkpoint_id,
            reversibility=prepared.reversibility,
            undo=UndoInfo(how=prepared.how, until=release_at or self._until(prepared))
            if prepared.reversibility != "irreversible"
            else None,
            summary=committed.summary if release_at is None else leaves_soon(committed.summary, committed.effects),
            result=committed.result.model_dump(mode="json"),
            digest=committed.digest,
            warnings=list(applied.warnings),
        )

    def _until(self, prepared: Prepared) -> str | None:
        if prepared.reversibility == "irreversible":
            return None
        return rfc3339(self._core.now() + timedelta(days=self._core.settings.limits.keep_days))

    # -- what can go wrong ------------------------------------------------------------------------------------------------

    async def _conclude_failed(self, work: Work, error: ToolError) -> None:
        await self._core.journal.append(
            [
                ActionFailed(
                    run_id=work.run.run_id,
                    at=self._core.now(),
                    action_id=work.action_id,
                    tool=work.tool.name,
                    code=error.code,
                    message=str(error),
                    advice=error.advice,
                    step=work.call.step,
                )
            ]
        )

    async def _after_break(self, work: Work, error: BaseException) -> CallAnswer:
        core = self._core
        try:
            await core.journal.append(
                [
                    ActionInDoubt(
                        run_id=work.run.run_id,
                        at=core.now(),
                        action_id=work.action_id,
                        reason=f"the commit broke off: {type(error).__name__}",
                    )
                ]
            )
            action = await settle_held(core, work.action_id, by="engine")
        except JournalError as broken:
            return self._undurable(work, broken, NOBODY_KNOWS)
        status = action.status if action is not None else "in_doubt"
        if action is not None and status == "applied":
            took_effect = "applied" if release_of(action.effects) is None else "held"
            return replayed(
                action, [*work.warnings, "The act broke off on the way, but it took effect."], status=took_effect
            )
        applied_not = status == "not_applied"
        failure = ErrorInfo(
            code="broke_off" if applied_not else "in_doubt",
            message=f"{work.tool.name} broke off ({type(error).__name__}); "
            + ("it did not take effect." if applied_not else "nobody knows yet whether it took effect."),
            advice="Nothing has changed; the call can be repeated."
            if applied_not
            else "Do not repeat it: look whether the change is there, then settle it with `takeback conflicts`.",
        )
        return CallAnswer(
            status="failed" if applied_not else "in_doubt",
            run_id=work.run.id,
            action_id=work.action_id,
            warnings=work.warnings,
            error=failure,
            report=await report_of(self._core, work.run.run_id),
        )

    def _undurable(self, work: Work, error: JournalError, fact: str) -> CallAnswer:
        return CallAnswer(
            status="in_doubt",
            run_id=work.run.id,
            action_id=work.action_id,
            warnings=work.warnings,
            error=ErrorInfo(
                code="journal_broken" if isinstance(error, JournalBroken) else "journal",
                message=fact,
                advice=error.advice,
            ),
        )


def mismatches_of(core: Core, intended: Sequence[Effect], observed: Sequence[Effect]) -> tuple[str, ...]:
    """The objects that are not as they were meant to be."""
    seen = {(effect.system, effect.object): effect.after for effect in observed}
    return tuple(
        effect.object
        for effect in intended
        if (found := seen.get((effect.system, effect.object))) is None
        or not (found.same(effect.after) or _rewritten(core, effect, found))
    )


def _rewritten(core: Core, effect: Effect, found: State) -> bool:
    system = core.systems.get(effect.system)
    return system is not None and system.rewrites(effect.object) and not found.absent and not effect.after.absent
