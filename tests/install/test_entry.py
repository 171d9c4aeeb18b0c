"""How a client starts takeback: by absolute paths, whatever way it was installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from takeback.server.install.entry import entry, is_ours, launcher, requirement, workspaces_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="programs are made with POSIX modes")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_script_beside_the_interpreter_is_named_whole(tmp_path: Path):
    script = program(tmp_path / "bin" / "takeback")
    found = launcher(prefix=str(tmp_path), executable=str(tmp_path / "bin" / "python"), environment={"PATH": ""})
    assert (found.command, found.arguments, found.note) == (str(script), (), "")


def test_a_link_to_it_in_a_folder_of_programs_is_preferred_and_a_stranger_is_not(tmp_path: Path):
    script = program(tmp_path / "venvs" / "takeback" / "bin" / "takeback")
    link = tmp_path / "local" / "takeback"
    link.parent.mkdir()
    link.symlink_to(script)
    other = program(tmp_path / "other" / "takeback")
    python = str(script.with_name("python"))
    for first, wanted in ((link, link), (other, script)):
        found = launcher(prefix=str(tmp_path), executable=python, environment={"PATH": str(first.parent)})
        assert found.command == str(wanted)


def test_without_a_script_the_interpreter_runs_the_module(tmp_path: Path):
    found = launcher(prefix=str(tmp_path), executable=str(tmp_path / "bin" / "python"), environment={"PATH": ""})
    assert (found.command, found.arguments) == (str(tmp_path / "bin" / "python"), ("-m", "takeback"))


@pytest.mark.parametrize("folder", ["archive-v0", "environments-v2"])
def test_an_environment_of_uvx_is_not_named_because_it_does_not_last(tmp_path: Path, folder: str):
    prefix = tmp_path / "uv" / folder / "x1y2"
    program(prefix / "bin" / "takeback")
    uv = program(tmp_path / "uv-bin" / "uv")
    found = launcher(prefix=str(prefix), executable=str(prefix / "bin" / "python"), environment={"UV": str(uv)})
    assert found.command == str(uv)
    assert found.arguments == ("tool", "run", "--from", requirement(), "takeback")
    assert "uv tool install" in found.note


def test_an_environment_of_pipx_run_is_not_named_either_but_one_of_pipx_install_is(tmp_path: Path):
    pipx = program(tmp_path / "bin" / "pipx")
    variables = {"PATH": str(pipx.parent)}
    passing, lasting = tmp_path / "pipx" / ".cache" / "x1", tmp_path / "pipx" / "venvs" / "takeback"
    for prefix in (passing, lasting):
        program(prefix / "bin" / "takeback")
        (prefix / "pipx_metadata.json").write_text("{}")
    found = launcher(prefix=str(passing), executable=str(passing / "bin" / "python"), environment=variables)
    assert (found.command, found.arguments[:2]) == (str(pipx), ("run", "--spec"))
    found = launcher(prefix=str(lasting), executable=str(lasting / "bin" / "python"), environment=variables)
    assert found.command == str(lasting / "bin" / "takeback")


def test_this_installation_can_be_asked_for():
    assert requirement().startswith(("file:", "takeback"))
    assert os.path.isabs(launcher().command)
    assert sys.prefix


def test_an_entry_is_recognised_as_ours_and_tells_its_folders():
    found = launcher()
    for client in ("claude-desktop", "vscode"):
        written = entry(client, found, ["/a", "/b c"], data="/d")
        assert is_ours(written)
        assert workspaces_of(written) == ["/a", "/b c"]
        assert written["args"][-2:] == ["--data", "/d"]
        assert ("type" in written) == (client == "vscode")
    assert is_ours({"command": "C:\\tools\\takeback.exe", "args": ["serve"]})
    assert not is_ours({"command": "npx", "args": ["takeback-viewer", "serve"]})
    assert not is_ours(None)
