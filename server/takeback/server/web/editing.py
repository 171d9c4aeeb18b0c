"""Changing a held message on the page: its fields and text in one box, as in an editor."""

from __future__ import annotations

from takeback.server.engine.answers import EngineError
from takeback.server.engine.desk import EDITABLE
from takeback.server.engine.detached import start_sender
from takeback.server.engine.wording import shown_lines
from takeback.server.web.exchange import Response
from takeback.server.web.frame import Visit, see
from takeback.server.web.html import Exact, Node, e
from takeback.tools.outbox.rows import Row


async def box(visit: Visit, row: Row) -> Node:
    """The message to be written in; nothing, if it cannot be edited."""
    from takeback.tools.email.editing import as_text

    if row.status not in EDITABLE:
        return None
    try:
        text = as_text(await visit.engine.desk.letter(row))
    except EngineError:
        return None
    if shown_lines(text) != text:
        return None  # nobody edits what they cannot see
    return e(
        "details",
        e("summary", "Change it before it goes out"),
        visit.form(
            ("mail", row.id, "edit"),
            e("label", "Recipients, subject, an empty line, the text:", for_="message"),
            # a browser drops the first line break after the tag
            e("textarea", Exact("\n" + text), name="message", id="message", rows="16"),
            e("p", "It is held for its whole window again.", class_="hint"),
            e("button", "Let it go out like this"),
            hidden={"was": row.message.content},
        ),
    )


async def edit(visit: Visit, message_id: str) -> Response:
    """Let it go out as it is written there."""
    from takeback.tools.email.addresses import BadText
    from takeback.tools.email.editing import from_text

    desk = visit.engine.desk
    row = await desk.row(visit.caller, message_id)
    if visit.request.one("was") != row.message.content:
        raise EngineError("changed", "The message was changed since you looked.", "Go back and look at it again.")
    try:
        letter = from_text(await desk.letter(row), visit.request.one("message"))
    except BadText as error:
        raise EngineError("invalid", str(error), error.advice) from error
    row = await desk.edit(visit.caller, row, letter)
    start_sender(visit.engine.core.settings)
    return see(visit.at("mail", row.id, said="edited"))
