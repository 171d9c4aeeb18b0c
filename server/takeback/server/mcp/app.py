"""The MCP server: tools, resources and prompts over one engine, for clients of both protocol eras."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mcp.server import CacheHint, NotificationOptions
from mcp.server.caching import CacheableMethod
from mcp.server.context import HandlerResult
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer, RequestStateSecurity
from mcp.shared.message import SessionMessage
from mcp_types import (
    CallToolResult,
    CompleteRequestParams,
    Icon,
    InputRequiredResult,
    SubscriptionsListenRequestParams,
)

from takeback.server.engine.engine import Engine
from takeback.server.mcp.approval_lanes import AnyRequest, ApprovalLanes
from takeback.server.mcp.attachments import MAIL, add_attachments
from takeback.server.mcp.changes import ChangeBus
from takeback.server.mcp.identity import caller_of
from takeback.server.mcp.instructions import INSTRUCTIONS
from takeback.server.mcp.interceptor import UndoExtension
from takeback.server.mcp.meta_tools import meta_tools
from takeback.server.mcp.prompts import Completer, add_prompts, completer
from takeback.server.mcp.resources import add_resources
from takeback.server.mcp.state_key import request_state_key
from takeback.server.mcp.task_store import TaskStore
from takeback.server.mcp.tasks import TasksExtension, only_for_those_who_know_tasks
from takeback.server.mcp.unknown_tools import unknown_tool
from takeback.server.mcp.wrapped_tools import wrapped_tools
from takeback.server.settings import Settings
from takeback.server.web.links import Links

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream, WriteStream

NAME = "takeback"
LISTEN = "subscriptions/listen"

_FIXED = CacheHint(ttl_ms=300_000, scope="public")
"""Lists are fixed by the configuration: the same for every caller, until the server is started anew."""

_LIVE = CacheHint(ttl_ms=0, scope="private")

CACHE_HINTS: dict[CacheableMethod, CacheHint] = {
    "server/discover": _FIXED,
    "tools/list": _FIXED,
    "prompts/list": _FIXED,
    "resources/list": _FIXED,
    "resources/templates/list": _FIXED,
    "resources/read": _LIVE,
}

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#2563eb" stroke-width="2.4" '
    'stroke-linecap="round" stroke-linejoin="round"><path d="M9 6 4 11l5 5"/><path d="M4 11h10a6 6 0 0 1 0 12"/></svg>'
)


class TakebackServer(MCPServer[Any]):
    """`MCPServer` that can be run on streams of our own transport."""

    async def serve(
        self, incoming: ReadStream[SessionMessage | Exception], outgoing: WriteStream[SessionMessage]
    ) -> None:
        """Serve one connection, in the era its first request chooses, until the incoming stream ends."""
        options = self._lowlevel_server.create_initialization_options(
            NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        )
        await self._lowlevel_server.run(incoming, outgoing, options)

    def complete_with(self, handler: Completer) -> None:
        """Offer completions. (The SDK's decorator does not tell a handler who asks.)"""
        self._lowlevel_server.add_request_handler("completion/complete", CompleteRequestParams, handler)

    def listen_after(self, check: Callable[[AnyRequest], None]) -> None:
        """Let `check` refuse requests to listen. (The SDK keeps extensions away from the protocol's own methods.)"""
        entry = self._lowlevel_server.get_request_handler(LISTEN)
        assert entry is not None, "the server has a bus, so it is listened to"
        handler = entry.handler

        async def listen(context: AnyRequest, params: SubscriptionsListenRequestParams) -> HandlerResult:
            check(context)
            return await handler(context, params)

        self._lowlevel_server.add_request_handler(LISTEN, SubscriptionsListenRequestParams, listen)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the SDK does it, but a tool that there is not is an error of the protocol that helps.

        :raises MCPError: there is no such tool.
        """
        if self._tool_manager.get_tool(name) is None:
            raise unknown_tool(name, [tool.name for tool in self._tool_manager.list_tools()])
        return await super().call_tool(name, arguments, context)

    async def read_resource(
        self, uri: Any, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """As the SDK does it, but bytes that are no text are not called text."""
        contents = await super().read_resource(uri, context)
        if isinstance(contents, InputRequiredResult) or str(uri).startswith(MAIL):
            return contents
        return [
            replace(item, mime_type="application/octet-stream") if isinstance(item.content, bytes) else item
            for item in contents
        ]


def build_server(engine: Engine, settings: Settings, *, links: Links | None = None) -> TakebackServer:
    """Everything that is offered, over an engine that is open.

    :param links: to the local page, where a call waits for a person.
    :raises ValueError: a tool cannot be offered as it is (see its message).
    """
    tools = [*wrapped_tools(engine), *meta_tools(engine, settings)]
    names = [tool.name for tool in tools]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"There is more than one tool of the name {', '.join(twice)}; rename or switch off a family")
    server = TakebackServer(
        NAME,
        title="takeback: tools that can be undone",
        description="Tools for files whose acts are journaled, have checkpoints, and can be taken back.",
        instructions=INSTRUCTIONS,
        version=version(),
        icons=[_icon()],
        tools=list(tools),
        extensions=[
            TasksExtension(engine, TaskStore(settings.data), name=NAME, version=version()),
            UndoExtension(ApprovalLanes(engine), name=NAME, version=version(), links=links),
        ],
        log_level="WARNING",
        cache_hints=CACHE_HINTS,
        subscriptions=ChangeBus(),
        request_state_security=RequestStateSecurity(
            keys=[request_state_key(settings.data)],
            ttl=settings.limits.approval_seconds,
            bind_principal=lambda context: caller_of(context.session).principal,
        ),
    )
    add_resources(server, engine)
    add_attachments(server, engine)
    add_prompts(server)
    server.complete_with(completer(engine))
    server.listen_after(only_for_those_who_know_tasks)
    return server


def version() -> str:
    """Of the installed distribution."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as of

    try:
        return of("takeback")
    except PackageNotFoundError:
        return "0"


def _icon() -> Icon:
    data = base64.b64encode(ICON.encode()).decode()
    return Icon(src=f"data:image/svg+xml;base64,{data}", mime_type="image/svg+xml", sizes=["any"])
