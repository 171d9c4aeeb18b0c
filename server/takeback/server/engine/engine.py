"""The engine: everything takeback can do, for whoever asks. It knows nothing of MCP, terminals or web pages.

The MCP surface, the command line and the page are three doors into this one class. Each method checks the caller against the
owner of what is asked for: foreign and unknown ids give the same answer.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Literal, Self

import anyio
from pydantic import BaseModel, JsonValue

from takeback.journal.events import Caller, CheckpointNamed, OnFailure, RunMode
from takeback.journal.guarding import HoldKind
from takeback.journal.ids import ActionId, CheckpointId, RollbackId, new_checkpoint_id
from takeback.journal.log import JournalError
from takeback.journal.views import ApprovalView, Hold, RunView
from takeback.server.engine import approvals, containment, holds, queries, runs
from takeback.server.engine.answers import (
    ApprovalInfo,
    Brief,
    CallAnswer,
    CheckpointPage,
    EngineError,
    ErrorInfo,
    FailureReport,
    NamedCheckpoint,
    OpenItemAnswer,
    OpenThing,
    ReadAnswer,
    RollbackAnswer,
    RunDetail,
    RunPage,
    ShadowLog,
    StartedRun,
    VersionPage,
)
from takeback.server.engine.calls import NO_ACTION, NO_RUN, Call, Progress, no_progress
from takeback.server.engine.care import tend_forever
from takeback.server.engine.carrying import Carrier
from takeback.server.engine.checks.running import Checked
from takeback.server.engine.conflicts import Choice, Conflicts
from takeback.server.engine.core import Core
from takeback.server.engine.dead_letters import everything_open, settle
from takeback.server.engine.desk import Desk
from takeback.server.engine.finishing import end_collecting, made_of, throwing_away
from takeback.server.engine.garbage import seldom_collected
from takeback.server.engine.guard import Guard
from takeback.server.engine.incident import Incident
from takeback.server.engine.open import Opened, open_core, workspace_name
from takeback.server.engine.pipeline import Pipeline
from takeback.server.engine.recovery import Recovery
from takeback.server.engine.reporting import report_run, stored_content
from takeback.server.engine.resume import resume_from
from takeback.server.engine.rollback import Rollbacks, wish_for_redo
from takeback.server.engine.scope import resolved
from takeback.server.engine.seen import Seen
from takeback.server.engine.select import wish_for_rollback
from takeback.server.engine.settle import settle_all
from takeback.server.engine.shadows import shadow_log
from takeback.server.engine.takeover import Takeover
from takeback.server.engine.told import rollback_told
from takeback.server.engine.versions import restore_version
from takeback.server.engine.work import parse, where
from takeback.server.settings import Settings
from takeback.tools.contract import AnyTool, CallContext, ReadTool, ToolError
from takeback.tools.system import TargetError

log = logging.getLogger(__name__)

CLOSE_SECONDS = 3.0


class Engine:
    """Open it with `Engine.open`; end with `close`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self.core: Core = opened.core
        """For the command line's care commands: journal, objects, systems, settings."""
        self._seen = Seen()
        self._workspace = workspace_name(opened.core.settings)
        self._rollbacks = Rollbacks(self.core, self._seen)
        self._guard = Guard(self.core, self._rollbacks)
        self._pipeline = Pipeline(self.core, self._seen, self._workspace, self._guard)
        self._carrier = Carrier(self.core, self._pipeline, self._taken_back)
        self._conflicts = Conflicts(self.core, self._seen)
        self.desk = Desk(self.core)
        """What a person can do to held messages."""
        self.takeover = Takeover(self.core)
        """Taking a run over, and returning it."""
        self.incident = Incident(self.core, self._rollbacks, self._guard.checks)
        """The parts of recovering from a run that did damage."""
        self.held: Callable[[], object] = lambda: None
        """Called when a message is held: whoever serves keeps a sender at work."""
        self._in_flight = 0
        self._closing = False
        self._idle = anyio.Event()
        self._recovery: Recovery | None = None

    @classmethod
    async def open(cls, settings: Settings, *, recover: bool = True, recover_within: float | None = None) -> Self:
        """Open journal, objects and families; settle what an earlier process left in doubt (unless `recover=False`).

        :param recover_within: seconds to wait for that; what takes longer, because a system is away, goes on beside the first
            calls, as it would beside those of another process. Without it the end is waited for.
        :raises JournalError, ObjectError, TargetError, DefinitionError: the data directory or a family cannot be opened.
        """
        engine = cls(await open_core(settings))
        try:
            if recover and recover_within is not None:
                engine._recovery = Recovery(engine.recover())
                await engine._recovery.wait(recover_within)
            elif recover:
                await engine.recover()
        except BaseException:
            await engine._let_go()
            raise
        return engine

    async def recover(self) -> None:
        """Settle actions, finish rollbacks and resolutions that no living process is working on; end idle runs."""
        for action in await settle_all(self.core):
            log.warning("action %s was left open by an earlier process: %s", action.id, action.status)
        for answer in await self._rollbacks.resume_unfinished():
            log.warning("rollback %s was finished: %s", answer.rollback_id, answer.status)
        for answer in await self._guard.resume_unfinished():
            log.warning(
                "run %s was taken back, as the trigger demands that contained it: %s", answer.run_id, answer.status
            )
        await self._conflicts.finish_unfinished()
        for run_id in await self._carrier.resume_unfinished():
            log.warning("run %s, whose process had died over it, was carried out to its end", run_id)
        await runs.tidy(self.core)

    async def tend(self) -> None:
        """Care for the data directory until cancelled (`care.py`); for servers that stay up."""
        await tend_forever(self.core)

    async def close(self) -> None:
        """Take no more calls, wait for what is in flight (up to 3 s), then let go of everything."""
        self._closing = True
        if self._in_flight:
            with anyio.move_on_after(CLOSE_SECONDS):
                await self._idle.wait()
        await self._let_go()

    async def _let_go(self) -> None:
        if self._recovery is not None:
            await self._recovery.stop()
        await self._opened.close()

    @asynccontextmanager
    async def _busy(self) -> AsyncGenerator[None, None]:
        if self._closing:
            raise EngineError("closing", "The server is shutting down.", "Start it again and repeat the call.")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if self._closing and not self._in_flight:
                self._idle.set()

    @asynccontextmanager
    async def _taking_back(self) -> AsyncGenerator[None, None]:
        async with self._busy():
            with seldom_collected():
                yield
            if await self.core.outbox.waiting():  # a redo holds messages again
                self.held()

    # -- tools --------------------------------------------------------------------------------------------------------

    @property
    def tools(self) -> Sequence[AnyTool]:
        """The wrapped tools of the families that are on, in fixed order."""
        return tuple(self.core.tools.values())

    async def call(self, call: Call) -> CallAnswer:
        """One acting call: the nine steps. Errors are answers, not exceptions."""
        try:
            async with self._busy():
                answer = await self._pipeline.call(call)
                if answer.status == "held":
                    self.held()
                return answer
        except EngineError as error:
            return CallAnswer(
                status="failed",
                run_id=call.run_id or "",
                error=ErrorInfo(code=error.code, message=error.message, advice=error.advice),
            )

    async def read(self, call: Call) -> ReadAnswer:
        """One reading call. Errors are answers, not exceptions."""
        try:
            async with self._busy():
                return ReadAnswer(result=await self._read(call))
        except EngineError as error:
            return ReadAnswer(error=ErrorInfo(code=error.code, message=error.message, advice=error.advice))
        except (ToolError, TargetError) as error:
            return ReadAnswer(error=ErrorInfo(code=error.code, message=str(error), advice=error.advice))
        except TimeoutError:
            return ReadAnswer(
                error=ErrorInfo(code="timeout", message=f"{call.tool} took too long.", advice="Ask for less at once.")
            )
        except Exception as error:
            log.error("%s failed unexpectedly: %s", call.tool, where(error))
            why = f"{call.tool} failed unexpectedly ({type(error).__name__})."
            return ReadAnswer(error=ErrorInfo(code="internal", message=why, advice="Tell whoever wrote the tool."))

    async def _read(self, call: Call) -> dict[str, JsonValue]:
        tool = self.core.tools.get(call.tool)
        if not isinstance(tool, ReadTool):
            raise EngineError("unknown_tool", f"There is no reading tool {call.tool!r}.", "List the tools.")
        await holds.check_read(self.core, call.caller, tool)
        arguments = parse(tool, call.arguments)
        staged = await self._pipeline.stages.read(call, arguments)
        if staged is not None:
            return staged.model_dump(mode="json")
        context = CallContext(
            run_id=NO_RUN,
            action_id=NO_ACTION,
            caller=call.caller,
            objects=self.core.objects,
            progress=call.progress,
        )
        with anyio.fail_after(tool.timeout):
            result: BaseModel = await tool.run(arguments, context)
        self._seen.note(call.caller, context.seen)
        return result.model_dump(mode="json")

    # -- runs ---------------------------------------------------------------------------------------------------------

    async def start_run(
        self,
        caller: Caller,
        goal: str,
        *,
        steps: Sequence[str] = (),
        scope: Sequence[str] = (),
        parent_run_id: str | None = None,
        on_failure: OnFailure = "report",
        mode: RunMode = "act",
    ) -> StartedRun:
        """Open a run of its own; everything done under its id can be taken back as one.

        :param scope: what the run may change (see `scope.py`); empty: no bound of its own.
        :raises EngineError: an empty goal, a foreign parent, a mode that is not offered.
        """
        run = await runs.start(
            self.core,
            caller,
            goal,
            workspace=self._workspace,
            steps=steps,
            scope=[resolved(self.core, place) for place in scope],
            parent_run_id=parent_run_id,
            on_failure=on_failure,
            mode=mode,
        )
        checkpoint = await self.create_checkpoint(caller, run.id, "start", next_step=steps[0] if steps else None)
        return StartedRun(
            run_id=run.id,
            status=run.status,
            checkpoint_id=checkpoint.checkpoint_id,
            text=f"Run {run.id} is open: pass it as run_id with every call.",
        )

    async def finish_run(
        self,
        caller: Caller,
        run_id: str,
        *,
        status: Literal["done", "failed", "abandoned"] = "done",
        summary: str = "",
        progress: Progress = no_progress,
    ) -> StartedRun:
        """End a run. If it failed and was started with `on_failure="rollback"`, it is taken back at once.

        What a planned or staged run has collected is carried out first, or thrown away if it did not end as done; if that waits
        for a person, or stops on the way, the run goes on and the answer says why.

        :raises EngineError: unknown or foreign, or it has ended already.
        """
        early, outcome = await end_collecting(self.core, self._carrier, caller, run_id, status, summary, progress)
        if any(answer.status == "held" for answer in outcome.made):
            self.held()
        if early is not None:
            return early
        run = await runs.finish(self.core, caller, run_id, status, summary)
        text = f"Run {run.id} is {run.status}."
        if status == "failed" and run.on_failure == "rollback":
            try:
                answer = await self.rollback(caller, run_id=run_id)
                text += f" It was taken back as asked: {answer.status}.\n\n{answer.report}"
            except EngineError as error:
                text += f" {error.message}"
            run = await self.core.run(caller, run_id)
        report = await self._report(caller, run_id)
        if any(step.status != "done" for step in report.steps):
            text += f" {report.done[0]}"
        return StartedRun(run_id=run.id, status=run.status, report=report, text=text, made=made_of(outcome))

    async def _report(self, caller: Caller, run_id: str) -> FailureReport:
        return await report_run(self.core, await self.core.run(caller, run_id, "look"))

    async def create_checkpoint(
        self,
        caller: Caller,
        run_id: str,
        label: str,
        *,
        step: str | None = None,
        output: JsonValue = None,
        next_step: str | None = None,
        notes: JsonValue = None,
        pinned: bool = False,
    ) -> NamedCheckpoint:
        """Name the present position of a run, with what its agent will want to know when it comes back.

        :raises EngineError: unknown or foreign run, or an empty label.
        """
        if not label.strip():
            raise EngineError("invalid", "A checkpoint needs a label.", "Name it after what has just been done.")
        run = await self.core.run(caller, run_id, "decide")
        checkpoint_id: CheckpointId = new_checkpoint_id()
        await self.core.journal.append(
            [
                CheckpointNamed(
                    run_id=run.run_id,
                    at=self.core.now(),
                    checkpoint_id=checkpoint_id,
                    label=label,
                    step=step,
                    output=output,
                    next_step=next_step,
                    notes=notes,
                    pinned=pinned,
                )
            ]
        )
        return NamedCheckpoint(checkpoint_id=checkpoint_id, run_id=run.id, label=label)

    async def list_runs(
        self,
        caller: Caller,
        *,
        status: str | None = None,
        touched: str | None = None,
        since: str | None = None,
        principal: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """The caller's runs, newest first."""
        return await queries.list_runs(
            self.core, caller,
            status=status, touched=touched, since=since, principal=principal, limit=limit, cursor=cursor,
        )  # fmt: skip

    async def get_run(self, caller: Caller, run_id: str, *, view: queries.RunViewName = "summary") -> RunDetail:
        """One run, seen in one way."""
        return await queries.get_run(self.core, caller, run_id, view=view)

    async def shadow_log(self, caller: Caller, *, run_id: str | None = None) -> ShadowLog:
        """What was only shown, and how it would have been taken back."""
        return await shadow_log(self.core, caller, run_id=run_id)

    async def list_checkpoints(
        self, caller: Caller, *, run_id: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> CheckpointPage:
        """Where one can go back to, newest first, with what each is worth now."""
        return await queries.list_checkpoints(self.core, caller, run_id=run_id, limit=limit, cursor=cursor)

    async def list_versions(
        self, caller: Caller, object: str, *, limit: int = 50, cursor: str | None = None
    ) -> VersionPage:
        """Earlier contents of an object that are kept, newest first."""
        return await queries.list_versions(self.core, caller, object, limit=limit, cursor=cursor)

    async def stored_content(self, caller: Caller, action_id: str, number: str, side: str) -> bytes:
        """The content of one effect of an action (its number, from 0), `before` or `after` it.

        :raises EngineError: unknown or foreign, or not kept.
        """
        return await stored_content(self.core, caller, action_id, number, side)

    # -- taking back --------------------------------------------------------------------------------------------------

    async def rollback(
        self,
        caller: Caller,
        *,
        run_id: str | None = None,
        to_checkpoint: str | None = None,
        actions: Sequence[str] = (),
        last: int | None = None,
        dry_run: bool = False,
        plan_digest: str | None = None,
        cascade: Sequence[str] = (),
        since: str | None = None,
        progress: Progress = no_progress,
    ) -> RollbackAnswer:
        """Take back a whole run, what came after a checkpoint, chosen actions, or the latest few.

        :param dry_run: only the plan.
        :param plan_digest: of the plan that was seen; if the plan is another one by now, nothing is done.
        :param cascade: other runs whose later actions on the same objects may be taken back along.
        :raises EngineError: nothing to take back, contradictory wishes, a digest that does not fit.
        """
        async with self._taking_back():

            async def roll_back() -> RollbackAnswer:
                wish = await wish_for_rollback(
                    self.core,
                    caller,
                    run_id=run_id,
                    to_checkpoint=to_checkpoint,
                    actions=actions,
                    last=last,
                    since=since,
                    cascade=cascade,
                )
                return await self._rollbacks.carry_out(
                    caller, wish, dry_run=dry_run, plan_digest=plan_digest, progress=progress
                )

            return await throwing_away(
                self.core,
                self._carrier,
                caller,
                run_id,
                to_checkpoint,
                (actions, last, since),
                roll_back,
                dry_run=dry_run,
            )

    async def _taken_back(self, caller: Caller, actions: Sequence[ActionId]) -> RollbackAnswer:
        """What had been made of a stage that cannot be published whole."""
        wish = await wish_for_rollback(self.core, caller, actions=actions)
        return await self._rollbacks.carry_out(
            caller, wish, dry_run=False, plan_digest=None, progress=no_progress
        )  # fmt: skip

    async def redo(
        self,
        caller: Caller,
        rollback_id: str,
        *,
        dry_run: bool = False,
        plan_digest: str | None = None,
        progress: Progress = no_progress,
    ) -> RollbackAnswer:
        """Take a rollback back: what it had restored is brought back as the agent had made it.

        :raises EngineError: unknown or foreign, at work, or nothing to redo.
        """
        async with self._taking_back():
            wish = await wish_for_redo(self.core, caller, rollback_id)
            return await self._rollbacks.carry_out(
                caller, wish, dry_run=dry_run, plan_digest=plan_digest, progress=progress
            )

    async def resume_from(
        self,
        caller: Caller,
        checkpoint_id: str,
        *,
        restore: bool = False,
        dry_run: bool = False,
        plan_digest: str | None = None,
        progress: Progress = no_progress,
    ) -> Brief:
        """Open a run that continues from a checkpoint.

        :param restore: also take back what came after it.
        :raises EngineError: unknown or foreign checkpoint, or a run that must not be continued.
        """
        async with self._taking_back():
            return await resume_from(
                self.core,
                self._rollbacks,
                caller,
                checkpoint_id,
                restore=restore,
                dry_run=dry_run,
                plan_digest=plan_digest,
                progress=progress,
            )

    async def rollback_told(
        self, caller: Caller, rollback_id: RollbackId
    ) -> RollbackAnswer | Literal["running", "never begun"]:
        """What became of a rollback or redo, for whoever did not hear its answer.

        :raises EngineError: it is somebody else's.
        """
        return await rollback_told(self.core, caller, rollback_id)

    async def restore_version(self, caller: Caller, object: str, version: str) -> RollbackAnswer:
        """Put an earlier content of an object back over what is there now; that can be redone away.

        :raises EngineError: no such version, or its content is not kept.
        """
        async with self._busy():
            return await restore_version(self.core, self._conflicts, caller, object, version)

    async def resolve_conflict(
        self, caller: Caller, conflict_id: str, choice: Choice, *, content: str | None = None
    ) -> RollbackAnswer:
        """Settle an open item: keep theirs, take ours, write `content`, or save the earlier version beside it.

        :raises EngineError: settled already, changed since, or not possible for this object.
        """
        async with self._busy():
            return await self._conflicts.resolve(caller, conflict_id, choice, content)

    async def open_items(self, caller: Caller, *, run_id: str | None = None) -> Sequence[OpenItemAnswer]:
        """What waits for a person."""
        return await queries.open_items(self.core, caller, run_id=run_id)

    async def everything_open(self, caller: Caller, *, run_id: str | None = None) -> Sequence[OpenThing]:
        """Everything that waits for a person, oldest first: open items, messages and notices that did not go out, doubts."""
        return await everything_open(self.core, caller, run_id=run_id)

    async def settle(self, caller: Caller, item_id: str, reason: str) -> OpenThing:
        """A person closes something that was open, and says why; the world is left as it is. Never offered as a tool.

        :raises EngineError: unknown or foreign, settled already, or it has to be looked at first.
        """
        async with self._busy():
            return await settle(self.core, self._conflicts, caller, item_id, reason)

    async def conflict_versions(self, caller: Caller, conflict_id: str) -> dict[str, bytes | None]:
        """The three versions of a conflict: `base` (the agent's), `ours` (the earlier one), `theirs` (what is there)."""
        return await self._conflicts.versions(caller, conflict_id)

    # -- people -------------------------------------------------------------------------------------------------------

    async def contain_run(
        self, caller: Caller, run_id: str, reason: str, *, level: Literal["contained", "quarantined"] = "contained"
    ) -> StartedRun:
        """Let a run and its children read but no longer write, until a person releases it."""
        run = await containment.contain(self.core, caller, run_id, reason, level)
        return StartedRun(
            run_id=run.id,
            status=run.status,
            report=await self._report(caller, run_id),
            text=f"Run {run.id} is {run.status}. A person releases it with `takeback release {run.id}`.",
        )

    async def release_run(self, caller: Caller, run_id: str, reason: str = "") -> StartedRun:
        """A person's act: never offered as a tool."""
        run = await containment.release(self.core, caller, run_id, reason)
        return StartedRun(run_id=run.id, status=run.status, text=f"Run {run.id} is {run.status} again.")

    async def contain_scope(
        self, caller: Caller, kind: HoldKind, name: str, reason: str, *, level: containment.Level = "contained"
    ) -> Hold:
        """A person lets a tool or family, a system or a principal act no more: never offered as a tool."""
        return await holds.contain(self.core, caller, kind, name, reason, level)

    async def release_scope(self, caller: Caller, kind: HoldKind, name: str, reason: str = "") -> Hold:
        """A person's act: never offered as a tool."""
        return await holds.release(self.core, caller, kind, name, reason)

    async def contained(self, caller: Caller) -> tuple[Sequence[RunView], Sequence[Hold]]:
        """What must not act now: the caller's runs, and all holds."""
        found = await self.core.journal.find(RunView, status=containment.HELD)
        mine = [run for run in found if self.core.may_see(caller, run)]
        return mine, (await holds.present(self.core)).holds

    async def invariants(self, caller: Caller, places: Iterable[tuple[str, str]] = ()) -> Sequence[Checked]:
        """Run every configured check; those that are about single objects on these (system, object)."""
        async with self._busy():
            return await self._guard.checks.all(caller, places)

    async def approvals(self, caller: Caller, *, status: str | None = "requested") -> Sequence[ApprovalInfo]:
        """Questions to a person; those whose time has run out are not among the open ones."""
        found = await self.core.journal.find(ApprovalView, status=status)
        return [
            await queries.approval_info(self.core, approval)
            for approval in found
            if self.core.may_answer(caller, approval.caller.principal)
            and (approval.status != "requested" or approval.expires_at > self.core.now())
        ]

    async def approve(self, caller: Caller, approval_id: str, *, lane: str) -> ApprovalInfo:
        """A person consents: never offered as a tool. The same call is then repeated by its caller."""
        answered = await approvals.answer(self.core, caller, approval_id, grant=True, lane=lane)
        return await queries.approval_info(self.core, answered)

    async def deny(self, caller: Caller, approval_id: str, *, lane: str) -> ApprovalInfo:
        """A person refuses."""
        answered = await approvals.answer(self.core, caller, approval_id, grant=False, lane=lane)
        return await queries.approval_info(self.core, answered)


__all__ = ["Call", "Engine", "JournalError", "Progress", "no_progress"]
