"""Text from outside, made fit to be shown: nothing in it can move the cursor, reverse the line or hide.

File names, goals, summaries and contents come from models and from other people's files. What cannot be seen is
written as its code, so that two different texts never look the same because of it.
"""

from __future__ import annotations

import unicodedata

_INVISIBLE = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]
)
"""Fillers, joiners and variation selectors that are letters or marks by category but show nothing of their own."""
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def shown(text: str, *, lines: bool = False) -> str:
    """The text with control, bidi, zero-width and other invisible characters written as `\\xNN` or `\\uNNNN`.

    :param lines: leave line ends and tabs as they are (contents and diffs); a carriage return is always written out.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char, lines) for char in text)


def _shown(char: str, lines: bool) -> str:
    if lines and char in "\n\t":
        return char
    code = ord(char)
    if unicodedata.category(char) not in _HIDDEN_CATEGORIES and code not in _INVISIBLE:
        return char
    if code < 0x100:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
