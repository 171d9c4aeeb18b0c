"""Reads JSON with the places of everything in it, so that one member can be put in or taken out and no other byte moves.

Comments and trailing commas are read where the owner of the file reads them, and stay where they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR: Final = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_DEPTH: Final = 100
"""Configuration is never nested as deeply; the reader calls itself."""


class Unreadable(Exception):
    """The text is no JSON; says where and why."""

    def __init__(self, text: str, at: int, why: str) -> None:
        line = text.count("\n", 0, at) + 1
        super().__init__(f"line {line}, column {at - text.rfind(chr(10), 0, at)}: {why}")


@dataclass(frozen=True, slots=True)
class Node:
    """A value, and where it stands."""

    start: int
    end: int
    value: Any
    members: Mapping[str, Member] = field(default_factory=lambda: dict[str, Member]())
    """Of an object, in their order."""


@dataclass(frozen=True, slots=True)
class Member:
    """A name with its value. `start` is where the name begins."""

    start: int
    node: Node


def read(text: str, *, comments: bool) -> Node:
    """The whole text.

    :param comments: allow comments and trailing commas, as editors do.
    :raises Unreadable: it is no JSON, or an object has two members of one name, or it is not an object.
    """
    reader = _Reader(text, comments)
    node = reader.value(reader.skip(1 if text.startswith("\ufeff") else 0), 0)
    rest = reader.skip(node.end)
    if rest != len(text):
        raise Unreadable(text, rest, "something follows the end")
    if not isinstance(node.value, dict):
        raise Unreadable(text, node.start, "it holds no object")
    return node


class _Reader:
    def __init__(self, text: str, comments: bool) -> None:
        self.text, self.comments = text, comments

    def skip(self, at: int) -> int:
        """Past white space and comments."""
        while True:
            space = _SPACE.match(self.text, at)
            at = space.end() if space else at
            comment = _COMMENT.match(self.text, at)
            if comment is None:
                return at
            if not self.comments:
                raise Unreadable(self.text, at, "there is a comment, which this client does not read")
            at = comment.end()

    def value(self, at: int, depth: int) -> Node:
        if depth > _DEPTH:
            raise Unreadable(self.text, at, "it is nested too deeply")
        match self.text[at : at + 1]:
            case "{":
                return self.object(at, depth)
            case "[":
                return self.array(at, depth)
            case '"':
                return self.string(at)
            case _:
                found = _SCALAR.match(self.text, at)
                if found is None:
                    raise Unreadable(
                        self.text, at, "a value is missing" if at < len(self.text) else "it ends too early"
                    )
                return Node(at, found.end(), json.loads(found[0]))

    def string(self, at: int) -> Node:
        found = _STRING.match(self.text, at)
        try:
            return (
                Node(at, found.end(), json.loads(found[0])) if found else self.fail(at, "a text in quotes is missing")
            )
        except ValueError:
            return self.fail(at, "this text has an escape that JSON does not know")

    def fail(self, at: int, why: str) -> Node:
        raise Unreadable(self.text, at, why)

    def object(self, start: int, depth: int) -> Node:
        members: dict[str, Member] = {}
        for at in self.items(start, "}"):
            name = self.string(at)
            if name.value in members:
                self.fail(at, f"{name.value!r} is there twice")
            colon = self.skip(name.end)
            if self.text[colon : colon + 1] != ":":
                self.fail(colon, "a colon is missing")
            node = self.value(self.skip(colon + 1), depth + 1)
            members[name.value] = Member(at, node)
            self.end = node.end
        return Node(start, self.end, {name: each.node.value for name, each in members.items()}, members)

    def array(self, start: int, depth: int) -> Node:
        values: list[Any] = []
        for at in self.items(start, "]"):
            node = self.value(at, depth + 1)
            values.append(node.value)
            self.end = node.end
        return Node(start, self.end, values)

    def items(self, start: int, close: str) -> Iterator[int]:
        """Where each item begins. Whoever iterates leaves its end in `self.end`; the end of the whole stands there at last."""
        at = self.skip(start + 1)
        first = True
        while self.text[at : at + 1] != close:
            if not first:
                if self.text[at : at + 1] != ",":
                    self.fail(at, f"a comma or {close} is missing" if at < len(self.text) else "it ends too early")
                comma = at
                at = self.skip(at + 1)
                if self.text[at : at + 1] == close:
                    if not self.comments:
                        self.fail(comma, "there is a comma after the last item, which this client does not read")
                    break
            first = False
            yield at
            at = self.skip(self.end)
        self.end = at + 1


@dataclass(frozen=True, slots=True)
class Style:
    """How the file is written."""

    newline: str
    indent: str

    @classmethod
    def of(cls, text: str, root: Node) -> Style:
        """Line ends and indentation as found; two spaces if there is nothing to go by."""
        first = next(iter(root.members.values()), None)
        indent = _margin(text, first.start) if first and "\n" in text[root.start : first.start] else ""
        return cls("\r\n" if "\r\n" in text else "\n", indent or "  ")

    def write(self, value: Any, margin: str) -> str:
        """The value as it stands in a line that begins with `margin`."""
        lines = json.dumps(value, indent=self.indent, ensure_ascii=False).split("\n")
        return (self.newline + margin).join(lines)


def put(text: str, path: tuple[str, ...], name: str, value: Any, *, comments: bool) -> str:
    """The text with this member in the object at `path`. A member of that name gets the new value where it stands.

    :raises Unreadable: see `read`; also if something on the path is not an object.
    """
    root = read(text, comments=comments)
    at = root
    for depth, step in enumerate(path):
        if step not in at.members:
            inner: Any = {name: value}
            for missing in reversed(path[depth + 1 :]):
                inner = {missing: inner}
            return _insert(text, root, at, step, inner, None, comments)
        at = _object(text, at.members[step].node, step)
    if name in at.members:
        node = at.members[name].node
        style = Style.of(text, root)
        return text[: node.start] + style.write(value, _margin(text, at.members[name].start)) + text[node.end :]
    return _insert(text, root, at, name, value, None, comments)


def put_back(text: str, path: tuple[str, ...], name: str, raw: str, *, comments: bool) -> str:
    """The text with a member whose value was taken out before, character by character. One of that name stays as it is."""
    root = read(text, comments=comments)
    at = find(root, path)
    if at is None:
        return put(text, path, name, read(f'{{"":{raw}}}', comments=comments).value[""], comments=comments)
    return text if name in at.members else _insert(text, root, at, name, None, raw, comments)


def take(text: str, path: tuple[str, ...], name: str, *, comments: bool) -> str:
    """The text without this member of the object at `path`, and without the comma that it no longer needs.

    :raises Unreadable: see `read`.
    """
    root = read(text, comments=comments)
    at = find(root, path)
    if at is None or name not in at.members:
        return text
    skip = _Reader(text, comments=True).skip
    member = at.members[name]
    start, end = member.start, member.node.end
    after = skip(end)
    before = [each.node.end for each in at.members.values() if each.node.end < start]
    comma_before = skip(before[-1]) if before else None
    comma_after = text[after] == ","
    if comma_after:
        text = text[:after] + text[after + 1 :]
    start, end = _whole_lines(text, start, end)
    text = text[:start] + text[end:]
    if comma_before is not None and not comma_after:
        text = text[:comma_before] + text[comma_before + 1 :]
    left = find(read(text, comments=True), path)
    if left is not None and not left.members and not text[left.start + 1 : left.end - 1].strip():
        text = text[: left.start] + "{}" + text[left.end :]
    return text


def find(root: Node, path: tuple[str, ...]) -> Node | None:
    """The object at the path, if there is one."""
    at = root
    for step in path:
        if step not in at.members:
            return None
        at = at.members[step].node
    return at if isinstance(at.value, dict) else None


def _object(text: str, node: Node, name: str) -> Node:
    if not isinstance(node.value, dict):
        raise Unreadable(text, node.start, f"{name!r} is no object")
    return node


def _insert(text: str, root: Node, at: Node, name: str, value: Any, raw: str | None, comments: bool) -> str:
    """A new last member."""
    style = Style.of(text, root)
    inner = text[at.start + 1 : at.end - 1]
    last = max((member.node.end for member in at.members.values()), default=None)
    if last is not None and "\n" not in inner:
        written = f"{json.dumps(name, ensure_ascii=False)}: {raw or json.dumps(value, ensure_ascii=False)}"
        return f"{text[:last]}, {written}{text[last:]}"
    outer = _margin(text, at.start)
    margin = outer + style.indent
    if last is not None:
        margin = _margin(text, max(member.start for member in at.members.values()))
    written = f"{margin}{json.dumps(name, ensure_ascii=False)}: {raw or style.write(value, margin)}"
    if last is None and not inner.strip():
        return f"{text[: at.start + 1]}{style.newline}{written}{style.newline}{outer}{text[at.end - 1 :]}"
    if last is None:  # only comments: after them
        end = at.start + 1 + len(inner.rstrip())
        return (
            text[:end]
            + style.newline
            + written
            + (text[end:] if "\n" in text[end : at.end] else style.newline + outer + text[at.end - 1 :])
        )
    reader = _Reader(text, comments)
    trailing = reader.skip(last)
    comma = "," if comments and text[trailing] == "," else ""
    line = _end_of_line(text, trailing + 1 if comma else last, at.end - 1)
    head = text[:line] if comma else f"{text[:last]},{text[last:line]}"
    return (
        head
        + style.newline
        + written
        + comma
        + (text[line:] if line < at.end - 1 else style.newline + outer + text[at.end - 1 :])
    )


def _end_of_line(text: str, at: int, close: int) -> int:
    """Past the comments that stand in the same line, which belong to what stands before them."""
    while True:
        gap = re.compile(r"[ \t]*").match(text, at, close)
        after = gap.end() if gap else at
        comment = _COMMENT.match(text, after, close)
        if comment is None:
            break
        at = comment.end() - (1 if comment[0].endswith("\r") else 0)
    return close if after == close else at


def _margin(text: str, at: int) -> str:
    """The white space at the beginning of the line."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _whole_lines(text: str, start: int, end: int) -> tuple[int, int]:
    """The span, with the line break before it if nothing else stands in its lines; else with the space before it."""
    line = start - len(text[:start]) + len(text[:start].rstrip(" \t"))
    rest = end + len(text[end:]) - len(text[end:].lstrip(" \t"))
    alone = text[rest : rest + 1] in ("", "\r", "\n", "}")
    if line and text[line - 1] == "\n" and alone:
        line -= 2 if text[max(line - 2, 0) : line] == "\r\n" else 1
        return line, rest if text[rest : rest + 1] != "}" else end
    return (start, rest) if text[line - 1] == "{" else (line, end)
