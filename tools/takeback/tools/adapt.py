"""One protocol for the engine: `capture`, `apply` and `compensate` of simple tools, seen as prepare, commit and undo.

What cannot be prepared is at least written down: the memo is captured, put through JSON and handed to `apply` exactly as the
journal will give it back to `compensate` next week. Nothing else passes from act to undo.

Verbs written as plain `def` run in threads, and are awaited to their true end even if the caller is cancelled meanwhile: a
thread cannot be stopped, so its outcome is waited for instead of guessed.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeGuard, TypeVar, cast

import anyio
import anyio.to_thread
from blake3 import blake3
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from takeback.journal.states import Effect, State
from takeback.tools.contract import (
    UNKNOWN,
    AnyTool,
    CallContext,
    Committed,
    CompensableTool,
    IrreversibleTool,
    MemoTool,
    Prepared,
    ReversibleTool,
    ToolError,
    Unknown,
)
from takeback.tools.system import Preview

T = TypeVar("T")
AnyMemoTool = MemoTool[Any, Any, Any]

OPAQUE_BEFORE = State(digest="opaque:before", kind="opaque")
OPAQUE_AFTER = State(digest="opaque:after", kind="opaque")
"""Nobody can look at what such a tool changes: the two say that something happened, and nothing more."""

SHOWN: Final = "shown"
"""In the `ref` of such a state: the digest of what a person is shown of the act. What is captured may be another the next
time, and a consent is good for what was shown."""

_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


class MemoError(Exception):
    """A journaled memo or outcome cannot be read by the tool that is installed now: `advice` says what to do."""

    def __init__(self, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


async def prepare(tool: AnyTool, arguments: Any, context: CallContext) -> Prepared:
    """Prepare one call of an acting tool, whatever its kind.

    :raises ToolError: the call cannot be done; nothing has changed.
    :raises TypeError: it is a tool that only reads.
    """
    if isinstance(tool, ReversibleTool):
        return await tool.prepare(arguments, context)
    if not is_memo_tool(tool):
        raise TypeError(f"{tool.name} changes nothing, so there is nothing to prepare")
    targets = await tool.targets(arguments, context)
    captured = await _call(tool.capture, arguments, context)
    journaled = _dump_memo(tool, captured)
    named = [(target.system, target.object) for target in targets] or [(tool.family or tool.name, tool.name)]
    after = OPAQUE_AFTER.model_copy(update={"ref": {SHOWN: _digest_shown(tool, arguments, journaled)}})
    effects = tuple(
        Effect(system=system, object=object_, before=OPAQUE_BEFORE, after=after) for system, object_ in named
    )
    return MemoPrepared(tool, arguments, journaled, effects)


def _digest_shown(tool: AnyMemoTool, arguments: Any, memo: JsonValue) -> str:
    try:
        shown = tool.describe(arguments, load_memo(tool, memo))
    except Exception:  # an author's code; whoever has to be shown it finds out, and nobody else does
        return ""
    text = "\0".join((shown.title, shown.diff))
    return f"blake3:{blake3(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


class MemoPrepared(Prepared):
    """A call of a tool that cannot prepare: its memo is taken, its act is still to come."""

    def __init__(self, tool: AnyMemoTool, arguments: Any, memo: JsonValue, effects: tuple[Effect, ...]) -> None:
        self.tool, self.arguments, self.memo, self.effects = tool, arguments, memo, effects
        self._value = load_memo(tool, memo)
        if isinstance(tool, CompensableTool):
            self.reversibility = "compensable"
            self.reason = "What it does cannot be put back exactly; it is made up for by a follow-up act."
            self.how = tool.how
        else:
            self.reversibility = "irreversible"
            self.reason = cast("IrreversibleTool[Any, Any, Any]", tool).reason(arguments, self._value)
            self.how = "It cannot be taken back."

    async def commit(self) -> Committed:
        returned = await _call(self.tool.apply, self.arguments, self._value, to_its_end=True)
        outcome = _as_model(self.tool.outcome, returned)
        result = outcome if self.tool.result is self.tool.outcome else _narrowed(self.tool.result, outcome)
        return Committed(
            effects=self.effects,
            result=result,
            summary=self.tool.summary(self.arguments, outcome),
            outcome=dump_outcome(self.tool, outcome),
        )

    async def preview(self) -> Sequence[Preview]:
        return [self.tool.describe(self.arguments, self._value)]


def load_memo(tool: AnyTool, memo: JsonValue) -> Any:
    """The memo as the tool's own type, brought up from an older version if need be.

    :param memo: as it was journaled.
    :raises MemoError: written by another tool, by a newer version, or not readable any more.
    """
    memo_tool = _memo_tool(tool)
    if not isinstance(memo, dict) or not {"tool", "memo_version", "memo"} <= memo.keys():
        raise MemoError(f"The memo of {tool.name} is not one.", advice="Run `takeback verify`; then settle it by hand.")
    version, value = memo["memo_version"], memo["memo"]
    if memo["tool"] != tool.name or not isinstance(version, int):
        raise MemoError(
            f"The memo was written by {memo['tool']}, not by {tool.name}.", advice="Install that tool again."
        )
    if version > memo_tool.memo_version:
        raise MemoError(
            f"The memo was written by a newer {tool.name} (memo version {version}, this one reads {memo_tool.memo_version}).",
            advice="Install the newer version again, then repeat the undo.",
        )
    try:
        if version < memo_tool.memo_version:
            value = memo_tool.migrate(value, version)
        return memo_tool.memo.model_validate_json(_JSON.dump_json(value))
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise MemoError(
            f"{tool.name} cannot read a memo of version {version}: {type(error).__name__}.",
            advice=f"Teach {type(tool).__name__}.migrate to bring version {version} up to {memo_tool.memo_version}.",
        ) from error


def load_outcome(tool: AnyTool, outcome: JsonValue) -> Any:
    """The outcome as the tool's own type; `UNKNOWN` if none was journaled.

    :raises MemoError: it is not readable any more.
    """
    if outcome is None:
        return UNKNOWN
    try:
        return _memo_tool(tool).outcome.model_validate_json(_JSON.dump_json(outcome))
    except ValidationError as error:
        raise MemoError(
            f"{tool.name} cannot read the outcome it once journaled.",
            advice="Give the fields that were added since then a default.",
        ) from error


def dump_outcome(tool: AnyTool, outcome: BaseModel) -> JsonValue:
    """The outcome as it is journaled."""
    return cast("JsonValue", outcome.model_dump(mode="json"))


async def apply(tool: AnyTool, arguments: Any, memo: Any) -> tuple[JsonValue, str]:
    """Do an act now that had to wait; what it returned, as it is journaled, and the sentence that says what was done.

    :param memo: as `load_memo` gives it.
    :raises ToolError: proven: nothing happened. Anything else: nobody knows.
    """
    memo_tool = _memo_tool(tool)
    outcome = _as_model(memo_tool.outcome, await _call(memo_tool.apply, arguments, memo, to_its_end=True))
    return dump_outcome(tool, outcome), memo_tool.summary(arguments, outcome)


async def compensate(tool: AnyTool, memo: JsonValue, outcome: JsonValue) -> str:
    """Make up for an act, from what the journal says of it; the sentence that says what was done.

    :param outcome: as it was journaled; `None` if the process died before.
    :raises MemoError: the memo or outcome cannot be read.
    :raises Exception: whatever the tool raised; it did not work.
    """
    if not is_compensable(tool):
        raise TypeError(f"{tool.name} has no act that makes up for it")
    told: object = await _call(tool.compensate, load_memo(tool, memo), load_outcome(tool, outcome), to_its_end=True)
    return told if isinstance(told, str) and told.strip() else f"{tool.title}: made up for."


async def happened(tool: AnyTool, memo: JsonValue) -> BaseModel | Literal[False] | Unknown:
    """After a crash: the outcome if the act took effect, `False` if it provably did not, `UNKNOWN` if nobody can say.

    :raises MemoError: the memo cannot be read.
    """
    memo_tool = _memo_tool(tool)
    answer: object = await _call(memo_tool.happened, load_memo(tool, memo))
    if answer is False or isinstance(answer, Unknown):
        return answer
    return _as_model(memo_tool.outcome, answer)


def is_memo_tool(tool: AnyTool) -> TypeGuard[AnyMemoTool]:
    """Whether the tool writes memos: compensable or irreversible."""
    return isinstance(tool, MemoTool)


def is_compensable(tool: AnyTool) -> TypeGuard[CompensableTool[Any, Any, Any]]:
    """Whether the tool has an act that makes up for its own."""
    return isinstance(tool, CompensableTool)


def _memo_tool(tool: AnyTool) -> AnyMemoTool:
    if not is_memo_tool(tool):
        raise TypeError(f"{tool.name} writes no memos")
    return tool


def _dump_memo(tool: AnyMemoTool, captured: object) -> JsonValue:
    broken = f"{tool.name} noted something that the journal would not give back as it was"
    advice = (
        f"This is a fault of the tool: {type(tool).__name__}.memo has to hold plain values. Run `takeback tool check`."
    )
    try:
        memo = _as_model(tool.memo, captured)
        dumped = _JSON.validate_json(memo.model_dump_json())
        back = tool.memo.model_validate_json(_JSON.dump_json(dumped))
    except (PydanticSerializationError, ValidationError, TypeError, ValueError) as error:
        raise ToolError(f"{broken} ({type(error).__name__}).", advice=advice, code="broken_tool") from error
    if back != memo:
        raise ToolError(f"{broken}.", advice=advice, code="broken_tool")
    return {"tool": tool.name, "version": tool.version, "memo_version": tool.memo_version, "memo": dumped}


def _as_model(model: type[BaseModel], value: object) -> BaseModel:
    if isinstance(value, model):
        return value
    if isinstance(value, BaseModel):
        raise TypeError(f"expected {model.__name__}, got {type(value).__name__}")
    return model.model_validate(value)


def _narrowed(result: type[BaseModel], outcome: BaseModel) -> BaseModel:
    return result.model_validate_json(outcome.model_dump_json(include=set(result.model_fields)))


async def _call(verb: Callable[..., Any], *arguments: Any, to_its_end: bool = False) -> Any:
    if inspect.iscoroutinefunction(inspect.unwrap(verb)):
        return await verb(*arguments)
    returned = await _in_thread(lambda: verb(*arguments), to_its_end=to_its_end)
    return await returned if inspect.isawaitable(returned) else returned


async def _in_thread(work: Callable[[], T], *, to_its_end: bool) -> T:
    """Run in a thread and wait for its end, cancelled or not.

    :param to_its_end: answer what came of it although the caller was cancelled meanwhile: it has happened.
    """
    cancelled: asyncio.CancelledError | None = None
    # the scope keeps anyio's repeated cancellation away, the loop a plain `task.cancel()`
    task = asyncio.ensure_future(anyio.to_thread.run_sync(work))
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None and not to_its_end:
        task.exception()  # retrieved: the cancellation is what the caller hears of
        raise cancelled
    return task.result()
