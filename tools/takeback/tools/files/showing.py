"""An effect for a person's eyes: a line, and a unified diff where both sides are text."""

from __future__ import annotations

import difflib
from typing import Final

from takeback.journal.states import Effect, State
from takeback.tools.files.basis import is_text
from takeback.tools.files.reading import Reader
from takeback.tools.files.steps import side_ref
from takeback.tools.system import Preview

_LINES: Final = 200
_BYTES: Final = 512 * 1024


def preview_of(reader: Reader, effect: Effect, shown: str) -> Preview:
    """What the effect does. Nothing is changed."""
    move = side_ref(effect).get("move")
    if isinstance(move, dict):
        return Preview(_moved(effect, str(move["from"]), str(move["to"]), shown, reader))
    word = {"created": "create", "changed": "change", "deleted": "delete", "unchanged": "leave"}[effect.verb]
    state = effect.before if effect.after.absent else effect.after
    what = {"directory": "folder ", "symlink": "link "}.get(state.kind, "")
    title = f"{word} {what}{shown}"
    if state.kind != "file" and not (state.absent or effect.before.kind == "file"):
        return Preview(title)
    before, after = _text(reader, effect.before), _text(reader, effect.after)
    if before is None or after is None:
        size = "" if state.size is None else f" ({state.size:,} bytes)"
        return Preview(title + size)
    return _compared(title, before, after, shown)


def compared(title: str, before: bytes, after: bytes, shown: str) -> Preview:
    """A file before and after: what differs, where both are text."""
    if max(len(before), len(after)) > _BYTES or not (is_text(before) and is_text(after)):
        return Preview(f"{title} ({len(after):,} bytes)")
    return _compared(title, before.decode("utf-8", "replace"), after.decode("utf-8", "replace"), shown)


def _compared(title: str, before: str, after: str, shown: str) -> Preview:
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{shown}", f"b/{shown}", lineterm=""))
    added = sum(line.startswith("+") for line in lines[2:])
    removed = sum(line.startswith("-") for line in lines[2:])
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"… {len(lines) - _LINES} more lines"]
    counted = f"{added} {'line' if added == 1 else 'lines'} added, {removed} removed"
    return Preview(f"{title} ({counted})", "\n".join(lines))


def _moved(effect: Effect, source: str, destination: str, shown: str, reader: Reader) -> str:
    names = reader.bench.names
    if effect.object == source:
        word = "move" if effect.after.absent else "move back"
        return f"{word} {names.locate(source).shown} → {names.locate(destination).shown}"
    if effect.before.absent or effect.after.absent:
        return f"{'create' if effect.before.absent else 'remove'} {shown} by the move"
    return f"replace {shown} by the move"


def _text(reader: Reader, state: State) -> str | None:
    if state.absent:
        return ""
    if state.kind != "file" or state.size is None or state.size > _BYTES:
        return None
    data = reader.content(state)
    if data is None or not is_text(data):
        return None
    return data.decode("utf-8", "replace")
