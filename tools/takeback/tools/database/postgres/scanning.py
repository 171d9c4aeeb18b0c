"""Reading a statement's text word by word, as PostgreSQL's own scanner does: comments, quotes, dollar quotes.

It tells how many statements there are, with which words they begin and which functions they name. Whatever it cannot read is
refused; the server's parser reads the text again, one statement at a time.

Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from takeback.tools.contract import ToolError

_SPACE = re.compile(r"\s+")
_LINE = re.compile(r"--[^\n\r]*")
_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_DOLLAR = re.compile(r"\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$")
_NUMBER = re.compile(r"\$?[0-9](?:[0-9A-Za-z_.]|(?<=[eE])[+-])*")
_NAME = re.compile(r'"(?:[^"]|"")*"')
_STRING = re.compile(r"'(?:[^']|'')*'")
_ESCAPED = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """One word, name, text or sign."""

    kind: Literal["word", "name", "text", "number", "sign"]
    text: str
    """Words in lower case, names without their quotes, texts without theirs."""


def scan(sql: str) -> list[Token]:
    """The tokens of a text.

    :raises ToolError: a quote or comment is not closed, or a name is spelled in Unicode escapes.
    """
    tokens: list[Token] = []
    at, end = 0, len(sql)
    while at < end:
        at, token = _next(sql, at)
        if token is not None:
            tokens.append(token)
    return tokens


def _next(sql: str, at: int) -> tuple[int, Token | None]:
    char = sql[at]
    if found := _SPACE.match(sql, at) or _LINE.match(sql, at):
        return found.end(), None
    if sql.startswith("/*", at):
        return _after_comment(sql, at), None
    if char == "'":
        return _quoted(sql, at, _STRING)
    if char == '"':
        name = _NAME.match(sql, at)
        if name is None:
            raise _unclosed("a quoted name")
        return name.end(), Token("name", name.group()[1:-1].replace('""', '"'))
    if char == "$" and (tag := _DOLLAR.match(sql, at)):
        close = sql.find(tag.group(), tag.end())
        if close < 0:
            raise _unclosed("a dollar-quoted text")
        return close + len(tag.group()), Token("text", sql[tag.end() : close])
    if found := _NUMBER.match(sql, at):
        return found.end(), Token("number", found.group())
    if word := _WORD.match(sql, at):
        return _word(sql, word)
    return at + 1, Token("sign", char)


def _word(sql: str, word: re.Match[str]) -> tuple[int, Token]:
    text, following = word.group().lower(), sql[word.end() : word.end() + 2]
    if text == "u" and following[:1] == "&" and following[1:] in ("'", '"'):
        raise ToolError(
            "The text spells names or values in Unicode escapes (U&), which are not read here.",
            advice="Write the characters themselves.",
            code="refused",
        )
    if following[:1] == "'" and text in ("e", "b", "x", "n"):
        return _quoted(sql, word.end(), _ESCAPED if text == "e" else _STRING)
    return word.end(), Token("word", text)


def _quoted(sql: str, at: int, pattern: re.Pattern[str]) -> tuple[int, Token]:
    found = pattern.match(sql, at)
    if found is None:
        raise _unclosed("a quoted text")
    return found.end(), Token("text", found.group()[1:-1])


def _after_comment(sql: str, at: int) -> int:
    depth = 0
    while True:
        opening, closing = sql.find("/*", at), sql.find("*/", at)
        if closing < 0:
            raise _unclosed("a comment")
        if 0 <= opening < closing:
            depth, at = depth + 1, opening + 2
        else:
            depth, at = depth - 1, closing + 2
            if depth == 0:
                return at


def _unclosed(what: str) -> ToolError:
    return ToolError(f"The statement ends inside {what}.", advice="Close it.", code="sql")


def one_statement(sql: str) -> list[Token]:
    """The tokens of the only statement of a text, without a semicolon at its end.

    :raises ToolError: there is none, or there is more than one.
    """
    tokens = scan(sql)
    while tokens and tokens[-1] == Token("sign", ";"):
        tokens.pop()
    if not tokens:
        raise ToolError("There is no statement in the text.", advice="Pass one.", code="sql")
    depth = 0
    for token in tokens:
        if token == Token("word", "atomic"):
            depth += 1  # CREATE FUNCTION … BEGIN ATOMIC …; …; END holds semicolons of its own: the server tells
        elif token == Token("sign", ";") and depth == 0:
            raise ToolError(
                "The text holds more than one statement.",
                advice="Pass them one by one, or as `statements`.",
                code="refused",
            )
    return tokens
