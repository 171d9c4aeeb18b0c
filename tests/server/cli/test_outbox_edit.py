"""`takeback outbox edit`: with options, in an editor, and refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.server.cli.conftest import Desk

LETTER = (
    "send_email",
    {"to": ["bob@example.org"], "subject": "Teh report", "body": "It is out.\n", "hold_seconds": 3600},
)


@pytest.fixture
def message(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("takeback.server.cli.outbox.start_sender", lambda settings: None)
    desk.agent(LETTER)
    [row] = desk("outbox", "--json").json["messages"]
    return str(row["id"])


def editor(folder: Path, change: str) -> str:
    """A program that changes the file it is given."""
    script = folder / "editor.py"
    script.write_text(
        f"import pathlib, sys\nfile = pathlib.Path(sys.argv[1])\ntext = file.read_text()\n{change}\nfile.write_text(text)\n"
    )
    return f"{sys.executable} {script}"


def test_options_change_what_they_name_and_nothing_else(desk: Desk, message: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("It is out now.\n")
    words = ("--subject", "The report", "--cc", "carol@example.org", "--text-file", str(tmp_path / "text"), "--yes")
    edited = desk("outbox", "edit", message, *words)
    assert edited.code == 0, edited
    shown = desk("outbox", "show", message).out
    assert "To: bob@example.org, carol@example.org" in shown
    assert "Subject: The report" in shown
    assert "It is out now." in shown


def test_an_editor_gets_the_message_and_the_difference_is_asked_about(
    desk: Desk, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor(tmp_path, "text = text.replace('Teh', 'The')"))
    asked = desk("outbox", "edit", message)
    assert asked.code != 0
    assert "-Subject: Teh report" in asked.err
    assert "+Subject: The report" in asked.err
    assert desk("outbox", "--json").json["messages"][0]["subject"] == "Teh report"
    assert desk("outbox", "edit", message, "--yes").code == 0
    assert desk("outbox", "--json").json["messages"][0]["subject"] == "The report"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("text = text.replace('bob@example.org', 'bob')", "not one address"),
        ("raise SystemExit(3)", "$EDITOR"),
        ("", "Nothing was changed"),
    ],
    ids=["no address", "no editor", "as it was"],
)
def test_what_cannot_be_sent_or_was_not_changed_changes_nothing(
    desk: Desk, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, word: str
) -> None:
    monkeypatch.setenv("VISUAL", editor(tmp_path, change))
    answered = desk("outbox", "edit", message, "--yes")
    assert word in answered.out + answered.err
    [row] = desk("outbox", "--json").json["messages"]
    assert (row["subject"], row["recipients"]) == ("Teh report", ["bob@example.org"])
    assert "edited" not in row
