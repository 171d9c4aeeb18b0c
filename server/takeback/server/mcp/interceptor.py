"""What wraps every tool call: the person's answer goes in before it, the question to the person comes out after it."""

from __future__ import annotations

import logging
from typing import Any

from mcp.server.context import CallNext, HandlerResult
from mcp.server.mcpserver import Extension
from mcp.shared.exceptions import MCPError
from mcp_types import SERVER_INFO_META_KEY, CallToolRequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from takeback.journal.events import Caller
from takeback.server.mcp.approval_lanes import AnyRequest, ApprovalLanes
from takeback.server.mcp.discretion import places
from takeback.server.mcp.identity import caller_of
from takeback.server.mcp.replies import Pending, Reply, refusal, with_link
from takeback.server.web.links import Links

_log = logging.getLogger(__name__)


class UndoExtension(Extension):
    """The one extension of this server."""

    identifier = "io.github.takeback/undo"

    def __init__(self, lanes: ApprovalLanes, *, name: str, version: str, links: Links | None = None) -> None:
        self._lanes, self._links = lanes, links
        self._server = {"name": name, "version": version}

    def settings(self) -> dict[str, Any]:
        """Advertised to clients of the 2026 protocol."""
        return {"version": 1}

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: AnyRequest, call_next: CallNext
    ) -> HandlerResult:
        """Bring in an answer, call, and ask if the call waits for a person."""
        try:
            return self._signed(ctx, await self._around(params, ctx, call_next))
        except MCPError:
            raise
        except Exception as error:  # nothing of it reaches the client: its text may hold anything
            _log.error("asking a person failed with %s\n%s", type(error).__name__, places(error))
            return refusal(
                "internal",
                "The question to a person could not be dealt with",
                "Call get_run to see what was recorded before you repeat anything.",
            )

    async def _around(self, params: CallToolRequestParams, ctx: AnyRequest, call_next: CallNext) -> HandlerResult:
        caller = caller_of(ctx.session)
        await self._lanes.take_answer(caller, params)
        result = await call_next(ctx)
        if not isinstance(result, Reply) or result.pending is None:
            return await self._linked(caller, result)

        async def again() -> Pending | None:
            nonlocal result
            result = await call_next(ctx)
            return result.pending if isinstance(result, Reply) else None

        question = await self._lanes.ask(caller, ctx, result.pending, again)
        return question if question is not None else await self._linked(caller, result)

    async def _linked(self, caller: Caller, result: HandlerResult) -> HandlerResult:
        """With a link to the page, if something waits for a person now, and there is a page."""
        if self._links is None or not isinstance(result, Reply):
            return result
        if result.pending is not None:
            place, words = f"/approvals/{result.pending.approval_id}", "The person can also answer here:"
        elif result.leaves_open:
            place, words = "/open", "The person can also decide here:"
        else:
            return result
        link = await self._links(caller, place)
        return result if link is None else with_link(result, link, words)

    def _signed(self, ctx: AnyRequest, result: HandlerResult) -> HandlerResult:
        """With the server's name in `_meta`, as the 2026 protocol wants it. The SDK would copy description and icons too."""
        if isinstance(result, Reply) and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            result.meta = {**(result.meta or {}), SERVER_INFO_META_KEY: self._server}
        return result
