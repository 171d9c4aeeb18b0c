"""XML of WebDAV: answers are read without trusting them, questions are written.

No document type is accepted at all: without one there are no entities to expand and nothing to fetch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape

DAV: Final = "DAV:"
CALDAV: Final = "urn:ietf:params:xml:ns:caldav"
DEEPEST: Final = 64
"""Elements inside each other; a multistatus needs about eight."""


class BadXml(ValueError):
    """It is no XML that may be read. The message says why and repeats nothing of it."""


@dataclass(slots=True)
class Element:
    """An element with its children; the name is "namespace name"."""

    name: str
    children: list[Element] = field(default_factory=list["Element"])
    text: str = ""
    named: str = ""
    """Its attribute "name"; no other attribute says anything here."""

    def all(self, name: str, namespace: str = DAV) -> Iterator[Element]:
        """Children of that name."""
        wanted = f"{namespace} {name}"
        return (each for each in self.children if each.name == wanted)

    def first(self, name: str, namespace: str = DAV) -> Element | None:
        """The first child of that name."""
        return next(self.all(name, namespace), None)


@dataclass(frozen=True, slots=True)
class Response:
    """What a multistatus says of one address."""

    href: str
    status: int | None
    """Of the whole address, if it says one."""
    found: Element
    """The properties that were answered with 200."""


def parse(raw: bytes) -> Element:
    """The document's root.

    :raises BadXml: it is not well-formed, has a document type, or is too deep.
    """
    top = Element("")
    open_elements = [top]
    texts: list[list[str]] = [[]]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > DEEPEST:
            raise BadXml("its elements are too deep")
        element = Element(name, named=attributes.get("name", ""))
        open_elements[-1].children.append(element)
        open_elements.append(element)
        texts.append([])

    def end(_: str) -> None:
        open_elements.pop().text = "".join(texts.pop())

    def doctype(*_: object) -> None:
        raise BadXml("it has a document type, which is not accepted")

    reader = expat.ParserCreate(namespace_separator=" ")
    reader.buffer_text = True
    reader.StartElementHandler = start
    reader.EndElementHandler = end
    reader.CharacterDataHandler = lambda data: texts[-1].append(data)
    reader.StartDoctypeDeclHandler = doctype
    try:
        reader.Parse(raw, True)
    except (expat.ExpatError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise BadXml("it is not well-formed") from error
    return top.children[0]


def responses(raw: bytes) -> list[Response]:
    """The parts of a multistatus.

    :raises BadXml: it is none.
    """
    root = parse(raw)
    if root.name != f"{DAV} multistatus":
        raise BadXml("it is no multistatus")
    answered: list[Response] = []
    for each in root.all("response"):
        href = each.first("href")
        if href is None:
            raise BadXml("a response without an address")
        found = Element("")
        for part in each.all("propstat"):
            properties = part.first("prop")
            if properties is not None and _status(part.first("status")) == 200:
                found.children += properties.children
        answered.append(Response(href.text.strip(), _status(each.first("status")), found))
    return answered


def preconditions(raw: bytes) -> set[str]:
    """Local names of the conditions in a `DAV:error` body; none if it is something else."""
    try:
        root = parse(raw)
    except BadXml:
        return set()
    return {each.name.rpartition(" ")[2] for each in root.children} if root.name == f"{DAV} error" else set()


def _status(element: Element | None) -> int | None:
    """200 from "HTTP/1.1 200 OK"."""
    if element is None:
        return None
    words = element.text.split()
    if len(words) < 2 or not words[1].isascii() or not words[1].isdigit():
        raise BadXml("a status that is none")
    return int(words[1])


def propfind(*properties: tuple[str, str]) -> bytes:
    """A question for properties, each (namespace, name)."""
    asked = "".join(f'<x:{name} xmlns:x="{namespace}"/>' for namespace, name in properties)
    return f'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>{asked}</prop></propfind>'.encode()


def query_uid(uid: str) -> bytes:
    """A calendar-query for events whose UID contains this text, octet by octet (RFC 4791 knows no equality)."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<C:calendar-query xmlns:C="{CALDAV}" xmlns="DAV:"><prop><getetag/></prop><C:filter>'
        '<C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT"><C:prop-filter name="UID">'
        f'<C:text-match collation="i;octet">{escape(uid)}</C:text-match>'
        "</C:prop-filter></C:comp-filter></C:comp-filter></C:filter></C:calendar-query>"
    ).encode()
