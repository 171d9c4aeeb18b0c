"""What mail says, for whoever is asked whether it may leave: read from its final bytes, never from the words of a call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from takeback.checkpoints.encoding import decode
from takeback.checkpoints.objects import ObjectError
from takeback.journal.redaction import redact_text
from takeback.server.engine.core import Core
from takeback.server.engine.outgoing import holding
from takeback.server.engine.wording import counted, sentence, shown
from takeback.tools.contract import Prepared

MARK: Final = "> "
"""How each of these lines begins."""
MOST_LINES: Final = 60
IN_A_PLAN: Final = 20
LONGEST_LINE: Final = 400
"""More of a text cannot be read in a question; how much is left out is said."""
_MAIL: Final = "mail:"


async def quoted(core: Core, prepared: Prepared, *, most: int = MOST_LINES) -> list[str]:
    """The text and the attachments of each message that a call would hold, the same text once.

    :param most: lines of each text.
    """
    found: dict[str, None] = {}
    for effect in holding(prepared.effects):
        given = effect.after.ref.get("message")
        name = str(given.get("content", "")) if isinstance(given, dict) else ""
        if not isinstance(given, dict) or not str(given.get("carrier", "")).startswith(_MAIL):
            continue
        try:
            stored = prepared.blobs.get(name)
            data = await core.objects.get(name) if stored is None else decode(stored)
        except ObjectError as error:
            found[f"{MARK}(its text cannot be read: {sentence(str(error))})"] = None
        else:
            found["\n".join(_lines(data, most))] = None
    return "\n".join(found).split("\n") if found else []


def _lines(data: bytes, most: int) -> Sequence[str]:
    from takeback.tools.email.reading import content_of  # only where there is mail to be read

    said = content_of(data)
    text = redact_text(said.text, os.urandom(16)).split("\n")
    lines = [MARK + _cut(shown(line)) for line in text[:most]]
    if len(text) > most:
        lines.append(f"{MARK}(… {counted(len(text) - most, 'line')} more)")
    lines += [f"{MARK}(attached: {sentence(each.name)}, {each.size:,} bytes)" for each in said.attachments]
    return lines


def _cut(line: str) -> str:
    return (
        line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}… ({len(line) - LONGEST_LINE:,} characters more)"
    )
