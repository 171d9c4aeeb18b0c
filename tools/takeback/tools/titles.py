"""How things are called that somebody else gave a title: set off, on one line, bounded. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LONGEST: Final = 80
"""Characters of a title; more do not help to know a thing by it."""
MOST_PEOPLE: Final = 3
"""People of a message that are named."""


def titled(text: str) -> str:
    """A title between quotation marks, from which nothing in it can get out. Empty if there is none.

    Invisible characters stay: whoever shows it to people escapes them, as in all that others have named.
    """
    line = " ".join(text.replace("“", '"').replace("”", '"').split())
    return f"“{line if len(line) <= LONGEST else line[: LONGEST - 1] + '…'}”" if line else ""


def mail_called(subject: str, people: Sequence[str]) -> str:
    """A message as people know it: by its subject, and by whom it is for."""
    named = ", ".join(" ".join(each.split())[:LONGEST] for each in people[:MOST_PEOPLE])
    more = f" and {len(people) - MOST_PEOPLE} more" if len(people) > MOST_PEOPLE else ""
    what = titled(subject) or "a message without a subject"
    return f"{what} to {named}{more}" if named else what
