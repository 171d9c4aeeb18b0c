"""Where each client keeps its configuration, on each system."""

from __future__ import annotations

from pathlib import Path

import pytest

from takeback.server.install.clients import CLIENTS, KINDS, Client, Machine, Platform, config_path, project_path

ADA = {"linux": "/home/ada", "darwin": "/Users/ada", "win32": r"C:\Users\ada"}
ROAMING = {"APPDATA": r"C:\Users\ada\AppData\Roaming", "LOCALAPPDATA": r"C:\Users\ada\AppData\Local"}


@pytest.mark.parametrize(
    ("client", "platform", "path"),
    [
        ("claude-desktop", "linux", "/home/ada/.config/Claude/claude_desktop_config.json"),
        ("claude-desktop", "darwin", "/Users/ada/Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", r"C:\Users\ada\AppData\Roaming\Claude\claude_desktop_config.json"),
        ("claude-code", "linux", "/home/ada/.claude.json"),
        ("claude-code", "darwin", "/Users/ada/.claude.json"),
        ("claude-code", "win32", r"C:\Users\ada\.claude.json"),
        ("cursor", "linux", "/home/ada/.cursor/mcp.json"),
        ("cursor", "darwin", "/Users/ada/.cursor/mcp.json"),
        ("cursor", "win32", r"C:\Users\ada\.cursor\mcp.json"),
        ("vscode", "linux", "/home/ada/.config/Code/User/mcp.json"),
        ("vscode", "darwin", "/Users/ada/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "win32", r"C:\Users\ada\AppData\Roaming\Code\User\mcp.json"),
    ],
)
@pytest.mark.parametrize("with_variables", [True, False])
def test_every_client_has_its_place_on_every_system(
    client: Client, platform: Platform, path: str, with_variables: bool
):
    variables = ROAMING if platform == "win32" and with_variables else {}
    assert str(config_path(client, platform, ADA[platform], variables)) == path


@pytest.mark.parametrize(
    ("client", "platform", "variables", "path"),
    [
        ("claude-desktop", "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/Claude/claude_desktop_config.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/Code/User/mcp.json"),
        ("claude-code", "linux", {"CLAUDE_CONFIG_DIR": "/x"}, "/x/.claude.json"),
        ("vscode", "win32", {"APPDATA": r"D:\roaming"}, r"D:\roaming\Code\User\mcp.json"),
        ("vscode", "darwin", {"XDG_CONFIG_HOME": "/x"}, "/Users/ada/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": ""}, "/home/ada/.config/Code/User/mcp.json"),
    ],
)
def test_variables_that_move_configuration_are_honoured(
    client: Client, platform: Platform, variables: dict[str, str], path: str
):
    assert str(config_path(client, platform, ADA[platform], variables)) == path


@pytest.mark.parametrize("variables", [ROAMING, {}])
def test_a_packaged_claude_desktop_reads_a_file_of_its_own(variables: dict[str, str]):
    path = config_path("claude-desktop", "win32", ADA["win32"], variables, ["Claude_pzs8sxrjxfjjc"])
    assert str(path) == (
        r"C:\Users\ada\AppData\Local\Packages\Claude_pzs8sxrjxfjjc\LocalCache\Roaming\Claude\claude_desktop_config.json"
    )
    assert config_path("vscode", "win32", ADA["win32"], variables, ["Claude_pzs8sxrjxfjjc"]).parts[-3] == "Code"


def test_projects_have_a_file_of_their_own_but_for_claude_desktop():
    folder = Path("/site")
    assert {client: project_path(client, folder) for client in CLIENTS} == {
        "claude-desktop": None,
        "claude-code": folder / ".mcp.json",
        "cursor": folder / ".cursor" / "mcp.json",
        "vscode": folder / ".vscode" / "mcp.json",
    }


def test_every_client_is_described():
    assert set(KINDS) == set(CLIENTS)


def test_this_machine_is_one_of_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    here = Machine.here()
    assert here.platform in ADA
    assert here.home == str(tmp_path)
