"""The agent's task, and what a person does meanwhile. `takeback drill` rehearses the task too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from takeback.server.demo import world

Arguments = Mapping[str, Any]

STEPS = (
    "write the report",
    "announce it",
    "publish the draft",
    "tidy up",
    "add the figures",
    "clear the shop",
    "plan the review",
    "tell the press",
    "send the agenda",
)
REPORT = "# Third quarter\n\nRevenue grew by 6 per cent.\n"
TASK: tuple[tuple[str, str, Arguments], ...] = (
    ("write the report", "write_file", {"path": "reports/q3.md", "content": REPORT}),
    (
        "announce it",
        "edit_file",
        {
            "path": world.CONFIG,
            "edits": [
                {"old_text": 'title = "Second quarter"', "new_text": 'title = "Third quarter"'},
                {"old_text": "reports/q2.md", "new_text": "reports/q3.md"},
            ],
        },
    ),
    ("publish the draft", "create_directory", {"path": "archive"}),
    ("publish the draft", "move_file", {"source": f"{world.DRAFTS}/q3.md", "destination": "archive/q3-draft.md"}),
    ("tidy up", "delete_file", {"path": world.DRAFTS, "recursive": True}),
    (
        "add the figures",
        "write_file",
        {"path": "data/sales.csv", "content": "month,revenue\n2026-07,120000\n2026-08,131000\n2026-09,127000\n"},
    ),
    (
        "clear the shop",
        "execute_sql",
        {
            "database": world.SHOP,
            "sql": "UPDATE orders SET status = 'shipped' WHERE status = ?",
            "parameters": ["open"],
        },
    ),
    # with their orders, by a cascade, and what a trigger makes of that
    ("clear the shop", "execute_sql", {"database": world.SHOP, "sql": "DELETE FROM customers WHERE name <> 'Ada'"}),
    (
        "plan the review",
        "create_event",
        {
            "calendar": world.OFFICE,
            "summary": "Quarterly review",
            "attendees": [world.address(world.GUEST)],
            "start": "2026-10-05T10:00",
            "end": "2026-10-05T11:00",
            "timezone": "Europe/Berlin",
            "recurrence": "FREQ=WEEKLY;COUNT=4",
        },
    ),
    (
        "tell the press",
        "send_email",
        {
            "to": [world.address(world.PRESS)],
            "subject": "Our third quarter",
            "body": "Revenue grew by 6 per cent.\n",
        },
    ),
    (
        "send the agenda",
        "send_email",
        {"to": [world.address(world.GUEST)], "subject": "Agenda of the review", "body": "1. Figures\n2. Outlook\n"},
    ),
)
PERSON_EDITS: dict[int, tuple[Callable[[Path], None], str]] = {
    2: (lambda workspace: world.persons_edit(workspace), f"changed the mail address in {world.CONFIG}"),
    7: (lambda workspace: world.persons_note(workspace), f"wrote a note to order 1 in {world.SHOP}"),
}
"""After so many actions a person changes what the agent has just changed, in another place of it."""
LET_GO = 10
"""After so many actions a person does not wait for the window of the message that is held."""


SENT = world.Letter(TASK[LET_GO - 1][2]["subject"], TASK[LET_GO - 1][2]["body"])
"""That message, as it is read by whoever gets it."""
