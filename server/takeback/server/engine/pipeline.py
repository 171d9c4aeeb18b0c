"""The life of an acting call, in nine steps: admit, validate, prepare, judge, intend, commit, check, conclude, answer.

The first four are here, the others in `acting.py`. Leaving before *commit* leaves no trace.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import anyio

from takeback.checkpoints.objects import ObjectError, QuotaExceeded
from takeback.journal.events import ActionDenied, ActionFailed, ActionShadowed, RunMode
from takeback.journal.ids import ActionId, ApprovalId, RunId, new_action_id
from takeback.journal.log import JournalError, ViewKey
from takeback.server.engine import approvals, keys, outgoing, runs
from takeback.server.engine.acting import Actor
from takeback.server.engine.answers import CallAnswer, EngineError, ErrorInfo, UndoInfo
from takeback.server.engine.at_once import AtOnce, Steps
from takeback.server.engine.calls import Call
from takeback.server.engine.collecting import Collector, check_carried, strictest
from takeback.server.engine.core import Core
from takeback.server.engine.guard import Guard
from takeback.server.engine.labels import labels_of
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.plan import object_key
from takeback.server.engine.policy import Judged, Verdict
from takeback.server.engine.quoting import quoted
from takeback.server.engine.report import sentence, shown
from takeback.server.engine.reporting import report_of
from takeback.server.engine.scope import outside
from takeback.server.engine.seen import Seen
from takeback.server.engine.shield import shielded
from takeback.server.engine.stages import Stages
from takeback.server.engine.staleness import check_stale
from takeback.server.engine.work import Again, Work, digest_of, journaled, parse, replayed, where
from takeback.tools import adapt
from takeback.tools.contract import CallContext, Prepared, ReadTool, ToolError
from takeback.tools.outbox import acts
from takeback.tools.system import TargetError

log = logging.getLogger(__name__)

T = TypeVar("T")

LOCK_SECONDS = 60.0
ATTEMPTS = 6


class Pipeline:
    """Runs acting calls for one engine."""

    def __init__(self, core: Core, seen: Seen, workspace: str, guard: Guard) -> None:
        self._core, self._seen, self._workspace, self._guard = core, seen, workspace, guard
        self._actor = Actor(core, seen, guard)
        self._collector = Collector(core)
        self.stages = Stages(core)
        self.at_once = AtOnce(
            core, seen, guard, self._actor, Steps(self._admit, self._locks, self._judge, self._failed)
        )

    async def call(self, call: Call) -> CallAnswer:
        """One call, from request to answer. What goes wrong is an answer too."""
        run_id = call.run_id or ""
        work: Work | None = None
        try:
            for _ in range(ATTEMPTS):
                work = await self._admit(call)
                run_id = work.run.id
                try:
                    if self._collector.collects(work):
                        async with self._collector.alone(work):
                            return await self._under_locks(work)
                    answer = await self._guard.settled(work, await self._under_locks(work))
                    if answer.status == "failed" and answer.report is None:  # taken back by a check of the user's
                        answer.report = await report_of(self._core, work.run.run_id)
                    return answer
                except Again:
                    continue
            raise EngineError("busy", "Other calls kept changing the same run.", "Repeat the call in a moment.")
        except EngineError as error:
            return await self._failed(call, work, run_id, error)
        except ToolError as error:
            return await self._failed(call, work, run_id, EngineError(error.code, str(error), error.advice))
        except TimeoutError:
            failure = EngineError("timeout", f"{call.tool} took too long.", "Nothing has changed; try less at once.")
            return await self._failed(call, work, run_id, failure)
        except LockTimeout as error:
            failure = EngineError("locked", f"Could not start: {error}.", "Repeat the call when the other one is done.")
            return await self._failed(call, work, run_id, failure)
        except (TargetError, ObjectError, JournalError) as error:  # before the intent: nothing has happened
            code = "quota_exceeded" if isinstance(error, QuotaExceeded) else getattr(error, "code", "storage")
            return await self._failed(call, work, run_id, EngineError(code, _sentence(error), error.advice))
        except Exception as error:
            # a fault of a tool before its intent: the preparation was dropped, so nothing has happened
            log.error("%s failed unexpectedly: %s", call.tool, where(error))
            why = f"{call.tool} failed unexpectedly ({type(error).__name__}) before it did anything."
            return await self._failed(call, work, run_id, EngineError("internal", why, "Tell whoever wrote the tool."))

    # -- 1 admit, 2 validate --------------------------------------------------------------------------------------------

    async def _admit(self, call: Call) -> Work:
        core = self._core
        tool = core.tools.get(call.tool)
        if tool is None or isinstance(tool, ReadTool):
            raise EngineError("unknown_tool", f"There is no acting tool {call.tool!r}.", "List the tools.")
        arguments = parse(tool, call.arguments)
        admitted = await runs.admit(core, call.caller, call.run_id, workspace=self._workspace)
        run = admitted.run
        action_id = new_action_id()
        work = Work(
            call=call,
            tool=tool,
            arguments=arguments,
            argument_digest=digest_of(tool, arguments),
            run=run,
            action_id=action_id,
            context=CallContext(
                run_id=run.run_id,
                action_id=action_id,
                caller=call.caller,
                objects=core.objects,
                progress=call.progress,
            ),
            warnings=list(admitted.warnings),
            expect={ViewKey("run", run.id): run.version},
        )
        await self._guard.admit(work)
        if call.step is not None and run.steps and call.step not in run.steps:
            work.warnings.append(f"The step {shown(call.step)!r} is not among the planned steps of the run.")
        return work

    async def look(self, call: Call, at: Callable[[Work, Prepared, Verdict, list[str]], Awaitable[T]]) -> T:
        """Prepare and judge a call under its locks, let it be looked at with its previews, and drop it. Nothing is journaled.

        :raises EngineError, ToolError, TargetError, TimeoutError, LockTimeout: it cannot be prepared.
        """
        work = await self._admit(call)
        async with self._locks(work), await self._ready(work) as prepared:
            outgoing.said_as_it_is(prepared)
            return await at(work, prepared, self._judge(work, prepared), await self._previews(prepared))

    async def _under_locks(self, work: Work) -> CallAnswer:
        call, core = work.call, self._core
        if call.idempotency_key is not None and not call.dry_run:
            check = await keys.check_key(core, work.run, work.tool.name, call.idempotency_key, work.argument_digest)
            if check.recorded is not None:
                return replayed(check.recorded, work.warnings)
            work.expect[check.view] = check.version
        async with self._locks(work):
            return await self._prepare(work)

    @asynccontextmanager
    async def _locks(self, work: Work) -> AsyncGenerator[None, None]:
        core = self._core
        with anyio.fail_after(work.tool.timeout):
            work.targets = work.context.targets = tuple(await work.tool.targets(work.arguments, work.context))
        exclusive = set(work.lock_names())
        shared = {
            object_key(target.system, above)
            for target in work.targets
            if target.system in core.systems
            for above in core.systems[target.system].ancestors(target.object)
        }
        async with core.locks.hold(exclusive, shared - exclusive, timeout=LOCK_SECONDS):
            yield

    # -- 3 prepare, 4 judge -----------------------------------------------------------------------------------------------

    async def _ready(self, work: Work) -> Prepared:
        try:
            with anyio.fail_after(work.tool.timeout):
                prepared = await adapt.prepare(work.tool, work.arguments, work.context)
                if isinstance(prepared, adapt.MemoPrepared) and acts.holds(work.tool):
                    core = self._core
                    prepared = await acts.hold(
                        prepared, core.outbox, core.objects, reference=work.action_id, settings=core.settings.outbox
                    )
                return prepared
        except TimeoutError as error:
            raise EngineError(
                "timeout",
                f"{work.tool.name} was not ready within {work.tool.timeout:g} s.",
                "Nothing has changed; try less at once.",
            ) from error

    async def _prepare(self, work: Work) -> CallAnswer:
        carried, collects = work.call.carried, self._collector.collects(work)
        if collects:
            return await self._collect(work)
        if work.call.dry_run and work.run.mode == "staged":
            async with self.stages.prepared(work) as shown_in:
                if shown_in is not None:
                    return await self._shadow(work, shown_in.prepared, self._judge(work, shown_in.prepared))
        async with await self._ready(work) as prepared:
            outgoing.said_as_it_is(prepared)
            self._guard.check_held(work, prepared)
            check_stale(self._core, work, prepared, self._seen)
            verdict = self._judge(work, prepared)
            if work.call.dry_run or verdict.decision == "shadow":
                return await self._shadow(work, prepared, verdict)
            if verdict.decision == "deny":
                return await self._deny(work, verdict)
            if carried is not None:
                check_carried(carried, prepared, verdict)
            elif verdict.decision == "ask":
                pending = await self._ask(work, prepared, verdict)
                if pending is not None:
                    return pending
            await self._guard.before(work, prepared)
            return await shielded(lambda: self._actor.act(work, prepared, verdict))

    async def _collect(self, work: Work) -> CallAnswer:
        """Put a call of a planned or staged run down, instead of making it."""
        if (repeated := await self._collector.admit(work)) is not None:
            return repeated
        async with self.stages.prepared(work) as shown_in, AsyncExitStack() as stack:
            found: list[Verdict] = []
            if shown_in is not None:
                check_stale(self._core, work, shown_in.prepared, shown_in.view.seen)
                found.append(self._judge(work, shown_in.prepared))
            prepared: Prepared | None = None
            why = ""
            try:
                real = prepared = await stack.enter_async_context(await self._ready(work))
            except (ToolError, TargetError) as error:
                if not await self._collector.builds(work):
                    raise
                why = sentence(str(error))
            else:
                outgoing.said_as_it_is(real)
                if shown_in is None:
                    check_stale(self._core, work, real, self._seen)
                found.append(self._judge(work, real))
            verdict = strictest(found)
            if verdict is not None and verdict.decision == "deny":
                return await self._deny(work, verdict)
            if verdict is not None and verdict.decision == "shadow" and prepared is not None:
                return await self._shadow(work, prepared, verdict)
            seen_best = shown_in.prepared if shown_in is not None else prepared
            previews = await self._previews(seen_best) if seen_best is not None else []
            return await self._collector.put_down(work, prepared, why, verdict, previews, shown_in)

    def _judge(self, work: Work, prepared: Prepared, *, mode: RunMode | None = None) -> Verdict:
        run = work.run
        effects = acts.foreseen(prepared.effects)
        if (beyond := outside(self._core, run.scope, effects)) is not None:
            why = f"{shown(beyond.shown)} lies outside the scope of the run"
            return Verdict("deny", "default.scope", why, shown(beyond.advice))
        return self._core.policy.judge(
            Judged(
                tool=work.tool.name,
                known=True,
                caller=work.call.caller,
                mode=mode or run.mode,
                scope=run.scope,
                effects=effects,
                labels=tuple(labels_of(self._core.settings, effect) for effect in effects),
                reversibility=prepared.reversibility,
                reason=prepared.reason,
                counts=prepared.counts,
                at=self._core.now(),
                # an agent that lets nobody the time to think is as good as one that sends at once
                held=outgoing.has_window(prepared.effects, least=self._core.settings.outbox.hold_seconds),
            )
        )

    async def _previews(self, prepared: Prepared) -> list[str]:
        return [
            "\n".join(shown(line) for line in (preview.title, *preview.diff.splitlines()))
            for preview in await prepared.preview()
        ]

    async def _shadow(self, work: Work, prepared: Prepared, verdict: Verdict) -> CallAnswer:
        if work.run.mode == "shadow":
            verdict = self._judge(work, prepared, mode="act")
        previews = await self._previews(prepared)
        summary = "Nothing was done. It would: " + (
            "; ".join(text.split("\n")[0] for text in previews) or "change nothing"
        )
        await self._core.journal.append(
            [
                ActionShadowed(
                    run_id=work.run.run_id,
                    at=self._core.now(),
                    action_id=work.action_id,
                    tool=work.tool.name,
                    requested=journaled(work.call.arguments),
                    effects=prepared.effects,
                    reversibility=prepared.reversibility,
                    reason=prepared.reason,
                    summary=summary,
                    step=work.call.step,
                    how=prepared.how,
                    policy_rule=verdict.rule,
                    would=verdict.decision,
                    counts=dict(prepared.counts),
                )
            ]
        )
        return CallAnswer(
            status="shadowed",
            run_id=work.run.id,
            action_id=work.action_id,
            reversibility=prepared.reversibility,
            undo=UndoInfo(how=prepared.how),
            summary=summary,
            preview=previews,
            warnings=[*work.warnings, *([prepared.reason] if prepared.reason else [])],
        )

    async def _deny(self, work: Work, verdict: Verdict) -> CallAnswer:
        await self._core.journal.append(
            [
                ActionDenied(
                    run_id=work.run.run_id,
                    at=self._core.now(),
                    action_id=work.action_id,
                    tool=work.tool.name,
                    requested=journaled(work.call.arguments),
                    policy_rule=verdict.rule,
                    reason=verdict.reason,
                    step=work.call.step,
                )
            ]
        )
        return CallAnswer(
            status="denied",
            run_id=work.run.id,
            action_id=work.action_id,
            warnings=work.warnings,
            error=ErrorInfo(
                code="denied",
                message=f"Policy rule {verdict.rule} forbids this: {verdict.reason or 'no reason given'}.",
                advice=verdict.advice or "Do something else, or ask the person in charge of the policy.",
            ),
        )

    async def _ask(self, work: Work, prepared: Prepared, verdict: Verdict) -> CallAnswer | None:
        previews = await self._previews(prepared)
        titles = "; ".join(text.split("\n")[0] for text in previews) or work.tool.title
        why = shown(verdict.reason or prepared.reason)  # it may name what others have named
        approval = await approvals.find_or_ask(
            self._core,
            approvals.Wanted(
                run_id=work.run.run_id,
                caller=work.call.caller,
                tool=work.tool.name,
                argument_digest=work.argument_digest,
                target_digest=approvals.target_digest(prepared.effects, prepared.counts),
                question="\n".join(
                    [approvals.question_of(titles, prepared, verdict), *await quoted(self._core, prepared)]
                ),
                reason=why,
            ),
        )
        if approval.status == "granted":
            work.approval_id = ApprovalId(approval.id)
            work.expect[ViewKey("approval", approval.id)] = approval.version
            return None
        denied = approval.status == "denied"
        return CallAnswer(
            status="denied" if denied else "pending_approval",
            run_id=work.run.id,
            reversibility=prepared.reversibility,
            approval_id=approval.id,
            question=approval.question,
            preview=previews,
            warnings=work.warnings,
            error=ErrorInfo(
                code="denied" if denied else "pending_approval",
                message="A person refused this." if denied else f"A person has to approve this first ({approval.id}).",
                advice="Do not repeat it; ask the person what they want instead."
                if denied
                else f"Ask the person to run `takeback approve {approval.id}`, then repeat exactly the same call.",
            ),
        )

    async def _failed(self, call: Call, work: Work | None, run_id: str, error: EngineError) -> CallAnswer:
        """Answer a failure before or without an effect; it is journaled if there is a run to journal it in."""
        status = "denied" if error.code in ("contained", "denied", "too_many_questions") else "failed"
        report, action_id = None, work.action_id if work else None
        if work is None and error.code == "contained" and call.run_id is not None:
            action_id = new_action_id()
            await self._record_refusal(call, action_id, RunId(call.run_id), error)
        if work is not None and error.code != "busy":
            if not work.intended:
                event = ActionFailed(
                    run_id=work.run.run_id,
                    at=self._core.now(),
                    action_id=work.action_id,
                    tool=work.tool.name,
                    code=error.code,
                    message=error.message,
                    advice=error.advice,
                    step=call.step,
                    requested=journaled(call.arguments),
                    intended=False,
                )
                try:
                    await self._core.journal.append([event])
                except JournalError as broken:
                    log.warning("a failed call could not be journaled: %s", broken)
            report = await report_of(self._core, work.run.run_id)
        answer = CallAnswer(
            status=status,
            run_id=run_id,
            action_id=action_id,
            warnings=work.warnings if work else [],
            error=ErrorInfo(code=error.code, message=error.message, advice=error.advice),
            report=report,
        )
        if work is None:
            return answer
        answer = await self._guard.settled(work, answer)
        if work.take_back:  # where the run stands is another thing now
            answer.report = await report_of(self._core, work.run.run_id)
        return answer

    async def _record_refusal(self, call: Call, action_id: ActionId, run_id: RunId, error: EngineError) -> None:
        """What a contained run (or one beside it) tried: whoever decides about it will want to know."""
        event = ActionDenied(
            run_id=run_id,
            at=self._core.now(),
            action_id=action_id,
            tool=call.tool,
            requested=journaled(call.arguments),
            policy_rule="containment",
            reason=error.message,
            step=call.step,
        )
        try:
            await self._core.journal.append([event])
        except JournalError as broken:
            log.warning("a refused call could not be journaled: %s", broken)


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if text.endswith(".") else text + "."
