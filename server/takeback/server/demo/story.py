"""The story: a task over files, a database, a calendar and mail, a person who edits in between, a rollback, the proof, and the
way back again."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from takeback.server.cli import render
from takeback.server.cli.blocks import Block, Cell, Diff, Id, line, said
from takeback.server.cli.terminal import Terminal
from takeback.server.demo import world
from takeback.server.engine.answers import EngineError, RollbackAnswer, RunDetail
from takeback.server.engine.detached import alone

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
            "calendar": "default",
            "summary": "Review of the third quarter",
            "start": "2026-10-05T10:00",
            "end": "2026-10-05T11:00",
            "timezone": "Europe/Berlin",
            "recurrence": "FREQ=WEEKLY;COUNT=4",
        },
    ),
    (
        "tell the press",
        "send_email",
        {"to": ["press@example.org"], "subject": "Our third quarter", "body": "Revenue grew by 6 per cent.\n"},
    ),
)
PERSON_EDITS: dict[int, tuple[Callable[[Path], None], str]] = {
    2: (lambda workspace: world.persons_edit(workspace), f"changed the mail address in {world.CONFIG}"),
    7: (lambda workspace: world.persons_note(workspace), f"wrote a note to order 1 in {world.SHOP}"),
}
"""After so many actions a person changes what the agent has just changed, in another place of it."""


@dataclass
class Story:
    """One telling: where it plays, and what was found true."""

    terminal: Terminal
    folder: Path
    checks: dict[str, bool] = field(default_factory=lambda: dict[str, bool]())

    @property
    def workspace(self) -> Path:
        """The world."""
        return self.folder / "workspace"

    def say(self, *blocks: Block) -> None:
        """Tell it to people; programs get the checks at the end."""
        if not self.terminal.as_json:
            self.terminal.show(blocks)

    def chapter(self, words: str) -> None:
        """A heading."""
        self.say(line(), said(words, "strong"))

    def check(self, claim: str, holds: bool) -> None:
        """Write down whether something is as promised."""
        self.checks[claim] = holds
        self.say(line(Cell("ok", "good") if holds else Cell("NOT SO", "bad"), claim, indent=1))


async def tell(terminal: Terminal, *, keep: bool = False) -> bool:
    """Tell the story. Whether everything was as promised.

    :param keep: leave the folder behind and say where it is.
    """
    folder = Path(tempfile.mkdtemp(prefix="takeback-demo-"))
    try:
        story = Story(terminal, folder)
        story.workspace.mkdir()
        world.build(story.workspace)
        await _play(story)
        if terminal.as_json:
            terminal.json({"sound": all(story.checks.values()), "checks": story.checks})
        elif keep:
            story.say(
                line("Look around:", f"takeback runs --data {folder / 'data'}"),
                line("The files:", str(story.workspace)),
            )
        return all(story.checks.values())
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


async def _play(story: Story) -> None:
    from mcp import Client, StdioServerParameters
    from mcp.types import Implementation

    data = story.folder / "data"
    (story.folder / "config.toml").touch()
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "takeback", "serve", "--workspace", str(story.workspace), "--data", str(data)],
        env={
            # the demo leaves nothing of its own in the user's configuration, and nothing there changes the demo
            "TAKEBACK_CONFIG": str(story.folder / "config.toml"),
            "TAKEBACK_KEY_FILE": str(story.folder / "key" / "journal.json"),
            "TAKEBACK_ANCHOR_FILE": str(story.folder / "key" / "anchors"),
        },
    )
    async with (
        alone(data),  # no other sender is started, that would outlive the demo and its folder
        Client(server, client_info=Implementation(name="demo-agent", version="1")) as client,
    ):
        await _chapters(story, client)


async def _call(client: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    told: dict[str, Any] = answer.structured_content or {}
    if answer.is_error:
        error = told.get("error") or {"message": " ".join(getattr(part, "text", "") for part in answer.content)}
        raise EngineError("demo_failed", f"The server refused {tool}: {error.get('message')}", error.get("advice", ""))
    return told


async def _chapters(story: Story, client: Any) -> None:
    before = world.fingerprint(story.workspace)
    story.say(
        said("A server, a client, a folder of files, a calendar, and a mailbox on this machine.", "strong"),
        line(
            f"{len((await client.list_tools()).tools)} tools; the world has the digest", world.digest(before), indent=1
        ),
    )

    story.chapter("1. An agent works. In between, a person changes the same things.")
    started = await _call(client, "start_run", goal="Publish the third-quarter report", steps=list(STEPS))
    run_id = started["run_id"]
    for number, (step, tool, arguments) in enumerate(TASK, 1):
        done = await _call(client, tool, run_id=run_id, step=step, **arguments)
        story.say(line(Cell(done["status"], "good"), done["summary"], indent=1))
        if number in PERSON_EDITS:
            edit, words = PERSON_EDITS[number]
            edit(story.workspace)
            story.say(line(Cell("person", "warn"), words, indent=1))
    after, planned = world.fingerprint(story.workspace), world.calendar(story.folder / "data")
    story.say(line(f"{len(world.differences(before, after))} files and folders are not as they were.", indent=1))

    story.chapter("2. The timeline")
    detail = RunDetail.model_validate(await _call(client, "get_run", run_id=run_id))
    story.say(*render.timeline(detail.model_copy(update={"steps": [], "report": None})))
    story.check("every action is in the journal", detail.run.actions == len(TASK))

    story.chapter("3. Take it all back: first the plan, then the act")
    plan = RollbackAnswer.model_validate(await _call(client, "rollback_run", run_id=run_id, dry_run=True))
    story.say(*render.plan(_from(story.workspace, plan), previews=False))
    story.check("planning changed nothing", world.fingerprint(story.workspace) == after)
    done = await _call(client, "rollback_run", run_id=run_id, plan_digest=plan.plan_digest)
    taken_back = RollbackAnswer.model_validate(done)
    story.say(_outcomes(taken_back))

    story.chapter("4. The proof, by digests made without takeback")
    now = world.fingerprint(story.workspace)
    expected = _expected(story)
    story.check(
        "the rollback is complete, nothing is left open", taken_back.status == "complete" and not taken_back.open_items
    )
    story.check(
        "all but one file and one row are exactly as before",
        world.differences(before, now) == [world.SHOP, world.CONFIG],
    )
    story.check("those differ only by the person's edits", now == expected)
    story.check("the calendar is empty again", not world.calendar(story.folder / "data"))
    held = await _call(client, "list_outbox")
    story.check("no mail has left, and none will", not held["messages"] and not world.delivered(story.folder / "data"))
    story.say(Diff(_persons_lines(story)))

    story.chapter("5. Changed your mind? Redo is a rollback of the rollback")
    redone = RollbackAnswer.model_validate(await _call(client, "redo_rollback", rollback_id=taken_back.rollback_id))
    story.say(_outcomes(redone))
    story.check(
        "the agent's work is back, and the person's edits still there",
        world.fingerprint(story.workspace) == after and world.calendar(story.folder / "data") == planned,
    )
    held = await _call(client, "list_outbox")
    story.check("the mail waits once more, with a new window", len(held["messages"]) == 1)
    await _call(client, "rollback_run", actions=[held["messages"][0]["action_id"]])
    held = await _call(client, "list_outbox")
    story.check("called back for good: nothing is sent when this is over", not held["messages"])
    story.say(line())


def _from(workspace: Path, answer: RollbackAnswer) -> RollbackAnswer:
    """The same answer with paths as one sees them from the workspace, and without the random names of events and messages."""

    def near(tool: str, objects: list[str]) -> list[str]:
        top = f"{workspace.resolve()}{os.sep}"
        known = {"create_event": "the event", "send_email": "the message"}.get(tool)
        return [known or each.removeprefix(top).removeprefix(f"files:{top}") for each in objects]

    return answer.model_copy(
        update={"steps": [step.model_copy(update={"objects": near(step.tool, step.objects)}) for step in answer.steps]}
    )


def _outcomes(answer: RollbackAnswer) -> Block:
    counts = Counter(step.outcome for step in answer.steps)
    words = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    return line(
        Cell("rollback", "strong"), Id(answer.rollback_id or ""), render.status(answer.status), f"({words})", indent=1
    )


def _expected(story: Story) -> dict[str, str]:
    """The world as it would be if the agent had never been there and only the person had."""
    other = story.folder / "without-the-agent"
    other.mkdir()
    world.build(other)
    for edit, _ in PERSON_EDITS.values():
        edit(other)
    return world.fingerprint(other)


def _persons_lines(story: Story) -> str:
    lines = (story.workspace / world.CONFIG).read_text(encoding="utf-8").splitlines()
    lines = [each for each in lines if each.startswith(("title", "report", "mail"))]
    return "\n".join(f"  {each}" for each in [*lines, world.first_order(story.workspace)])
