"""Schemas: small, closed, portable, and an author's mistake is told at the start."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field, JsonValue

from takeback.server.mcp.schemas import COMMON, answer_schema, input_schema
from takeback.server.mcp.surface import surface_tool
from takeback.tools.contract import Arguments


class Inner(BaseModel):
    depth: int | None = None


class Tree(BaseModel):
    children: list[Tree] = []


class Taken(Arguments):
    title: str = Field(description="A field that is called as what is taken out.")
    inner: Inner
    maybe: int | None = None
    either: int | str | None = None
    anything: JsonValue = None


class Clashing(Arguments):
    run_id: str


def test_generated_titles_go_and_fields_of_that_name_stay() -> None:
    schema = input_schema(Taken)
    assert schema["properties"]["title"] == {
        "type": "string",
        "description": "A field that is called as what is taken out.",
    }
    assert "title" not in schema


def test_definitions_stand_where_they_are_used() -> None:
    schema = input_schema(Taken)
    assert "$defs" not in schema
    assert schema["properties"]["inner"]["type"] == "object"


def test_definitions_that_contain_themselves_stay_definitions() -> None:
    schema = answer_schema(Tree)
    assert schema["type"] == "object"
    assert schema["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


def test_optional_arguments_are_plainly_typed() -> None:
    properties = input_schema(Taken)["properties"]
    assert properties["maybe"] == {"type": "integer"}
    assert properties["either"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert {"type": "object"} in properties["anything"]["anyOf"]


def test_an_argument_of_a_common_name_is_refused_when_the_server_starts() -> None:
    with pytest.raises(ValueError, match="declares run_id"):
        input_schema(Clashing, common=COMMON)


def test_common_arguments_are_the_same_everywhere_and_never_changed() -> None:
    before = str(COMMON)
    first, second = input_schema(Taken, common=COMMON), input_schema(Taken, common=COMMON)
    assert first == second
    assert str(COMMON) == before


def test_a_description_that_is_too_long_is_refused_when_the_server_starts() -> None:
    async def handle(arguments: dict[str, Any], context: Any) -> Any:
        return None

    with pytest.raises(ValueError, match="301 characters"):
        surface_tool("t", "T", "x" * 301, handler=handle, input_schema={}, output_schema={}, recovery={})
