"""The first page: what waits for a person, and nothing else above it."""

from __future__ import annotations

from takeback.server.web import approvals, mail, open_items, runs
from takeback.server.web.exchange import Response
from takeback.server.web.frame import Visit
from takeback.server.web.html import Node, e

LATEST = 8
"""Runs that are shown below what waits."""


async def show(visit: Visit) -> Response:
    """What waits, then the latest runs."""
    asked = await visit.engine.approvals(visit.caller)
    items = [item for item in await visit.engine.open_items(visit.caller) if item.status == "open"]
    held = await visit.engine.desk.rows(visit.caller)
    page = await visit.engine.list_runs(visit.caller, limit=50)
    unwell = [run for run in page.runs if run.status in runs.UNWELL]

    def part(heading: str, number: int, content: Node) -> Node:
        return e("section", e("h2", f"{heading} ({number})"), content) if number else None

    waiting = len(asked) + len(items) + len(held) + len(unwell)
    return visit.page(
        "What waits for you",
        e("p", "Nothing waits for you.", class_="calm") if not waiting else None,
        part("Questions", len(asked), approvals.cards(visit, asked)),
        part("To decide", len(items), open_items.rows(visit, items)),
        part("Mail that has not left yet", len(held), mail.rows(visit, held)),
        part("Runs that did not go well, or are stopped", len(unwell), runs.rows(visit, unwell)),
        e("h2", "Latest runs"),
        runs.rows(visit, page.runs[:LATEST]) or e("p", "No agent has done anything through this server yet."),
        e("p", visit.link("All runs", "runs"), " · ", visit.link("Questions that are settled", "approvals")),
        live=True,
    )
