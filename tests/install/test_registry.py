"""What the registry of MCP servers is told, and that every place tells the same version."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from jsonschema import Draft7Validator, ValidationError
from tests.install.conftest import ROOT

from takeback.server.cli.serve import TAKEN

SERVER: dict[str, Any] = json.loads((ROOT / "packaging" / "server.json").read_text(encoding="utf-8"))
MANIFEST: dict[str, Any] = json.loads((ROOT / "packaging" / "manifest.json").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

VERSION = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^(?!latest$)[^\^~<>=*|x ]+$"}
INPUT = {
    "description": {"type": "string"},
    "format": {"enum": ["string", "number", "boolean", "filepath"]},
    "isRequired": {"type": "boolean"},
    "isRepeated": {"type": "boolean"},
    "value": {"type": "string"},
    "type": {"enum": ["named", "positional"]},
    "name": {"type": "string", "pattern": "^--"},
    "valueHint": {"type": "string"},
}
RULES = Draft7Validator(
    {
        "type": "object",
        "required": ["$schema", "name", "description", "version", "packages"],
        "additionalProperties": False,
        "properties": {
            "$schema": {"const": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"},
            "name": {"type": "string", "minLength": 3, "maxLength": 200, "pattern": "^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"},
            "title": {"type": "string", "minLength": 1, "maxLength": 100},
            "description": {"type": "string", "minLength": 1, "maxLength": 100},
            "version": VERSION,
            "repository": {
                "type": "object",
                "required": ["url", "source"],
                "properties": {"url": {"type": "string", "pattern": "^https://"}, "source": {"type": "string"}},
            },
            "packages": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["registryType", "identifier", "version", "transport"],
                    "additionalProperties": False,
                    "properties": {
                        "registryType": {"enum": ["pypi", "mcpb"]},
                        "identifier": {"type": "string"},
                        "version": VERSION,
                        "runtimeHint": {"enum": ["uvx"]},
                        "transport": {
                            "type": "object",
                            "required": ["type"],
                            "properties": {"type": {"const": "stdio"}},
                        },
                        "fileSha256": {"type": "string", "pattern": "^[a-f0-9]{64}$"},
                        "packageArguments": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["type"],
                                "additionalProperties": False,
                                "properties": INPUT,
                                "if": {"properties": {"type": {"const": "named"}}},
                                "then": {"required": ["name"]},
                                "else": {"anyOf": [{"required": ["value"]}, {"required": ["valueHint"]}]},
                            },
                        },
                    },
                },
            },
        },
    }
)


def test_the_registry_accepts_the_entry():
    RULES.validate(SERVER)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "takeback"},
        {"description": "x" * 101},
        {"version": "latest"},
        {"version": ">=1"},
        {"packages": []},
        {"more": 1},
        {"$schema": "https://static.modelcontextprotocol.io/schemas/2025-07-09/server.schema.json"},
    ],
)
def test_what_the_registry_refuses_is_found_here(change: dict[str, Any]):
    with pytest.raises(ValidationError):
        RULES.validate(SERVER | change)


def test_every_place_tells_the_same_version():
    told = {MANIFEST["version"], SERVER["version"], *(package["version"] for package in SERVER["packages"])}
    assert told == {PROJECT["version"]}


def test_every_place_tells_the_same_licence_and_python():
    assert MANIFEST["license"] == PROJECT["license"]
    assert MANIFEST["compatibility"]["runtimes"]["python"].split()[0] == PROJECT["requires-python"]


def test_the_package_says_whose_it_is():
    assert PROJECT["readme"] == "README.md"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^<!-- mcp-name: (\S+) -->$", readme, re.M) == [SERVER["name"]]


def test_the_command_that_the_registry_tells_of_has_these_options():
    [package] = SERVER["packages"]
    first, *rest = package["packageArguments"]
    assert (package["identifier"], first["value"]) == (PROJECT["name"], "serve")
    assert {argument["name"] for argument in rest} <= set(TAKEN)
