"""The script itself: what it says, what it imports, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from takeback.server.cli.app import app, run


def takeback(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "takeback", *arguments], capture_output=True, text=True, timeout=60, cwd=cwd
    )


def imported_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_version_is_answered():
    assert takeback("--version").stdout == "takeback 0.1.0\n"
    assert json.loads(takeback("version", "--json").stdout) == {"version": "0.1.0"}


def test_serving_imports_no_terminal_libraries():
    modules = imported_by(
        "from takeback.server.cli.entry import main\n"
        "try: main(['serve', '--workspace', '/nonexistent'])\n"
        "except SystemExit as end: assert end.code == 2"
    )
    assert {"typer", "rich", "click", "hypothesis", "pytest"} & modules == set()


def test_looking_at_a_pipe_imports_no_rich(tmp_path: Path):
    modules = imported_by(
        "from takeback.server.cli.entry import main\n"
        f"try: main(['runs', '--data', {str(tmp_path / 'none')!r}])\n"
        "except SystemExit as end: assert end.code == 3"
    )
    assert "rich" not in modules


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["shw"],
        ["resolve", "x", "--keep", "mine"],
        ["rollback", "--frobnicate"],
        ["show"],
        ["runs", "--limit", "many"],
        ["serve"],
        ["serve", "--workspace", "/nonexistent/folder"],
        ["serve", "--frobnicate"],
        ["serve", "--data"],
        ["runs", "--config", "/nonexistent/config.toml"],
    ],
)
def test_a_command_that_cannot_be_understood_ends_with_2_and_one_piece_of_advice(arguments: list[str]):
    done = takeback(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert "Value error" not in done.stderr and "?." not in done.stderr


def test_a_data_directory_without_a_journal_is_not_found(tmp_path: Path):
    done = takeback("runs", "--data", str(tmp_path / "none"))
    assert done.returncode == 3
    assert "There is no journal" in done.stderr
    assert not (tmp_path / "none").exists()


def test_with_json_an_error_is_json_too(tmp_path: Path):
    done = takeback("runs", "--json", "--data", str(tmp_path / "none"))
    assert json.loads(done.stdout)["error"]["code"] == "not_found"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "name",
    [
        "serve",
        "demo",
        "runs",
        "show",
        "diff",
        "checkpoints",
        "rollback",
        "redo",
        "resume",
        "versions",
        "conflicts",
        "resolve",
        "approvals",
        "approve",
        "deny",
        "contain",
        "release",
        "contained",
        "verify",
        "gc",
        "export",
        "stats",
        "doctor",
        "version",
    ],
)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]):
    assert run([name, "--help"]) == 0
    assert "--help" in capsys.readouterr().out


def everything(command: Any, path: str = "takeback") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from everything(each, f"{path} {name}")


def test_no_help_has_a_hole_in_it():
    # help is markup: what stands in brackets is taken for a style and left out
    texts = [
        (path, str(text))
        for path, command in everything(typer.main.get_command(app))
        for text in (command.help, *(each for p in command.params for each in (getattr(p, "help", ""), p.metavar)))
    ]
    assert len(texts) > 300
    assert not [(path, text) for path, text in texts if "[" in text]


@pytest.mark.parametrize("name", ["new", "check"])
def test_every_tool_command_has_help(name: str, capsys: pytest.CaptureFixture[str]):
    assert run(["tool", name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_every_command_but_serve_takes_the_same_options(capsys: pytest.CaptureFixture[str]):
    for command in app.registered_commands:
        run([command.name or "", "--help"])
        shown = capsys.readouterr().out
        assert "--data" in shown
        assert "--config" in shown
        assert ("--json" in shown) == (command.name != "serve")
