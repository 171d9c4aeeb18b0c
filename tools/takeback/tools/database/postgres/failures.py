"""What the server says went wrong, in sentences that carry nobody else's data.

The primary message, the constraint and the table are passed on; DETAIL and HINT are not: they quote rows (`Key (email)=(…)
already exists`), and what a trigger raises there may be anything.
"""

from __future__ import annotations

import re
from typing import Final

from takeback.tools.contract import ToolError
from takeback.tools.system import TargetError, Unavailable


class ServerFailure(Exception):
    """The server refused a statement."""

    def __init__(self, code: str, message: str, *, constraint: str = "", table: str = "", column: str = "") -> None:
        """
        :param code: the SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html).
        """
        super().__init__(message)
        self.code, self.constraint, self.table, self.column = code, constraint, table, column


class Lost(Exception):
    """The connection is gone. What was sent last may have taken effect or not."""


class CommitUnknown(Exception):
    """The connection was lost while COMMIT ran, and nobody could say yet what became of it."""


_QUOTED_VALUE: Final = re.compile(r'(invalid input (?:syntax|value) for [^:]*: )".*"', re.DOTALL)
_CLASSES: Final = {
    "23": "A constraint does not allow it",
    "42": "PostgreSQL does not understand the statement",
    "22": "A value does not fit",
    "40": "It collided with what others do at the same time",
    "53": "The server has no room for it",
    "55": "Something else stands in the way",
    "P0": "The database's own code refused it",
}
_ADVICE: Final = {
    "23": "Change the values, or look at the rows it collides with.",
    "42": "Correct the statement; describe_database shows tables and columns.",
    "22": "Correct the value.",
    "40": "Try again.",
    "53": "Free some space, or ask whoever runs the server.",
    "55": "Try again a little later.",
    "P0": "Read what it says, and do it differently.",
}
_SAID: Final = {
    "57014": ("The statement took too long, or was cancelled.", "Nothing has changed; do less at once.", "timeout"),
    "55P03": (
        "Somebody else holds a lock on what the statement needs.",
        "Nothing has changed; try again later.",
        "locked",
    ),
    "25006": ("The statement would write.", "Use execute_sql, which can be taken back.", "read_only"),
    "25001": (
        "PostgreSQL does not run this inside a transaction, so it could not be taken back.",
        "Ask whoever runs the database to do it.",
        "refused",
    ),
    "2D000": (
        "The procedure would end the transaction itself, so it could not be taken back.",
        "Use one that leaves COMMIT and ROLLBACK to its caller.",
        "refused",
    ),
    "42501": ("The role may not do this.", "Ask whoever runs the database for the right.", "forbidden"),
    "42P02": (
        "The statement has a placeholder without a value.",
        "Pass as many parameters as there are placeholders.",
        "invalid",
    ),
    "08P01": (
        "The statement's placeholders and the values passed do not fit.",
        "Number the placeholders $1, $2, … and pass as many values.",
        "invalid",
    ),
}


def told(error: ServerFailure) -> ToolError:
    """The failure as the caller hears it."""
    if error.code in _SAID:
        fact, advice, code = _SAID[error.code]
        if error.code == "42501":
            fact = f"The role may not do this: {_message(error)}."
        return ToolError(fact, advice=advice, code=code)
    if error.code == "42601" and "multiple commands" in str(error):
        return ToolError(
            "The text holds more than one statement.",
            advice="Pass them one by one, or as `statements`.",
            code="refused",
        )
    kind = error.code[:2]
    lead = _CLASSES.get(kind, "PostgreSQL refused it")
    return ToolError(
        f"{lead}: {_message(error)}.",
        advice=_ADVICE.get(kind, "Correct the statement."),
        code="constraint" if kind == "23" else "sql",
    )


def as_target(error: ServerFailure, doing: str) -> TargetError:
    """The failure as the engine hears it."""
    if error.code[:2] in ("40", "53", "55", "57"):
        return Unavailable(f"{doing}: {_message(error)}.", advice="Try again a little later.")
    said = told(error)
    return TargetError(f"{doing}: {said}", advice=said.advice)


def _message(error: ServerFailure) -> str:
    # a value that did not parse may be a row's own, met in a cast
    text = _QUOTED_VALUE.sub(r"\1(a value)", str(error)).strip().rstrip(".")
    if error.code == "23514" or error.code == "23502":
        where = f" in {error.table}" if error.table else ""
        what = f"constraint {error.constraint}" if error.constraint else f"column {error.column} must not be null"
        return f"{what}{where}"
    return text.splitlines()[0][:400] if text else error.code
