"""How far each tool can be taken back, as tables: for a page of the documents, held against this by a test, and for a terminal.

The facts stand next to the tools (`Tool.recovery`, `mcp/run_recovery.py`)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from itertools import groupby

from takeback.server.mcp.run_recovery import STATEMENTS
from takeback.tools.contract import AnyTool
from takeback.tools.recovery import Recovery, stated

READS = "read only"
HEADINGS = ("tool", "does", "reversibility", "taken back by", "until, unless", "policy sees")


def does(tool: AnyTool) -> str:
    """In a line: the first of its class's description, else its title."""
    told = (type(tool).__doc__ or "").strip()
    return inspect.cleandoc(told).splitlines()[0].rstrip(".") if told else tool.title


def how_far(its: Recovery | None) -> str:
    """The best that a call can be, and the worst with what decides."""
    if its is None:
        return READS
    return f"{its.best}; {' or '.join(its.worse)} if {its.worse_if}" if its.worse else its.best


def seen_by_policy(its: Recovery) -> str:
    """Systems with verbs, and what is counted, in the words of a rule."""
    parts = [f"`{system}`: {', '.join(verbs)}" for system, verbs in its.effects.items()]
    if its.held:
        parts.append("`held`")
    if its.counts:
        parts.append(f"counts {', '.join(f'`{name}`' for name in its.counts)}")
    return "; ".join(parts)


def row(tool: AnyTool) -> tuple[str, ...]:
    """One tool, in the order of `HEADINGS`."""
    its = stated(tool)
    if its is None:
        return (f"`{tool.name}`", does(tool), READS, "", "", "")
    return (f"`{tool.name}`", does(tool), how_far(its), its.how, its.unless, seen_by_policy(its))


def family_tables(tools: Iterable[AnyTool]) -> str:
    """The wrapped tools in Markdown, a table for each family."""
    parts: list[str] = []
    for family, members in groupby(tools, key=lambda tool: tool.family):
        parts.append(f"## {family.capitalize()}\n\n" + _markdown(HEADINGS, map(row, members)))
    return "\n\n".join(parts)


def run_table(titles: Iterable[tuple[str, str]]) -> str:
    """The tools about runs in Markdown.

    :param titles: their names and titles, in the order in which they are listed.
    """
    rows = [
        (f"`{name}`", title, its.what, its.how, its.unless, its.policy)
        for name, title in titles
        for its in (STATEMENTS[name],)
    ]
    return "## Runs\n\n" + _markdown((*HEADINGS[:2], "changes", *HEADINGS[3:5], "policy judges"), rows)


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return (
        "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("| --- ", "|---").replace("|--- |", "|---|")
    )
