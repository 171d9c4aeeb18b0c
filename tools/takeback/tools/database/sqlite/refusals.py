"""What SQLite refuses, as one sentence of fact and one of advice; never with data of rows in it."""

from __future__ import annotations

import re
from typing import Final

import apsw

from takeback.tools.contract import ToolError
from takeback.tools.system import Refused, TargetError, Unavailable

_NAMES_ONLY: Final = re.compile(
    r"(UNIQUE|NOT NULL|FOREIGN KEY|CHECK|PRIMARY KEY) constraint failed(: .*)?\Z"
    r"|cannot store \w+ value in \w+ column .*\Z|datatype mismatch\Z|too many .*\Z|integer overflow\Z"
    r"|string or blob too big\Z|cannot .*\Z|table .* may not be modified\Z|database or disk is full\Z",
    re.DOTALL,
)
"""Messages that name things of the schema and nothing else."""
LONGEST: Final = 300
"""Characters of a message of SQLite's that are passed on."""


class Busy(Unavailable):
    """Another process is writing to the database."""

    code = "unavailable"
    advice = "Wait until the other program is done, then repeat the call."


def bare(error: apsw.Error, *, preparing: bool, known: str = "") -> tuple[str, str, str]:
    """Fact, advice and code for what SQLite reported.

    :param preparing: the statement had not begun, so that the message is about the caller's text and the schema alone.
    :param known: text of the schema's triggers: what they say themselves may be passed on.
    """
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return "Another program is writing to the database.", Busy.advice, Busy.code
        case apsw.NotADBError():
            return "The file is not a SQLite database, or it is encrypted.", "Name another file.", "not_a_database"
        case apsw.CorruptError():
            return (
                "The database file is damaged.",
                "Restore it from a copy; PRAGMA integrity_check in query_database tells more.",
                "corrupt",
            )
        case apsw.ReadOnlyError():
            return (
                "The database cannot be written.",
                "Make the file and its folder writable, or only query it.",
                "read_only",
            )
        case apsw.FullError():
            return "The disk is full.", "Make room, then repeat the call.", "no_space"
        case apsw.CantOpenError() | apsw.PermissionsError():
            return (
                "The database file cannot be opened.",
                "Look whether it may be read and written; with a write-ahead log its folder has to be writable too.",
                "cannot_open",
            )
        case apsw.IOError():
            return (
                "The database file could not be read or written.",
                "Look at the disk, then repeat the call.",
                "io_error",
            )
        case apsw.InterruptError() | apsw.AbortError():
            return (
                "The statement was stopped.",
                "Do less at once, or raise statement_seconds of the database.",
                "timeout",
            )
        case apsw.NoMemError() | apsw.TooBigError():
            return "A value is larger than SQLite takes.", "Send it in smaller parts.", "too_big"
        case _:
            pass
    message = " ".join(str(error).split())
    if len(message) > LONGEST:
        message = message[:LONGEST] + "…"
    if preparing or _NAMES_ONLY.match(message):
        kind = "constraint" if isinstance(error, apsw.ConstraintError) else "sql"
        return f"SQLite refuses it: {message}.", "Look at the tables with describe_database.", kind
    if isinstance(error, apsw.ConstraintError) and message and message in " ".join(known.split()):
        return f"A trigger refuses it: {message}.", "Look at the table's triggers with query_database.", "constraint"
    return (
        f"SQLite refuses it ({type(error).__name__.removesuffix('Error').lower() or 'error'}).",
        "Try it on fewer rows to find out which value it is.",
        "sql",
    )


def tool_error(error: apsw.Error, *, preparing: bool, known: str = "") -> ToolError:
    """The same, for a caller of a tool."""
    fact, advice, code = bare(error, preparing=preparing, known=known)
    return ToolError(fact, advice=advice, code=code)


def target_error(error: apsw.Error) -> TargetError:
    """The same, for the engine."""
    fact, advice, code = bare(error, preparing=True)
    kind: type[TargetError] = (
        Unavailable if isinstance(error, apsw.BusyError | apsw.LockedError | apsw.FullError) else Refused
    )
    if isinstance(error, apsw.InterruptError):
        kind = Unavailable
    made = kind(fact, advice=advice)
    made.code = code
    return made
