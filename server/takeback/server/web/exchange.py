"""A request of a browser and what it is answered, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

HTML = "text/html; charset=utf-8"
FIELDS = 2_000
"""Fields of one form: a run of many acts has a box for each."""

Fields = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, once the gate has found it good."""

    method: str
    path: str
    """Below the page's own folder, beginning with a slash."""
    query: Fields = field(default_factory=dict[str, list[str]])
    form: Fields = field(default_factory=dict[str, list[str]])
    session: str = ""
    """The visitor's; empty: not known here."""

    def one(self, name: str, default: str = "") -> str:
        """The last value of a field, of the form before that of the address."""
        given = self.form.get(name) or self.query.get(name) or (default,)
        return given[-1]

    def all(self, name: str) -> list[str]:
        """All values of a field, each once."""
        return list(dict.fromkeys(self.form.get(name) or self.query.get(name) or ()))


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    body: bytes = b""
    status: int = 200
    kind: str = HTML
    headers: tuple[tuple[str, str], ...] = ()


def fields(text: str) -> Fields:
    """The fields of an address or a form.

    :raises ValueError: too many, or not written as such.
    """
    if not text:
        return {}
    return parse_qs(
        text, keep_blank_values=True, strict_parsing=True, encoding="utf-8", errors="strict", max_num_fields=FIELDS
    )


def with_query(path: str, **values: str | Sequence[str] | None) -> str:
    """A path with what is asked of it; what is empty is left out."""
    given = {name: value for name, value in values.items() if value}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path
