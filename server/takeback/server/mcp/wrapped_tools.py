"""The wrapped tools, as the surface lists and calls them: the engine's tools, with what every acting one takes besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import JsonValue

from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine
from takeback.server.mcp.changes import tell_changed
from takeback.server.mcp.identity import caller_of
from takeback.server.mcp.recovery import recovery_of
from takeback.server.mcp.replies import Reply, call_reply, read_reply
from takeback.server.mcp.schemas import COMMON, STAGE, answer_schema, call_schema, input_schema
from takeback.server.mcp.surface import AnyContext, SurfaceTool, progress_of, surface_tool
from takeback.tools.contract import AnyTool, ReadTool
from takeback.tools.outbox.acts import HeldAct, holds

T = TypeVar("T")


def wrapped_tools(engine: Engine) -> list[SurfaceTool]:
    """The tools of the families that are on, in the engine's order."""
    return [_reading(engine, tool) if isinstance(tool, ReadTool) else _acting(engine, tool) for tool in engine.tools]


def _acting(engine: Engine, tool: AnyTool) -> SurfaceTool:
    async def act(arguments: dict[str, Any], context: AnyContext) -> Reply:
        call = Call(
            tool=tool.name,
            arguments={name: value for name, value in arguments.items() if name not in COMMON},
            caller=caller_of(context.session),
            run_id=_common(tool.name, arguments, "run_id", str),
            step=_common(tool.name, arguments, "step", str),
            idempotency_key=_common(tool.name, arguments, "idempotency_key", str),
            dry_run=_common(tool.name, arguments, "dry_run", bool) or False,
            progress=progress_of(context),
        )
        answer = await engine.call(call)
        await tell_changed(context, answer.run_id)
        return call_reply(answer)

    return surface_tool(
        tool.name,
        tool.title,
        tool.description,
        handler=act,
        input_schema=input_schema(tool.arguments, common=COMMON),
        output_schema=call_schema(tool.result, *((HeldAct,) if holds(tool) else ())),
        destructive=tool.destructive,
        idempotent=tool.idempotent,
        open_world=tool.open_world,
        recovery=recovery_of(tool),
    )


def _reading(engine: Engine, tool: AnyTool) -> SurfaceTool:
    shows = tool.name in engine.core.staging

    async def read(arguments: dict[str, Any], context: AnyContext) -> Reply:
        own: Mapping[str, JsonValue] = arguments
        call = Call(
            tool=tool.name,
            arguments={name: value for name, value in own.items() if name != "run_id" or not shows},
            caller=caller_of(context.session),
            run_id=_common(tool.name, arguments, "run_id", str) if shows else None,
            progress=progress_of(context),
        )
        return read_reply(await engine.read(call))

    return surface_tool(
        tool.name,
        tool.title,
        tool.description,
        handler=read,
        input_schema=input_schema(tool.arguments, common=STAGE if shows else {}),
        output_schema=answer_schema(tool.result),
        read_only=True,
        destructive=False,
        idempotent=True,
        open_world=tool.open_world,
        recovery=recovery_of(tool),
    )


def _common(tool: str, arguments: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    value = arguments.get(name)
    if value is None or isinstance(value, kind):
        return value
    words = "true or false" if kind is bool else "a string"
    raise EngineError("invalid", f"{name} of {tool} must be {words}.", "Correct the argument and repeat the call.")
