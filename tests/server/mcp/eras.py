"""Types of the fixtures."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from mcp import Client
from mcp_types import CallToolResult, TextContent

Era = Literal["modern", "legacy"]
Connect = Callable[..., AbstractAsyncContextManager[Client]]


def words(result: CallToolResult) -> str:
    """What a client that shows only texts would show."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def data(result: CallToolResult) -> dict[str, Any]:
    """The structured answer."""
    content: Any = result.structured_content
    assert isinstance(content, dict)
    return content
