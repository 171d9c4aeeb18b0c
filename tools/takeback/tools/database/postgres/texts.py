"""Values between JSON and PostgreSQL: parameters as texts, results as what JSON can say."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final, cast

from pydantic import JsonValue

from takeback.tools.contract import ToolError
from takeback.tools.database.port import Rows, Statement
from takeback.tools.database.postgres.driver import Answer, Connection, array

BOOL, BYTEA, INT8, INT2, INT4, OID, JSON, FLOAT4, FLOAT8, JSONB = 16, 17, 20, 21, 23, 26, 114, 700, 701, 3802
"""Object ids of types, the same in every database (pg_type.dat)."""
SAFE: Final = 2**53
"""Beyond it not every reader of JSON keeps an integer."""


def bound(connection: Connection, statement: Statement) -> list[str | None]:
    """The values of a statement's placeholders as PostgreSQL reads them.

    :raises ToolError: they are named, which PostgreSQL does not know.
    """
    given = statement.parameters
    if not isinstance(given, Sequence):
        if not given:
            return []
        raise ToolError(
            "PostgreSQL's placeholders are numbered, not named.",
            advice="Write $1, $2, … and pass the parameters as a list.",
        )
    types: Sequence[int] = ()
    if any(isinstance(value, list | dict) for value in given):
        # a list is an array, unless the placeholder is JSON: only the server knows
        types = connection.parameter_types(statement.sql)
    return [_text(value, types[index] if index < len(types) else 0) for index, value in enumerate(given)]


def _text(value: JsonValue, type: int) -> str | None:
    if type in (JSON, JSONB) and isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value)
        case str():
            return value
        case list():
            return _array(value)
        case dict():
            data = _bytes_of(value)
            return json.dumps(value, ensure_ascii=False) if data is None else data


def _array(values: Sequence[JsonValue]) -> str:
    if any(isinstance(value, list) for value in values):
        return "{" + ",".join(_array(value) if isinstance(value, list) else "NULL" for value in values) + "}"
    return array(_text(value, 0) for value in values)


def _bytes_of(value: dict[str, JsonValue]) -> str | None:
    import base64
    import binascii

    if value.keys() != {"base64"} or not isinstance(text := value["base64"], str):
        return None
    try:
        return "\\x" + base64.b64decode(text, validate=True).hex()
    except binascii.Error:
        return None


def shown(answer: Answer) -> Rows:
    """Rows as the caller gets them."""
    rows = [[_json(value, type) for value, type in zip(line, answer.types, strict=True)] for line in answer.rows]
    return Rows(columns=list(answer.columns), rows=rows, truncated=answer.truncated)


def _json(text: str | None, type: int) -> JsonValue:
    if text is None:
        return None
    if type == BOOL:
        return text == "t"
    if type in (INT2, INT4, INT8, OID):
        number = int(text)
        return number if abs(number) <= SAFE else text
    if type in (FLOAT4, FLOAT8):
        real = float(text)
        return real if math.isfinite(real) else text
    if type in (JSON, JSONB):
        try:
            return cast("JsonValue", json.loads(text, parse_constant=_no_constant))
        except (ValueError, RecursionError):
            return text
    if type == BYTEA and text.startswith("\\x"):
        import base64

        return {"base64": base64.b64encode(bytes.fromhex(text[2:])).decode("ascii")}
    return text


def _no_constant(name: str) -> JsonValue:
    raise ValueError(name)
