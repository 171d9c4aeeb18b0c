"""JSON schemas as clients see them: made from the pydantic models, made small, and true of error answers too.

Forty tools are read by a model in every chat, so generated titles go, optional fields are plainly typed instead of "or null"
(null is still taken), and definitions stand where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, cast

from pydantic import BaseModel, TypeAdapter

from takeback.server.engine.answers import CallAnswer, ErrorInfo

Schema = dict[str, Any]

COMMON: Schema = {
    "run_id": {
        "type": "string",
        "description": "Run this belongs to, from start_run. Left out: your open default run.",
    },
    "step": {"type": "string", "description": "Planned step this belongs to."},
    "idempotency_key": {
        "type": "string",
        "description": "Makes repeating safe: same key and arguments, same answer, done once.",
    },
    "dry_run": {"type": "boolean", "description": "Only show what would happen."},
}
"""What every acting tool takes beside its own arguments; all optional."""


STAGE: Schema = {"run_id": {"type": "string", "description": "A staged run: read what it has staged, too."}}
"""What a reading tool takes beside its own arguments, where staged changes can be seen."""


def input_schema(arguments: type[BaseModel], *, common: Schema | None = None) -> Schema:
    """The schema of a tool's arguments, with those added that it takes like all others of its kind.

    :raises ValueError: the tool has an argument with the name of a common one.
    """
    schema = _plain(arguments.model_json_schema(mode="validation"))
    schema.setdefault("properties", {})
    for name, property in schema["properties"].items():
        schema["properties"][name] = _without_null(property)
    if common:
        taken = sorted(common.keys() & schema["properties"].keys())
        if taken:
            raise ValueError(
                f"{arguments.__name__} declares {', '.join(taken)}, which every acting tool has already; rename the field"
            )
        schema["properties"] |= common
    return schema


def call_schema(result: type[BaseModel], *instead: type[BaseModel]) -> Schema:
    """The schema of an acting tool's answer: a `CallAnswer` around the tool's own result.

    :param instead: what else may stand in its place.
    """
    schema = dict(answer_schema(CallAnswer))
    own = _plain(result.model_json_schema(mode="serialization"))
    others = [_plain(other.model_json_schema(mode="serialization")) for other in instead]
    schema["properties"] = schema["properties"] | {"result": {"anyOf": [own, *others, {"type": "null"}]}}
    definitions = {**schema.get("$defs", {}), **own.pop("$defs", {})}
    if definitions:
        schema["$defs"] = definitions
    return schema


@lru_cache(maxsize=64)
def answer_schema(answer: type[BaseModel]) -> Schema:
    """The schema of an answer: the model's own fields, or `error` (clients validate error results against it too)."""
    schema = _plain(answer.model_json_schema(mode="serialization"))
    required = schema.pop("required", [])
    schema.setdefault("properties", {})
    schema["properties"].setdefault("error", _error())
    if required and required != ["error"]:
        schema["anyOf"] = [{"required": required}, {"required": ["error"]}]
    return schema


@lru_cache(maxsize=1)
def _error() -> Schema:
    schema = _plain(TypeAdapter(ErrorInfo).json_schema())
    return {**schema, "description": "Only if the call failed."}


def _plain(schema: Mapping[str, Any]) -> Schema:
    definitions = cast(Mapping[str, Schema], schema.get("$defs", {}))
    recursive = {name for name in definitions if _reaches(name, name, definitions, frozenset())}
    root = cast(
        Schema, _inline({key: value for key, value in schema.items() if key != "$defs"}, definitions, recursive)
    )
    if recursive:
        root["$defs"] = {name: _inline(definitions[name], definitions, recursive) for name in sorted(recursive)}
    root.pop("description", None)  # the class's docstring; the tool has a description of its own
    root.pop("title", None)
    root.setdefault("type", "object")
    return root


def _inline(node: object, definitions: Mapping[str, Schema], keep: set[str]) -> object:
    """A copy without generated titles, with every reference to a definition that is not recursive replaced by it."""
    if isinstance(node, list):
        return [_inline(item, definitions, keep) for item in cast(list[object], node)]
    if not isinstance(node, dict):
        return node
    mapping = cast(Schema, node)
    reference = mapping.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix("#/$defs/")
        if name not in keep:
            rest = {key: value for key, value in mapping.items() if key != "$ref"}
            own = {key: value for key, value in definitions[name].items() if key != "description"}
            return _inline({**own, **rest}, definitions, keep)
    result: Schema = {}
    for key, value in mapping.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in {"properties", "$defs"} and isinstance(value, dict):
            named = cast(Schema, value)
            result[key] = {name: _typed(_inline(item, definitions, keep)) for name, item in named.items()}
        else:
            inlined = _inline(value, definitions, keep)
            # any JSON, said in the way that clients do not take for an oversight
            result[key] = True if key == "additionalProperties" and inlined == {} else inlined
    return result


def _reaches(start: str, goal: str, definitions: Mapping[str, Schema], seen: frozenset[str]) -> bool:
    for name in _references(definitions[start]):
        if name == goal:
            return True
        if name not in seen and name in definitions and _reaches(name, goal, definitions, seen | {name}):
            return True
    return False


def _references(node: object) -> set[str]:
    if isinstance(node, list):
        return {name for item in cast(list[object], node) for name in _references(item)}
    if not isinstance(node, dict):
        return set()
    found: set[str] = set()
    for key, value in cast(Schema, node).items():
        if key == "$ref" and isinstance(value, str):
            found.add(value.removeprefix("#/$defs/"))
        else:
            found |= _references(value)
    return found


_ANY_JSON: Final = [{"type": name} for name in ("object", "array", "string", "number", "boolean", "null")]
_SAYING = frozenset({"type", "anyOf", "allOf", "oneOf", "enum", "const", "$ref"})


def _typed(property: object) -> object:
    """Any JSON, spelt out: clients that translate schemas stumble over one that says nothing."""
    if not isinstance(property, dict):
        return property
    known = cast(Schema, property)
    return known if _SAYING & known.keys() else {"anyOf": [dict(arm) for arm in _ANY_JSON], **known}


def _without_null(property: Schema) -> Schema:
    """`X or null, default null` becomes plain `X`: the field is optional anyway, and more clients can read that."""
    arms = cast(list[Schema] | None, property.get("anyOf"))
    if arms is None or {"type": "null"} not in arms or property.get("default", 0) is not None:
        return property
    left = [arm for arm in arms if arm != {"type": "null"}]
    rest = {key: value for key, value in property.items() if key not in {"anyOf", "default"}}
    return {**left[0], **rest} if len(left) == 1 else {"anyOf": left, **rest}
