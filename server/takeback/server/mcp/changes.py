"""Telling clients that watch a run that it reads differently now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated, ServerEvent

from takeback.server.mcp.identity import present_principal

VIEWS = ("report", "journal", "diff")


class ChangeBus(InMemorySubscriptionBus):
    """The SDK's bus, where what happens in somebody's runs is told to nobody else.

    It costs nothing while nobody listens: the SDK's yields to other tasks at each event, and an act makes several.
    """

    async def publish(self, event: ServerEvent) -> None:
        if self._listeners:
            await super().publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        owner = present_principal()

        def deliver(event: ServerEvent) -> None:
            # published while the request of whoever acts is at work
            if not isinstance(event, ResourceUpdated) or present_principal() == owner:
                listener(event)

        return super().subscribe(deliver)


async def tell_changed(context: Context[Any, Any], run_id: str | None) -> None:
    """Tell whoever subscribed that the resources of this run, and the list of runs, have changed."""
    await context.notify_resource_updated("takeback://runs")
    if run_id:
        for view in VIEWS:
            await context.notify_resource_updated(f"takeback://runs/{run_id}/{view}")
