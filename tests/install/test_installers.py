"""From a wheel with the installers that people use, and from there into a client and running."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.install.conftest import Installers, spoken_to

HOME = "HOME"


def planned(told: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(told)
    assert answer["status"] == "planned"
    entry: dict[str, Any] = answer["entry"]
    return entry


async def test_uvx_runs_the_wheel_and_connects_a_client_to_it(wheel: Path, installers: Installers, tmp_path: Path):
    done = installers.run("uvx", "--from", str(wheel), "takeback", "--version")
    assert (done.returncode, done.stdout) == (0, "takeback 0.1.0\n"), done.stderr
    words = ["takeback", "install", "cursor", "--workspace", str(tmp_path), "--dry-run", "--json"]
    done = installers.run("uvx", "--from", str(wheel), *words)
    assert done.returncode == 0, done.stderr
    entry = planned(done.stdout)
    assert entry["command"] == str(installers.programs / "uv")
    assert entry["args"][:5] == ["tool", "run", "--from", wheel.as_uri(), "takeback"]
    tools = await spoken_to(entry["command"], entry["args"], installers.environment, tmp_path)
    assert "rollback_run" in tools


async def test_pipx_installs_the_wheel_and_a_client_starts_the_lasting_script(
    wheel: Path, installers: Installers, tmp_path: Path
):
    done = installers.run("pipx", "install", "--python", sys.executable, str(wheel))
    assert done.returncode == 0, done.stderr
    link = Path(installers.environment[HOME]) / ".local" / "bin" / "takeback"
    words = ["install", "cursor", "--workspace", str(tmp_path), "--dry-run", "--json"]
    script = Installers(link.parent, installers.environment)
    done = script.run("takeback", *words)
    assert done.returncode == 0, done.stderr
    entry = planned(done.stdout)
    assert entry["command"] == str(link)
    # as a client does: a small PATH, and nothing of the shell's
    small = {"PATH": "/usr/bin:/bin", HOME: installers.environment[HOME]}
    assert "rollback_run" in await spoken_to(entry["command"], entry["args"], small, tmp_path)


def test_pipx_runs_the_wheel_without_installing_it(wheel: Path, installers: Installers, tmp_path: Path):
    start = ["pipx", "run", "--python", sys.executable, "--spec", str(wheel), "takeback"]
    done = installers.run(*start, "--version")
    assert (done.returncode, done.stdout) == (0, "takeback 0.1.0\n"), done.stderr
    done = installers.run(*start, "install", "cursor", "--workspace", str(tmp_path), "--dry-run", "--json")
    entry = planned(done.stdout)
    assert (entry["command"], entry["args"][:2]) == (str(installers.programs / "pipx"), ["run", "--spec"])
