"""What is asked of a tool. One check per promise; each failure says in one sentence what was forgotten, and how to mend it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import pytest
from pydantic import ValidationError

from takeback.journal.states import Effect
from takeback.tools.adapt import load_memo
from takeback.tools.conformance import nasty
from takeback.tools.conformance.driver import Done, Driver, journaled
from takeback.tools.conformance.faults import MOST_LINES, Broke, Died, LineFault, codes_of, own_codes, run_verb
from takeback.tools.conformance.world import KitObjects, World, call_context, find_secrets, forgot
from takeback.tools.contract import (
    AnyTool,
    CompensableTool,
    IrreversibleTool,
    MemoTool,
    Prepared,
    ReadTool,
    Tool,
    ToolError,
    Unknown,
)
from takeback.tools.definition import DefinitionError, check_tool
from takeback.tools.system import Clash, Drifted, Refused, Swapped, TargetError, TargetSystem

FOREIGN = b'{"somebody else": "was here"}'


@pytest.mark.asyncio
class ToolConformance:
    """Derive from it and say: `examples` (or a fixture `arguments`), and the fixtures `tool` and `world`."""

    examples: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Arguments of calls that can be carried out, as JSON. Each check is run with each of them."""
    refused: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Arguments that are well-formed and have to be refused in this world: what does not exist, what is not allowed."""
    secrets: ClassVar[Sequence[str]] = ()
    """Strings that the tool knows and must not let out. What is named like a secret is found without it."""
    old_memos: ClassVar[Sequence[tuple[int, Any]]] = ()
    """For tools whose memo has changed: of each earlier `memo_version` a memo as it was written then."""
    exact: ClassVar[bool] = True
    """False if a compensation leaves a trace on purpose (a correction that was sent)."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each check with each example."""
        if self.examples and "arguments" in metafunc.fixturenames:
            metafunc.parametrize(
                "arguments", self.examples, ids=[f"example{n}" for n in range(1, len(self.examples) + 1)]
            )

    @pytest.fixture
    def tool(self) -> AnyTool:
        """The tool, working on a world made for this one test."""
        forgot("The kit has not been given a tool.", "Add a fixture `tool` that returns an instance of it.")

    @pytest.fixture
    def arguments(self) -> Mapping[str, Any]:
        """A call that can be carried out."""
        forgot("The kit has not been given an example.", 'Add `examples = [{"text": "hello"}]` to the class.')

    @pytest.fixture
    def world(self) -> World:
        """How to look at what the tool changes."""
        forgot("The kit cannot look at the world.", "Add a fixture `world` that returns World(snapshot=…).")

    @pytest.fixture
    def systems(self, tool: AnyTool) -> Sequence[TargetSystem]:
        """The target systems that the tool works on; found among its attributes."""
        return [value for value in vars(tool).values() if isinstance(value, TargetSystem)]

    @pytest.fixture
    def objects(self) -> KitObjects:
        """The object store that calls are given."""
        return KitObjects()

    @pytest.fixture
    def driver(
        self,
        tool: AnyTool,
        arguments: Mapping[str, Any],
        world: World,
        systems: Sequence[TargetSystem],
        objects: KitObjects,
    ) -> Driver:
        """Not to be overridden: calls the tool as the server would."""
        return Driver(tool, {system.name: system for system in systems}, objects, world, arguments)

    # -- what is said of it --------------------------------------------------------------------------------------------

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

    def check_error(self, driver: Driver, error: ToolError | TargetError) -> None:
        """An error's text is for somebody who has to mend the call."""
        text = str(error).strip()
        if not text or not str(error.advice).strip():
            forgot(
                f"{driver.label} refuses a call with {text!r} and does not say what to do about it.",
                'Raise ToolError("one sentence of fact.", advice="one sentence of what to do.").',
            )
        self.check_secrets(driver, "an error", f"{text} {error.advice}", ours=False)

    # -- before the act ------------------------------------------------------------------------------------------------

    async def test_preparing_changes_nothing(self, driver: Driver) -> None:
        """Prepared, previewed and left: the world is as it was, and nothing is left over."""
        self.only(driver, Tool, but=ReadTool)
        before, remains = await driver.world.look(), await driver.world.remains()
        prepared = await driver.prepared()
        async with prepared:
            await prepared.preview()
            if await driver.world.look() != before:
                forgot(
                    f"{driver.label} changes the world before it is told to commit.",
                    "Everything before `commit` (or in `capture`) only looks; move the change into `commit` or `apply`.",
                )
        await prepared.discard()
        if await driver.world.look() != before:
            forgot(
                f"Discarding a prepared {driver.label} changes the world.",
                "`discard` removes what was staged, no more.",
            )
        if await driver.world.remains() != remains:
            forgot(
                f"A discarded preparation of {driver.label} leaves something behind.",
                "Remove in `discard` what `prepare` staged (SwapPrepared takes a function for it).",
            )

    async def test_reading_changes_nothing(self, driver: Driver) -> None:
        """A tool that reads answers what it promised, and the world is as it was."""
        self.only(driver, ReadTool)
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

    async def test_preview_is_what_happens(self, driver: Driver) -> None:
        """What a person was shown is what the world then looks like, and the reversibility is said with its reason."""
        self.only(driver, Tool, but=ReadTool)
        prepared = await driver.prepared()
        async with prepared:
            if prepared.reversibility != "reversible" and not prepared.reason.strip():
                forgot(
                    f"{driver.label} does not say why it is {prepared.reversibility}.",
                    "Give a reason, in the user's words.",
                )
            if not prepared.effects:
                forgot(f"{driver.label} prepares no effects.", "Name each object that is changed, before and after.")
            shown = await prepared.preview()
            if not shown or not all(preview.title.strip() and "\n" not in preview.title for preview in shown):
                forgot(f"{driver.label} shows no preview.", "Return at least one Preview with a title of one line.")
            if driver.restores:
                await self.shown_and_true(driver, prepared)
            before = await driver.world.look()
            done = await driver.commit(prepared)
        self.check_answer(driver, done)
        if driver.restores:
            await self.as_intended(driver, done, changed=await driver.world.look() != before)

    async def shown_and_true(self, driver: Driver, prepared: Prepared) -> None:
        """Each effect starts from what is there, and is shown."""
        shown = await prepared.preview()
        words = "\n".join(f"{preview.title}\n{preview.diff}" for preview in shown)
        seen: set[str] = set()
        for effect in prepared.effects:
            system = driver.systems[effect.system]
            (now,) = await system.look([effect.object], [effect.before])
            if effect.object not in seen and not now.same(effect.before):
                forgot(
                    f"{driver.label} says of {effect.object!r} what it was like before, and it is not like that.",
                    "Take `before` from what is there when the call is prepared.",
                )
            seen.add(effect.object)
            named = effect.object in words or effect.object.rstrip("/").rsplit("/", 1)[-1] in words
            if effect.verb != "unchanged" and not named and await system.describe(effect) not in shown:
                forgot(
                    f"The preview of {driver.label} does not show that it changes {effect.object!r}.",
                    "Leave `preview` to SwapPrepared, or describe each effect in it.",
                )

    async def as_intended(self, driver: Driver, done: Done, *, changed: bool) -> None:
        """The intended effects are those of the world."""
        last = {(effect.system, effect.object): effect.after for effect in done.intended}
        for (system, name), after in last.items():
            (now,) = await driver.systems[system].look([name], [after])
            if not now.same(after):
                forgot(
                    f"{driver.label} said that {name!r} would become something else than it did.",
                    "Make the effect's `after` from the very content that is committed.",
                )
        observed = {(effect.system, effect.object): effect.after for effect in done.committed.effects}
        if {key: state.digest for key, state in observed.items()} != {key: state.digest for key, state in last.items()}:
            forgot(
                f"{driver.label} reports other effects than it intended.",
                "Return from `commit` the effects as the swap gave them back.",
            )
        if changed and all(effect.verb == "unchanged" for effect in done.intended):
            forgot(
                f"{driver.label} says that nothing changes, and changes something.", "Name each object that is changed."
            )
        if not driver.tool.destructive and any(effect.verb == "deleted" for effect in done.intended):
            forgot(
                f"{driver.label} deletes and says that it is not destructive.",
                "Leave `destructive` as it is by default.",
            )

    def check_answer(self, driver: Driver, done: Done) -> None:
        """The answer has the promised type, and is said in words."""
        committed, result = done.committed, driver.tool.result
        if not isinstance(committed.result, result):
            forgot(
                f"{driver.label} answers {type(committed.result).__name__}.",
                f"Answer a {result.__name__}, as `result` says.",
            )
        if not committed.summary.strip() or "\n" in committed.summary.strip():
            forgot(
                f"{driver.label} does not say in one sentence what it did.", "Return one plain sentence as the summary."
            )

    # -- there and back ------------------------------------------------------------------------------------------------

    async def test_round_trip_is_exact(self, driver: Driver) -> None:
        """Done, taken back from what the journal knows: the world is as it was. Redone and taken back once more: again."""
        self.only(driver, Tool, but=(ReadTool, IrreversibleTool))
        before = await driver.world.look()
        done = await driver.act()
        acted = await driver.world.look()
        if driver.restores:
            for effect in done.committed.effects:
                for name in effect.before.objects:
                    if not await driver.objects.has(name):
                        forgot(
                            f"{driver.label} refers to a stored image of {effect.object!r} that was never stored.",
                            "Hand small images over as `blobs` of the preparation, `put` large ones while preparing.",
                        )
            undone = await driver.swap_back(done.committed.effects)
            await self.is_as_before(driver, before, acted)
            redone = await driver.swap_back(undone)
            if await driver.world.look() != acted:
                forgot(
                    f"Redoing {driver.label} gives another world than doing it.",
                    "`swap` has to keep what it brings out.",
                )
            await driver.swap_back(redone)
            await self.is_as_before(driver, before, acted)
            return
        told = await self.compensated(driver, done)
        await self.is_as_before(driver, before, acted)
        if not isinstance(told, str) or not told.strip() or "\n" in told.strip():
            forgot(
                f"{driver.label}.compensate does not say what it did.",
                'Return one sentence, such as "Deleted the note."; what could not be done is raised, not returned.',
            )

    async def test_undo_twice_is_undo_once(self, driver: Driver) -> None:
        """After a crash nobody knows whether the undo was done: doing it again changes nothing."""
        self.only(driver, Tool, but=(ReadTool, IrreversibleTool))
        done = await driver.act()
        await driver.undo(done)
        once = await driver.world.look()
        advice = "Look first: what is gone already counts as done, and nothing else is touched."
        if driver.restores:
            answers = await driver.swap_again(done.committed.effects)
            if not all(isinstance(answer, Swapped) for answer in answers):
                forgot(
                    f"Undoing {driver.label} a second time is refused.", "`swap` answers `already` if all is as wanted."
                )
        else:
            try:
                await driver.compensate(done.memo, done.outcome)
            except Exception as error:
                forgot(f"{driver.label}.compensate fails when called again ({_told(error)}).", advice)
        if await driver.world.look() != once:
            forgot(f"Undoing {driver.label} a second time changes something again.", advice)

    async def test_what_is_idempotent_can_be_repeated(self, driver: Driver) -> None:
        """A tool that says it is idempotent: twice is as once."""
        self.only(driver, Tool, but=ReadTool)
        if not driver.tool.idempotent:
            pytest.skip("the tool does not say that it is idempotent")
        await driver.act()
        once = await driver.world.look()
        with contextlib.suppress(ToolError):  # there may be nothing left to do
            await driver.act()
        if await driver.world.look() != once:
            forgot(
                f"{driver.label} says that it is idempotent, and acts anew when repeated.", "Leave `idempotent` out."
            )

    async def test_what_others_changed_is_kept(self, driver: Driver) -> None:
        """Somebody changed the same thing after the call: taking the call back does not destroy their change."""
        self.only(driver, Tool, but=(ReadTool, IrreversibleTool))
        if driver.world.foreign_edit is None and not driver.restores:
            pytest.skip("the world has no `foreign_edit`")
        done = await driver.act()
        survives = await (
            self.foreign_write(driver, done) if driver.world.foreign_edit is None else driver.world.edit()
        )
        theirs = await driver.world.look()
        if driver.restores:
            await self.keep_drift(driver, done, theirs)
        else:
            try:
                await driver.compensate(done.memo, done.outcome)
            except Exception:
                if await driver.world.look() != theirs:
                    forgot(
                        f"{driver.label}.compensate fails half-way.", "Look first; raise before anything is touched."
                    )
        if survives is not None and not await run_verb(survives):
            forgot(
                f"Taking {driver.label} back destroys what somebody else changed meanwhile.",
                "Compare with the memo or outcome before touching anything; raise if it is not as the call left it.",
            )

    async def foreign_write(self, driver: Driver, done: Done) -> None:
        """Let somebody else write to the first object that the system can write as bytes."""
        for effect in done.committed.effects:
            system = driver.systems[effect.system]
            (now,) = await system.look([effect.object], [effect.after])
            try:
                answer = await system.swap([await system.write(effect.object, FOREIGN, now)])
            except Refused:
                continue
            assert isinstance(answer, Swapped)
            return
        pytest.skip("the world has no `foreign_edit`, and the system's objects cannot be written as bytes")

    async def keep_drift(self, driver: Driver, done: Done, theirs: Any) -> None:
        """Swap refuses; merge, if it can, removes only our change."""
        for system in {effect.system for effect in done.committed.effects}:
            back = [effect.reversed() for effect in reversed(done.committed.effects) if effect.system == system]
            port = driver.systems[system]
            answer = await port.swap(back)
            if isinstance(answer, Swapped):
                continue
            if await driver.world.look() != theirs:
                forgot(
                    f"The system {system!r} refuses a swap and changes something.", "All effects of a swap, or none."
                )
            merged = await port.merge(back, answer.present)
            if await driver.world.look() != theirs:
                forgot(
                    f"The system {system!r} changes something while it merges.", "`merge` only decides; `swap` acts."
                )
            if not isinstance(merged, Clash):
                driver.objects.keep(dict(merged.blobs))
                assert isinstance(await port.swap(merged.effects), Swapped)

    # -- crashes -------------------------------------------------------------------------------------------------------

    async def test_crash_before_the_act_can_be_settled(self, driver: Driver) -> None:
        """The process died after the intent and before the act: that is found out, and nothing is made up for."""
        self.only(driver, Tool, but=ReadTool)
        before = await driver.world.look()
        prepared = await driver.prepared()
        driver.objects.keep(prepared.blobs)
        await self.settled(driver, prepared, before, acted=False)

    async def test_crash_after_the_act_can_be_settled(self, driver: Driver) -> None:
        """The process died after the act and before its outcome was recorded: that is found out, and can be taken back."""
        self.only(driver, Tool, but=ReadTool)
        before = await driver.world.look()
        prepared = await driver.prepared()
        await driver.commit(prepared)
        await self.settled(driver, prepared, before, acted=await driver.world.look() != before)

    async def test_crash_at_any_line_of_the_act_can_be_settled(self, driver: Driver) -> None:
        """Dead at each line of `apply` (or `commit` and the system's `swap`) in turn, settled, taken back."""
        self.only(driver, Tool, but=(ReadTool, IrreversibleTool))
        for at in range(1, MOST_LINES):
            before = await driver.world.look()
            prepared = await driver.prepared()
            fault = LineFault(self.act_codes(driver, prepared), at, Died())
            try:
                with fault.armed():
                    await (driver.commit(prepared) if driver.restores else driver.apply(prepared))
            except Died:
                pass
            await self.settled(driver, prepared, before, acted=None)
            if not fault.fired:
                return

    async def test_crash_at_any_line_of_the_undo_can_be_repaired(self, driver: Driver) -> None:
        """Dead at each line of the undo in turn, and the undo simply done again."""
        self.only(driver, Tool, but=(ReadTool, IrreversibleTool))
        for at in range(1, MOST_LINES):
            before = await driver.world.look()
            done = await driver.act()
            acted = await driver.world.look()
            fault = LineFault(self.undo_codes(driver, done), at, Died())
            try:
                with fault.armed():
                    await driver.undo(done)
            except Died:
                pass
            await (self.undone(driver, done) if driver.restores else self.compensated(driver, done))
            await self.is_as_before(driver, before, acted, f" (after a crash at step {at} of the first try)")
            if not fault.fired or not self.exact:
                return

    async def test_failures_are_told(self, driver: Driver) -> None:
        """A broken connection at each line of `apply` and `compensate`: raised, or mended; never called a success."""
        self.only(driver, CompensableTool)
        if not self.exact:
            pytest.skip("the compensation leaves a trace on purpose, so that its success cannot be seen from outside")
        await self.failed_acts_are_told(driver)
        for at in range(1, MOST_LINES):
            before = await driver.world.look()
            done = await driver.act()
            acted = await driver.world.look()
            fault = LineFault(self.undo_codes(driver, done), at, Broke("the connection broke"))
            told = False
            try:
                with fault.armed():
                    await driver.compensate(done.memo, done.outcome)
            except Exception:
                told = True
            if not told and acted != before and await driver.world.look() != before:
                forgot(
                    f"{driver.label}.compensate swallows an error: it failed, and says that it worked.",
                    "Take out the `except` around the act (or raise again): it is retried, then left open for a person.",
                )
            await self.compensated(driver, done)
            if not fault.fired:
                return

    async def failed_acts_are_told(self, driver: Driver) -> None:
        """The same for `apply`: a ToolError proves that nothing happened, an outcome that it did."""
        for at in range(1, MOST_LINES):
            before = await driver.world.look()
            prepared = await driver.prepared()
            memo = journaled(prepared.memo)
            fault = LineFault(self.act_codes(driver, prepared), at, Broke("the connection broke"))
            error: Exception | None = None
            try:
                with fault.armed():
                    await driver.apply(prepared)
            except Exception as raised:
                error = raised
            changed = await driver.world.look() != before
            if isinstance(error, ToolError) and changed:
                forgot(
                    f"{driver.label}.apply raises a ToolError after it has acted.",
                    "A ToolError proves that nothing happened; let every other error through, and it is looked into.",
                )
            await driver.compensate(memo, None)
            if error is None and not changed and fault.fired and await self.normally_changes(driver):
                forgot(
                    f"{driver.label}.apply swallows an error: it failed, and says that it worked.",
                    "Take out the `except` around the act, or raise again.",
                )
            if not fault.fired:
                return

    async def normally_changes(self, driver: Driver) -> bool:
        """Whether the call changes anything that the snapshot shows."""
        before = await driver.world.look()
        done = await driver.act()
        changed = await driver.world.look() != before
        await driver.undo(done)
        return changed

    # -- what passes from act to undo ----------------------------------------------------------------------------------

    async def test_memo_survives_the_journal(self, driver: Driver) -> None:
        """Memo and outcome come out of JSON as they went in; memos of earlier versions can still be read."""
        self.only(driver, MemoTool)
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

    def check_secrets(self, driver: Driver, place: str, text: str, *, ours: bool = True) -> None:
        """Nothing secret in this text.

        :param ours: look for secrets among the arguments too (an error may name what its caller sent).
        """
        known = {*self.secrets, *find_secrets(vars(driver.tool)), *(find_secrets(driver.raw) if ours else ())}
        for secret in known:
            if secret in text or json.dumps(secret, ensure_ascii=False)[1:-1] in text:
                forgot(
                    f"{driver.label} lets a secret into {place}.",
                    "Keep it out of what is shown and journaled; fetch it again (keyring, environment) where it is needed.",
                )

    # -- helpers -------------------------------------------------------------------------------------------------------

    def only(self, driver: Driver, kind: type | tuple[type, ...], but: type | tuple[type, ...] = ()) -> None:
        """Skip a check that says nothing about this kind of tool."""
        if not isinstance(driver.tool, kind) or isinstance(driver.tool, but):
            pytest.skip("not for this kind of tool")

    def act_codes(self, driver: Driver, prepared: Prepared) -> Any:
        """The code that may die while acting."""
        if not driver.restores:
            return own_codes(type(driver.tool), Tool)
        systems = {effect.system for effect in prepared.effects}
        return codes_of(type(prepared).commit, *(type(driver.systems[name]).swap for name in systems))

    def undo_codes(self, driver: Driver, done: Done) -> Any:
        """The code that may die while undoing."""
        if not driver.restores:
            return own_codes(type(driver.tool), Tool)
        return codes_of(*(type(driver.systems[effect.system]).swap for effect in done.intended))

    async def is_as_before(self, driver: Driver, before: Any, acted: Any, after: str = "") -> None:
        """The world is as it was before the act (or, where a trace is left on purpose, no longer as the act left it)."""
        now = await driver.world.look()
        if now == before or (not self.exact and not driver.restores and (now != acted or acted == before)):
            return
        forgot(
            f"After {driver.label} was taken back the world is not as before{after}:\n  before: {before!r}\n  now:    {now!r}",
            "Name every changed object as an effect."
            if driver.restores
            else "`compensate` has to find and undo everything that `apply` does, from memo and outcome alone.",
        )

    async def compensated(self, driver: Driver, done: Done) -> Any:
        """Compensate, which has to work."""
        try:
            return await driver.compensate(done.memo, done.outcome)
        except Exception as error:
            forgot(
                f"{driver.label}.compensate fails with nothing but the memo and the outcome ({_told(error)}).",
                "Whatever it needs has to stand in the memo: another process may run it, next week.",
            )

    async def undone(self, driver: Driver, done: Done) -> None:
        """Swap back, whether or not that was done already."""
        for answer in await driver.swap_again(done.committed.effects):
            if isinstance(answer, Drifted):
                forgot(f"A swap that died cannot be repeated: {answer.why}", "`swap` is safe to repeat after a crash.")

    async def settled(self, driver: Driver, prepared: Prepared, before: Any, *, acted: bool | None) -> None:
        """Find out from the world alone whether the act took effect, and take it back if so.

        :param acted: what is true; `None` where that is not known.
        """
        if driver.restores:
            await self.settled_by_looking(driver, prepared, acted)
            await prepared.discard()
        else:
            await self.settled_by_asking(driver, prepared, acted)
            if not isinstance(driver.tool, CompensableTool):
                return
        now = await driver.world.look()
        if now != before and (self.exact or driver.restores):
            forgot(
                f"{driver.label} died {_when(acted)}, and taking it back leaves the world changed:"
                f"\n  before: {before!r}\n  now:    {now!r}",
                "With `UNKNOWN` as outcome, `compensate` looks (by what the memo says) whether there is anything to undo.",
            )

    async def settled_by_looking(self, driver: Driver, prepared: Prepared, acted: bool | None) -> None:
        """All objects are as before, or all as intended."""
        for name in {effect.system for effect in prepared.effects}:
            system = driver.systems[name]
            effects = [effect for effect in prepared.effects if effect.system == name]
            first: dict[str, Effect] = {}
            last: dict[str, Effect] = {}
            for effect in effects:
                first.setdefault(effect.object, effect)
                last[effect.object] = effect
            now = await system.look(list(first), [effect.before for effect in first.values()])
            after = await system.look(list(last), [effect.after for effect in last.values()])
            untouched = all(state.same(effect.before) for state, effect in zip(now, first.values(), strict=True))
            complete = all(state.same(effect.after) for state, effect in zip(after, last.values(), strict=True))
            if not untouched and not complete:
                forgot(
                    f"After a crash the objects of {driver.label} are neither as before nor as intended.",
                    "Let `swap` make all effects visible in one step, or be able to tell and to go on.",
                )
            if acted is not None and complete != acted and not (untouched and complete):
                forgot(
                    f"After a crash {_when(acted)} the objects of {driver.label} say the opposite.",
                    "`look` reads the world.",
                )
            if complete and not untouched:
                answer = await system.swap([effect.reversed() for effect in reversed(effects)])
                assert isinstance(answer, Swapped), answer

    async def settled_by_asking(self, driver: Driver, prepared: Prepared, acted: bool | None) -> None:
        """The tool says whether it happened, truthfully; then it is compensated without knowing."""
        memo = journaled(prepared.memo)
        said: Any = await driver.happened(memo)
        if said is not False and not isinstance(said, Unknown | cast("Any", driver.tool).outcome):
            forgot(
                f"{driver.label}.happened answers {said!r}.",
                "Return the outcome, `False` for a proven no, or `UNKNOWN`.",
            )
        if acted is not None and not isinstance(said, Unknown) and acted != (said is not False):
            forgot(
                f"{driver.label}.happened says {'no' if said is False else 'yes'} of an act that died {_when(acted)}.",
                "Look for the act by something in the memo; return `UNKNOWN` if that cannot be told.",
            )
        if isinstance(driver.tool, CompensableTool):
            try:
                await driver.compensate(memo, None)
            except Exception as error:
                forgot(
                    f"{driver.label}.compensate fails when it is not known whether the act took effect ({_told(error)}).",
                    "With `UNKNOWN` as outcome, look first; if there is nothing to undo, say so and return.",
                )


async def run_read(driver: Driver, raw: Mapping[str, Any]) -> Any:
    """One call of a tool that reads."""
    tool = cast("ReadTool[Any]", driver.tool)
    context = call_context(driver.objects)
    arguments = driver.arguments(raw)
    await tool.targets(arguments, context)
    return await tool.run(arguments, context)


def _crashed(driver: Driver, raw: Mapping[str, Any], error: Exception) -> None:
    sent = json.dumps(raw)
    forgot(
        f"{driver.label} crashes on {sent[:300]} ({_told(error)}).",
        "Refuse what cannot be done with a ToolError (or by a constraint on the field) before anything is touched.",
    )


def _not_json(error: ValueError) -> bool:
    return "Out of range float" in str(error)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _when(acted: bool | None) -> str:
    return {True: "after the act", False: "before the act", None: "during the act"}[acted]


def _written(effects: Sequence[Effect]) -> str:
    return "\n".join(
        f"{effect.object} {json.dumps(effect.before.ref)} {json.dumps(effect.after.ref)}" for effect in effects
    )
