"""The bundle for Claude Desktop: valid, made from the wheel, and a server as soon as it is unpacked."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.install.conftest import ROOT, Installers, spoken_to
from tests.node import programs

PACKAGING = ROOT / "packaging"


@pytest.fixture(scope="module")
def bundle(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [make(wheel, tmp_path_factory.mktemp("bundle")) for _ in range(2)]
    assert made[0].read_bytes() == made[1].read_bytes(), "the same wheel gives the same bytes"
    return made[0]


@pytest.fixture
def unpacked(bundle: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    zipfile.ZipFile(bundle).extractall(folder)
    return folder


def make(wheel: Path, out: Path) -> Path:
    command = [sys.executable, str(PACKAGING / "bundle.py"), "--wheel", str(wheel), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    [found] = out.glob("*.mcpb")
    assert done.stdout.splitlines()[0] == str(found)
    return found


def started(folder: Path, site: Path) -> list[str]:
    """The arguments as Claude Desktop fills them in: folders as words of their own, an empty setting as nothing."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    words: list[str] = []
    for word in manifest["server"]["mcp_config"]["args"]:
        if word == "${user_config.folders}":
            words.append(str(site))
        else:
            words.append(word.replace("${__dirname}", str(folder)).replace("${user_config.data}", ""))
    return words


def test_the_official_tool_accepts_it_and_packs_what_it_unpacked(bundle: Path, tmp_path: Path):
    npm = programs()
    environment = npm.environment(tmp_path / "home")

    def mcpb(*words: str) -> str:
        command = [npm.program("node"), npm.program("mcpb"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "passes" in mcpb("validate", str(PACKAGING / "manifest.json"))
    folder = tmp_path / "unpacked"
    mcpb("unpack", str(bundle), str(folder))
    assert "passes" in mcpb("validate", str(folder / "manifest.json"))
    mcpb("pack", str(folder), str(tmp_path / "again.mcpb"))
    with zipfile.ZipFile(bundle) as ours, zipfile.ZipFile(tmp_path / "again.mcpb") as theirs:
        ignored = {".mcpbignore"}
        assert set(theirs.namelist()) | ignored == set(ours.namelist())
        assert all(ours.read(name) == theirs.read(name) for name in theirs.namelist())


def test_it_holds_the_wheel_and_asks_for_the_versions_that_were_tested(unpacked: Path, wheel: Path):
    names = {path.relative_to(unpacked / "src").as_posix() for path in (unpacked / "src").rglob("*") if path.is_file()}
    assert names == {each for each in zipfile.ZipFile(wheel).namelist() if not each.endswith("/")} | {"main.py"}
    text = (unpacked / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["project"]["dependencies"]) == len(wanted["dependencies"])
    assert any(pin.startswith("mcp==") for pin in project["tool"]["uv"]["constraint-dependencies"])
    assert "://" not in text


async def test_unpacked_it_is_a_server(unpacked: Path, tmp_path: Path):
    site, home = tmp_path / "site", tmp_path / "home"
    site.mkdir()
    words = started(unpacked, site)
    assert words[:3] == ["run", "--directory", str(unpacked)]
    environment = {"HOME": str(home), "PATH": os.defpath}
    tools = await spoken_to(sys.executable, [str(unpacked / words[3]), *words[4:]], environment, site)
    assert {"write_file", "rollback_run"} <= tools


async def test_uv_starts_it_as_claude_desktop_does(unpacked: Path, tmp_path: Path, installers: Installers):
    site = tmp_path / "site"
    site.mkdir()
    uv = str(installers.programs / "uv")
    tools = await spoken_to(uv, started(unpacked, site), installers.environment, site)
    assert {"write_file", "rollback_run"} <= tools


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--data=", "/a"], ["serve", "--workspace", "/a"]),
        (["--data=${user_config.data}", "/a"], ["serve", "--workspace", "/a"]),
        (["--data=/d", "/a", "/b c"], ["serve", "--data", "/d", "--workspace", "/a", "--workspace", "/b c"]),
        (["--data=", "${user_config.folders}"], ["serve"]),
    ],
)
def test_what_the_client_fills_in_becomes_options(given: list[str], words: list[str]):
    assert runpy.run_path(str(PACKAGING / "main.py"))["options"](given) == words


def test_a_manifest_of_another_version_is_refused(wheel: Path, tmp_path: Path):
    for each in PACKAGING.iterdir():
        if each.is_file():
            (tmp_path / "packaging").mkdir(exist_ok=True)
            (tmp_path / "packaging" / each.name).write_bytes(each.read_bytes())
    manifest = tmp_path / "packaging" / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"version": "', '"version": "9'), "utf-8")
    command = [sys.executable, str(tmp_path / "packaging" / "bundle.py"), "--wheel", str(wheel), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Make them equal." in done.stderr
    assert not list(tmp_path.glob("*.mcpb"))
