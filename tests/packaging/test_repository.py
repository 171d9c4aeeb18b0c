"""Facts about the repository that no other tool watches over."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_by_the_constraints():
    pinned = {
        normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["check"], *extras["dev"]]
    names = {normal(re.split(r"[<>=!\[; ]", each)[0]) for each in wanted} - {"takeback"}
    assert names - pinned == set()


def test_the_constraints_name_versions_and_no_places():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line), line


def test_the_changelog_tells_of_this_version():
    assert f"## {PROJECT['project']['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_decides_is_found_impure_as_soon_as_it_reads_a_clock(tmp_path: Path):
    for portion in ("journal", "checkpoints", "tools", "server"):
        for source in (ROOT / portion).rglob("*.py"):
            copy = tmp_path / source.relative_to(ROOT / portion)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())

    def lint() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )

    sound = lint()
    assert sound.returncode == 0, sound.stdout + sound.stderr
    planner = tmp_path / "takeback" / "server" / "engine" / "plan.py"
    planner.write_text(planner.read_text(encoding="utf-8") + "\nimport time\n", encoding="utf-8")
    broken = lint()
    assert broken.returncode == 1
    assert "takeback.server.engine.plan -> time" in broken.stdout
