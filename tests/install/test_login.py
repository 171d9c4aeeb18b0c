"""The sender at login: the file that each system reads, written and taken out again as a client's configuration is."""

from __future__ import annotations

import os
import plistlib
import shlex
from pathlib import Path

import pytest
from tests.install.conftest import Desk

from takeback.server.install.login import autostart

WORDS = ["/opt/ta ke/takeback", "outbox", "run", "--data", '/home/ä "x" $HOME 50%/d']


def test_systemd_is_told_the_very_words_of_the_command():
    start = autostart("linux", "/home/ada", {}, WORDS, "/log")
    assert str(start.path) == "/home/ada/.config/systemd/user/takeback-sender.service"
    assert str(start.link) == "/home/ada/.config/systemd/user/default.target.wants/takeback-sender.service"
    [line] = [line for line in start.text.splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(line.removeprefix("ExecStart="))
    assert [word.replace("%%", "%").replace("$$", "$") for word in words] == WORDS
    assert "WantedBy=default.target" in start.text
    moved = autostart("linux", "/home/ada", {"XDG_CONFIG_HOME": "/etc/ada"}, WORDS, "/log")
    assert str(moved.path).startswith("/etc/ada/systemd/user/")


def test_launchd_is_told_the_very_words_of_the_command():
    start = autostart("darwin", "/Users/ada", {}, WORDS, "/log")
    assert str(start.path) == "/Users/ada/Library/LaunchAgents/io.github.takeback.sender.plist"
    agent = plistlib.loads(start.text.encode())
    assert (agent["ProgramArguments"], agent["RunAtLoad"], agent["StandardErrorPath"]) == (WORDS, True, "/log")


def test_windows_starts_it_in_the_background():
    words = ["C:\\Users\\ada\\takeback.exe", "outbox", "run", "--data", "D:\\50%\\d"]
    start = autostart("win32", "C:\\Users\\ada", {}, words, "x")
    assert str(start.path).endswith("\\Start Menu\\Programs\\Startup\\takeback-sender.cmd")
    assert '@start "takeback" /min "C:\\Users\\ada\\takeback.exe" "outbox" "run" "--data" "D:\\50%%\\d"' in start.text
    assert start.text.isascii()


@pytest.fixture
def unit(desk: Desk) -> Path:
    return desk.home / ".config" / "systemd" / "user" / "takeback-sender.service"


pytestmark = pytest.mark.skipif(os.name != "posix", reason="the sender of this test machine is started by systemd")


def test_it_is_shown_then_written_and_switched_on_and_taken_out_without_a_trace(desk: Desk, unit: Path):
    before = sorted(desk.home.rglob("*"))
    planned = desk("sender", "--dry-run", "--json")
    assert (planned.code, planned.json["status"]) == (0, "planned")
    assert "+ExecStart=" in planned.json["diff"]
    assert sorted(desk.home.rglob("*")) == before
    done = desk("sender", "--yes", "--data", str(desk.home / "d a t a"), "--json")
    assert (done.code, done.json["status"], done.json["file"]) == (0, "installed", str(unit))
    assert f'"--data" "{desk.home}/d a t a"' in unit.read_text()
    link = unit.parent / "default.target.wants" / unit.name
    assert link.is_symlink()
    assert link.resolve() == unit.resolve()
    assert desk("sender", "--data", str(desk.home / "d a t a"), "--json").json["status"] == "unchanged"
    gone = desk("sender", "--remove", "--yes", "--json")
    assert (gone.code, gone.json["status"]) == (0, "removed")
    assert [path for path in sorted(desk.home.rglob("*")) if ".local" not in path.parts] == before
    assert desk("sender", "--remove", "--json").json["status"] == "unchanged"


def test_without_a_persons_consent_nothing_is_written(desk: Desk, unit: Path):
    assert desk("sender").code != 0
    assert not unit.exists()


def test_what_somebody_wrote_there_is_kept_beside(desk: Desk, unit: Path):
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/mine\n")
    told = desk("sender", "--yes", "--json").json
    assert Path(told["backup"]).read_text() == "[Service]\nExecStart=/bin/mine\n"
    assert desk("sender", "--remove", "--yes").code == 0
    assert unit.read_text() == "[Service]\nExecStart=/bin/mine\n"
    assert desk("sender", "--yes").code == 0
    unit.write_text(unit.read_text() + "# mine too\n")
    told = desk("sender", "--remove", "--yes", "--json").json
    assert Path(told["backup"]).read_text().endswith("# mine too\n")
    assert not unit.exists()


def test_a_sender_belongs_to_no_project(desk: Desk):
    assert desk("sender", "--project").code == 2
