"""What the pages state about settings, codes, commands and clients is what the program has."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from takeback.server.cli.app import app
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.serve import TAKEN
from takeback.server.engine.policy_rules import When
from takeback.server.policy_file import read_policy
from takeback.server.settings import load
from takeback.tools.database.sqlite.guard import KINDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def rows(page: Path, heading: str) -> list[list[str]]:
    section = page.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines[1:]]


def test_every_setting_is_described_and_no_other():
    described = {row[0].strip("`") for row in rows(ROOT / "docs" / "configuration.md", "Settings")}
    assert described == set(load(environment={}).origins)


def test_every_exit_code_is_described_and_no_other():
    described = {int(row[0]): row[1] for row in rows(ROOT / "docs" / "configuration.md", "Exit codes")}
    assert described == {code.value: code.name.lower() for code in ExitCode}


def test_the_configuration_on_the_page_is_accepted(tmp_path: Path):
    [text] = blocks(ROOT / "docs" / "configuration.md", "toml")
    assert tomllib.loads(text)
    (tmp_path / "config.toml").write_text(text)
    assert load(tmp_path / "config.toml", environment={}).settings.limits.keep_days == 90


def test_the_policy_on_the_page_is_accepted(tmp_path: Path):
    decided: list[list[str]] = []
    for text in blocks(ROOT / "docs" / "policy.md", "yaml"):
        (tmp_path / "policy.yaml").write_text(text)
        decided.append([rule.then for rule in read_policy(tmp_path / "policy.yaml").rules])
    assert decided == [["deny", "ask", "ask", "allow"], ["ask"]]


def test_every_condition_of_a_rule_is_on_the_page_and_no_other():
    named = [
        name
        for row in rows(ROOT / "docs" / "policy.md", "How a rule is read")
        for name in re.findall(r"^`(\w+)`|, `(\w+)`", row[0])
    ]
    told = {one or other for one, other in named}
    assert told - {"allow", "ask", "deny", "shadow"} == set(When.model_fields)


def test_the_configuration_of_every_client_starts_the_server_with_options_it_has():
    shown = [json.loads(block) for block in blocks(ROOT / "docs" / "install.md", "json")]
    assert len(shown) == 2
    for configuration in shown:
        [servers] = configuration.values()
        server = servers["takeback"]
        assert server["command"] == "takeback"
        assert server["args"][0] == "serve"
        assert set(server["args"][1::2]) <= set(TAKEN)


def commands() -> set[str]:
    names = {command.name or "" for command in app.registered_commands}
    return names | {group.name or "" for group in app.registered_groups}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_that_a_page_names_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:^\$? ?|`|-- |-u takeback )takeback ([a-z]+)", text, re.M)
    assert set(named) - commands() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Path):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        path = (page.parent / file) if file else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_command_of_the_program_is_in_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert {name for name in commands() - {"version"} if f"`{name}" not in text} == set()


def test_the_shell_lines_of_the_pages_can_be_split_into_words():
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                assert shlex.split(line, comments=True)


def test_the_readme_can_be_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def test_the_kinds_of_statements_are_those_that_sqlites_guard_knows():
    words = {"rows": "row by row", "database": "as a whole", "refused": "refused"}
    told = rows(ROOT / "docs" / "sqlite.md", "What is put back, and how")
    assert told == [[kind, words[tier], why] for kind, tier, why in KINDS]
