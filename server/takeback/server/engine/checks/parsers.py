"""Whether some bytes are what they should be. Pure: text in, what is wrong with it out."""

from __future__ import annotations

import ast
import configparser
import json
import tomllib
from collections.abc import Callable
from typing import Final
from xml.parsers import expat

import yaml

from takeback.server.engine.checks.settings import Parser

_YAML: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C where there is one: the other takes a minute for some megabytes."""


def fault_of(parser: Parser, content: bytes) -> str | None:
    """What keeps the content from being that; `None` if it is that."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 (byte {error.start + 1})"
    try:
        return _PARSERS[parser](text)
    except RecursionError:
        return "it is nested too deeply to be parsed"


def _json(text: str) -> str | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"line {error.lineno}: {_lower(error.msg)}"
    return None


def _jsonl(text: str) -> str | None:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and (why := _json(line)) is not None:
            return f"line {number}: {why.partition(': ')[2]}"
    return None


def _toml(text: str) -> str | None:
    try:
        tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        return _lower(str(error))
    return None


def _yaml(text: str) -> str | None:
    try:
        for _ in yaml.parse(text, _YAML):  # the syntax alone: no aliases are followed, no values made
            pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return ("" if mark is None else f"line {mark.line + 1}: ") + (
            error.problem or error.context or "it is not YAML"
        )
    except yaml.YAMLError:
        return "it holds characters that YAML does not allow"
    return None


def _ini(text: str) -> str | None:
    try:
        configparser.ConfigParser(interpolation=None, strict=True, allow_no_value=True).read_string(text)
    except configparser.Error as error:
        return _lower(str(error).replace("\n", " ").replace("'<string>', ", "").replace("<string>", "it"))
    return None


class _Entity(Exception):
    """The document declares one."""


def _xml(text: str) -> str | None:
    def entity(name: str, *_: object) -> None:
        raise _Entity(name)

    parser = expat.ParserCreate("utf-8")  # the text has no other encoding any more, whatever its first line says
    parser.EntityDeclHandler = entity  # a few lines of entities can stand for gigabytes
    try:
        parser.Parse(text.encode("utf-8"), True)
    except expat.ExpatError as error:
        return f"line {error.lineno}: {expat.ErrorString(error.code)}"
    except _Entity as error:
        return f"it declares the entity {str(error)!r}, which is not allowed here"
    return None


def _python(text: str) -> str | None:
    try:
        ast.parse(text)
    except SyntaxError as error:
        return f"line {error.lineno}: {_lower(error.msg)}"
    except ValueError as error:  # a null byte
        return _lower(str(error))
    return None


def _any(text: str) -> str | None:
    return None


def _lower(text: str) -> str:
    return (text[:1].lower() + text[1:]).rstrip(".")


_PARSERS: Final[dict[Parser, Callable[[str], str | None]]] = {
    "json": _json,
    "jsonl": _jsonl,
    "toml": _toml,
    "yaml": _yaml,
    "ini": _ini,
    "xml": _xml,
    "python": _python,
    "utf-8": _any,
}
