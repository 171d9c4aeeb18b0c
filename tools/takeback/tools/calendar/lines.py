"""iCalendar text as content lines, kept byte for byte: what is not edited is given back exactly as it was. Pure.

A component is its name and, in order, its lines and components. A line remembers how it was written (folding, case, line
end); only a line that is replaced is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

DEEPEST: Final = 8
"""Components inside one another; real ones need three."""
MOST_BYTES: Final = 1024 * 1024
"""Bytes of one resource."""

_NAME = re.compile(r"[A-Za-z0-9-]+")
_PARAM = re.compile(r';([A-Za-z0-9-]+)=((?:"[^"]*"|[^";:,]*)(?:,(?:"[^"]*"|[^";:,]*))*)')


class NotICalendar(ValueError):
    """The bytes are no iCalendar text."""


@dataclass(frozen=True, slots=True)
class Line:
    """One property: NAME;PARAM=VALUE:value."""

    raw: bytes
    """As it is written, with folds and line end."""
    name: str
    """In capitals."""
    params: tuple[tuple[str, str], ...]
    """Names in capitals; values as they are written, without quotes."""
    value: str
    """Not unescaped."""

    def param(self, name: str) -> str:
        """A parameter's value, or an empty text."""
        return next((value for key, value in self.params if key == name), "")

    @property
    def said(self) -> tuple[str, tuple[tuple[str, str], ...], str]:
        """What the line says, however it is folded."""
        return self.name, tuple(sorted(self.params)), self.value


@dataclass(slots=True)
class Component:
    """BEGIN:NAME to END:NAME."""

    name: str
    begin: bytes
    end: bytes
    items: list[Line | Component] = field(default_factory=list["Line | Component"])

    def lines(self, name: str) -> list[Line]:
        """All properties of that name."""
        return [item for item in self.items if isinstance(item, Line) and item.name == name]

    def line(self, name: str) -> Line | None:
        """The first property of that name."""
        return next(iter(self.lines(name)), None)

    def parts(self, name: str | None = None) -> list[Component]:
        """The components inside, of that name if one is given."""
        return [item for item in self.items if isinstance(item, Component) and name in (None, item.name)]

    def put(self, name: str, lines: list[Line]) -> None:
        """Have these lines in the place of all of that name; new ones stand before the first component inside."""
        first: int | None = None
        kept: list[Line | Component] = []
        for item in self.items:
            if isinstance(item, Line) and item.name == name:
                first = len(kept) if first is None else first
            else:
                kept.append(item)
        if first is None:
            first = next((at for at, item in enumerate(kept) if isinstance(item, Component)), len(kept))
        self.items = [*kept[:first], *lines, *kept[first:]]

    def copy(self) -> Component:
        """The same, to be edited apart."""
        return Component(
            self.name,
            self.begin,
            self.end,
            [item.copy() if isinstance(item, Component) else item for item in self.items],
        )

    def written(self) -> bytes:
        """The bytes."""
        inside = (item.written() if isinstance(item, Component) else item.raw for item in self.items)
        return b"".join((self.begin, *inside, self.end))


def line(name: str, value: str, params: tuple[tuple[str, str], ...] = ()) -> Line:
    """A new line, folded at 75 bytes."""
    quoted = (f";{key}={quote(text)}" for key, text in params)
    data = f"{name}{''.join(quoted)}:{value}".encode()
    pieces: list[bytes] = []
    room = 75
    while len(data) > room:
        at = room
        while data[at] & 0xC0 == 0x80:  # never inside a character
            at -= 1
        pieces.append(data[:at])
        data, room = data[at:], 74
    pieces.append(data)
    return Line(b"\r\n ".join(pieces) + b"\r\n", name, params, value)


def quote(text: str) -> str:
    """A parameter's value, as `Line.params` has it, put into quotes if need be."""
    if '"' in text or "\n" in text:
        raise ValueError("neither quotes nor line breaks can stand in a parameter")
    return f'"{text}"' if re.search(r"[,;: ]", text) else text


def escape(text: str) -> str:
    """A text as a property's value."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace(",", "\\,").replace(";", "\\;")


def unescape(text: str) -> str:
    """What a property's value says."""
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] in "nN" else found[1], text)


def parse(data: bytes) -> Component:
    """The VCALENDAR that the bytes are.

    :raises NotICalendar: they are something else, or more than one.
    """
    if len(data) > MOST_BYTES:
        raise NotICalendar(f"it has more than {MOST_BYTES:,} bytes")
    top: Component | None = None
    open_: list[Component] = []
    for raw in _unfolded(data):
        if not raw.strip():
            if not open_:
                if top is None:
                    raise NotICalendar("it begins with an empty line")
                top.end += raw
                continue
            raise NotICalendar("there is an empty line inside")
        if top is not None and not open_:
            raise NotICalendar("something stands after END:VCALENDAR")
        parsed = _line(raw)
        if parsed.name == "BEGIN":
            part = Component(parsed.value.strip().upper(), raw, b"")
            if open_:
                open_[-1].items.append(part)
            else:
                top = part
            open_.append(part)
            if len(open_) > DEEPEST:
                raise NotICalendar("components lie too deep inside one another")
        elif parsed.name == "END":
            if not open_ or open_[-1].name != parsed.value.strip().upper():
                raise NotICalendar(f"END:{parsed.value} ends nothing")
            open_.pop().end = raw
        elif not open_:
            raise NotICalendar("it does not begin with BEGIN:VCALENDAR")
        else:
            open_[-1].items.append(parsed)
    if open_ or top is None or top.name != "VCALENDAR":
        raise NotICalendar("it is not one whole VCALENDAR")
    return top


def _unfolded(data: bytes) -> Iterator[bytes]:
    """Content lines with their folds still in them."""
    held = b""
    for piece in re.findall(rb"[^\n]*\n|[^\n]+\Z", data):
        if piece[:1] in (b" ", b"\t") and held:
            held += piece
        else:
            if held:
                yield held
            held = piece
    if held:
        yield held


def _line(raw: bytes) -> Line:
    try:
        text = re.sub(rb"\r?\n[ \t]", b"", raw).decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise NotICalendar("it is not UTF-8") from error
    name = _NAME.match(text)
    if name is None:
        raise NotICalendar(f"{text[:40]!r} is no content line")
    at = name.end()
    params: list[tuple[str, str]] = []
    while found := _PARAM.match(text, at):
        params.append((found[1].upper(), found[2].replace('"', "")))
        at = found.end()
    if text[at : at + 1] != ":":
        raise NotICalendar(f"{text[:40]!r} is no content line")
    return Line(raw, name[0].upper(), tuple(params), text[at + 1 :])
