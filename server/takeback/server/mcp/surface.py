"""A tool of the surface: listed with the schemas we give, run with the arguments as they came.

The SDK's own tools coerce arguments to a function's signature. Here the engine is the one place that validates, so that every
door refuses the same things in the same words, and what is journaled is what was asked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import ToolAnnotations
from pydantic import Field

from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Progress
from takeback.server.mcp.discretion import places
from takeback.server.mcp.long_calls import CURRENT
from takeback.server.mcp.recovery import RECOVERY_KEY, Meta
from takeback.server.mcp.replies import Reply, refusal, refused

_log = logging.getLogger(__name__)

AnyContext = Context[Any, Any]
Handler = Callable[[dict[str, Any], AnyContext], Awaitable[Reply]]

DESCRIPTION_LIMIT = 300
"""Characters of a tool's description: a model reads all of them in every chat."""


class SurfaceTool(Tool):
    """One tool as the SDK's registry holds it; `fn` is its `Handler`."""

    fn: Handler = Field(exclude=True)

    async def run(self, arguments: dict[str, Any], context: AnyContext, convert_result: bool = False) -> Reply:
        """Run the handler on the raw arguments. Refusals are results; a crash tells no more than that it happened."""
        try:
            return await self.fn(arguments, context)
        except EngineError as error:
            return refused(error)
        except Exception as error:  # the client is told nothing of it: its text may hold data of other callers
            _log.error("%s failed unexpectedly with %s\n%s", self.name, type(error).__name__, places(error))
            return refusal(
                "internal",
                f"{self.name} failed unexpectedly",
                "Call get_run to see what was recorded before you repeat anything; the server's log names the cause.",
            )


def surface_tool(
    name: str,
    title: str,
    description: str,
    *,
    handler: Handler,
    input_schema: dict[str, Any],
    output_schema: dict[str, Any],
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
    open_world: bool = False,
    recovery: Meta,
) -> SurfaceTool:
    """Make a tool with everything that the list has to say about it.

    :raises ValueError: the description is too long for what is read in every chat.
    """
    if len(description) > DESCRIPTION_LIMIT:
        raise ValueError(
            f"The description of {name} has {len(description)} characters; at most {DESCRIPTION_LIMIT} fit"
        )
    return SurfaceTool(
        fn=handler,
        name=name,
        title=title,
        description=description,
        parameters=input_schema,
        fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=output_schema),
        is_async=True,
        context_kwarg=None,
        annotations=ToolAnnotations(
            title=title,
            read_only_hint=read_only,
            destructive_hint=destructive,
            idempotent_hint=idempotent,
            open_world_hint=open_world,
        ),
        meta={RECOVERY_KEY: recovery},
    )


def progress_of(context: AnyContext) -> Progress:
    """Where the engine's progress goes: to the client, if it asked for that, or to its task. Never backwards."""
    last = -1.0
    call = CURRENT.get()

    async def tell(done: float, total: float | None, words: str) -> None:
        nonlocal last
        if done > last:  # the protocol wants progress to increase; equal steps are dropped
            last = done
            if call is not None and call.is_task:
                call.becomes(call.record.status, words)
                return
            await context.report_progress(done, total, words or None)

    return tell
