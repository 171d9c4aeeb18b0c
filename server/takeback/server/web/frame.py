"""What every page has around it, and the pieces that pages are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Final
from urllib.parse import quote

from takeback.journal.events import Caller
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.web.exchange import Request, Response, with_query
from takeback.server.web.forms import Forms
from takeback.server.web.html import Element, Node, document, e

TOKEN_FIELD: Final = "form"  # noqa: S105 -- a field's name
"""The field of each form with the token that it is sent once with."""
LANE: Final = "page"
REFRESH_SECONDS: Final = 20
"""After so long a page without a script looks anew, where nobody writes anything in it."""

SAID: Final[Mapping[str, str]] = {
    "approved": "Approved. The agent may repeat its call now; this consent is spent by that.",
    "denied": "Refused. The agent is told so when it asks again.",
    "settled": "Settled.",
    "cancelled": "Cancelled. The message will not go out.",
    "sending": "The message goes out now.",
    "longer": "The message is held for longer.",
    "edited": "The message goes out as you left it, after its window.",
    "told": "Noted.",
    "contained": "Stopped. The agent changes nothing more in this run until you let it go on; what it did can be taken back.",
    "released": "The run may go on.",
    "taken": "The run is yours. Do what you have to, then return it below.",
    "again": "This form had been sent already, so nothing was done twice. Below is how things stand.",
    "changed": "Nothing was done: something changed since the plan was shown. Below is the plan as it is now.",
}
"""What can be said on the next page, by a word in its address: never a text from there."""

_MAIN: Final = (("/", "What waits"), ("/runs", "Runs"), ("/mail", "Mail"))

_TONES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("applied", "finished", "complete", "restored", "merged", "compensated", "sent", "recommended"), "good"
    ),
    **dict.fromkeys(("conflict", "failed", "irreversible", "contained", "quarantined", "denied", "dead"), "bad"),
    **dict.fromkeys(
        ("intended", "in_doubt", "stalled", "sealed", "partial", "requested", "late", "unknown", "waiting", "held"),
        "warn",
    ),
}


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, with what it is answered from."""

    request: Request
    engine: Engine
    caller: Caller
    forms: Forms
    base: str
    position: int
    """Of the journal, before anything was read for the answer: what comes later is news to the page."""

    def at(self, *parts: str, **query: str | list[str] | None) -> str:
        """The address of a place: ("runs", id) is /runs/ID below the page's folder."""
        return with_query(self.base + "/" + "/".join(quote(part, safe="") for part in parts), **query)

    def link(self, words: Node, *parts: str, class_: str | None = None, **query: str | list[str] | None) -> Element:
        """A link to a place of the page."""
        return e("a", words, href=self.at(*parts, **query), class_=class_)

    def form(
        self, parts: tuple[str, ...], *children: Node, hidden: Mapping[str, str | list[str]] | None = None
    ) -> Element:
        """A form that is sent to a place, once."""
        place = self.at(*parts)
        kept = [
            e("input", type="hidden", name=name, value=each)
            for name, value in (hidden or {}).items()
            for each in ([value] if isinstance(value, str) else value)
        ]
        token = self.forms.token(self.request.session, place.removeprefix(self.base))
        return e(
            "form",
            e("input", type="hidden", name=TOKEN_FIELD, value=token),
            kept,
            children,
            method="post",
            action=place,
            autocomplete="off",
        )

    def called(self, object: str) -> str:
        """An object as people call it: a path below a folder of the workspace, from that folder on."""
        for root in self.engine.core.settings.workspace.roots:
            if object.startswith(f"{root}{os.sep}"):
                return f"{root.name}/{object.removeprefix(f'{root}{os.sep}')}"
        return object

    def page(self, title: str, *content: Node, live: bool = False, back: tuple[Node, ...] = ()) -> Response:
        """A page.

        :param live: nothing is written in it, so that it may show itself anew.
        :param back: where one comes from, as links above the heading.
        """
        said = SAID.get(self.request.one("said"))
        main = e(
            "main",
            e("nav", [e("span", one) for one in back], class_="back", aria_label="Where you are") if back else None,
            e("p", said, class_="note", role="status") if said else None,
            e("h1", title),
            content,
            id="main",
            tabindex="-1",
        )
        return framed(self.base, title, main, path=self.request.path, live=live, position=self.position, visit=self)


def framed(
    base: str,
    title: str,
    main: Node,
    *,
    path: str = "",
    live: bool = False,
    position: int | None = None,
    status: int = 200,
    visit: Visit | None = None,
) -> Response:
    """The frame around what is in a page."""
    head = e(
        "head",
        e("meta", charset="utf-8"),
        e("meta", name="viewport", content="width=device-width, initial-scale=1"),
        e("meta", name="color-scheme", content="light dark"),
        e("title", f"{title} · takeback"),
        e("link", rel="stylesheet", href=f"{base}/static/page.css"),
        e("link", rel="icon", href=f"{base}/static/icon.svg", type="image/svg+xml"),
        e("script", src=f"{base}/static/page.js", defer=True) if position is not None else None,
        e("noscript", e("meta", http_equiv="refresh", content=str(REFRESH_SECONDS))) if live else None,
    )
    body = e(
        "body",
        e("a", "Skip to the content", href="#main", class_="skip"),
        _header(base, path) if visit is not None else None,
        e("div", id="news", role="status") if position is not None else None,
        main,
        _footer(visit) if visit is not None else None,
        data_state=f"{base}/state" if position is not None else None,
        data_position=position,
        data_live="yes" if live else None,
    )
    return Response(document(e("html", head, body, lang="en")), status=status)


def _header(base: str, path: str) -> Element:
    def entry(place: str, words: str) -> Element:
        here = path == place or (place != "/" and path.startswith(place + "/"))
        return e("li", e("a", words, href=base + place, aria_current="page" if here else None))

    return e(
        "header",
        e("a", "takeback", href=f"{base}/", class_="name"),
        e("nav", e("ul", [entry(place, words) for place, words in _MAIN]), aria_label="Pages"),
    )


def _footer(visit: Visit) -> Element:
    return e(
        "footer",
        e("p", f"takeback {version('takeback')}, on the data in ", e("code", str(visit.engine.core.settings.data))),
        visit.form(("leave",), e("button", "Sign this browser out", class_="quiet")),
    )


# --- pieces ---------------------------------------------------------------------------------------------------------------


def status(word: str, label: str = "") -> Element:
    """A status or outcome word: always as a word; the colour only repeats it."""
    word = word.lower()
    return e("span", label or word.replace("_", " ") or "not done", class_=f"status {_TONES.get(word, 'plain')}")


def as_sentence(text: str) -> str:
    """A piece of a message of the engine, as a sentence of its own."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?…" else ".")


def moment(at: str) -> Node:
    """A time in the machine's own zone, with the exact one behind it."""
    if not at:
        return ""
    local = datetime.fromisoformat(at).astimezone()
    return e("time", f"{local:%Y-%m-%d %H:%M:%S}", datetime=at, title=at)


def facts(*pairs: tuple[str, Node]) -> Element:
    """Names and what stands for them; those of which nothing is known are left out."""
    return e("dl", [e("div", e("dt", name), e("dd", value)) for name, value in pairs if value not in (None, "", [])])


def sentences(heading: str, lines: list[str]) -> Node:
    """A heading and a list, if there is something in it."""
    return e("section", e("h3", heading), e("ul", [e("li", line) for line in lines])) if lines else None


def text_box(text: str, label: str, *, diff: bool = False) -> Element:
    """Several lines as they are; a region of its own, so that it can be scrolled by keyboard."""
    lines: Node = [e("span", line, class_=_kind(line)) for line in text.split("\n")] if diff else text
    return e("pre", lines, class_="diff" if diff else None, tabindex="0", role="region", aria_label=label)


def _kind(line: str) -> str | None:
    if line.startswith(("+++", "---")):
        return "file"
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1])


def field(name: str, label: str, *, id: str, value: str = "", required: bool = False, hint: str = "") -> Element:
    """One line to be written, with its label."""
    return e(
        "p",
        e("label", label, for_=id),
        e("input", type="text", name=name, id=id, value=value, required=required, maxlength="500"),
        e("span", hint, class_="hint") if hint else None,
        class_="field",
    )


def told(base: str, title: str, message: str, advice: str, *more: Node, status: int) -> Response:
    """An answer to somebody who is not let in, or went astray."""
    words = [e("p", message), e("p", advice) if advice else None]
    main = e("main", e("h1", title), words, more, id="main", tabindex="-1")
    return framed(base, title, main, status=status)


def refused(visit: Visit, error: EngineError) -> Response:
    """What the engine would not do: one sentence of fact, one of advice."""
    missing = error.code == "not_found"
    main = e(
        "main",
        e("h1", "There is no such thing" if missing else "This was not done"),
        e("p", str(error), class_="note bad", role="alert"),
        e("p", error.advice) if error.advice else None,
        e("p", visit.link("What waits for you")),
        id="main",
        tabindex="-1",
    )
    title = "There is no such thing" if missing else "This was not done"
    return framed(
        visit.base,
        title,
        main,
        path=visit.request.path,
        position=visit.position,
        status=404 if missing else 409,
        visit=visit,
    )


def see(place: str) -> Response:
    """Go and look there: the answer to a form, so that a reload sends nothing again."""
    return Response(status=303, headers=(("location", place),))
