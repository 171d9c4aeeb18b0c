"""What is checked of a tool's definition before it is served: each message says what was forgotten, and how to mend it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, TypeGuard, cast

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

from takeback.tools.contract import (
    AnyTool,
    Arguments,
    CompensableTool,
    IrreversibleTool,
    MemoTool,
    ReadTool,
    ReversibleTool,
)
from takeback.tools.recovery import Recovery

COMMON_ARGUMENTS = ("run_id", "step", "idempotency_key", "dry_run")
"""Taken by every acting tool beside its own; the server handles them."""

RUN_TOOLS = frozenset(
    {
        "list_runs",
        "get_run",
        "list_checkpoints",
        "list_versions",
        "start_run",
        "finish_run",
        "create_checkpoint",
        "resume_from",
        "rollback_run",
        "redo_rollback",
        "restore_version",
        "resolve_conflict",
        "contain_run",
    }
)
"""The server's own tools; their names are taken."""

DESCRIPTION_LENGTH = 300
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_KINDS = (ReadTool, ReversibleTool, CompensableTool, IrreversibleTool)

_FORGOTTEN = {
    "run": "Write `async def run(self, arguments, context)`: look, and answer.",
    "prepare": "Write `async def prepare(self, arguments, context)`: all that nobody else can see, as effects on a system.",
    "capture": "Write `async def capture(self, arguments, context)`: note in the memo what the act and the way back need.",
    "apply": "Write `async def apply(self, arguments, memo)`: act, and return the outcome.",
    "compensate": (
        "Write `async def compensate(self, memo, outcome)`, which makes up for the act; if nothing can, derive from"
        " IrreversibleTool and say why in `reason`."
    ),
    "reason": "Write `def reason(self, arguments, memo)`: why it cannot be taken back, in the user's words.",
}

_ATTRIBUTES = {
    "name": 'name = "post_note"',
    "title": 'title = "Post a note"',
    "description": 'description = "Posts a note to the board."',
    "arguments": "arguments = PostNote (a class derived from takeback.tools.contract.Arguments)",
    "memo": "memo = NoteMemo (a pydantic model: what the way back needs)",
    "outcome": "outcome = NotePosted (a pydantic model: what `apply` returns)",
    "result": "result = NoteList (a pydantic model: what the tool answers)",
}


class DefinitionError(Exception):
    """A tool, family or setting is not usable as it is written: one sentence of fact, one of advice."""

    def __init__(self, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


def where(definition: type) -> str:
    """`crm.py, line 12`: where a class is written, as far as that can be found out."""
    try:
        file, line = inspect.getsourcefile(definition), inspect.getsourcelines(definition)[1]
    except (OSError, TypeError):
        return f"{definition.__module__}.{definition.__qualname__}"
    return f"{file}, line {line}"


def check_family_name(definition: type, name: object) -> None:
    """A family's name is a lower-case word.

    :raises DefinitionError:
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{where(definition)}: {name!r} is no name for a family.",
            advice="Use lower-case letters, digits and underscores, beginning with a letter; a file's family has its name.",
        )


def check_tool_name(name: str) -> None:
    """A tool's name is a lower-case word that the server does not use itself.

    :raises DefinitionError:
    """
    for fact, advice in _name(name):
        raise DefinitionError(f"A tool {fact}", advice=advice)


def check_tool(tool: AnyTool) -> None:
    """Hold an instance to the contract of its kind.

    :raises DefinitionError: something is missing, of the wrong type, or would be lost on the way to the undo.
    """
    check_tool_class(type(tool))


def check_tool_class(definition: type[AnyTool]) -> None:
    """Hold a class to the contract of its kind. Cheap: done at every start.

    :raises DefinitionError: see `check_tool`.
    """
    problem = next(_problems(definition), None)
    if problem is not None:
        raise DefinitionError(f"{where(definition)}: {definition.__name__} {problem[0]}", advice=problem[1])


def _problems(definition: type[AnyTool]) -> Iterator[tuple[str, str]]:
    if not any(issubclass(definition, kind) for kind in _KINDS):
        yield (
            "derives from none of the four kinds of tools.",
            "Derive from ReadTool, ReversibleTool, CompensableTool or IrreversibleTool: the kind says how it is taken back.",
        )
        return
    missing = sorted(getattr(definition, "__abstractmethods__", ()))
    if missing:
        yield f"does not define `{missing[0]}`.", _FORGOTTEN.get(missing[0], f"Write `{missing[0]}`.")
    yield from _attributes(definition)
    yield from _arguments(definition)
    yield from _recovery(definition)
    if _writes_memos(definition):
        yield from _memo(definition)
    for verb in ("run", "prepare"):
        method = getattr(definition, verb, None)
        if method is not None and not inspect.iscoroutinefunction(inspect.unwrap(method)):
            yield (
                f"defines `{verb}` without `async`.",
                f"Write `async def {verb}`; blocking work goes through `anyio.to_thread.run_sync`.",
            )


def _writes_memos(definition: type[AnyTool]) -> TypeGuard[type[MemoTool[Any, Any, Any]]]:
    return issubclass(definition, MemoTool)


def _attributes(definition: type[AnyTool]) -> Iterator[tuple[str, str]]:
    needed = ["name", "title", "description", "arguments"]
    needed += ["memo", "outcome"] if _writes_memos(definition) else ["result"]
    for attribute in needed:
        value: object = getattr(definition, attribute, None)
        if value is None:
            yield f"has no `{attribute}`.", f"Add a line like: {_ATTRIBUTES[attribute]}."
        elif attribute in ("name", "title", "description"):
            if not isinstance(value, str) or not value.strip():
                yield f"has an empty `{attribute}`.", f"Write one, like: {_ATTRIBUTES[attribute]}."
        elif not (isinstance(value, type) and issubclass(value, BaseModel)):
            yield f"has a `{attribute}` that is no pydantic model class.", f"Write: {_ATTRIBUTES[attribute]}."
    name = getattr(definition, "name", None)
    if isinstance(name, str) and name.strip():
        yield from _name(name)
    description = getattr(definition, "description", None)
    if isinstance(description, str) and len(description) > DESCRIPTION_LENGTH:
        yield (
            f"has a description of {len(description)} characters.",
            f"Say it in at most two sentences and {DESCRIPTION_LENGTH} characters: a model reads it in every chat.",
        )
    for hint in ("destructive", "idempotent", "open_world"):
        if not isinstance(getattr(definition, hint), bool):
            yield f"has a `{hint}` that is neither True nor False.", "It is a hint to clients; write True or False."
    timeout = cast("object", definition.timeout)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
        yield "has a `timeout` that is no positive number.", "Write seconds, such as 30.0."


def _name(name: str) -> Iterator[tuple[str, str]]:
    if not _NAME.fullmatch(name):
        yield (
            f"is called {name!r}, which is no name for a tool.",
            "Use lower-case letters, digits and underscores, beginning with a letter, at most 64: post_note.",
        )
    if name in RUN_TOOLS:
        yield f"is called {name!r}, like one of the server's own tools.", "Choose another name."


def _arguments(definition: type[AnyTool]) -> Iterator[tuple[str, str]]:
    arguments: object = getattr(definition, "arguments", None)
    if not (isinstance(arguments, type) and issubclass(arguments, BaseModel)):
        return
    if not issubclass(arguments, Arguments):
        yield (
            f"takes {arguments.__name__}, which does not derive from Arguments.",
            "Derive it from takeback.tools.contract.Arguments: strict types, unknown fields refused.",
        )
        return
    if arguments.model_config.get("extra") != "forbid" or not arguments.model_config.get("strict"):
        yield (
            f"takes {arguments.__name__}, which lets unknown fields or loose types through.",
            "Leave `extra` and `strict` in its model_config as Arguments has them.",
        )
    for field, info in arguments.model_fields.items():
        taken = next((name for name in (field, info.alias, info.validation_alias) if name in COMMON_ARGUMENTS), None)
        if taken is not None:
            yield (
                f"takes an argument `{taken}`, which every acting tool has already.",
                f"Call it something else; {', '.join(COMMON_ARGUMENTS)} are handled by the server.",
            )


def _recovery(definition: type[AnyTool]) -> Iterator[tuple[str, str]]:
    stated = cast("object", getattr(definition, "recovery", None))
    if stated is None:
        return
    if not isinstance(stated, Recovery):
        yield "has a `recovery` that is no Recovery.", 'Write: recovery = Recovery("the note is deleted again").'
        return
    if problem := stated.problem():
        yield f"has a `recovery` that {problem}.", "Say in one line what is done, and when it cannot be done."
    own = {CompensableTool: "compensable", IrreversibleTool: "irreversible"}
    kind = next((word for base, word in own.items() if issubclass(definition, base)), None)
    if issubclass(definition, ReadTool):
        yield "has a `recovery` though it only reads.", "Leave it out: there is nothing to take back."
    elif kind is not None and (stated.best, stated.worse) != (kind, ()):
        yield (
            f"states that its calls are {stated.best}, and its kind says {kind}.",
            f'Write best="{kind}" and no worse, or derive it from the kind that you mean.',
        )


def _memo(definition: type[MemoTool[Any, Any, Any]]) -> Iterator[tuple[str, str]]:
    for attribute in ("memo", "outcome"):
        model: object = getattr(definition, attribute, None)
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (
                (f"has the {attribute} {model.__name__}, {fact}", advice) for fact, advice in _lost_in_json(model)
            )
    outcome, result = getattr(definition, "outcome", None), getattr(definition, "result", None)
    both = isinstance(outcome, type) and isinstance(result, type)
    if both and not issubclass(cast("type", outcome), cast("type", result)):
        yield (
            "answers a `result` that its `outcome` is not.",
            "Leave `result` out (the outcome is answered), or derive the outcome's class from the result's.",
        )
    hold = cast("object", getattr(definition, "hold", 0.0))
    if isinstance(hold, bool) or not isinstance(hold, int | float) or not 0 <= hold < float("inf"):
        yield "has a `hold` that is no number of seconds.", "Write seconds, such as 120.0; 0 acts at once."
    elif hold and not issubclass(definition, CompensableTool):
        yield (
            "has a `hold` and nothing that makes up for it afterwards.",
            "Derive it from CompensableTool: after its window the act is taken back by `compensate`.",
        )
    version = cast("object", definition.memo_version)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        yield "has a `memo_version` that is no number from 1.", "Count it up whenever the memo's fields change."


def _lost_in_json(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """What of such a value would not come out of the journal as it went in."""
    for field, info in model.model_fields.items():
        if info.exclude:
            yield (
                f"whose field `{field}` is excluded when it is written.",
                "The way back may run in another process: take the field out, or let it be written.",
            )
    for private in model.__private_attributes__:
        yield (
            f"whose private attribute `{private}` is not written.",
            "The way back may run in another process: make it a field, or take it out.",
        )
    try:
        schema = model.model_json_schema(mode="serialization")
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError) as error:
        yield (
            f"which is not serialisable ({str(error).splitlines()[0]}).",
            "Use plain values (text, numbers, lists, models of them): undo may run in another process next week, so no"
            " functions, clients or open files.",
        )
        return
    kinds = {(key, value) for key, value in _leaves(schema) if isinstance(value, str | bool)}
    if ("writeOnly", True) in kinds:
        yield (
            "which holds a secret that is written as stars.",
            "Keep secrets out of memos: take them from the keyring or the environment again when they are needed.",
        )
    if ("format", "binary") in kinds:
        yield (
            "which holds bytes that JSON cannot carry unless they are text.",
            "Use pydantic.Base64Bytes, or put the bytes into `context.objects` and keep their name.",
        )


def _leaves(schema: object) -> Iterator[tuple[str, object]]:
    if isinstance(schema, dict):
        for key, value in cast("dict[str, object]", schema).items():
            yield key, value
            yield from _leaves(value)
    elif isinstance(schema, list):
        for value in cast("list[object]", schema):
            yield from _leaves(value)
