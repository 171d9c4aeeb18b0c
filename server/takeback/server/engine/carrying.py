"""Carrying out what a planned or staged run has collected: one consent, then the calls in their order, as they were shown.

A planned run stops at the first call that is not what it was shown as: what was made before stays, and is said. A staged run is
published as a whole or not at all: everything is looked at before anything is made, and if a call fails on the way, those made
before are taken back.

Each call goes through the pipeline like any other, and its action names the call as its parent. So after a crash it is known
what was made, and the next process goes on from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from blake3 import blake3
from pydantic import JsonValue

from takeback.checkpoints.objects import ObjectError
from takeback.journal.collecting import CallCollected, CollectionBegun, CollectionEnd, CollectionEnded
from takeback.journal.events import ApprovalUsed, BaseEvent, Caller
from takeback.journal.ids import ActionId, ApprovalId, RunId
from takeback.journal.log import JournalError, Stale, ViewKey
from takeback.journal.states import Effect, State
from takeback.journal.views import ActionView, ApprovalView, CollectedCall, RunView
from takeback.server.engine import approvals, runs
from takeback.server.engine.answers import CallAnswer, EngineError, ErrorInfo, RollbackAnswer
from takeback.server.engine.at_once import Refused
from takeback.server.engine.calls import Call, Carried, Progress, no_progress
from takeback.server.engine.chains import units
from takeback.server.engine.collecting import Place, shown_anew
from takeback.server.engine.core import Core
from takeback.server.engine.fitting import InTurn, fits_to, left_by
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.pipeline import Pipeline
from takeback.server.engine.policy import Verdict
from takeback.server.engine.quoting import IN_A_PLAN, MARK, quoted
from takeback.server.engine.report import sentence, shown
from takeback.server.engine.settle import OPEN, settle
from takeback.server.engine.shield import shielded
from takeback.server.engine.work import Work, digest_of, parse
from takeback.tools.contract import Prepared, ToolError
from takeback.tools.successive import NotInOneStep
from takeback.tools.system import TargetError

log = logging.getLogger(__name__)

TOOL = "finish_run"
"""The call that carries out, and so what a consent to a collection is bound to."""
LOCK_SECONDS = 20.0
GOOD = frozenset({"applied", "held", "replayed"})
TakeBack = Callable[[Caller, Sequence[ActionId]], Awaitable[RollbackAnswer]]


@dataclass(slots=True)
class Outcome:
    """What came of an attempt to carry out."""

    made: list[CallAnswer] = field(default_factory=lambda: list[CallAnswer]())
    pending: ApprovalView | None = None
    refused: EngineError | None = None
    """Why it did not come to its end; what was made before is in `made`, unless it was taken back."""


class Carrier:
    """Carries out for one engine."""

    def __init__(self, core: Core, pipeline: Pipeline, take_back: TakeBack) -> None:
        self._core, self._pipeline, self._take_back = core, pipeline, take_back

    # -- one request ----------------------------------------------------------------------------------------------------

    async def carry_out(
        self, caller: Caller, run: RunView, *, summary: str = "", progress: Progress = no_progress
    ) -> Outcome:
        """Ask for consent if it is needed, and carry out if it is there. Without collected calls nothing is done.

        :raises EngineError: the run must not write, or somebody else is carrying out.
        """
        runs.check_writable(run)
        try:
            async with self._core.collections.hold([run.id], timeout=LOCK_SECONDS):
                return await self._alone(caller, run, summary, progress)
        except LockTimeout as error:
            raise EngineError(
                "busy", f"Run {run.id} is being carried out already.", "Wait until that is over, then look at the run."
            ) from error

    async def _alone(self, caller: Caller, run: RunView, summary: str, progress: Progress) -> Outcome:
        calls = await self.collected(run.run_id)
        if not calls:
            return Outcome()
        if any(call.status == "begun" for call in calls):  # an earlier process died over it
            return await shielded(lambda: self._make(run, calls, progress))
        try:
            calls = await self._looked_at(run, calls, said := dict[str, list[str]]())
        except EngineError as error:
            return Outcome(refused=error)
        approval: ApprovalView | None = None
        if run.mode == "plan" or any(call.decision == "ask" for call in calls):
            approval = await approvals.find_or_ask(self._core, _question(caller, run, calls, said))
            if approval.status == "denied":
                advice = "Ask them what they want instead; finish_run with status abandoned throws it away."
                return Outcome(refused=EngineError("denied", "A person refused this.", advice))
            if approval.status != "granted":
                return Outcome(pending=approval)
        run = await self._core.run(caller, run.id)  # looking may have set it in motion again
        runs.check_writable(run)
        await self._begin(caller, run, calls, approval, summary)
        return await shielded(lambda: self._make(run, calls, progress, approval))

    async def collected(self, run_id: RunId) -> Sequence[CollectedCall]:
        """What a run has put down and not made, in its order."""
        found = await self._core.journal.find(
            CollectedCall, run_id=run_id, status=("collected", "begun"), oldest_first=True
        )
        return sorted(found, key=lambda call: call.position)

    async def throw_away(self, run: RunView, *, after: int = 0, why: str = "") -> int:
        """Forget what the run has collected after this position; how many calls that were.

        Also what a process had begun to carry out when it died: what was made of that are actions, and taken back as such.

        :raises EngineError: it is being carried out.
        """
        try:
            async with self._core.collections.hold([run.id], timeout=LOCK_SECONDS):
                calls = [call for call in await self.collected(run.run_id) if call.position > after]
                if calls:
                    await self._core.record([_ended(self._core, run, calls, "thrown_away", why)])
                return len(calls)
        except LockTimeout as error:
            raise EngineError("busy", f"Run {run.id} is being carried out.", "Wait until that is over.") from error

    async def resume_unfinished(self) -> list[RunId]:
        """Go on with what earlier processes had begun; the runs that have ended by that."""
        begun = await self._core.journal.find(CollectedCall, status="begun")
        ended: list[RunId] = []
        for run_id in dict.fromkeys(call.run_id for call in begun):
            run = await self._core.journal.get(RunView, run_id)
            if run is None or run.status not in runs.LIVE:
                continue  # contained: it goes on when a person has released it
            try:
                async with self._core.collections.hold([run_id], timeout=0):
                    calls = await self.collected(run_id)
                    outcome = await self._make(run, calls, no_progress) if calls else None
                if outcome is not None and outcome.refused is None:
                    await runs.finish(self._core, run.owner, run_id, "done", calls[0].to_finish_with)
                    ended.append(run_id)
            except LockTimeout:
                continue  # a living process is at it
            except (EngineError, JournalError) as error:
                log.warning("run %s cannot be carried out to its end now: %s", run_id, error)
        return ended

    # -- before anything is made ------------------------------------------------------------------------------------------

    async def _looked_at(
        self, run: RunView, calls: Sequence[CollectedCall], said: dict[str, list[str]]
    ) -> Sequence[CollectedCall]:
        """The calls as they would be now.

        :param said: by call: is told what the mail says that it would send.
        :raises EngineError: one cannot be made any more, is not allowed, or (staged) is not as it was staged.
        """
        news: list[BaseEvent] = []
        for number, call in enumerate(calls, start=1):
            try:
                anew = await self._pipeline.look(await self._call(call, run), self._compare(run, call, said))
            except (EngineError, ToolError, TargetError, TimeoutError, LockTimeout, ObjectError) as error:
                if call.builds_on and not isinstance(error, EngineError):
                    continue  # as when it was put down: what it builds on is not there yet
                code = getattr(error, "code", "differs")
                raise EngineError(
                    code,
                    f"Step {number} ({call.summary}) can no longer be made, so nothing was done: {sentence(str(error))}",
                    "rollback_run on this run throws what it has collected away; then collect anew.",
                ) from error
            news += [anew] if anew is not None else []
        if news:
            await self._core.journal.append(news)
            return await self.collected(run.run_id)
        return calls

    def _compare(
        self, run: RunView, call: CollectedCall, said: dict[str, list[str]]
    ) -> Callable[[Work, Prepared, Verdict, list[str]], Awaitable[CallCollected | None]]:
        async def compare(
            work: Work, prepared: Prepared, verdict: Verdict, previews: list[str]
        ) -> CallCollected | None:
            if verdict.decision in ("deny", "shadow"):
                raise EngineError("denied", f"policy rule {verdict.rule} does not allow it", "")
            said[call.id] = await quoted(self._core, prepared, most=IN_A_PLAN)
            same = approvals.target_digest(prepared.effects, prepared.counts) == call.bound
            if run.mode == "staged" and not same and not call.builds_on:
                why = fits_to(call, {}, self._name, staged=True)(
                    prepared.effects, prepared.counts, prepared.reversibility
                )
                raise EngineError("drifted", why or "it would not do what was staged any more", "")
            if same and verdict.decision == call.decision:
                return None
            return shown_anew(call, prepared, verdict, previews, self._core.now())

        return compare

    async def _begin(
        self,
        caller: Caller,
        run: RunView,
        calls: Sequence[CollectedCall],
        approval: ApprovalView | None,
        summary: str,
    ) -> None:
        core = self._core
        expect = {ViewKey("run", run.id): run.version}
        events: list[BaseEvent] = []
        if approval is not None:
            expect[ViewKey("approval", approval.id)] = approval.version
            events.append(
                ApprovalUsed(run_id=run.run_id, at=core.now(), approval_id=ApprovalId(approval.id), used_by=run.id)
            )
        events.append(
            CollectionBegun(
                run_id=run.run_id,
                at=core.now(),
                calls=tuple(ActionId(call.id) for call in calls),
                by=caller,
                approval_id=ApprovalId(approval.id) if approval is not None else None,
                summary=summary,
            )
        )
        try:
            await core.journal.append(events, expect=expect)
        except Stale as error:
            raise EngineError(
                "changed", f"Run {run.id} changed at the same moment.", "Call finish_run again."
            ) from error

    # -- making ----------------------------------------------------------------------------------------------------------

    async def _make(
        self, run: RunView, calls: Sequence[CollectedCall], progress: Progress, approval: ApprovalView | None = None
    ) -> Outcome:
        consent = calls[0].approval_id or (ApprovalId(approval.id) if approval is not None else None)
        outcome, left, earlier = Outcome(), dict[Place, State](), 0
        numbers = {call.id: number for number, call in enumerate(calls, start=1)}
        for unit in units(self._core, calls) if run.mode == "staged" else [[call] for call in calls]:
            todo: list[CollectedCall] = []
            for call in unit:
                action = await self._made_of(call)
                if action is None:
                    todo.append(call)
                elif action.status != "applied":
                    # it stays begun: what nobody knows must not be made once more
                    why = f"Nobody knows whether step {numbers[call.id]} ({call.summary}) took effect."
                    advice = f"Settle {action.id} with resolve_conflict, then call finish_run again."
                    return Outcome(outcome.made, refused=EngineError("in_doubt", why, advice))
                elif not action.stands:
                    why = f"Step {numbers[call.id]} was taken back while the rest waited."
                    outcome.refused = EngineError("taken_back", why, "")
                else:
                    left.update(left_by(action.effects))
                    earlier += 1
            if outcome.refused is None and (refused := await self._unit(run, todo, left, consent, outcome)) is not None:
                call, answer = refused
                done = earlier + len(outcome.made)
                outcome.refused = _stopped(numbers[call.id], done, len(calls), call, answer)
            if outcome.refused is not None:
                break
            await progress(earlier + len(outcome.made), len(calls), unit[-1].summary)
        await self._end(run, calls, outcome)
        return outcome

    async def _unit(
        self,
        run: RunView,
        unit: Sequence[CollectedCall],
        left: dict[Place, State],
        consent: ApprovalId | None,
        outcome: Outcome,
    ) -> tuple[CollectedCall, CallAnswer] | None:
        """Make these calls, in one step where that can be. The one that was not made, and why; `None`: all were."""
        if len(unit) > 1:
            in_turn = InTurn(left)
            calls: list[Call] = []
            for call in unit:
                fits = in_turn.fits(
                    fits_to(call, in_turn.made, self._name, staged=run.mode == "staged"), first=not calls
                )
                try:
                    calls.append(
                        await self._call(call, run, Carried(ActionId(call.id), fits, consent, shown=not call.unseen))
                    )
                except (EngineError, ObjectError) as error:
                    return call, _unmade(run, error)
            try:
                told = await self._pipeline.at_once.call(calls)
            except NotInOneStep:
                log.info("%d calls of run %s are made one after the other", len(unit), run.id)
            else:
                if isinstance(told, Refused):
                    return unit[told.index], told.answer
                outcome.made += told
                left.update(in_turn.made)
                return None
        for call in unit:
            answer = await self._one(run, call, left, consent)
            if answer.status not in GOOD:
                return call, answer
            outcome.made.append(answer)
            action = await self._made_of(call)
            if action is not None:  # not so if its idempotency key had been used before
                left.update(left_by(action.effects))
        return None

    async def _one(
        self, run: RunView, call: CollectedCall, left: dict[Place, State], consent: ApprovalId | None
    ) -> CallAnswer:
        fits = fits_to(call, left, self._name, staged=run.mode == "staged")
        carried = Carried(ActionId(call.id), fits, consent, shown=not call.unseen)
        try:
            return await self._pipeline.call(await self._call(call, run, carried))
        except (EngineError, ObjectError) as error:
            return _unmade(run, error)

    async def _end(self, run: RunView, calls: Sequence[CollectedCall], outcome: Outcome) -> None:
        if outcome.refused is None:
            await self._core.record([_ended(self._core, run, calls, "carried_out", "")])
            return
        why = outcome.refused.message
        made = {call.id: action for call in calls if (action := await self._made_of(call)) is not None}
        if run.mode != "staged":
            done = [call for call in calls if call.id in made and made[call.id].stands]
            rest = [call for call in calls if call not in done]
            events = [_ended(self._core, run, done, "carried_out", "")] if done else []
            await self._core.record([*events, _ended(self._core, run, rest, "stopped", why)])
            return
        standing = [ActionId(action.id) for action in made.values() if action.stands]
        if standing:
            back = await self._take_back(calls[0].begun_by or run.owner, standing)
            outcome.made.clear()
            told = " What had been made before was taken back."
            if back.status != "complete":
                told = (
                    " Of what had been made before not all could be taken back; takeback conflicts shows what is open."
                )
        else:
            told = " Nothing was published."
        outcome.refused = EngineError(outcome.refused.code, why + told, outcome.refused.advice)
        await self._core.record([_ended(self._core, run, calls, "taken_back", why)])

    async def _made_of(self, call: CollectedCall) -> ActionView | None:
        """The action that was made of a call, if it took effect, or nobody knows whether it did."""
        found = [
            action
            for action in await self._core.journal.find(ActionView, run_id=call.run_id, after=call.position)
            if action.parent_action_id == call.id
        ]
        for action in found:
            if action.status in ("intended", "in_doubt"):
                action = await settle(self._core, ActionId(action.id), wait=LOCK_SECONDS) or action
            if action.status in ("applied", *OPEN):
                return action
        return None

    async def _call(self, call: CollectedCall, run: RunView, carried: Carried | None = None) -> Call:
        """The call as it came.

        :raises EngineError, ObjectError: its arguments are not what they were, or its tool is not there any more.
        """
        tool = self._core.tools.get(call.tool)
        if tool is None:
            raise EngineError("unknown_tool", f"The tool {call.tool} is not installed any more.", "Install it again.")
        arguments: dict[str, JsonValue] = json.loads(await self._core.objects.get(call.arguments))
        if digest_of(tool, parse(tool, arguments)) != call.argument_digest:
            raise EngineError(
                "differs", f"The arguments of {call.tool} are not what was collected.", "Collect the call anew."
            )
        return Call(
            tool=call.tool,
            arguments=arguments,
            caller=call.caller,
            run_id=run.id,
            step=call.step,
            idempotency_key=call.idempotency_key,
            carried=carried,
        )

    def _name(self, effect: Effect) -> str:
        return self._core.display(effect.system, effect.object)


def _question(
    caller: Caller, run: RunView, calls: Sequence[CollectedCall], said: Mapping[str, Sequence[str]]
) -> approvals.Wanted:
    lines = [f"{'Publish' if run.mode == 'staged' else 'Carry out'} {len(calls)} steps, in this order:"]
    for number, call in enumerate(calls, start=1):
        worst = f"not certain: {call.unseen}" if call.unseen else call.reversibility
        lines.append(f"{number}. {call.summary} ({worst}{f': {shown(call.reason)}' if call.reason else ''})")
        lines += [f"{MARK}  {line.removeprefix(MARK)}" for line in said.get(call.id, ())]
        if call.unseen:
            lines.append(f"   {sentence(json.dumps(call.requested, ensure_ascii=False))}")
    irreversible = sum(call.reversibility == "irreversible" for call in calls)
    reason = f"{irreversible} of them cannot be taken back" if irreversible else f"the run is in mode {run.mode}"
    return approvals.Wanted(
        run_id=run.run_id,
        caller=caller,
        tool=TOOL,
        argument_digest=_digest([call.id + call.argument_digest for call in calls]),
        target_digest=_digest([call.bound + call.reversibility + call.unseen for call in calls]),
        question="\n".join(lines),
        reason=reason,
        subject="plan",
    )


def _digest(parts: Sequence[str]) -> str:
    return "blake3:" + blake3("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _unmade(run: RunView, error: EngineError | ObjectError) -> CallAnswer:
    refused = error if isinstance(error, EngineError) else EngineError("missing", str(error), error.advice)
    said = ErrorInfo(code=refused.code, message=refused.message, advice=refused.advice)
    return CallAnswer(status="failed", run_id=run.id, error=said)


def _stopped(number: int, done: int, count: int, call: CollectedCall, answer: CallAnswer) -> EngineError:
    error = answer.error
    why = error.message if error is not None else f"it was {answer.status}"
    before = f"{done} of {count} steps were made. " if done else ""
    return EngineError(
        error.code if error is not None else "differs",
        f"{before}Step {number} ({call.summary}) was not: {why}",
        error.advice if error is not None else "",
    )


def _ended(core: Core, run: RunView, calls: Sequence[CollectedCall], how: CollectionEnd, why: str) -> CollectionEnded:
    return CollectionEnded(
        run_id=run.run_id, at=core.now(), calls=tuple(ActionId(call.id) for call in calls), ended=how, why=why
    )
