"""The defaults that the page on guarding names are those that hold."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from takeback.server.engine.checks.settings import CheckSettings, OnFail, Parser
from takeback.server.engine.triggers.settings import Answer, TriggerSettings
from takeback.server.settings import load

PAGE = (Path(__file__).parents[2] / "docs" / "guarding.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in section.splitlines() if line[:2] == "| "]


def test_the_table_of_triggers_tells_every_default() -> None:
    told: dict[str, list[str]] = {}
    answers: dict[str, str] = {}
    name = ""
    for first, _, default, answer in (row for row in rows("Triggers") if len(row) == 4 and row[0] != "trigger"):
        name = first.strip("`") or name
        told.setdefault(name, []).extend(re.findall(r"\d+", default))
        answers.setdefault(name, answer)
    assert list(told) == list(TriggerSettings.model_fields)
    for name in told:
        settings = getattr(TriggerSettings(), name)
        numbers = [
            f"{value:g}" if isinstance(value, float) else str(value)
            for value in settings.model_dump().values()
            if isinstance(value, int | float)
        ]
        assert (told[name], answers[name]) == (numbers, settings.answer), name


def test_every_answer_and_outcome_is_told() -> None:
    assert [row[0].strip("`") for row in rows("Triggers") if len(row) == 2 and row[0] != "answer"] == list(
        Answer.__args__
    )
    assert [row[0].strip("`") for row in rows("Checks") if row[0] != "`on_fail`"] == list(OnFail.__args__)
    assert ", ".join(Parser.__args__) in PAGE


def test_the_configurations_on_the_page_are_accepted(tmp_path: Path) -> None:
    for number, text in enumerate(re.findall(r"^```toml\n(.*?)^```", PAGE, re.S | re.M)):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        assert tomllib.loads(text) and load(file, environment={}).settings
        assert all(isinstance(check, CheckSettings) for check in load(file, environment={}).settings.checks)
