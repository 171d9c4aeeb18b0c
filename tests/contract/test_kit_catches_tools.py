"""Tools that forget something, one each, and the check of the kit that tells their author."""

from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.conformance import KitObjects, ToolConformance, World
from takeback.tools.conformance.driver import Driver
from takeback.tools.contract import Arguments, CompensableTool, Result, SwapPrepared, ToolError, Unknown
from takeback.tools.memory import Announce, DeleteValue, GetValue, MemorySystem, PostNote, SetValue
from takeback.tools.memory import NoteMemo as Memo
from takeback.tools.memory import NotePosted as Posted
from takeback.tools.system import Preview, Swapped

SET = {"key": "list", "value": "new"}
NOTE = {"text": "hello"}


async def told(check: str, tool: Any, raw: dict, *, foreign_edit=None, leftovers=None, **attributes: Any) -> str:
    """What the kit tells the author of a tool in one check."""
    memory = tool.system
    memory.edit("list", '{"milk": 1}')
    world = World(
        lambda: (memory.texts(), memory.notes(), memory.notes("announcement")),
        foreign_edit=foreign_edit,
        leftovers=leftovers,
    )
    kit = type("Kit", (ToolConformance,), attributes)()
    driver = Driver(tool, {memory.name: memory}, KitObjects(), world, raw)
    with pytest.raises(pytest.fail.Exception) as caught:
        await getattr(kit, check)(tool if check == "test_definition_is_complete" else driver)
    assert "To mend it: " in str(caught.value)
    return str(caught.value)


# -- the definition ------------------------------------------------------------------------------------------------------


async def test_an_argument_without_description_is_told():
    class Bare(Arguments):
        text: str

    class Tool(PostNote):
        arguments = Bare

    assert "'text' of Tool has no description" in await told("test_definition_is_complete", Tool(MemorySystem()), NOTE)


async def test_a_talkative_description_is_told():
    class Tool(PostNote):
        description = "Posts. To the board. For everybody."

    assert "two sentences" in await told("test_definition_is_complete", Tool(MemorySystem()), NOTE)


async def test_a_memo_of_functions_is_told():
    class WithFunction(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        undo: Any = Field(exclude=True)

    class Tool(PostNote):
        memo = WithFunction

    assert "`undo` is excluded" in await told("test_definition_is_complete", Tool(MemorySystem()), NOTE)


async def test_a_compensation_that_was_forgotten_cannot_even_be_made():
    class Tool(CompensableTool[Any, Memo, Posted]):
        async def capture(self, arguments, context): ...
        async def apply(self, arguments, memo): ...

    with pytest.raises(TypeError, match="compensate"):
        Tool()


async def test_a_window_that_is_no_number_or_has_nothing_behind_it_is_told():
    class Odd(PostNote):
        hold = -1.0

    class Hopeless(Announce):
        hold = 60.0

    assert "no number of seconds" in await told("test_definition_is_complete", Odd(MemorySystem()), NOTE)
    assert "nothing that makes up for it" in await told("test_definition_is_complete", Hopeless(MemorySystem()), NOTE)


async def test_a_held_act_that_needs_what_nobody_wrote_down_is_told():
    class Tool(PostNote):
        hold = 60.0

        async def capture(self, arguments, context):
            self.text = arguments.text
            return await super().capture(arguments, context)

        async def apply(self, arguments, memo):
            return await super().apply(arguments.model_copy(update={"text": self.text}), memo)

    message = await told("test_what_waits_is_done_by_another_process", Tool(MemorySystem()), NOTE)
    assert "cannot do later what was held (AttributeError" in message


# -- arguments -----------------------------------------------------------------------------------------------------------


async def test_unknown_fields_that_get_through_are_told():
    class Loose(Arguments):
        model_config = {"extra": "ignore"}
        text: str = Field(description="What it says.")

    class Tool(PostNote):
        arguments = Loose

    message = await told("test_wrong_arguments_are_refused", Tool(MemorySystem()), NOTE)
    assert "takes an unknown field" in message


async def test_a_loose_model_inside_the_arguments_is_told():
    class Inner(BaseModel):
        label: str = ""

    class Outer(Arguments):
        text: str
        inner: Inner = Inner()

    class Tool(PostNote):
        arguments = Outer

    assert "no inner" in await told("test_wrong_arguments_are_refused", Tool(MemorySystem()), NOTE)


async def test_a_crash_on_an_odd_argument_is_told():
    class Tool(PostNote):
        async def capture(self, arguments, context):
            return Memo(note_id=arguments.text.split()[0])

    message = await told("test_odd_arguments_are_refused_or_carried_out", Tool(MemorySystem()), NOTE)
    assert "crashes on" in message
    assert "IndexError" in message


async def test_a_read_tool_that_crashes_is_told():
    class Tool(GetValue):
        async def run(self, arguments, context):
            return [].pop()

    message = await told("test_odd_arguments_are_refused_or_carried_out", Tool(MemorySystem()), {"key": "list"})
    assert "crashes on" in message


async def test_an_error_without_advice_is_told():
    class Tool(DeleteValue):
        async def prepare(self, arguments, context):
            raise ToolError("No.")

    for check in ("test_odd_arguments_are_refused_or_carried_out", "test_what_is_impossible_is_refused_with_advice"):
        message = await told(check, Tool(MemorySystem()), {"key": "list"}, refused=[{"key": "none"}])
        assert "does not say what to do about it" in message


async def test_an_impossible_call_that_is_accepted_is_told():
    class Tool(DeleteValue):
        async def prepare(self, arguments, context):
            effect = Effect(system="memory", object=arguments.key, before=ABSENT, after=ABSENT)
            return SwapPrepared(self.system, [effect], result=lambda _: Result(), summary="Deleted.")

    check = "test_what_is_impossible_is_refused_with_advice"
    assert "accepts" in await told(check, Tool(MemorySystem()), {"key": "list"}, refused=[{"key": "none"}])


# -- before the act ------------------------------------------------------------------------------------------------------


async def test_a_capture_that_acts_is_told():
    class Tool(PostNote):
        async def capture(self, arguments, context):
            self.system.pin("early", "note", arguments.text)
            return Memo(note_id="early")

    assert "before it is told to commit" in await told("test_preparing_changes_nothing", Tool(MemorySystem()), NOTE)
    message = await told("test_odd_arguments_are_refused_or_carried_out", Tool(MemorySystem()), NOTE)
    assert "changed the world while it prepared" in message


async def test_a_preparation_that_leaves_something_behind_is_told():
    class Tool(SetValue):
        async def prepare(self, arguments, context):
            prepared = await super().prepare(arguments, context)
            prepared._discard = None
            return prepared

    memory = MemorySystem(objects=KitObjects())
    raw = {"key": "list", "value": "x" * 2000}
    message = await told("test_preparing_changes_nothing", Tool(memory), raw, leftovers=lambda: sorted(memory._staged))
    assert "leaves something behind" in message


async def test_a_read_tool_that_writes_is_told():
    class Tool(GetValue):
        async def run(self, arguments, context):
            self.system.edit("log", "read")
            return await super().run(arguments, context)

    assert "is a ReadTool" in await told("test_reading_changes_nothing", Tool(MemorySystem()), {"key": "list"})


async def test_a_memo_with_a_closure_in_it_is_told():
    class Anything(BaseModel):
        undo: Any

    class Tool(PostNote):
        memo = Anything

        async def capture(self, arguments, context):
            return Anything(undo=lambda: self.system.unpin("x"))

    assert "does not survive JSON" in await told("test_preparing_changes_nothing", Tool(MemorySystem()), NOTE)


async def test_a_memo_that_comes_back_otherwise_is_told():
    class Anything(BaseModel):
        undo: Any

    class Tool(PostNote):
        memo = Anything

        async def capture(self, arguments, context):
            return Anything(undo=("a", "tuple"))

    assert "does not survive JSON" in await told("test_memo_survives_the_journal", Tool(MemorySystem()), NOTE)


# -- previews and answers ------------------------------------------------------------------------------------------------


def changed_effects(change, **options):
    class Tool(SetValue):
        async def prepare(self, arguments, context):
            prepared = await super().prepare(arguments, context)
            prepared.effects = tuple(change(effect) for effect in prepared.effects)
            for name, value in options.items():
                setattr(prepared, name, value)
            return prepared

    return Tool(MemorySystem())


async def test_an_effect_that_is_not_what_happens_is_told():
    class Tool(SetValue):
        async def prepare(self, arguments, context):
            prepared = await super().prepare(arguments, context)
            promised, commit = prepared.effects, prepared.commit

            async def other():
                prepared.effects = (promised[0].model_copy(update={"after": self.system.stage("other")}),)
                return await commit()

            prepared.commit = other
            return prepared

    message = await told("test_preview_is_what_happens", Tool(MemorySystem()), SET)
    assert "would become something else than it did" in message


async def test_a_wrong_before_is_told():
    other = State(digest="blake3:00", kind="text")
    tool = changed_effects(lambda effect: effect.model_copy(update={"before": other}), preview=lambda: shown("list"))
    assert "it is not like that" in await told("test_preview_is_what_happens", tool, SET)


async def shown(*titles: str):
    return [Preview(title) for title in titles]


async def test_a_preview_that_hides_its_object_is_told():
    tool = changed_effects(lambda effect: effect, preview=lambda: shown("change a harmless thing"))
    assert "does not show that it changes 'list'" in await told("test_preview_is_what_happens", tool, SET)


async def test_a_missing_preview_is_told():
    tool = changed_effects(lambda effect: effect, preview=shown)
    assert "shows no preview" in await told("test_preview_is_what_happens", tool, SET)


async def test_effects_left_out_of_the_report_are_told():
    class Tool(SetValue):
        async def prepare(self, arguments, context):
            prepared = await super().prepare(arguments, context)
            commit = prepared.commit

            async def silent():
                import dataclasses

                return dataclasses.replace(await commit(), effects=())

            prepared.commit = silent
            return prepared

    assert "reports other effects" in await told("test_preview_is_what_happens", Tool(MemorySystem()), SET)


async def test_a_call_without_effects_is_told():
    class Tool(SetValue):
        async def prepare(self, arguments, context):
            return SwapPrepared(self.system, [], result=lambda _: Result(), summary="Did it.")

    assert "prepares no effects" in await told("test_preview_is_what_happens", Tool(MemorySystem()), SET)


async def test_a_missing_reason_is_told():
    class Tool(Announce):
        def reason(self, arguments, memo):
            return ""

    assert "why it is irreversible" in await told("test_preview_is_what_happens", Tool(MemorySystem()), NOTE)


async def test_a_missing_summary_is_told():
    class Tool(PostNote):
        def summary(self, arguments, outcome):
            return ""

    assert "in one sentence what it did" in await told("test_preview_is_what_happens", Tool(MemorySystem()), NOTE)


async def test_an_answer_of_another_type_is_told():
    class Tool(SetValue):
        async def prepare(self, arguments, context):
            prepared = await super().prepare(arguments, context)
            prepared._result = lambda _: Result()
            return prepared

    assert "answers Result" in await told("test_preview_is_what_happens", Tool(MemorySystem()), SET)


async def test_a_deletion_that_is_said_to_be_harmless_is_told():
    class Tool(DeleteValue):
        destructive = False

    message = await told("test_preview_is_what_happens", Tool(MemorySystem()), {"key": "list"})
    assert "says that it is not destructive" in message


# -- there and back ------------------------------------------------------------------------------------------------------


async def test_a_second_object_that_is_not_named_is_told():
    class Tool(SetValue):
        async def prepare(self, arguments, context):
            prepared = await super().prepare(arguments, context)
            commit = prepared.commit

            async def more():
                self.system.edit("log", "something was set")
                return await commit()

            prepared.commit = more
            return prepared

    message = await told("test_round_trip_is_exact", Tool(MemorySystem()), SET)
    assert "not as before" in message
    assert "Name every changed object" in message


async def test_an_image_that_was_never_stored_is_told():
    class Tool(SetValue):
        async def prepare(self, arguments, context):
            prepared = await super().prepare(arguments, context)
            prepared.blobs = {}
            return prepared

    memory = MemorySystem(objects=KitObjects())
    memory.edit("long", "x" * 2000)
    message = await told("test_round_trip_is_exact", Tool(memory), {"key": "long", "value": "new"})
    assert "never stored" in message


async def test_a_compensation_that_does_nothing_is_told():
    class Tool(PostNote):
        async def compensate(self, memo, outcome):
            return "Deleted the note."

    assert "the world is not as before" in await told("test_round_trip_is_exact", Tool(MemorySystem()), NOTE)


async def test_a_tool_that_remembers_instead_of_writing_down_is_told():
    class Tool(PostNote):
        last = ""

        async def apply(self, arguments, memo):
            self.last = memo.note_id
            return await super().apply(arguments, memo)

        async def compensate(self, memo, outcome):
            self.system.unpin(self.last)
            return "Deleted the note."

    assert "from memo and outcome alone" in await told("test_round_trip_is_exact", Tool(MemorySystem()), NOTE)


async def test_a_compensation_that_says_nothing_is_told():
    class Tool(PostNote):
        async def compensate(self, memo, outcome):
            self.system.unpin(memo.note_id)

    assert "does not say what it did" in await told("test_round_trip_is_exact", Tool(MemorySystem()), NOTE)


async def test_a_compensation_that_fails_the_second_time_is_told():
    class Tool(PostNote):
        async def compensate(self, memo, outcome):
            if not self.system.unpin(memo.note_id):
                raise LookupError("no such note")
            return "Deleted the note."

    assert "fails when called again" in await told("test_undo_twice_is_undo_once", Tool(MemorySystem()), NOTE)


async def test_a_compensation_that_takes_back_more_each_time_is_told():
    class Tool(PostNote):
        async def compensate(self, memo, outcome):
            notes = self.system.notes()
            self.system.unpin(memo.note_id if memo.note_id in notes else next(iter(notes), ""))
            return "Deleted the note."

    memory = MemorySystem()
    memory.pin("theirs", "note", "somebody else's")
    assert "changes something again" in await told("test_undo_twice_is_undo_once", Tool(memory), NOTE)


async def test_a_tool_that_only_says_it_is_idempotent_is_told():
    class Tool(PostNote):
        idempotent = True

    assert "acts anew" in await told("test_what_is_idempotent_can_be_repeated", Tool(MemorySystem()), NOTE)


async def test_a_compensation_that_destroys_what_others_changed_is_told():
    memory = MemorySystem()

    def edit():
        (note_id,) = memory.notes()
        memory.unpin(note_id)
        memory.pin(note_id, "note", "hello, and what I wanted to add")
        return lambda: note_id in memory.notes()

    message = await told("test_what_others_changed_is_kept", PostNote(memory), NOTE, foreign_edit=edit)
    assert "destroys what somebody else changed" in message


async def test_a_system_that_overwrites_what_others_changed_is_told():
    class Careless(MemorySystem):
        async def swap(self, effects):
            for effect in effects:
                self.edit(effect.object, await self._text(effect.after))
            return Swapped(tuple(effects))

    memory = Careless()

    def edit():
        memory.edit("list", "theirs")
        return lambda: memory.get("list") == "theirs"

    message = await told("test_what_others_changed_is_kept", SetValue(memory), SET, foreign_edit=edit)
    assert "destroys what somebody else changed" in message


# -- crashes and failures ------------------------------------------------------------------------------------------------


async def test_a_compensation_that_needs_an_outcome_is_told():
    class Tool(PostNote):
        async def compensate(self, memo, outcome):
            self.system.unpin(outcome.note_id)
            return "Deleted the note."

    for check in ("test_crash_before_the_act_can_be_settled", "test_crash_after_the_act_can_be_settled"):
        assert "when it is not known whether" in await told(check, Tool(MemorySystem()), NOTE)


async def test_a_compensation_that_gives_up_on_unknown_is_told():
    class Tool(PostNote):
        async def compensate(self, memo, outcome):
            if isinstance(outcome, Unknown):
                return "Nobody knows."
            return await super().compensate(memo, outcome)

    message = await told("test_crash_after_the_act_can_be_settled", Tool(MemorySystem()), NOTE)
    assert "died after the act, and taking it back leaves the world changed" in message


@pytest.mark.parametrize(
    ("check", "lie", "word"),
    [
        ("test_crash_before_the_act_can_be_settled", Posted(note_id="x"), "says yes"),
        ("test_crash_after_the_act_can_be_settled", False, "says no"),
        ("test_crash_after_the_act_can_be_settled", None, "answers None"),
    ],
)
async def test_a_tool_that_is_wrong_about_what_happened_is_told(check, lie, word):
    class Tool(PostNote):
        async def happened(self, memo):
            return lie

    assert word in await told(check, Tool(MemorySystem()), NOTE)


async def test_an_act_of_two_steps_of_which_one_is_forgotten_is_told():
    class Tool(PostNote):
        async def apply(self, arguments, memo):
            self.system.pin(f"draft {memo.note_id}", "note", "draft")
            outcome = await super().apply(arguments, memo)
            self.system.unpin(f"draft {memo.note_id}")
            return outcome

    message = await told("test_crash_at_any_line_of_the_act_can_be_settled", Tool(MemorySystem()), NOTE)
    assert "died during the act" in message


async def test_an_undo_that_cannot_be_finished_after_a_crash_is_told():
    class Tool(PostNote):
        async def apply(self, arguments, memo):
            self.system.pin(f"copy {memo.note_id}", "note", arguments.text)
            return await super().apply(arguments, memo)

        async def compensate(self, memo, outcome):
            if not self.system.unpin(memo.note_id):
                return "It was gone already."
            self.system.unpin(f"copy {memo.note_id}")
            return "Deleted the note and its copy."

    message = await told("test_crash_at_any_line_of_the_undo_can_be_repaired", Tool(MemorySystem()), NOTE)
    assert "after a crash at step" in message


async def test_a_compensation_that_swallows_errors_is_told():
    class Tool(PostNote):
        async def compensate(self, memo, outcome):
            try:  # noqa: SIM105 -- as people write it
                self.system.unpin(memo.note_id)
            except Exception:
                pass
            return "Deleted the note."

    assert "compensate swallows an error" in await told("test_failures_are_told", Tool(MemorySystem()), NOTE)


async def test_an_act_that_swallows_errors_is_told():
    class Tool(PostNote):
        async def apply(self, arguments, memo):
            try:  # noqa: SIM105 -- as people write it
                self.system.pin(memo.note_id, "note", arguments.text)
            except OSError:
                pass
            return Posted(note_id=memo.note_id)

    assert "apply swallows an error" in await told("test_failures_are_told", Tool(MemorySystem()), NOTE)


async def test_an_act_that_calls_itself_undone_after_acting_is_told():
    class Tool(PostNote):
        async def apply(self, arguments, memo):
            try:
                return await self.post(arguments, memo)
            except OSError as error:
                raise ToolError("It did not work.", advice="Try again.") from error

        async def post(self, arguments, memo):
            self.system.pin(memo.note_id, "note", arguments.text)
            return Posted(note_id=memo.note_id)

    assert "raises a ToolError after it has acted" in await told("test_failures_are_told", Tool(MemorySystem()), NOTE)


async def test_a_swap_that_is_torn_by_a_crash_is_told():
    class Torn(MemorySystem):
        async def swap(self, effects):
            for effect in effects:
                self.edit(effect.object, "half")
                self.edit(effect.object, await self._text(effect.after))
            return Swapped(tuple(effects))

    message = await told("test_crash_at_any_line_of_the_act_can_be_settled", SetValue(Torn()), SET)
    assert "neither as before nor as intended" in message


# -- what is journaled ---------------------------------------------------------------------------------------------------


async def test_an_older_memo_that_nobody_tried_is_told():
    class Tool(PostNote):
        memo_version = 3

    message = await told(
        "test_memo_survives_the_journal", Tool(MemorySystem()), NOTE, old_memos=[(1, {"note_id": "x"})]
    )
    assert "nothing proves that it reads version 2" in message


async def test_secrets_in_memo_preview_outcome_and_errors_are_told():
    class Talkative(PostNote):
        def __init__(self, system):
            super().__init__(system)
            self.api_key = SecretStr("hunter2-hunter2")

        @property
        def plain(self):
            return self.api_key.get_secret_value()

    class InMemo(Talkative):
        async def capture(self, arguments, context):
            return Memo(note_id=f"as {self.plain}")

    class InPreview(Talkative):
        def describe(self, arguments, memo):
            return Preview(f"post with {self.plain}")

    class InSummary(Talkative):
        def summary(self, arguments, outcome):
            return f"Posted with {self.plain}."

    class InError(Talkative):
        async def capture(self, arguments, context):
            raise ToolError(f"{self.plain} was refused.", advice="Ask for another.")

    for tool, place in ((InMemo, "its memo"), (InPreview, "its preview"), (InSummary, "its summary")):
        assert f"lets a secret into {place}" in await told("test_secrets_stay_inside", tool(MemorySystem()), NOTE)
    message = await told("test_odd_arguments_are_refused_or_carried_out", InError(MemorySystem()), NOTE)
    assert "lets a secret into an error" in message


async def test_a_secret_among_the_arguments_that_is_written_down_is_told():
    class WithPassword(Arguments):
        text: str
        password: str

    class Tool(PostNote):
        arguments = WithPassword

    raw = {"text": "hello", "password": "correct horse"}
    assert "lets a secret into its preview" in await told("test_secrets_stay_inside", Tool(MemorySystem()), raw)
