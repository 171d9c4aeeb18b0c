"""Messages that wait before they leave the machine: what is in them, cancel, send now, hold longer, change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from takeback.server.engine.answers import EngineError
from takeback.server.engine.detached import start_sender
from takeback.server.web import editing, letters, texts
from takeback.server.web.exchange import Response
from takeback.server.web.frame import Visit, facts, moment, see, status, text_box
from takeback.server.web.html import Element, Node, e
from takeback.tools.outbox.acts import PREFIX, is_act
from takeback.tools.outbox.rows import AT_HOME, Row, when

LONGER_SECONDS: Final = {"600": "10 minutes", "3600": "an hour", "86400": "a day"}

_MEANING: Final = {
    "HELD": "It waits, and goes out by itself.",
    "SENDING": "It is being sent.",
    "SENT": "It has gone out.",
    "UNKNOWN": "The connection was lost at the wrong moment: nobody knows whether it went out. Ask, then say so here.",
    "CANCELLED": "It was cancelled and does not go out.",
    "LATE": "It could not be sent in time, and waits for you.",
    "DEAD": "It could not be sent, and waits for you.",
    "WAITING": "A correction of a message that had gone out already. It goes out only if you agree.",
}


async def listing(visit: Visit) -> Response:
    """What waits; on request everything."""
    everything = visit.request.one("all") == "yes"
    found = await visit.engine.desk.rows(visit.caller, everything=everything)
    return visit.page(
        "Mail",
        rows(visit, found) or e("p", "No message is held."),
        e(
            "p",
            visit.link("Only what waits", "mail")
            if everything
            else visit.link("Also what went out", "mail", all="yes"),
        ),
        live=True,
    )


def rows(visit: Visit, found: Sequence[Row]) -> Node:
    """Messages in a list."""
    if not found:
        return None
    return e(
        "ul",
        [
            e(
                "li",
                status(row.status),
                " ",
                visit.link(row.message.subject or "(no subject)", "mail", row.id),
                e("span", "an act of " if is_act(row.message) else "to ", _whom(row), class_="why"),
                e("span", "leaves ", moment(row.release_time), class_="why") if row.status == "HELD" else None,
            )
            for row in found
        ],
        class_="rows",
    )


async def one(visit: Visit, message_id: str) -> Response:
    """One message as it will go out."""
    row = await visit.engine.desk.row(visit.caller, message_id)
    content = await visit.engine.desk.content(row)
    return visit.page(
        row.message.subject or "(no subject)",
        e("p", status(row.status), " ", _MEANING[row.status], class_="lead"),
        facts(
            ("Tool" if is_act(row.message) else "To", _whom(row)),
            ("Leaves", moment(row.release_time) if row.status == "HELD" else None),
            ("Written", moment(when(row.held_at))),
            ("Through", row.message.carrier),
            ("Run", visit.link("what it has done", "runs", row.run_id) if row.run_id else None),
            ("Corrects", visit.link("this message", "mail", row.corrects) if row.corrects else None),
            ("Last said about it", row.detail),
        ),
        _choices(visit, row),
        await editing.box(visit, row),
        e("h2", "The act" if is_act(row.message) else "The message"),
        _content(row, content) if content is not None else e("p", "Its content is not kept any more."),
        back=(visit.link("Mail", "mail"),),
    )


def _content(row: Row, content: bytes) -> Node:
    """What waits: the arguments of an act, or a message."""
    if is_act(row.message):
        return text_box(texts.described(content), "What the tool will be given")
    return _message(content)


def _message(content: bytes) -> Node:
    """What a recipient reads, and below it the bytes that go out."""
    text, attached = letters.read(content)
    return [
        text_box(text, "The text of the message") if text is not None else None,
        e("p", "Attached: ", ", ".join(attached)) if attached else None,
        e(
            "details",
            e("summary", "Exactly as it goes out"),
            text_box(texts.described(content).replace("\r\n", "\n"), "The message exactly as it goes out"),
            open=text is None,
        ),
    ]


def _whom(row: Row) -> str:
    return ", ".join(row.message.recipients) or row.message.carrier.removeprefix(PREFIX)


def _choices(visit: Visit, row: Row) -> Node:
    def button(
        act: str, words: str, class_: str | None = None, hidden: dict[str, str | list[str]] | None = None
    ) -> Element:
        return visit.form(("mail", row.id, act), e("button", words, class_=class_), hidden=hidden)

    found: list[Node] = []
    if row.status in AT_HOME:
        found.append(button("cancel", "Cancel it: it does not go out", "act"))
    if row.status in ("HELD", "LATE", "DEAD"):
        found.append(button("send", "Send it now"))
    if row.status == "WAITING":
        found.append(button("approve", "Agree: send this correction"))
    if row.status in ("HELD", "LATE"):
        found.append(
            visit.form(
                ("mail", row.id, "hold"),
                e("label", "Hold it for longer: ", for_="seconds"),
                e(
                    "select",
                    [e("option", words, value=value) for value, words in LONGER_SECONDS.items()],
                    name="seconds",
                    id="seconds",
                ),
                " ",
                e("button", "Hold"),
            )
        )
    if row.status == "UNKNOWN":
        found.append(button("settle", "It went out", hidden={"sent": "yes"}))
        found.append(button("settle", "It did not go out", hidden={"sent": "no"}))
    return e("div", found, class_="choices") if found else None


async def cancel(visit: Visit, message_id: str) -> Response:
    """Do not send it."""
    row = await visit.engine.desk.cancel(visit.caller, message_id)
    return see(visit.at("mail", row.id, said="cancelled"))


async def send(visit: Visit, message_id: str) -> Response:
    """Send it at once."""
    row = await visit.engine.desk.send_now(visit.caller, message_id)
    start_sender(visit.engine.core.settings)
    return see(visit.at("mail", row.id, said="sending"))


async def approve(visit: Visit, message_id: str) -> Response:
    """Agree to a correction."""
    row = await visit.engine.desk.approve(visit.caller, message_id)
    start_sender(visit.engine.core.settings)
    return see(visit.at("mail", row.id, said="sending"))


async def hold(visit: Visit, message_id: str) -> Response:
    """Hold it for longer."""
    seconds = visit.request.one("seconds")
    if seconds not in LONGER_SECONDS:
        raise EngineError("invalid", "For how long was not said.", "Go back and choose.")
    row = await visit.engine.desk.hold_longer(visit.caller, message_id, float(seconds))
    start_sender(visit.engine.core.settings)
    return see(visit.at("mail", row.id, said="longer"))


async def settle(visit: Visit, message_id: str) -> Response:
    """Say whether it went out."""
    if visit.request.one("sent") not in ("yes", "no"):
        raise EngineError("invalid", "Whether it went out was not said.", "Go back and choose.")
    row = await visit.engine.desk.settle(visit.caller, message_id, sent=visit.request.one("sent") == "yes")
    return see(visit.at("mail", row.id, said="told"))
