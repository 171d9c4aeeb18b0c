"""The story: a task over files, a database, a calendar and mail, a person who edits in between and lets a mail go, a rollback,
the proof, a correction of what had left, and the way back again."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from takeback.server.cli import render
from takeback.server.cli.blocks import Block, Cell, Diff, Id, line, said
from takeback.server.cli.terminal import Terminal
from takeback.server.demo import person, world
from takeback.server.demo.task import LET_GO, PERSON_EDITS, SENT, STEPS, TASK
from takeback.server.engine.answers import EngineError, RollbackAnswer, RunDetail, StepAnswer
from takeback.server.engine.detached import alone
from takeback.server.settings import Settings, load


class Look(NamedTuple):
    """What a rollback has to bring back, seen without takeback."""

    files: dict[str, str]
    calendar: dict[str, bytes]


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

    @property
    def configuration(self) -> Path:
        """All that the server is told: nothing of the user's is used, and nothing is left in it."""
        return self.folder / "config.toml"

    def settings(self) -> Settings:
        """The server's, for the person beside it."""
        return load(self.configuration, roots=[self.workspace], environment={}).settings

    def look(self) -> Look:
        """The world as it is now."""
        return Look(world.fingerprint(self.workspace), world.calendar(self.folder))

    def mail(self, whose: str) -> list[world.Letter]:
        """All that lies in somebody's mailbox."""
        return world.mail(self.folder, whose)

    def has_left(self, letters: list[world.Letter]) -> bool:
        """Whether the press has got exactly these, the office has a copy of each, and nobody else has got anything."""
        expected = {world.PRESS: letters, world.OFFICE: letters}
        return all(self.mail(whose) == expected.get(whose, []) for whose in world.EVERYBODY)

    def say(self, *blocks: Block) -> None:
        """Tell it to people; programs get the checks at the end."""
        if not self.terminal.as_json:
            self.terminal.show(blocks)

    def chapter(self, words: str) -> None:
        """A heading."""
        self.say(line(), said(words, "strong"))

    def check(self, claim: str, holds: bool) -> None:
        """Write down whether something is as promised."""
        self.checks[claim] = holds and self.checks.get(claim, True)
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
        world.build_office(folder)
        story.configuration.write_text(_configuration(folder), encoding="utf-8")
        await _play(story)
        if terminal.as_json:
            terminal.json({"sound": all(story.checks.values()), "checks": story.checks})
        elif keep:
            story.say(
                line("Look around:", f"takeback runs --config {story.configuration}"),
                line("The files:", str(story.workspace)),
            )
        return all(story.checks.values())
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


async def _play(story: Story) -> None:
    from mcp import Client, StdioServerParameters
    from mcp.types import Implementation

    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "takeback", "serve", "--workspace", str(story.workspace), "--config", str(story.configuration)],
    )
    async with (
        alone(story.folder / "data"),  # no other sender is started, that would outlive the demo and its folder
        Client(server, client_info=Implementation(name="demo-agent", version="1")) as client,
    ):
        await _chapters(story, client)


def _configuration(home: Path) -> str:
    lines = [
        f"{name} = {_toml(str(home / path))}"
        for name, path in {"data": "data", "key_file": "key/journal.json", "anchor_file": "key/anchors"}.items()
    ]
    for section, named in world.settings(home).items():
        for name, values in named.items():
            lines += [f"[{section}.{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # what is a text there is one in TOML


async def _call(client: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    told: dict[str, Any] = answer.structured_content or {}
    if answer.is_error:
        error = told.get("error") or {"message": " ".join(getattr(part, "text", "") for part in answer.content)}
        raise EngineError("demo_failed", f"The server refused {tool}: {error.get('message')}", error.get("advice", ""))
    return told


async def _waiting(client: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = (await _call(client, "list_outbox"))["messages"]
    return messages


async def _chapters(story: Story, client: Any) -> None:
    before = story.look()
    story.say(
        said("A server, a client, a folder of files, a calendar, and three mailboxes on this machine.", "strong"),
        line(
            f"{len((await client.list_tools()).tools)} tools; the world has the digest",
            world.digest(before.files),
            indent=1,
        ),
    )
    run_id = await _work(story, client, before)
    after = story.look()
    taken_back = await _take_back(story, client, run_id, after)
    await _prove(story, client, before, taken_back)
    left = await _correct(story, client, run_id)
    await _redo(story, client, after, taken_back.rollback_id, left)
    story.say(line())


async def _work(story: Story, client: Any, before: Look) -> str:
    story.chapter("1. An agent works. In between, a person changes the same things, and lets a mail go.")
    started = await _call(client, "start_run", goal="Publish the third-quarter report", steps=list(STEPS))
    run_id: str = started["run_id"]
    for number, (step, tool, arguments) in enumerate(TASK, 1):
        done = await _call(client, tool, run_id=run_id, step=step, **arguments)
        story.say(line(Cell(done["status"], "good"), done["summary"], indent=1))
        if number in PERSON_EDITS:
            edit, words = PERSON_EDITS[number]
            edit(story.workspace)
            story.say(line(Cell("person", "warn"), words, indent=1))
        if number == LET_GO:
            [message] = done["result"]["outbox_ids"]
            await person.send_now(story.settings(), message)
            story.say(line(Cell("person", "warn"), "sent that without waiting", indent=1), _got(story, world.PRESS))
    changed = world.differences(before.files, story.look().files)
    story.say(line(f"{len(changed)} files and folders are not as they were.", indent=1))

    story.chapter("2. The timeline")
    detail = RunDetail.model_validate(await _call(client, "get_run", run_id=run_id))
    story.say(*render.timeline(detail.model_copy(update={"steps": [], "report": None})))
    story.check("every action is in the journal", detail.run.actions == len(TASK))
    return run_id


async def _take_back(story: Story, client: Any, run_id: str, after: Look) -> RollbackAnswer:
    story.chapter("3. Take it all back: first the plan, then the act")
    plan = RollbackAnswer.model_validate(await _call(client, "rollback_run", run_id=run_id, dry_run=True))
    story.say(*render.plan(_from(story.workspace, plan), previews=False))
    story.check("planning changed nothing", story.look() == after)
    done = await _call(client, "rollback_run", run_id=run_id, plan_digest=plan.plan_digest)
    taken_back = RollbackAnswer.model_validate(done)
    story.say(
        _outcomes(taken_back), *(line(Cell("open", "warn"), item.why, indent=1) for item in taken_back.open_items)
    )
    return taken_back


async def _prove(story: Story, client: Any, before: Look, taken_back: RollbackAnswer) -> None:
    story.chapter("4. The proof, by digests made without takeback")
    now = story.look()
    story.check(
        "all but one file and one row are exactly as before",
        world.differences(before.files, now.files) == [world.SHOP, world.CONFIG],
    )
    story.check("those differ only by the person's edits", now.files == _expected(story))
    story.check("the calendar is as before, to the last byte", now.calendar == before.calendar)
    waiting = await _waiting(client)
    story.check(
        "the guest has heard nothing, and will hear nothing",
        not story.mail(world.GUEST) and not any(message["status"] == "HELD" for message in waiting),
    )
    story.check("only the mail that the person let go has left", story.has_left([SENT]))
    lost = [step.action_id for step in taken_back.steps if step.outcome == "irreversible"]
    story.check(
        "the rollback says that, and leaves nothing else open",
        len(lost) == 1 and [item.action_id for item in taken_back.open_items] == lost,
    )
    story.say(Diff(_persons_lines(story)))


async def _correct(story: Story, client: Any, run_id: str) -> list[world.Letter]:
    story.chapter("5. What has left cannot be unsent. A correction waits for a person's consent")
    left = [SENT]
    for message in await _waiting(client):
        correction = world.letter(await person.read(story.settings(), message["outbox_id"]))
        story.say(
            line("to", f"{', '.join(message['recipients'])}:", f"“{correction.subject}”", indent=1),
            line(correction.text.split("\n\n")[1], indent=1),
        )
        story.check("it has gone to nobody yet", story.has_left(left))
        await person.approve(story.settings(), message["outbox_id"])
        left.append(correction)
        story.say(line(Cell("person", "warn"), "read it, and agreed", indent=1), _got(story, world.PRESS))
    story.check("one correction has left, and nothing else", len(left) == 2 and story.has_left(left))
    detail = RunDetail.model_validate(await _call(client, "get_run", run_id=run_id))
    story.check("nothing is open any more", not detail.open_items and not await _waiting(client))
    return left


async def _redo(story: Story, client: Any, after: Look, rollback_id: str | None, left: list[world.Letter]) -> None:
    story.chapter("6. Changed your mind? Redo is a rollback of the rollback")
    redone = RollbackAnswer.model_validate(await _call(client, "redo_rollback", rollback_id=rollback_id))
    story.say(_outcomes(redone))
    story.check("the agent's work is back, and the person's edits still there", story.look() == after)
    waiting = await _waiting(client)
    story.check("invitation and agenda wait once more, with a new window", len(waiting) == 2)
    await _call(client, "rollback_run", actions=[message["action_id"] for message in waiting])
    story.check(
        "called back for good: nothing more is sent when this is over",
        not await _waiting(client) and story.has_left(left),
    )


def _from(workspace: Path, answer: RollbackAnswer) -> RollbackAnswer:
    """The same answer with paths as one sees them from the workspace, and with the titles alone of events and messages."""

    top = f"{workspace.resolve()}{os.sep}"

    def titles(step: StepAnswer) -> list[str]:
        return ["the invitation" if "“Invitation: " in each else each.partition("”")[0] + "”" for each in step.called]

    def seen(step: StepAnswer) -> StepAnswer:
        objects = [each.removeprefix(top).removeprefix(f"files:{top}") for each in step.objects]
        return step.model_copy(update={"objects": objects, "called": titles(step)})

    return answer.model_copy(update={"steps": [seen(step) for step in answer.steps]})


def _got(story: Story, whose: str) -> Block:
    subjects = ", ".join(f"“{letter.subject}”" for letter in story.mail(whose))
    return line(f"{world.address(whose)} now has", subjects or "nothing", indent=1)


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
