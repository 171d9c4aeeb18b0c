"""Programs for tests that come from npm: pinned, fetched once into the environment's folder, and kept there."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

PINNED = {
    "node": "22.23.3",
    "@modelcontextprotocol/conformance": "0.2.0-alpha.12",
    "@modelcontextprotocol/inspector": "2.12.0",
    "@anthropic-ai/claude-code": "2.1.329",
    "@anthropic-ai/mcpb": "2.1.2",
}
FOLDER = Path(__file__).parents[1] / ".venv" / "node"
FETCH_SECONDS = 600


@dataclass(frozen=True)
class Programs:
    """The fetched programs."""

    folder: Path

    def program(self, name: str) -> str:
        """One that is run by its name."""
        return str(self.folder / "node_modules" / ".bin" / name)

    def script(self, package: str, path: str) -> list[str]:
        """One that is run by node."""
        return [self.program("node"), str(self.folder / "node_modules" / package / path)]

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """For a program that must not see anything of whoever runs the tests."""
        home.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(self.folder / "node_modules" / ".bin"), os.environ.get("PATH", os.defpath)])
        return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", **more}


@functools.cache
def _fetched() -> str:
    """Fetch them unless they are there; why they cannot be had, or nothing."""
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.prefix) / "bin"))
    pins = json.dumps({"private": True, "dependencies": PINNED}, indent=2)
    stamp, wanted = FOLDER / ".fetched", hashlib.sha256(pins.encode()).hexdigest()
    with _alone():
        if stamp.exists() and stamp.read_text() == wanted:
            return ""
        if npm is None:
            return "npm is not installed"
        (FOLDER / "package.json").write_text(pins)
        command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=FETCH_SECONDS)
        except subprocess.TimeoutExpired:
            return "npm did not fetch them in time"
        if done.returncode:
            return f"npm could not fetch them: {(done.stderr.strip() or 'no reason given').splitlines()[0]}"
        node = [str(FOLDER / "node_modules" / ".bin" / "node"), "--version"]
        if not shutil.which(node[0]) or subprocess.run(node, capture_output=True, timeout=60).returncode:
            return "npm fetched them but did not run their own installation"
        stamp.write_text(wanted)
    return ""


@contextmanager
def _alone() -> Generator[None]:
    """Two test runs at once fetch once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def programs() -> Programs:
    """The programs; without them the test is skipped, but never where nobody would notice."""
    why = _fetched()
    if why:
        _without(f"Programs for this test come from npm, and {why}")
    return Programs(FOLDER)


def _without(why: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(why)
    pytest.skip(why)
