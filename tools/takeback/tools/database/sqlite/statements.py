"""Running a caller's statements: one a text, guarded, bounded, values bound by the driver."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Final

import apsw
from pydantic import JsonValue

from takeback.tools.contract import ToolError
from takeback.tools.database.port import Bounds, Done, Parameters, Rows, Statement
from takeback.tools.database.rows import decode, encode
from takeback.tools.database.sqlite.guard import VACUUMING, Guard
from takeback.tools.database.sqlite.refusals import tool_error

_SAFE_INT: Final = 2**53
"""From here on JSON's numbers are not exact everywhere."""
_STEPS: Final = 2_000
"""Instructions of SQLite's machine between two looks at the clock."""


class Clock:
    """The bound on a call's time, and its cancellation: SQLite asks it every few thousand instructions."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._stop = Event()

    def stop(self) -> None:
        """The caller has gone."""
        self._stop.set()

    def over(self) -> bool:
        """Whether to stop now."""
        return self._stop.is_set() or time.monotonic() > self._end

    def watch(self, connection: apsw.Connection, also: Callable[[], None] | None = None) -> None:
        """Have the connection's statements stopped when the time is over."""

        def ask() -> bool:
            if also is not None:
                also()
            return self.over()

        connection.set_progress_handler(ask, _STEPS)


def run(
    connection: apsw.Connection,
    guard: Guard,
    statement: Statement,
    bounds: Bounds,
    *,
    ready: Callable[[], None] = lambda: None,
    known: Callable[[], str] = lambda: "",
) -> Done:
    """Run one statement to its end.

    :param ready: called when it is prepared and judged, before anything of it happens; what it raises goes through.
    :param known: text of the schema's triggers, for messages.
    :raises ToolError: refused, failed, or more than one statement.
    """
    cursor = connection.cursor()
    begun: list[str] = []

    explained: list[str] = []
    columns: list[str] = []

    def trace(prepared: apsw.Cursor, sql: str, _: object) -> bool:
        if not is_empty(sql):
            if begun:
                raise ToolError(
                    "The text holds more than one statement.",
                    advice="Pass one statement, or several as `statements` of execute_sql.",
                    code="several_statements",
                )
            begun.append(sql)
            if prepared.is_explain:
                explained.append(sql)
            columns.extend(column[0] for column in prepared.get_description())
            ready()
        return True

    guard.wrote = False
    cursor.exec_trace = trace
    connection.authorizer = guard
    try:
        cursor.execute(statement.sql, bindings(statement.parameters), can_cache=False)
        returned = _returned(cursor, columns, bounds)
    except apsw.BindingsError as error:
        raise ToolError(
            "The parameters do not fit the statement's placeholders.",
            advice="Pass a list with one value for each ?, or an object with one for each :name.",
            code="parameters",
        ) from error
    except apsw.Error as error:
        if str(error).startswith("cannot VACUUM"):
            raise VACUUMING.error() from error
        if guard.denied is not None and isinstance(error, apsw.AuthError | apsw.SQLError):
            raise guard.denied.error() from error
        raise tool_error(error, preparing=not begun, known=known() if begun else "") from error
    except (KeyError, TypeError, OverflowError, UnicodeEncodeError) as error:
        raise ToolError(
            "A parameter is missing, or is no value that SQLite can store.",
            advice="Pass text, numbers within 64 bits, true, false, null, or bytes as {base64: ...}.",
            code="parameters",
        ) from error
    except UnicodeDecodeError as error:
        raise ToolError(
            "A text that is not valid Unicode was returned.",
            advice="Select it with CAST(column AS BLOB).",
            code="not_unicode",
        ) from error
    finally:
        connection.authorizer = None
        cursor.close(force=True)
    if not begun:
        raise ToolError("The text holds no statement.", advice="Pass one SQL statement.", code="no_statement")
    return Done(changed=connection.changes() if guard.wrote and not explained else None, returned=returned)


def bindings(parameters: Parameters) -> apsw.Bindings | None:
    """Values as the driver takes them.

    :raises ToolError: one is of no type that SQLite has.
    """
    try:
        if isinstance(parameters, Mapping):
            return {name.lstrip(":@$"): _given(value) for name, value in parameters.items()}
        return [_given(value) for value in parameters] or None
    except ValueError as error:
        raise ToolError(
            "A parameter is no value that SQLite can store.",
            advice="Pass text, numbers, true, false, null, or bytes as {base64: ...}.",
            code="parameters",
        ) from error


def _given(value: JsonValue) -> apsw.SQLiteValue:
    return value if isinstance(value, float) else decode(value)  # what a caller writes, besides what was encoded here


def _returned(cursor: apsw.Cursor, columns: list[str], bounds: Bounds) -> Rows | None:
    rows: list[list[JsonValue]] = []
    size, truncated = 0, False
    for row in cursor:
        shown = [_shown(value) for value in row]
        size += sum(map(_size, shown))
        if len(rows) >= bounds.returned_rows or (rows and size > bounds.returned_bytes):
            truncated = True
            break
        rows.append(shown)
    return Rows(columns=columns, rows=rows, truncated=truncated) if columns else None


def _shown(value: object) -> JsonValue:
    if isinstance(value, int) and not -_SAFE_INT < value < _SAFE_INT:
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    return encode(value)


def _size(value: JsonValue) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(str(part)) for part in value.values())
    return 8


def is_empty(sql: str) -> bool:
    """Whether a text consists of blanks, comments and semicolons alone."""
    at, end = 0, len(sql)
    while at < end:
        if sql[at].isspace() or sql[at] in ";\ufeff\0":
            at += 1
        elif sql.startswith("--", at):
            stop = sql.find("\n", at)
            at = end if stop < 0 else stop + 1
        elif sql.startswith("/*", at):
            stop = sql.find("*/", at + 2)
            at = end if stop < 0 else stop + 2
        else:
            return False
    return True


def all_of(statements: Sequence[Statement]) -> Sequence[Statement]:
    """The statements, none of which holds a zero byte (SQLite would stop reading there).

    :raises ToolError: one does.
    """
    for each in statements:
        if "\0" in each.sql:
            raise ToolError("The statement holds a zero byte.", advice="Pass such values as parameters.", code="sql")
    return statements
