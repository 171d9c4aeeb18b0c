"""A person holds back what goes wrong, in words that say what is meant, and lets it go again."""

from __future__ import annotations

import pytest
from tests.server.cli.conftest import AGENT, Desk

WRITE = ("write_file", {"path": "a.txt", "content": "a\n"})


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        ("--tool", "write_file"),
        ("--tool", "files"),
        ("--system", "files"),
        ("--system", "./a.txt"),
        ("--principal", ""),
    ],
)
def test_what_is_named_is_held_until_it_is_let_go(desk: Desk, scope: str, name: str) -> None:
    desk.agent()
    name = name or AGENT.principal
    told = desk("contain", scope, name, "--reason", "odd", "--json")
    assert told.code == 0 and told.json["reason"] == "odd"
    desk.again(WRITE)
    assert desk.answers[-1].status == "denied" and not (desk.site / "a.txt").exists()
    held = desk("contained")
    assert held.code == 1 and f"takeback release {scope}" in held.out
    assert "odd" in desk("doctor").out
    assert desk("release", scope, name).code == 0
    desk.again(WRITE)
    assert desk.answers[-1].status == "applied" and desk("contained").out == "Nothing is contained.\n"
    assert desk("release", scope, name).code == 4


def test_contained_runs_are_listed_with_their_reason(desk: Desk) -> None:
    run = desk.agent(WRITE, goal="Tidy up")
    assert desk("contain", run, "--reason", "it deletes the wrong things", "--quarantine").code == 0
    held = desk("contained")
    assert held.code == 1 and run in held.out and "it deletes the wrong things" in held.out
    assert desk("contained", "--json").json["runs"][0]["status"] == "quarantined"


@pytest.mark.parametrize("words", [(), ("RUN", "--tool", "files"), ("--tool", "files", "--system", "files")])
def test_exactly_one_thing_has_to_be_named(desk: Desk, words: tuple[str, ...]) -> None:
    desk.agent(WRITE)
    answered = desk("contain", *words, "--reason", "odd")
    assert answered.code == 2 and "Exactly one of" in answered.err
    assert desk("release", *words).code == 2


def test_a_tool_that_there_is_not_is_no_hold(desk: Desk) -> None:
    desk.agent(WRITE)
    assert desk("contain", "--tool", "write_fiel", "--reason", "odd").code == 3
    assert desk("contained").code == 0
