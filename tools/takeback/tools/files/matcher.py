"""Looks for one expression in many texts: the part of a search that runs in a child process, so that it can be killed.

Standard library only, and nothing of ours: it is started by its file name. Input: one line of JSON with the expression, then
for each text a line `bytes limit` and the text in UTF-8. Output: for each text one line of JSON, `[[line number, line], …]`.
"""

from __future__ import annotations

import json
import re
import sys

WIDTH = 300
"""Characters of a line that are answered."""
LONGEST = 20_000
"""Characters of a line that an expression is held against; the rest of a longer line (minified code, say) is passed over."""

_BREAK = re.compile(r"\r\n|\n|\r")


def literal_lines(wanted: str, text: str, limit: int) -> list[tuple[int, str]]:
    """Numbers and texts of the lines that contain the wanted text; one that spans lines counts where it begins."""
    found: list[tuple[int, str]] = []
    number, counted, at = 1, 0, text.find(wanted)
    while at >= 0 and len(found) < limit:
        for line_break in _BREAK.finditer(text, counted, at):
            number, counted = number + 1, line_break.end()
        after = _BREAK.search(text, at)
        end = len(text) if after is None else after.start()
        found.append((number, _cut(text[counted:end], at - counted)))
        at = text.find(wanted, max(end, at + 1))
    return found


def matching_lines(expression: re.Pattern[str], wanted: str, text: str, limit: int) -> list[tuple[int, str]]:
    """The same for an expression, line by line; lines that contain it literally count too."""
    found: list[tuple[int, str]] = []
    for number, line in enumerate(_BREAK.split(text), 1):
        match = expression.search(line, 0, LONGEST)
        at = line.find(wanted) if match is None else match.start()
        if at >= 0:
            found.append((number, _cut(line, at)))
            if len(found) == limit:
                break
    return found


def _cut(line: str, at: int) -> str:
    if len(line) <= WIDTH:
        return line
    start = max(0, min(at - WIDTH // 3, len(line) - WIDTH))
    return ("…" if start else "") + line[start : start + WIDTH] + ("…" if start + WIDTH < len(line) else "")


def main() -> None:
    """Serve until the input ends."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    wanted = str(json.loads(source.readline()))
    expression = re.compile(wanted)
    while head := source.readline():
        size, limit = map(int, head.split())
        text = source.read(size).decode("utf-8")
        target.write(json.dumps(matching_lines(expression, wanted, text, limit)).encode() + b"\n")
        target.flush()


if __name__ == "__main__":
    main()
