"""One member goes in or out, and no other byte of the file moves."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from takeback.server.install.jsonc import Unreadable, find, put, put_back, read, take

OURS = {"command": "/bin/takeback", "args": ["serve", "--workspace", "/site"]}

STRICT = [
    '{\n  "mcpServers": {\n    "a": {"command": "x"}\n  }\n}\n',
    '{\n\t"theme": "dark",\n\t"mcpServers": {\n\t\t"a": {\n\t\t\t"command": "x"\n\t\t}\n\t}\n}',
    '{"mcpServers": {"a": {"command": "x"}}, "z": 1.50}',
    '{\r\n    "mcpServers": {\r\n        "a": {}\r\n    },\r\n    "n": 1E3\r\n}\r\n',
    '\ufeff{\n  "mcpServers": {\n    "ü": {"command": "\\u00fc"}\n  }\n}',
    '{\n  "other": [1, 2, {"x": null}],\n  "mcpServers": {\n    "a": 1,\n\n    "b": 2\n  }\n}\n',
]
COMMENTED = [
    '// mine\n{\n  /* servers */\n  "mcpServers": {\n    // first\n    "a": {"command": "x"} // why\n  } // end\n}\n',
    '{\n  "mcpServers": {\n    "a": {"command": "x"}, // why\n    // "b": {}\n  },\n}\n',
    '{\n  "mcpServers": {\n    "a": "// no comment",\n    "b": "/* nor this */" /* but this */\n    // and this\n  }\n}\n',
    '{\n  "mcpServers": {\n    "a": 1\n    , "b": 2 /* over\n    lines */\n  }\n}\n',
]


def comments_of(text: str) -> list[str]:
    return list(filter(None, re.findall(r'"(?:[^"\\]|\\.)*"|(//[^\r\n]*|/\*.*?\*/)', text, re.S)))


def in_and_out(text: str, *, comments: bool) -> tuple[str, str]:
    within = put(text, ("mcpServers",), "takeback", OURS, comments=comments)
    return within, take(within, ("mcpServers",), "takeback", comments=comments)


@pytest.mark.parametrize(("text", "comments"), [(t, False) for t in STRICT] + [(t, True) for t in STRICT + COMMENTED])
def test_what_goes_in_comes_out_and_leaves_every_byte_as_it_was(text: str, comments: bool):
    within, without = in_and_out(text, comments=comments)
    assert without == text
    before, after = read(text, comments=comments).value, read(within, comments=comments).value
    assert after.pop("mcpServers") == before.pop("mcpServers") | {"takeback": OURS}
    assert after == before
    assert comments_of(within) == comments_of(text)


@pytest.mark.parametrize("text", [*STRICT, *COMMENTED])
def test_only_lines_are_added_but_for_a_comma(text: str):
    within, _ = in_and_out(text, comments=True)
    if "\n" in text:
        left = iter(line.rstrip("\r").rstrip(",") for line in within.split("\n"))
        assert all(
            line.replace(",", "").rstrip("\r") in (each.replace(",", "") for each in left) for line in text.split("\n")
        )
    assert ("\r\n" in text) == ("\r\n" in within)


def test_the_indentation_of_the_file_is_followed():
    within, _ = in_and_out(STRICT[1], comments=False)
    assert '\n\t\t"takeback": {\n\t\t\t"command": "/bin/takeback",\n\t\t\t"args": [\n\t\t\t\t"serve",' in within


@pytest.mark.parametrize(
    "text",
    ["{}", "{ }\n", "{\n}\n", '{"mcpServers": {}}', '{\n  "x": 1\n}\n', '{\n  "x": {},\n  "mcpServers": {\n  }\n}\n'],
)
def test_a_missing_place_is_made(text: str):
    within = put(text, ("mcpServers",), "takeback", OURS, comments=False)
    assert json.loads(within) == json.loads(text) | {"mcpServers": {"takeback": OURS}}


def test_a_comment_stays_with_the_server_that_it_stands_beside():
    within, _ = in_and_out(COMMENTED[0], comments=True)
    assert '"a": {"command": "x"}, // why\n    "takeback": {' in within


def test_an_object_with_nothing_but_comments_keeps_them():
    text = '{\n  "servers": {\n    // nothing yet\n  }\n}\n'
    within = put(text, ("servers",), "takeback", 1, comments=True)
    assert within == '{\n  "servers": {\n    // nothing yet\n    "takeback": 1\n  }\n}\n'
    assert take(within, ("servers",), "takeback", comments=True) == text


def test_a_value_is_exchanged_where_it_stands():
    text = '{"s": {"takeback": {"command": "old", "env": {"A": "1"}}, "b": 2}}'
    assert put(text, ("s", "takeback"), "command", "new", comments=False) == text.replace('"old"', '"new"')


@pytest.mark.parametrize("name", ["a", "b", "c"])
@pytest.mark.parametrize(
    "text", ['{"s": {"a": 1, "b": 2, "c": 3}}', '{\n  "s": {\n    "a": 1,\n    "b": 2,\n    "c": 3\n  }\n}\n']
)
def test_any_of_several_can_be_taken_out(text: str, name: str):
    without = take(text, ("s",), name, comments=False)
    assert json.loads(without)["s"] == {key: value for key, value in json.loads(text)["s"].items() if key != name}
    assert "\n\n" not in without
    assert "{ " not in without


def test_what_is_not_there_is_not_taken_out():
    assert take('{"s": {}}', ("s",), "takeback", comments=False) == '{"s": {}}'
    assert take('{"s": 1}', ("s",), "takeback", comments=False) == '{"s": 1}'


def test_what_was_taken_out_is_put_back_character_by_character_but_never_over_something():
    raw = '{ "command":"npx" }'
    assert (
        put_back('{"s": {"a": 1}}', ("s",), "fs", raw, comments=False) == '{"s": {"a": 1, "fs": { "command":"npx" }}}'
    )
    assert put_back('{"s": {"fs": 1}}', ("s",), "fs", raw, comments=False) == '{"s": {"fs": 1}}'
    assert json.loads(put_back("{}", ("s",), "fs", raw, comments=False)) == {"s": {"fs": {"command": "npx"}}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1, column 1: it ends too early"),
        ('{"a": 1', "ends too early"),
        ('{"a": 1} x', "something follows"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{\n  "a": tru\n}', "line 2, column 8: a value is missing"),
        ('{"a": 1,}', "a comma after the last"),
        ('{"a": 1 "b": 2}', "a comma or } is missing"),
        ('{// x\n"a": 1}', "line 1, column 2: there is a comment"),
        ("[1]", "holds no object"),
        ('{"a" 1}', "a colon is missing"),
        ("{'a': 1}", "a text in quotes is missing"),
        ('{"a": "\\x"}', "an escape that JSON does not know"),
        ('{"a": "two\nlines"}', "text in quotes"),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", "too deeply"),
        ('{"a": 01}', "a comma or } is missing"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, says: str):
    with pytest.raises(Unreadable, match=re.escape(says)):
        read(text, comments=False)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8),
       st.sampled_from([None, 2, "\t"]), st.booleans())  # fmt: skip
def test_any_configuration_reads_as_json_does_and_survives_the_way_there_and_back(value: Any, indent: Any, ascii: bool):
    text = json.dumps({"first": value, "mcpServers": {"other": value}}, indent=indent, ensure_ascii=ascii)
    assert read(text, comments=False).value == json.loads(text)
    within, without = in_and_out(text, comments=False)
    assert without == text
    assert json.loads(within)["mcpServers"] == {"other": value, "takeback": OURS}


@given(st.text(alphabet='{}[],:"/* \n1a', max_size=30))
def test_nothing_is_read_that_json_does_not_allow(text: str):
    try:
        read(text, comments=False)
    except Unreadable:
        return
    assert isinstance(json.loads(text), dict)


def test_what_is_no_object_is_not_found():
    assert find(read('{"s": [1]}', comments=False), ("s",)) is None
