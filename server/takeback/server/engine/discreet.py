"""What others may see who help: what was called and what came of it, without contents, secrets, addresses and places. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from pydantic import JsonValue

from takeback.journal.redaction import redact, redact_text

SHORT: Final = 60
"""Characters of a text that is a name or a word; longer ones are contents."""
_CONTENTS: Final = frozenset(
    {
        "answer", "bcc", "body", "called", "cc", "content", "description", "edits", "html", "location", "memo", "new_text",
        "notes", "old_text", "outcome", "output", "parameters", "plan", "question", "ref", "sql", "statements", "subject",
        "text",
    }
)  # fmt: skip
"""Fields that hold what somebody wrote, whatever its length."""
_SAID: Final = _CONTENTS | {"comment", "message", "summary", "title", "value"}
"""Arguments whose words are left out wherever they are said again: titles of events, subjects, what a ticket is about."""
_FEWEST: Final = 4
"""Characters of such words; shorter ones are in everything."""
_ADDRESS: Final = re.compile(r"[A-Za-z0-9._%+'-]{1,64}@([A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8})")


class Discreet:
    """Takes out what is nobody's business, the same way everywhere in one bundle."""

    def __init__(self, salt: bytes, places: Sequence[str], requested: Sequence[Mapping[str, JsonValue]] = ()) -> None:
        """
        :param salt: equal secrets stay recognisable as equal.
        :param places: folders of this machine that are not named.
        :param requested: arguments of calls; what was written in them is contents in other sentences too.
        """
        self._salt = salt
        said = [text for each in requested for text in _written(each)]
        hidden = {place for place in places if len(place) > 1} | {text for text in said if _telling(text)}
        self._places = sorted(hidden, key=len, reverse=True)

    def value(self, value: object) -> JsonValue:
        """A JSON value."""
        return self._bare(redact(value, self._salt))

    def text(self, text: str) -> str:
        """A text for people: kept, but for secrets, addresses and places."""
        for place in self._places:
            text = text.replace(place, "…")
        return _ADDRESS.sub(lambda found: f"…@{found[1]}", redact_text(text, self._salt))

    def _bare(self, value: JsonValue, name: str = "") -> JsonValue:
        if value is None or isinstance(value, bool | int | float):
            return value
        if name in _CONTENTS and value:
            return _left_out(value)
        if isinstance(value, str):
            return (
                self.text(value)
                if len(value) <= SHORT or name in ("message", "why", "reason", "advice")
                else _left_out(value)
            )
        if isinstance(value, list):
            return [self._bare(each, name) for each in value]
        return {key: self._bare(each, key) for key, each in cast("Mapping[str, JsonValue]", value).items()}


def _telling(text: str) -> bool:
    """Whether it says something; a bare word such as "done" does not, and is what statuses are made of."""
    return len(text) >= _FEWEST and not (text.isascii() and text.isalpha() and text.islower())


def _written(arguments: Mapping[str, JsonValue]) -> Iterator[str]:
    """What somebody wrote in arguments, as it stands there and as it stands in JSON."""
    for name, value in arguments.items():
        if name in _SAID and isinstance(value, str):
            yield value
            yield json.dumps(value, ensure_ascii=False)[1:-1]


def _left_out(value: JsonValue) -> str:
    if isinstance(value, str):
        return f"({len(value)} characters left out)"
    return f"({len(value)} values left out)" if isinstance(value, list | dict) else "(left out)"
