"""What a tool says of itself, takes and lets out: definition, arguments, errors, memos, secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from pydantic import ValidationError

from takeback.journal.states import Effect
from takeback.tools.adapt import load_memo
from takeback.tools.conformance import nasty
from takeback.tools.conformance.base import ToolChecks, for_kinds, run_read, told
from takeback.tools.conformance.driver import Driver
from takeback.tools.conformance.world import forgot
from takeback.tools.contract import (
    AnyTool,
    MemoTool,
    ReadTool,
    ToolError,
)
from takeback.tools.definition import DefinitionError, check_tool
from takeback.tools.system import TargetError


class WordChecks(ToolChecks):
    """Nothing here is taken back."""

    async def test_definition_is_complete(self, tool: AnyTool) -> None:
        """Names, descriptions, types and hints are there, and fit the contract."""
        try:
            check_tool(tool)
        except DefinitionError as error:
            forgot(str(error), error.advice)
        label = type(tool).__name__
        if len(re.findall(r"[.!?](?:\s|$)", tool.description)) > 2:
            forgot(
                f"The description of {label} has more than two sentences.", "A model reads it in every chat: say less."
            )
        schema = tool.arguments.model_json_schema()
        for name, field in schema.get("properties", {}).items():
            if not field.get("description"):
                forgot(
                    f"The argument {name!r} of {label} has no description.",
                    f'Write `{name}: … = Field(description="…")`: models choose arguments by it.',
                )
        tool.result.model_json_schema(mode="serialization")
        if isinstance(tool, ReadTool) and tool.destructive:
            forgot(f"{label} only reads and says that it is destructive.", "Leave `destructive` out.")

    async def test_wrong_arguments_are_refused(self, driver: Driver) -> None:
        """Unknown fields, missing ones and wrong types never get as far as the tool."""
        driver.example()
        for what, raw in nasty.wrong(driver.raw, driver.tool.arguments.model_json_schema()):
            try:
                driver.arguments(raw)
            except ValidationError:
                continue
            forgot(
                f"{driver.label} takes {what}.",
                "Derive its arguments, and the models inside them, from Arguments: unknown fields refused, types strict.",
            )

    async def test_odd_arguments_are_refused_or_carried_out(self, driver: Driver) -> None:
        """Whatever is sent: an answer, or a ToolError with advice. Never another exception, never a change."""
        driver.example()
        before = await driver.world.look()
        for raw in nasty.odd(driver.raw, driver.tool.arguments.model_json_schema()):
            try:
                if isinstance(driver.tool, ReadTool):
                    await run_read(driver, raw)
                else:
                    async with await driver.prepare(raw) as prepared:
                        await prepared.preview()
            except (ValidationError, ValueError) as error:
                if not isinstance(error, ValidationError) and not _not_json(error):
                    _crashed(driver, raw, error)
            except (ToolError, TargetError) as error:
                self.check_error(driver, error)
            except Exception as error:
                _crashed(driver, raw, error)
        if await driver.world.look() != before:
            forgot(
                f"{driver.label} changed the world while it prepared a call.",
                "Everything before `commit` (or in `capture`) only looks; move the change into `commit` or `apply`.",
            )

    async def test_what_is_impossible_is_refused_with_advice(self, driver: Driver) -> None:
        """Of `refused`: a ToolError before anything has changed."""
        if not self.refused:
            pytest.skip("`refused` names no calls that have to be refused")
        before = await driver.world.look()
        for raw in self.refused:
            try:
                if isinstance(driver.tool, ReadTool):
                    await run_read(driver, raw)
                else:
                    async with await driver.prepare(raw):
                        pass
            except (ToolError, TargetError) as error:
                self.check_error(driver, error)
            except ValidationError:
                continue
            else:
                forgot(
                    f"{driver.label} accepts {dict(raw)!r}.", "Raise a ToolError in `targets`, `prepare` or `capture`."
                )
        assert await driver.world.look() == before

    @for_kinds(ReadTool)
    async def test_reading_changes_nothing(self, driver: Driver) -> None:
        """A tool that reads answers what it promised, and the world is as it was."""
        before = await driver.world.look()
        driver.example()
        answer = await run_read(driver, driver.raw)
        if not isinstance(answer, driver.tool.result):
            forgot(
                f"{driver.label} answers {type(answer).__name__}.",
                f"Return a {driver.tool.result.__name__}, as `result` says.",
            )
        if await driver.world.look() != before:
            forgot(f"{driver.label} changes the world and is a ReadTool.", "Derive it from one of the kinds that act.")

    @for_kinds(MemoTool)
    async def test_memo_survives_the_journal(self, driver: Driver) -> None:
        """Memo and outcome come out of JSON as they went in; memos of earlier versions can still be read."""
        done = await driver.act()
        memo = load_memo(driver.later, done.memo)
        assert memo.model_dump(mode="json") == cast("dict[str, Any]", done.memo)["memo"]
        outcome = cast("MemoTool[Any, Any, Any]", driver.tool).outcome
        if outcome.model_validate_json(json.dumps(done.outcome)).model_dump(mode="json") != done.outcome:
            forgot(f"The outcome of {driver.label} does not survive JSON.", "Keep plain values in it.")
        version = cast("MemoTool[Any, Any, Any]", driver.tool).memo_version
        missing = set(range(1, version)) - {number for number, _ in self.old_memos}
        if missing:
            forgot(
                f"{driver.label} is at memo version {version}, and nothing proves that it reads version {min(missing)}.",
                "Write `migrate`, and give the kit a memo of each earlier version: `old_memos = [(1, {…})]`.",
            )
        for number, old in self.old_memos:
            load_memo(driver.later, {"tool": driver.tool.name, "memo_version": number, "memo": old})

    async def test_secrets_stay_inside(self, driver: Driver) -> None:
        """What is named like a secret, in the arguments or in the tool, is in nothing that is journaled or shown."""
        if isinstance(driver.tool, ReadTool):
            driver.example()
            answer = await run_read(driver, driver.raw)
            self.check_secrets(driver, "its answer", answer.model_dump_json(), ours=True)
            return
        prepared = await driver.prepared()
        async with prepared:
            shown = "\n".join(f"{preview.title}\n{preview.diff}" for preview in await prepared.preview())
            self.check_secrets(driver, "its preview", f"{shown}\n{prepared.reason}\n{prepared.how}")
            self.check_secrets(driver, "its memo", json.dumps(prepared.memo, ensure_ascii=False))
            self.check_secrets(driver, "its effects", _written(prepared.effects))
            done = await driver.commit(prepared)
        self.check_secrets(driver, "its summary", done.committed.summary)
        self.check_secrets(driver, "its outcome", json.dumps(done.outcome, ensure_ascii=False))
        self.check_secrets(driver, "its answer", done.committed.result.model_dump_json())


def _crashed(driver: Driver, raw: Mapping[str, Any], error: Exception) -> None:
    sent = json.dumps(raw)
    forgot(
        f"{driver.label} crashes on {sent[:300]} ({told(error)}).",
        "Refuse what cannot be done with a ToolError (or by a constraint on the field) before anything is touched.",
    )


def _not_json(error: ValueError) -> bool:
    return "Out of range float" in str(error)


def _written(effects: Sequence[Effect]) -> str:
    return "\n".join(
        f"{effect.object} {json.dumps(effect.before.ref)} {json.dumps(effect.after.ref)}" for effect in effects
    )
