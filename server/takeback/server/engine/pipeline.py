"""The life of an acting call, in nine steps: admit, validate, prepare, judge, intend, commit, check, conclude, answer.

Leaving before *commit* leaves no trace. From *intend* on every way out is an event, and everything up to *conclude* is shielded
from cancellation: a call that was cancelled tells its true outcome in the journal.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatch
from typing import Any

import anyio
from blake3 import blake3
from pydantic import BaseModel, JsonValue, ValidationError

from takeback.checkpoints.objects import ObjectError, QuotaExceeded
from takeback.journal.events import (
    ActionApplied,
    ActionDenied,
    ActionFailed,
    ActionInDoubt,
    ActionIntended,
    ActionShadowed,
    ApprovalUsed,
    BaseEvent,
    TriggerFired,
)
from takeback.journal.ids import ActionId, ApprovalId, RunId, new_action_id, new_checkpoint_id
from takeback.journal.log import JournalBroken, JournalError, Stale, ViewKey
from takeback.journal.redaction import redact
from takeback.journal.states import Compensation, Effect
from takeback.journal.views import ActionView, RunView
from takeback.server.engine import approvals, keys, runs
from takeback.server.engine.answers import CallAnswer, EngineError, ErrorInfo, UndoInfo
from takeback.server.engine.calls import Call
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.plan import object_key
from takeback.server.engine.policy import Judged, Verdict
from takeback.server.engine.report import failure_report, shown
from takeback.server.engine.seen import Seen
from takeback.server.engine.settle import settle_held
from takeback.server.engine.shield import shielded
from takeback.tools import adapt
from takeback.tools.contract import AnyTool, CallContext, Committed, Prepared, ReadTool, Target, ToolError
from takeback.tools.system import TargetError, Unavailable

log = logging.getLogger(__name__)

LOCK_SECONDS = 60.0
LONG_ARGUMENT = 2048
COMMIT_RETRIES = (0.05, 0.2)
ATTEMPTS = 6


class _Again(Exception):
    """Somebody wrote to the run, the key or the approval between our look and our intent: look again."""


@dataclass(slots=True)
class _Work:
    """What is known of the call so far."""

    call: Call
    tool: AnyTool
    arguments: Any
    argument_digest: str
    run: RunView
    action_id: ActionId
    context: CallContext
    warnings: list[str]
    expect: dict[ViewKey, int] = field(default_factory=lambda: dict[ViewKey, int]())
    targets: tuple[Target, ...] = ()
    approval_id: ApprovalId | None = None
    intended: bool = False


def parse(tool: AnyTool, arguments: dict[str, JsonValue]) -> Any:
    """The arguments as the tool's own type: strict, unknown fields refused.

    :raises EngineError: `invalid`, naming the field.
    """
    try:
        return tool.arguments.model_validate_json(json.dumps(arguments), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the arguments"
        known = ", ".join(tool.arguments.model_fields)
        raise EngineError(
            "invalid", f"{tool.name} cannot take {shown(where)}: {first['msg']}.", f"Its arguments are: {known}."
        ) from error
    except (UnicodeEncodeError, ValueError) as error:
        raise EngineError(
            "invalid", "The arguments hold text that is not valid Unicode.", "Send binary content as base64."
        ) from error


def digest_of(tool: AnyTool, arguments: BaseModel) -> str:
    """What idempotency keys and approvals are bound to: the tool and its validated arguments."""
    text = f"{tool.name}\0{tool.version}\0{arguments.model_dump_json()}"
    return "blake3:" + blake3(text.encode("utf-8", "surrogatepass")).hexdigest()


_SALT = secrets.token_bytes(16)
"""Of this process: nobody has to recognise a secret again, so nobody needs to keep it."""


def journaled(arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Arguments as the journal keeps them: secrets as digests, long texts by their beginning (the states hold them whole)."""

    def shorten(value: JsonValue) -> JsonValue:
        if isinstance(value, str) and len(value) > LONG_ARGUMENT:
            return f"{value[:200]}… ({len(value)} characters)"
        if isinstance(value, list):
            return [shorten(item) for item in value[:200]]
        if isinstance(value, dict):
            return {name: shorten(item) for name, item in value.items()}
        return value

    redacted = redact({name: shorten(value) for name, value in arguments.items()}, _SALT)
    return redacted if isinstance(redacted, dict) else {}


class Pipeline:
    """Runs acting calls for one engine."""

    def __init__(self, core: Core, seen: Seen, workspace: str) -> None:
        self._core, self._seen, self._workspace = core, seen, workspace

    async def call(self, call: Call) -> CallAnswer:
        """One call, from request to answer. What goes wrong is an answer too."""
        run_id = call.run_id or ""
        work: _Work | None = None
        try:
            for _ in range(ATTEMPTS):
                work = await self._admit(call)
                run_id = work.run.id
                try:
                    return await self._under_locks(work)
                except _Again:
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
        except (TargetError, ObjectError, JournalError) as error:
            code = "quota_exceeded" if isinstance(error, QuotaExceeded) else getattr(error, "code", "storage")
            return await self._failed(call, work, run_id, EngineError(code, _sentence(error), error.advice))

    # -- 1 admit, 2 validate --------------------------------------------------------------------------------------------

    async def _admit(self, call: Call) -> _Work:
        core = self._core
        tool = core.tools.get(call.tool)
        if tool is None or isinstance(tool, ReadTool):
            raise EngineError("unknown_tool", f"There is no acting tool {call.tool!r}.", "List the tools.")
        arguments = parse(tool, call.arguments)
        admitted = await runs.admit(core, call.caller, call.run_id, workspace=self._workspace)
        run = admitted.run
        action_id = new_action_id()
        work = _Work(
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
        if call.step is not None and run.steps and call.step not in run.steps:
            work.warnings.append(f"The step {shown(call.step)!r} is not among the planned steps of the run.")
        return work

    async def _under_locks(self, work: _Work) -> CallAnswer:
        call, core = work.call, self._core
        if call.idempotency_key is not None and not call.dry_run:
            check = await keys.check_key(core, work.run, work.tool.name, call.idempotency_key, work.argument_digest)
            if check.recorded is not None:
                return replayed(check.recorded, work.warnings)
            work.expect[check.view] = check.version
        with anyio.fail_after(work.tool.timeout):
            work.targets = tuple(await work.tool.targets(work.arguments, work.context))
        exclusive = {object_key(target.system, target.object) for target in work.targets}
        shared = {
            object_key(target.system, above)
            for target in work.targets
            if target.system in core.systems
            for above in core.systems[target.system].ancestors(target.object)
        }
        async with core.locks.hold(exclusive, shared - exclusive, timeout=LOCK_SECONDS):
            return await self._prepare(work)

    # -- 3 prepare, 4 judge -----------------------------------------------------------------------------------------------

    async def _prepare(self, work: _Work) -> CallAnswer:
        try:
            with anyio.fail_after(work.tool.timeout):
                prepared = await adapt.prepare(work.tool, work.arguments, work.context)
        except TimeoutError as error:
            raise EngineError(
                "timeout",
                f"{work.tool.name} was not ready within {work.tool.timeout:g} s.",
                "Nothing has changed; try less at once.",
            ) from error
        async with prepared:
            self._check_stale(work, prepared)
            verdict = self._judge(work, prepared)
            if work.call.dry_run or verdict.decision == "shadow":
                return await self._shadow(work, prepared)
            if verdict.decision == "deny":
                return await self._deny(work, verdict)
            if verdict.decision == "ask":
                pending = await self._ask(work, prepared, verdict)
                if pending is not None:
                    return pending
            return await shielded(lambda: self._act(work, prepared, verdict))

    def _check_stale(self, work: _Work, prepared: Prepared) -> None:
        expected = {(target.system, target.object): target.expected_digest for target in work.targets}
        for effect in prepared.effects:
            if effect.before.kind == "opaque":
                continue
            place = (effect.system, effect.object)
            digest = effect.before.content or effect.before.digest
            wanted = expected.get(place)
            if wanted is not None and wanted != digest:
                raise EngineError(
                    "stale_read",
                    f"{shown(effect.object)} is not the content that expected_digest names.",
                    "Read it again, then decide again.",
                )
            last = self._seen.last(work.call.caller, *place)
            # where nothing stands, nothing unseen can be overwritten (and there is nothing to read again)
            if wanted is None and last is not None and last != digest and not effect.before.absent:
                raise EngineError(
                    "stale_read",
                    f"{shown(effect.object)} was changed by somebody else since you last read it.",
                    "Read it again, so that their change is not overwritten unseen.",
                )

    def _judge(self, work: _Work, prepared: Prepared) -> Verdict:
        run = work.run
        for effect in prepared.effects:
            if run.scope and not any(_in_scope(effect.object, scope) for scope in run.scope):
                return Verdict("deny", "default.scope", f"{shown(effect.object)} lies outside the scope of the run")
        return self._core.policy.judge(
            Judged(
                tool=work.tool.name,
                known=True,
                caller=work.call.caller,
                mode=run.mode,
                scope=run.scope,
                effects=prepared.effects,
                reversibility=prepared.reversibility,
                reason=prepared.reason,
            )
        )

    async def _previews(self, prepared: Prepared) -> list[str]:
        return [
            "\n".join(shown(line) for line in (preview.title, *preview.diff.splitlines()))
            for preview in await prepared.preview()
        ]

    async def _shadow(self, work: _Work, prepared: Prepared) -> CallAnswer:
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

    async def _deny(self, work: _Work, verdict: Verdict) -> CallAnswer:
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
                advice="Do something else, or ask the person in charge of the policy.",
            ),
        )

    async def _ask(self, work: _Work, prepared: Prepared, verdict: Verdict) -> CallAnswer | None:
        previews = await self._previews(prepared)
        titles = "; ".join(text.split("\n")[0] for text in previews) or work.tool.title
        approval = await approvals.find_or_ask(
            self._core,
            approvals.Wanted(
                run_id=work.run.run_id,
                caller=work.call.caller,
                tool=work.tool.name,
                argument_digest=work.argument_digest,
                target_digest=approvals.target_digest(prepared.effects),
                question=f"{titles}\nThis is {prepared.reversibility}: {verdict.reason or prepared.reason}",
                reason=verdict.reason or prepared.reason,
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

    # -- 5 intend, 6 commit, 7 check, 8 conclude, 9 answer (shielded) -------------------------------------------------------

    async def _act(self, work: _Work, prepared: Prepared, verdict: Verdict) -> CallAnswer:
        await self._intend(work, prepared, verdict)
        try:
            committed = await self._commit(work, prepared)
        except ToolError as error:
            await self._conclude_failed(work, error)
            raise
        except (Exception, anyio.get_cancelled_exc_class()) as error:  # the world has to be asked what came of it
            log.warning("%s broke off in its commit: %s", work.tool.name, type(error).__name__)
            return await self._after_break(work, error)
        return await self._conclude(work, prepared, committed)

    async def _intend(self, work: _Work, prepared: Prepared, verdict: Verdict) -> None:
        events: list[BaseEvent] = []
        if work.approval_id is not None:
            events.append(
                ApprovalUsed(
                    run_id=work.run.run_id, at=self._core.now(), approval_id=work.approval_id, used_by=work.action_id
                )
            )
        strategies = {"reversible": "restore", "compensable": "compensate", "irreversible": "none"}
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
                compensation=Compensation.model_validate(
                    {
                        "strategy": strategies[prepared.reversibility],
                        "how": prepared.how,
                        "allowed_until": self._until(prepared),
                    }
                ),
                idempotency_key=work.call.idempotency_key,
                policy_rule=verdict.rule,
                approval_id=work.approval_id,
                locks=tuple(sorted({object_key(target.system, target.object) for target in work.targets})),
            )
        )
        try:
            await self._core.journal.append(events, blobs=prepared.blobs, expect=work.expect)
        except Stale as error:
            raise _Again from error
        work.intended = True

    async def _commit(self, work: _Work, prepared: Prepared) -> Committed:
        for pause in (*COMMIT_RETRIES, None):
            try:
                with anyio.fail_after(work.tool.timeout):
                    committed = await prepared.commit()
            except ToolError as error:
                # nothing happened; what was only out of reach for a moment is tried again
                if error.code != Unavailable.code or pause is None:
                    raise
                await anyio.sleep(pause)
            else:
                return committed
        raise AssertionError("the last attempt returns or raises")

    async def _conclude(self, work: _Work, prepared: Prepared, committed: Committed) -> CallAnswer:
        core = self._core
        checkpoint_id = new_checkpoint_id()
        mismatches = _mismatches(prepared.effects, committed.effects)
        warnings = [*work.warnings, *committed.warnings]
        answer: dict[str, JsonValue] = committed.result.model_dump(mode="json")
        events: list[BaseEvent] = []
        if mismatches:
            warnings.append(
                f"Right after the act these were no longer as it left them: {', '.join(map(shown, mismatches))}."
            )
            events.append(
                TriggerFired(
                    run_id=work.run.run_id,
                    at=core.now(),
                    trigger="failed_postcondition",
                    answer="warn",
                    evidence={"objects": list(mismatches)},
                    action_id=work.action_id,
                )
            )
        stored = redact(answer, _SALT)
        events.append(
            ActionApplied(
                run_id=work.run.run_id,
                at=core.now(),
                action_id=work.action_id,
                checkpoint_id=checkpoint_id,
                effects=prepared.effects if mismatches else committed.effects,
                outcome=committed.outcome,
                answer=stored if isinstance(stored, dict) else {},
                summary=committed.summary,
                digest=committed.digest,
                warnings=tuple(warnings),
            )
        )
        try:
            await core.journal.append(events)
        except JournalError as error:
            return self._undurable(work, error)
        self._seen.note_effects(work.call.caller, committed.effects)
        return CallAnswer(
            status="applied",
            run_id=work.run.id,
            action_id=work.action_id,
            checkpoint_id=checkpoint_id,
            reversibility=prepared.reversibility,
            undo=UndoInfo(how=prepared.how, until=self._until(prepared))
            if prepared.reversibility != "irreversible"
            else None,
            summary=committed.summary,
            result=answer,
            digest=committed.digest,
            warnings=warnings,
        )

    def _until(self, prepared: Prepared) -> str | None:
        if prepared.reversibility == "irreversible":
            return None
        return rfc3339(self._core.now() + timedelta(days=self._core.settings.limits.keep_days))

    # -- what can go wrong ------------------------------------------------------------------------------------------------

    async def _conclude_failed(self, work: _Work, error: ToolError) -> None:
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

    async def _after_break(self, work: _Work, error: BaseException) -> CallAnswer:
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
            return self._undurable(work, broken)
        status = action.status if action is not None else "in_doubt"
        if action is not None and status == "applied":
            return replayed(
                action, [*work.warnings, "The act broke off on the way, but it took effect."], status="applied"
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
            report=await self._report(work.run.run_id),
        )

    def _undurable(self, work: _Work, error: JournalError) -> CallAnswer:
        return CallAnswer(
            status="in_doubt",
            run_id=work.run.id,
            action_id=work.action_id,
            warnings=work.warnings,
            error=ErrorInfo(
                code="journal_broken" if isinstance(error, JournalBroken) else "journal",
                message="The change was made, but its outcome could not be written down.",
                advice=error.advice,
            ),
        )

    async def _failed(self, call: Call, work: _Work | None, run_id: str, error: EngineError) -> CallAnswer:
        """Answer a failure before or without an effect; it is journaled if there is a run to journal it in."""
        status = "denied" if error.code in ("contained", "denied") else "failed"
        report = None
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
                    intended=False,
                )
                try:
                    await self._core.journal.append([event])
                except JournalError as broken:
                    log.warning("a failed call could not be journaled: %s", broken)
            report = await self._report(work.run.run_id)
        return CallAnswer(
            status=status,
            run_id=run_id,
            action_id=work.action_id if work else None,
            warnings=work.warnings if work else [],
            error=ErrorInfo(code=error.code, message=error.message, advice=error.advice),
            report=report,
        )

    async def _report(self, run_id: RunId) -> Any:
        core = self._core
        try:
            run = await core.journal.get(RunView, run_id)
            if run is None:
                return None
            actions = await core.journal.find(ActionView, run_id=run_id, oldest_first=True)
            return failure_report(run, actions, [], core.now())
        except JournalError:
            return None  # the failure itself is answered all the same


def replayed(action: ActionView, warnings: list[str], *, status: str = "replayed") -> CallAnswer:
    """The recorded answer of an action that has been done already."""
    return CallAnswer.model_validate(
        {
            "status": status,
            "run_id": action.run_id,
            "action_id": action.id,
            "checkpoint_id": action.checkpoint_id,
            "reversibility": action.reversibility,
            "undo": {"how": action.compensation.how, "until": action.compensation.allowed_until}
            if action.compensation and action.reversibility != "irreversible"
            else None,
            "summary": action.summary,
            "result": dict(action.answer) or None,
            "digest": action.digest,
            "warnings": [*warnings, *action.warnings],
        }
    )


def _mismatches(intended: tuple[Effect, ...], observed: tuple[Effect, ...]) -> tuple[str, ...]:
    seen = {(effect.system, effect.object): effect.after for effect in observed}
    return tuple(
        effect.object
        for effect in intended
        if (found := seen.get((effect.system, effect.object))) is None or not found.same(effect.after)
    )


def _in_scope(object: str, scope: str) -> bool:
    return object == scope or object.startswith(scope.rstrip("/") + "/") or fnmatch(object, scope)


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if text.endswith(".") else text + "."
