"""The Tasks extension of the protocol: a rollback that takes long is answered at once by a task to be asked after.

Only for clients that declare the extension with the request, and only if the call is not over within moments: then the client
gets a task, and the call goes on without the request. What it still has to ask a person is asked through the task. Cancelling
is a wish: a rollback that has not begun does not begin, one that has is finished, because half a rollback is worse than either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
from mcp.server.context import CallNext, HandlerResult
from mcp.server.mcpserver import Extension, MethodBinding, require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    SERVER_INFO_META_KEY,
    CallToolRequestParams,
    ErrorData,
    InputRequiredResult,
    InputResponse,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import ROLLBACK_IDS
from takeback.server.engine.core import rfc3339, utc_now
from takeback.server.engine.engine import Engine
from takeback.server.engine.locks import LockTimeout
from takeback.server.mcp.approval_lanes import AnyRequest
from takeback.server.mcp.discretion import places
from takeback.server.mcp.identity import caller_of
from takeback.server.mcp.long_calls import CURRENT, NOT_BEGUN, LongCall, may_take_long
from takeback.server.mcp.replies import refusal, rollback_reply
from takeback.server.mcp.task_store import KEPT_SECONDS, TaskRecord, TaskStore, told

_log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 1.0
"""What is done within that time is answered as always."""
POLL_MS: Final = 500


class TaskParams(RequestParams):
    """`tasks/get` and `tasks/cancel`."""

    task_id: str


class UpdateParams(TaskParams):
    """`tasks/update`."""

    input_responses: dict[str, InputResponse | Any]


class TasksExtension(Extension):
    """Mount it before the extension that asks people: what that one asks is asked through the task."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, engine: Engine, store: TaskStore, *, name: str, version: str) -> None:
        self.eligible: Callable[[CallToolRequestParams], bool] = may_take_long
        self.patience = PATIENCE_SECONDS
        self._engine, self._store = engine, store
        self._meta = {SERVER_INFO_META_KEY: {"name": name, "version": version}}
        self._live: dict[str, LongCall] = {}
        self._carried: set[asyncio.Task[None]] = set()

    def methods(self) -> Sequence[MethodBinding]:
        modern = frozenset(MODERN_PROTOCOL_VERSIONS)
        return (
            MethodBinding("tasks/get", TaskParams, self._get, modern),
            MethodBinding("tasks/update", UpdateParams, self._update, modern),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, modern),
        )

    # -- calls ----------------------------------------------------------------------------------------------------------

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: AnyRequest, call_next: CallNext
    ) -> HandlerResult:
        """Answer with a task if the client knows tasks and the call is not over within moments."""
        if not (_knows_tasks(ctx) and self.eligible(params)):
            return await call_next(ctx)
        call = LongCall(params.name, caller_of(ctx.session).principal)

        async def work() -> HandlerResult:
            CURRENT.set(call)
            ROLLBACK_IDS.set(call.begin)
            return await call_next(ctx)

        async def again(asked: InputRequiredResult) -> HandlerResult:
            # the rest of the chain was bound to these very parameters
            params.input_responses, params.request_state = await call.ask(asked), asked.request_state
            return await call_next(ctx)

        working = asyncio.create_task(work())
        try:
            await asyncio.wait({working}, timeout=self.patience)
            stack = None if working.done() else await self._promise(call)
            if stack is None:
                return await asyncio.shield(working)
        except asyncio.CancelledError:
            working.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({working})
            raise
        carried = asyncio.create_task(self._carry(call, working, again, stack))
        self._carried.add(carried)
        carried.add_done_callback(self._carried.discard)
        return {"resultType": "task", **self._told(call.record)}

    async def _promise(self, call: LongCall) -> AsyncExitStack | None:
        """Make the task known for good; `None` if that cannot be done, and the call is answered when it is over."""
        stack = AsyncExitStack()
        try:
            self._store.tidy()
            await stack.enter_async_context(self._store.alive(call.record.id))
            self._store.save(call.record)
        except (OSError, LockTimeout) as error:
            _log.warning("No task could be made (%s); the client waits.", type(error).__name__)
            await stack.aclose()
            return None
        call.is_task = True
        self._live[call.record.id] = call
        return stack

    async def _carry(
        self,
        call: LongCall,
        working: asyncio.Task[HandlerResult],
        again: Callable[[InputRequiredResult], Any],
        stack: AsyncExitStack,
    ) -> None:
        """Bring the call to its end. If the process ends first, the file and the journal tell what became of it."""
        record = call.record
        async with stack:
            try:
                CURRENT.set(call)
                ROLLBACK_IDS.set(call.begin)
                result = await working
                while isinstance(result, InputRequiredResult):
                    result = await again(result)
                if call.given_up:
                    call.becomes("cancelled", NOT_BEGUN)
                else:
                    record.result = _on_the_wire(result)
                    call.becomes("completed")
            except EngineError as error:
                call.becomes("cancelled", error.message)
            except MCPError as error:
                record.error = _on_the_wire(error.error)
                call.becomes("failed", error.error.message)
            except Exception as error:  # its text may hold data of other callers
                _log.error("a task failed with %s\n%s", type(error).__name__, places(error))
                record.error = _on_the_wire(ErrorData(code=INTERNAL_ERROR, message="The call failed unexpectedly"))
                call.becomes("failed", "Call get_run to see what was recorded before you repeat anything.")
            try:
                self._store.save(record)
            except OSError as error:
                _log.warning("A task's result could not be kept (%s); it is told while this process lives.", error)
            else:
                del self._live[record.id]

    # -- the three methods ------------------------------------------------------------------------------------------------

    async def _get(self, ctx: AnyRequest, params: TaskParams) -> HandlerResult:
        record = await self._asked_for(ctx, params)
        call = self._live.get(record.id)
        answer = self._told(record)
        if call is not None and call.questions:
            answer["inputRequests"] = {key: _on_the_wire(asked) for key, asked in call.questions.items()}
        if record.status == "completed":
            answer["result"] = record.result
        elif record.status == "failed":
            answer["error"] = record.error
        return {"resultType": "complete", **answer}

    async def _update(self, ctx: AnyRequest, params: UpdateParams) -> HandlerResult:
        record = await self._asked_for(ctx, params)
        if (call := self._live.get(record.id)) is not None:
            call.answer(params.input_responses)
        return self._acknowledged()

    async def _cancel(self, ctx: AnyRequest, params: TaskParams) -> HandlerResult:
        record = await self._asked_for(ctx, params)
        if (call := self._live.get(record.id)) is not None:
            call.cancel()
        return self._acknowledged()

    async def _asked_for(self, ctx: AnyRequest, params: TaskParams) -> TaskRecord:
        """The task, as it stands now.

        :raises MCPError: the client did not declare the extension, its headers name another task, or there is none for it.
        """
        require_client_extension(ctx, self.identifier)
        headers = getattr(ctx.request, "headers", None)
        if headers is not None and (headers.get("mcp-name") or "").strip() != params.task_id:
            raise MCPError(code=HEADER_MISMATCH, message="The Mcp-Name header does not name the task of the request")
        call = self._live.get(params.task_id)
        record = call.record if call is not None else self._store.read(params.task_id)
        caller = caller_of(ctx.session)
        if record is None or record.principal != caller.principal:
            raise MCPError(
                code=INVALID_PARAMS, message="There is no such task, or not any more: see get_run and list_runs"
            )
        if call is None and record.status == "working":
            await self._find_out(record, ctx)
        return record

    async def _find_out(self, record: TaskRecord, ctx: AnyRequest) -> None:
        """What became of a task of another process, if that has died."""
        if not await self._store.left_behind(record.id):
            return
        answer = await self._engine.rollback_told(caller_of(ctx.session), record.rollback_id)
        if answer == "running":  # a living process finishes it, or the next start does
            return
        if answer == "never begun":
            words = "The server ended before the rollback began; nothing was taken back"
            record.status, record.message = "failed", "Look at the run with get_run, then make the call again."
            record.error = _on_the_wire(ErrorData(code=INTERNAL_ERROR, message=words))
        else:
            result = rollback_reply(answer)
            if record.tool == "resume_from":
                result = refusal(
                    "interrupted",
                    f"The rollback {record.rollback_id} ended as {answer.status}, but the server ended before it answered",
                    "Call resume_from again, without restore; list_runs shows whether the new run was opened already.",
                )
            record.status, record.result = "completed", _on_the_wire(result)
        record.updated_at = rfc3339(utc_now())
        with contextlib.suppress(OSError):  # it is found out again next time
            self._store.save(record)

    def _told(self, record: TaskRecord) -> dict[str, Any]:
        return {**told(record, ttl_ms=KEPT_SECONDS * 1000, poll_ms=POLL_MS), "_meta": self._meta}

    def _acknowledged(self) -> dict[str, Any]:
        return {"resultType": "complete", "_meta": self._meta}


def only_for_those_who_know_tasks(ctx: AnyRequest) -> None:
    """Nobody is told of tasks unasked; still, who wants to be told has to declare the extension.

    :raises MCPError: the client did not.
    """
    wanted: Any = (ctx.params or {}).get("notifications")
    if isinstance(wanted, dict) and "taskIds" in wanted:
        require_client_extension(ctx, TasksExtension.identifier)


def _knows_tasks(ctx: AnyRequest) -> bool:
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities is not None else None
    return TasksExtension.identifier in (declared or {}) and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _on_the_wire(value: HandlerResult) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, mode="json", exclude_none=True)
    return dict(value or {})
