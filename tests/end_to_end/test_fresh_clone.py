"""What a newcomer does: a fresh copy of the repository, and the two commands of the README."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="the README's commands are those of a POSIX shell")
def test_the_two_commands_of_the_readme_work_in_a_fresh_copy(tmp_path: Path):
    first = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)[
        0
    ].splitlines()
    assert first == ["make demo", "make test"]
    # what `make demo` does, without its fetching of what is here already
    assert "demo: $(STAMP)\n\t$(BIN)/takeback demo\n" in (ROOT / "Makefile").read_text(encoding="utf-8")

    copy = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git working tree")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)

    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=60)
    python = environment / "bin" / "python"
    [site] = environment.glob("lib/python*/site-packages")
    # there may be no network here: dependencies and the build tool are those of the development environment
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", "."],
        cwd=copy, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    demo = subprocess.run(
        [str(environment / "bin" / "takeback"), "demo"],
        cwd=tmp_path,
        env={"PATH": "", "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "NOT SO" not in demo.stdout
