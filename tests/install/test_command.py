"""Into a client's configuration and out of it, as a person does it."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.install.conftest import ROOT, Desk

from takeback.server.install.clients import Machine

FOREIGN = '{\n  "mcpServers": {\n    "github": {"command": "gh-mcp", "env": {"TOKEN": "s3cret"}}\n  },\n  "x": 1.0\n}\n'
WITH_FILES = """{
  "mcpServers": {
    "files": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/ada"],   "env": {"A": "1"}
    },
    "github": {"command": "gh-mcp"}
  }
}
"""
VSCODE = """{
  // what the team uses
  "servers": {
    "docs": {"type": "http", "url": "https://docs.example/mcp"}, // read only
  },
  "inputs": [],
}
"""
Says = Callable[[Sequence[str]], None]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def servers(path: Path, section: str = "mcpServers") -> dict[str, Any]:
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))[section]
    return held


def backups(path: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in sorted(path.parent.glob("*.bak"))}


@pytest.mark.parametrize("client", ["claude-desktop", "claude-code", "cursor", "vscode"])
def test_a_client_without_configuration_gets_one_and_loses_it_again(desk: Desk, client: str):
    before = desk.everything()
    done = desk.install(client, "--yes", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert told["status"] == "installed"
    [held] = json.loads(Path(told["file"]).read_text()).values()
    assert held == {"takeback": told["entry"]}
    assert os.path.isabs(told["entry"]["command"])
    assert told["entry"]["args"][-3:] == ["serve", "--workspace", str(desk.site)]
    gone = desk(client, "--remove", "--yes", "--json")
    assert (gone.code, gone.json["status"]) == (0, "removed")
    assert desk.everything() == before
    assert not Path(told["file"]).exists()


@pytest.mark.parametrize(
    ("client", "place"),
    [
        ("claude-desktop", "Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-code", ".claude.json"),
        ("cursor", ".cursor/mcp.json"),
        ("vscode", "Library/Application Support/Code/User/mcp.json"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="the places are those of macOS")
def test_the_places_of_macos_are_written_to_and_left_as_they_were(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, client: str, place: str
):
    here = replace(Machine.here(), platform="darwin")
    monkeypatch.setattr(Machine, "here", lambda: here)
    path = put(desk.home / place, FOREIGN)
    assert desk.install(client, "--yes").code == 0
    assert "takeback" in path.read_text() and list(backups(path).values()) == [FOREIGN]
    assert desk(client, "--remove", "--yes").code == 0
    assert path.read_text() == FOREIGN


@pytest.mark.parametrize(
    ("client", "place", "text"),
    [
        ("claude-desktop", ".config/Claude/claude_desktop_config.json", FOREIGN),
        ("claude-code", ".claude.json", FOREIGN.replace("\n", "\r\n")),
        ("cursor", ".cursor/mcp.json", FOREIGN.replace("  ", "\t")),
        ("cursor", ".cursor/mcp.json", ""),
        ("cursor", ".cursor/mcp.json", "{ }"),
        ("vscode", ".config/Code/User/mcp.json", VSCODE),
        ("vscode", ".config/Code/User/mcp.json", "// nothing yet\n{\n}\n"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the places are those of Linux")
def test_what_others_wrote_stays_and_comes_back_to_the_byte(desk: Desk, client: str, place: str, text: str):
    path = put(desk.home / place, text)
    assert desk.install(client, "--yes").code == 0
    written = path.read_bytes().decode()
    assert written != text
    for line in text.splitlines():
        assert line.strip("{} \t").rstrip(",") in written
    assert desk(client, "--remove", "--yes").code == 0
    assert path.read_bytes().decode() == text


def test_the_change_is_shown_before_anything_is_asked_or_written(desk: Desk, says: Says):
    put(desk.cursor, FOREIGN)
    says(["n"])
    done = desk.install("cursor")
    assert done.code == 4
    assert f"--- {desk.cursor}" in done.out
    assert '+    "takeback": {' in done.out
    assert "Write this into the configuration of Cursor? [y/N]" in done.err
    assert desk.cursor.read_text() == FOREIGN
    assert backups(desk.cursor) == {}
    says(["y"])
    assert desk.install("cursor").code == 0
    assert "takeback" in servers(desk.cursor)


def test_the_page_shows_what_the_command_shows(desk: Desk):
    [shown] = re.findall(r"```diff\n(.*?)```", (ROOT / "docs" / "install.md").read_text(encoding="utf-8"), re.S)
    put(desk.cursor, '{\n  "mcpServers": {\n    "github": {"command": "github-mcp"}\n  }\n}\n')
    told = desk.install("cursor", "--dry-run", "--json").json
    diff = told["diff"].replace(told["entry"]["command"], "/home/ada/.local/bin/takeback")
    assert diff.replace(str(desk.site), "/home/ada/site").replace(str(desk.home), "~") == shown.rstrip("\n")


def test_without_anybody_to_ask_nothing_is_written(desk: Desk):
    done = desk.install("cursor")
    assert (done.code, desk.cursor.exists()) == (4, False)
    assert "Add --yes." in done.err


def test_a_dry_run_shows_the_change_and_leaves_no_trace(desk: Desk):
    put(desk.cursor, FOREIGN)
    before = desk.everything()
    done = desk.install("cursor", "--dry-run")
    assert done.code == 0
    assert '+    "takeback": {' in done.out
    assert desk.everything() == before
    assert not (desk.home / ".local").exists()
    assert desk("cursor", "--remove", "--dry-run").code == 0
    assert desk.everything() == before


def test_a_second_time_changes_nothing_and_keeps_no_second_copy(desk: Desk):
    put(desk.cursor, FOREIGN)
    desk.install("cursor", "--yes")
    before = desk.everything()
    again = desk.install("cursor", "--json")
    assert (again.code, again.json["status"]) == (0, "unchanged")
    assert desk.everything() == before


def test_an_older_copy_is_never_overwritten(desk: Desk):
    put(desk.cursor, FOREIGN)
    put(desk.cursor.with_name("mcp.json.takeback-1.bak"), "precious")
    done = desk.install("cursor", "--yes", "--json")
    assert done.json["backup"] == str(desk.cursor.with_name("mcp.json.takeback-2.bak"))
    assert backups(desk.cursor) == {"mcp.json.takeback-1.bak": "precious", "mcp.json.takeback-2.bak": FOREIGN}


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_mode_and_link_of_the_file_stay_and_the_copy_is_no_more_readable(desk: Desk):
    real = put(desk.home / "dotfiles" / "cursor.json", FOREIGN)
    real.chmod(0o640)
    desk.cursor.parent.mkdir()
    desk.cursor.symlink_to(real)
    assert desk.install("cursor", "--yes").code == 0
    assert desk.cursor.is_symlink()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in real.parent.iterdir()}
    assert modes == {"cursor.json": 0o640, "cursor.json.takeback-1.bak": 0o640}
    [record] = (desk.home / ".local" / "state" / "takeback" / "clients").iterdir()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_has_the_mode_that_the_user_s_files_have(desk: Desk, mask: int):
    before = os.umask(mask)
    try:
        desk.install("cursor", "--yes")
    finally:
        os.umask(before)
    assert stat.S_IMODE(desk.cursor.stat().st_mode) == 0o666 & ~mask


def test_other_folders_replace_the_entry_and_removing_still_leads_back_to_the_byte(desk: Desk):
    put(desk.cursor, FOREIGN)
    desk.install("cursor", "--yes")
    other = desk.home / "notes"
    other.mkdir()
    done = desk.install("cursor", "--workspace", str(other), "--data", "data", "--yes")
    assert done.code == 0
    assert servers(desk.cursor)["takeback"]["args"][-6:] == [
        "--workspace", str(desk.site), "--workspace", str(other), "--data", str(desk.site / "data"),
    ]  # fmt: skip
    desk("cursor", "--remove", "--yes")
    assert desk.cursor.read_text() == FOREIGN


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_configuration_made_for_us_goes_however_often_it_was_changed(desk: Desk, rewritten: bool):
    for words in ([], ["--data", "one"], ["--data", "two"]):
        assert desk.install("cursor", *words, "--yes").code == 0
    if rewritten:
        desk.cursor.write_text(json.dumps(json.loads(desk.cursor.read_text())))
    assert desk("cursor", "--remove", "--yes").code == 0
    assert not desk.cursor.exists()
    assert desk.cursor.parent.exists() == rewritten, "only a copy of what somebody else wrote keeps the folder"


def test_what_a_person_added_to_the_entry_stays_when_it_is_changed(desk: Desk):
    desk.install("cursor", "--yes")
    held = json.loads(desk.cursor.read_text())
    held["mcpServers"]["takeback"]["env"] = {"LANG": "C"}
    desk.cursor.write_text(json.dumps(held))
    assert desk.install("cursor", "--data", "data", "--yes").code == 0
    entry = servers(desk.cursor)["takeback"]
    assert entry["env"] == {"LANG": "C"}
    assert entry["args"][-2] == "--data"


def test_what_somebody_wrote_since_stays_when_ours_is_taken_out(desk: Desk):
    put(desk.cursor, FOREIGN)
    desk.install("cursor", "--yes")
    edited = desk.cursor.read_text().replace('"x": 1.0', '"x": 2.0, "theirs": [1]')
    desk.cursor.write_text(edited)
    done = desk("cursor", "--remove", "--yes", "--json")
    assert desk.cursor.read_text() == FOREIGN.replace('"x": 1.0', '"x": 2.0, "theirs": [1]')
    assert Path(done.json["backup"]).read_text() == edited


def test_a_configuration_made_for_us_goes_even_if_the_client_wrote_it_anew(desk: Desk):
    desk.install("cursor", "--yes")
    desk.cursor.write_text(json.dumps(json.loads(desk.cursor.read_text())))
    assert desk("cursor", "--remove", "--yes").code == 0
    assert not desk.cursor.exists()


def test_an_entry_written_by_hand_is_taken_out_too(desk: Desk):
    put(desk.cursor, '{"mcpServers": {"a": {}, "takeback": {"command": "takeback", "args": ["serve"]}}}')
    assert desk("cursor", "--remove", "--yes").code == 0
    assert desk.cursor.read_text() == '{"mcpServers": {"a": {}}}'
    desk.cursor.write_text('{"mcpServers": {"a": {}, "takeback": {"command": "takeback", "args": ["serve"]}}}')
    desk.install("cursor", "--yes")
    desk("cursor", "--remove", "--yes")
    assert desk.cursor.read_text() == '{"mcpServers": {"a": {}}}'


def test_removing_what_is_not_there_is_no_error_and_changes_nothing(desk: Desk):
    assert desk("cursor", "--remove", "--yes").code == 0
    put(desk.cursor, FOREIGN)
    before = desk.everything()
    assert desk("cursor", "--remove", "--yes").code == 0
    assert desk.everything() == before


@pytest.mark.parametrize(
    ("client", "text", "says_so"),
    [
        ("cursor", '{"mcpServers": ', "line 1, column 16: it ends too early"),
        ("cursor", "[]", "it holds no object"),
        ("cursor", '{"mcpServers": []}', "'mcpServers' in"),
        ("cursor", '{"a": 1, "a": 2}', "'a' is there twice"),
        ("claude-code", '{\n  // mine\n  "mcpServers": {}\n}', "line 2, column 3: there is a comment"),
        ("vscode", '{"servers": {"a": }}', "a value is missing"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the places are those of Linux")
def test_what_cannot_be_read_is_refused_and_not_touched(desk: Desk, client: str, text: str, says_so: str):
    place = {"cursor": ".cursor/mcp.json", "claude-code": ".claude.json", "vscode": ".config/Code/User/mcp.json"}
    put(desk.home / place[client], text)
    before = desk.everything()
    for words in (["--workspace", str(desk.site), "--yes"], ["--remove", "--yes"]):
        done = desk(client, *words)
        assert done.code == 4
        assert says_so in done.err
        assert "not touched" in done.err
        assert "Traceback" not in done.err
    assert desk.everything() == before
    assert "unreadable" in desk().out


def test_what_is_not_utf8_is_refused_and_not_touched(desk: Desk):
    desk.cursor.parent.mkdir()
    desk.cursor.write_bytes('{"mcpServers": {}}'.encode("utf-16"))
    before = desk.everything()
    assert desk.install("cursor", "--yes").code == 4
    assert desk.everything() == before


def test_a_file_that_changes_between_the_question_and_the_answer_is_not_overwritten(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    put(desk.cursor, FOREIGN)

    class SlowPerson:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            desk.cursor.write_text('{"mcpServers": {"new": {}}}')
            return "y\n"

    monkeypatch.setattr("sys.stdin", SlowPerson())
    done = desk.install("cursor")
    assert done.code == 4
    assert "changed just now by somebody else" in done.err
    assert servers(desk.cursor) == {"new": {}}
    assert not list((desk.home / ".local" / "state" / "takeback" / "clients").iterdir())


def test_another_file_server_is_noticed_and_switched_off_if_one_says_so(desk: Desk, says: Says):
    put(desk.cursor, WITH_FILES)
    says(["y", "y"])
    done = desk.install("cursor")
    assert done.code == 0
    assert "files (@modelcontextprotocol/server-filesystem) in Cursor also writes files" in done.out
    assert "Switch files off?" in done.err
    assert set(servers(desk.cursor)) == {"github", "takeback"}
    back = desk("cursor", "--remove", "--yes")
    assert "On again: files." in back.out
    assert desk.cursor.read_text() == WITH_FILES


def test_another_file_server_stays_unless_one_says_so(desk: Desk, says: Says):
    put(desk.cursor, WITH_FILES)
    says(["n", "y"])
    assert desk.install("cursor").code == 0
    assert set(servers(desk.cursor)) == {"files", "github", "takeback"}
    told = desk.install("cursor", "--yes", "--json")
    assert told.json["other_file_servers"] == {"files": "@modelcontextprotocol/server-filesystem"}
    assert told.json["switched_off"] == []
    assert desk.install("cursor", "--yes", "--switch-off").code == 0
    assert set(servers(desk.cursor)) == {"github", "takeback"}
    desk("cursor", "--remove", "--yes")
    assert desk.cursor.read_text() == WITH_FILES


def test_what_was_switched_off_comes_back_word_for_word_beside_what_was_written_since(desk: Desk):
    put(desk.cursor, WITH_FILES)
    desk.install("cursor", "--yes", "--switch-off")
    desk.cursor.write_text(desk.cursor.read_text().replace('"gh-mcp"', '"gh-mcp-2"'))
    desk("cursor", "--remove", "--yes")
    raw = WITH_FILES[WITH_FILES.index('{\n      "command"') : WITH_FILES.index(",\n    " + '"github"')]
    assert f'"files": {raw}' in desk.cursor.read_text()
    assert servers(desk.cursor)["github"] == {"command": "gh-mcp-2"}
    assert "takeback" not in servers(desk.cursor)


def test_what_was_switched_off_the_first_time_comes_back_after_a_second(desk: Desk):
    put(desk.cursor, WITH_FILES)
    desk.install("cursor", "--yes", "--switch-off")
    desk.install("cursor", "--data", "data", "--yes")
    desk.cursor.write_text(desk.cursor.read_text().replace('"gh-mcp"', '"gh-mcp-2"'))
    desk("cursor", "--remove", "--yes")
    assert set(servers(desk.cursor)) == {"files", "github"}


def test_a_server_that_somebody_set_up_anew_is_not_replaced_by_the_one_that_was_switched_off(desk: Desk):
    put(desk.cursor, WITH_FILES)
    desk.install("cursor", "--yes", "--switch-off")
    held = json.loads(desk.cursor.read_text())
    held["mcpServers"]["files"] = {"command": "something-else"}
    desk.cursor.write_text(json.dumps(held))
    desk("cursor", "--remove", "--yes")
    assert servers(desk.cursor)["files"] == {"command": "something-else"}


def test_two_entries_in_one_file_come_and_go_in_any_order(desk: Desk):
    for order in (["one", "two"], ["two", "one"]):
        put(desk.cursor, FOREIGN)
        for name in ("one", "two"):
            assert desk.install("cursor", "--name", name, "--yes").code == 0
        assert {"one", "two"} <= set(servers(desk.cursor))
        for name in order:
            assert desk("cursor", "--name", name, "--remove", "--yes").code == 0
        assert desk.cursor.read_text() == FOREIGN


@pytest.mark.parametrize(
    ("client", "file", "section", "folder"),
    [
        ("claude-code", ".mcp.json", "mcpServers", None),
        ("cursor", ".cursor/mcp.json", "mcpServers", "${workspaceFolder}"),
        ("vscode", ".vscode/mcp.json", "servers", "${workspaceFolder}"),
    ],
)
def test_a_project_gets_its_own_configuration_for_its_own_folder(
    desk: Desk, client: str, file: str, section: str, folder: str | None
):
    assert desk(client, "--project", "--no-check", "--yes").code == 0
    entry = servers(desk.site / file, section)["takeback"]
    assert entry["args"][-2:] == ["--workspace", folder or str(desk.site)]
    assert "(project)" in desk().out
    assert desk(client, "--project", "--remove", "--yes").code == 0
    assert list(desk.site.iterdir()) == []


def test_folders_that_were_there_or_are_in_use_are_left(desk: Desk):
    (desk.site / ".vscode").mkdir()
    desk("vscode", "--project", "--no-check", "--yes")
    desk("vscode", "--project", "--remove", "--yes")
    assert (desk.site / ".vscode").is_dir()
    desk("cursor", "--project", "--no-check", "--yes")
    put(desk.site / ".cursor" / "rules", "mine")
    desk("cursor", "--project", "--remove", "--yes")
    assert [path.name for path in (desk.site / ".cursor").iterdir()] == ["rules"]


def test_a_configuration_that_lies_elsewhere_can_be_named(desk: Desk):
    file = desk.home / "insiders" / "mcp.json"
    assert desk.install("vscode", "--file", str(file), "--yes").code == 0
    assert "takeback" in servers(file, "servers")
    assert desk("vscode", "--file", str(file), "--remove", "--yes").code == 0
    assert not file.parent.exists()


def test_variables_of_this_shell_become_options_because_the_client_has_none(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    config = put(desk.home / "takeback.toml", "")
    monkeypatch.setenv("TAKEBACK_DATA", "data")
    monkeypatch.setenv("TAKEBACK_CONFIG", str(config))
    monkeypatch.setenv("TAKEBACK_LIMITS__KEEP_DAYS", "7")
    done = desk.install("cursor", "--yes")
    assert servers(desk.cursor)["takeback"]["args"][-4:] == ["--data", str(desk.site / "data"), "--config", str(config)]
    assert "The client will not know TAKEBACK_LIMITS__KEEP_DAYS of this shell" in done.out


@pytest.mark.parametrize(
    ("words", "says_so"),
    [
        (["emacs", "--workspace", "."], "does not know 'emacs'"),
        (["cursor"], "No workspace folder is named."),
        (["cursor", "--workspace", "nowhere"], "The workspace folder nowhere does not exist."),
        (["claude-desktop", "--project"], "Claude Desktop has no configuration of projects."),
        (["cursor", "--project", "--file", "x"], "exclude each other"),
        (["cursor", "--workspace", ".", "--name", "a b"], "'a b' is no name"),
        (["cursor", "--workspace", ".", "--config", "none.toml"], "none.toml"),
        (["--remove"], "No client is named."),
    ],
)
def test_what_cannot_be_meant_is_told_and_nothing_is_written(desk: Desk, words: list[str], says_so: str):
    done = desk(*words, "--yes")
    assert done.code == 2
    assert says_so in done.err
    assert desk.everything() == {}


def test_without_a_client_all_are_listed_with_their_state(desk: Desk):
    put(desk.cursor, WITH_FILES)
    (desk.home / ".claude").mkdir()
    desk.install("vscode", "--yes")
    told = {each["client"]: each for each in desk("--json").json["clients"]}
    assert {client: each["state"] for client, each in told.items()} == {
        "claude-desktop": "not found",
        "claude-code": "ready",
        "cursor": "ready",
        "vscode": "installed",
    }
    assert told["vscode"]["workspaces"] == [str(desk.site)]
    assert told["cursor"]["other_file_servers"] == ["files"]
    assert "takeback install CLIENT --workspace DIR" in desk().out


def test_extensions_of_claude_desktop_that_write_files_are_named(desk: Desk):
    folder = Path(desk.install("claude-desktop", "--yes", "--json").json["file"]).parent
    manifest = folder / "Claude Extensions" / "ant.dir.ant.anthropic.filesystem" / "manifest.json"
    put(manifest, json.dumps({"name": "filesystem", "display_name": "Filesystem"}))
    done = desk.install("claude-desktop", "--data", "data", "--yes")
    assert "The extension Filesystem of Claude Desktop also writes files" in done.out
    put(folder / "Claude Extensions Settings" / "ant.dir.ant.anthropic.filesystem.json", '{"isEnabled": false}')
    assert "Filesystem" not in desk.install("claude-desktop", "--yes").out


@pytest.mark.parametrize("words", [["--workspace", "."], ["--project"]])
def test_the_server_is_started_once_to_see_that_it_answers(desk: Desk, words: list[str]):
    done = desk("cursor", *words, "--yes")
    assert done.code == 0, done.err
    assert re.search(r"it starts and offers \d\d tools\.", done.out)
    again = desk("cursor", *words, "--json")
    assert (again.code, again.json["status"]) == (0, "unchanged")
    assert again.json["tools"] > 10


def test_a_server_that_does_not_start_is_told_with_what_it_said(desk: Desk):
    config = put(desk.home / "broken.toml", "[workspace]\nroofs = []\n")
    done = desk("cursor", "--workspace", ".", "--config", str(config), "--yes", "--json")
    assert done.code == 1
    assert done.json["status"] == "installed"
    assert "workspace.roofs, which is no setting" in done.json["error"]["message"]
    shown = desk("cursor", "--workspace", ".", "--config", str(config))
    assert shown.code == 1
    assert "Try it yourself: " in shown.out
