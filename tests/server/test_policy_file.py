"""The policy file: read whole, or refused with the place of the mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from takeback.server.policy_file import MOST_BYTES, read_policy
from takeback.server.settings import SettingsError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


def test_a_file_is_read(file: Path) -> None:
    file.write_text(
        "version: 1\n"
        "rules:\n"
        "  - id: at-night\n"
        "    when: {hours: {from: 22:00, to: 06:30}, objects: ['*.md']}\n"
        "    then: ask\n"
    )
    [rule] = read_policy(file).rules
    assert rule.id == "at-night"
    assert rule.when.hours is not None
    assert (rule.when.hours.start.hour, rule.when.hours.end.minute) == (22, 30), "08:30 is no number in base sixty"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 1\nrules:\n  - id: a\n    then: [\n", "line 5"),
        ("version: 1\nversion: 1\n", "line 2: the key 'version' stands there twice"),
        ("version: 1\nrules: &a [*a]\n", "aliases are not allowed"),
        ("version: 2\n", "version"),
        ("rules: []\n", "version"),
        ("", "dictionary"),
        ("- 1\n", "dictionary"),
        ("version: 1\nrules:\n  - id: a\n    then: maybe\n", "rule 'a': then"),
        ("version: 1\nrules:\n  - then: deny\n", "rule 1: id"),
        ("version: 1\nrules:\n  - 7\n", "rule 1"),
        ("version: 1\nrules:\n  - {id: a, then: deny, wen: {}}\n", "rule 'a': wen"),
        ("version: 1\nrules: !!python/object/apply:os.system ['true']\n", "line 2"),
        ("version: 1\nrules: " + "[" * 5000 + "\n", "nested too deeply"),
        ("version: 1\x00", "characters"),
    ],
)
def test_a_mistake_is_told_with_its_place(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_policy(file)
    assert words in refused.value.message
    assert refused.value.advice


def test_a_file_that_cannot_be_read_is_refused(file: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_policy(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        read_policy(file)
    file.write_text("#" * (MOST_BYTES + 1))
    with pytest.raises(SettingsError, match="larger than"):
        read_policy(file)
