"""HTML as values. Whatever is a string is text and is escaped; only what is made of elements here is markup.

So a text of a model, a file or a stranger cannot become markup by anybody's forgetting something. Invisible characters
(control, bidirectional, zero-width) are shown escaped wherever text is shown, as in the questions of approvals.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from takeback.server.engine.report import shown, shown_lines

_VOID: Final = frozenset({"br", "hr", "input", "link", "meta"})

Attribute = str | int | bool | None
"""True: the bare name; False and None: left out."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element and what is in it."""

    tag: str
    children: tuple[Node, ...] = ()
    attributes: dict[str, Attribute] = field(default_factory=dict[str, Attribute])


@dataclass(frozen=True, slots=True)
class Exact:
    """Text that has to come back as it went out, such as what is edited: escaped for HTML, and nothing else."""

    text: str


Node = str | Element | Exact | None | Sequence["Node"]


def e(tag: str, *children: Node, **attributes: Attribute) -> Element:
    """An element. `class_` and `for_` mean class and for; `aria_label` means aria-label."""
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    return Element(tag, children, named)


def document(root: Element) -> bytes:
    """A whole page."""
    return ("<!doctype html>\n" + render(root)).encode("utf-8", "backslashreplace")


def render(node: Node) -> str:
    """A node as HTML."""
    return "".join(_pieces(node))


def _pieces(node: Node) -> Iterator[str]:
    match node:
        case None:
            return
        case str():
            yield html.escape(shown_lines(node), quote=False)
        case Exact(text):
            yield html.escape(text, quote=False)
        case Element(tag, children, attributes):
            yield f"<{tag}{''.join(_attributes(attributes))}>"
            if tag not in _VOID:
                for child in children:
                    yield from _pieces(child)
                yield f"</{tag}>"
        case _:
            for child in node:
                yield from _pieces(child)


def _attributes(attributes: dict[str, Attribute]) -> Iterator[str]:
    for name, value in attributes.items():
        if value is True:
            yield f" {name}"
        elif value is not None and value is not False:
            yield f' {name}="{html.escape(shown(str(value)))}"'
