"""What wraps every tool call: the person's answer goes in before it, the question to the person comes out after it."""

from __future__ import annotations

from typing import Any

from mcp.server.context import CallNext, HandlerResult
from mcp.server.mcpserver import Extension
from mcp_types import CallToolRequestParams

from takeback.server.mcp.approval_lanes import AnyRequest, ApprovalLanes
from takeback.server.mcp.identity import caller_of
from takeback.server.mcp.replies import Pending, Reply


class UndoExtension(Extension):
    """The one extension of this server."""

    identifier = "io.github.takeback/undo"

    def __init__(self, lanes: ApprovalLanes) -> None:
        self._lanes = lanes

    def settings(self) -> dict[str, Any]:
        """Advertised to clients of the 2026 protocol."""
        return {"version": 1}

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: AnyRequest, call_next: CallNext
    ) -> HandlerResult:
        """Bring in an answer, call, and ask if the call waits for a person."""
        caller = caller_of(ctx.session)
        await self._lanes.take_answer(caller, params)
        result = await call_next(ctx)
        if not isinstance(result, Reply) or result.pending is None:
            return result

        async def again() -> Pending | None:
            nonlocal result
            result = await call_next(ctx)
            return result.pending if isinstance(result, Reply) else None

        question = await self._lanes.ask(caller, ctx, result.pending, again)
        return question if question is not None else result
