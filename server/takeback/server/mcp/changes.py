"""Telling clients that watch a run that it reads differently now."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.subscriptions import InMemorySubscriptionBus, ServerEvent

VIEWS = ("report", "journal", "diff")


class ChangeBus(InMemorySubscriptionBus):
    """The SDK's bus, at no cost while nobody listens: it yields to other tasks at each event, and an act makes several."""

    async def publish(self, event: ServerEvent) -> None:
        if self._listeners:
            await super().publish(event)


async def tell_changed(context: Context[Any, Any], run_id: str | None) -> None:
    """Tell whoever subscribed that the resources of this run, and the list of runs, have changed."""
    await context.notify_resource_updated("takeback://runs")
    if run_id:
        for view in VIEWS:
            await context.notify_resource_updated(f"takeback://runs/{run_id}/{view}")
