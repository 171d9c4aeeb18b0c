"""What the benchmarks share: where they work, what they measure beside, and how a row of the result is told.

A row is one promise about cost: what was measured, what it was held against in the same run, the ratio, and the goal.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
BARE = HERE / "_bare_server.py"
QUICK = bool(os.environ.get("QUICK"))
"""A run of two minutes instead of ten: fewer rounds, smaller workspaces."""

OFFICIAL = "@modelcontextprotocol/server-filesystem"
OFFICIAL_VERSION = "2026.8.31"
CACHE = HERE.parent / ".venv" / "bench-node"


@dataclass(slots=True)
class Row:
    """One line of the table."""

    what: str
    measured: float
    unit: str
    reference: float | None
    reference_is: str
    goal: float
    """Of `ratio` where there is a reference, else of `measured`."""
    at_least: bool = False
    """Whether more is better."""
    note: str = ""
    p95: float | None = None
    reference_p95: float | None = None

    @property
    def ratio(self) -> float | None:
        """Measured to reference; the other way round never."""
        return self.measured / self.reference if self.reference else None

    def told(self) -> dict[str, object]:
        """As the report reads it."""
        return {**asdict(self), "ratio": self.ratio, "met": self.met}

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        value = self.measured if self.ratio is None else self.ratio
        return value >= self.goal if self.at_least else value <= self.goal


def scaled(full: int, quick: int, name: str = "") -> int:
    """How many, in a full and in a quick run; an environment variable of that name has the last word."""
    return int(os.environ.get(name, 0)) or (quick if QUICK else full)


def say(words: str) -> None:
    """Progress, for whoever waits."""
    print(words, file=sys.stderr, flush=True)


def median(times: Sequence[float]) -> float:
    """Of seconds, in milliseconds."""
    return 1000 * statistics.median(times)


def p95(times: Sequence[float]) -> float:
    """Of seconds, in milliseconds."""
    return 1000 * sorted(times)[int(len(times) * 0.95)]


@contextmanager
def scratch() -> Generator[Path]:
    """A folder on the disk that is measured: `BENCH_DIR`, else where temporary files go. Gone afterwards."""
    base = os.environ.get("BENCH_DIR")
    folder = Path(tempfile.mkdtemp(prefix="takeback-bench-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def official() -> list[str] | None:
    """The command of the file server most people would use instead; fetched once. `None` without node or without a network."""
    node, npm = shutil.which("node"), shutil.which("npm")
    entry = CACHE / "node_modules" / OFFICIAL / "dist" / "index.js"
    if node is None:
        say("There is no node here: rows beside the official server are measured beside the bare one.")
        return None
    if not entry.exists():
        if npm is None:
            return None
        say(f"Fetching {OFFICIAL} {OFFICIAL_VERSION} …")
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        # what npm has to say is no result: those go to the standard output
        fetched = subprocess.run(
            [npm, "install", "--prefix", str(CACHE), *quiet, f"{OFFICIAL}@{OFFICIAL_VERSION}"], stdout=sys.stderr
        )
        if fetched.returncode or not entry.exists():
            say("It could not be fetched: rows beside it are measured beside the bare server.")
            return None
    return [node, str(entry)]


def about() -> dict[str, object]:
    """The machine, as far as it matters."""
    import sqlite3

    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "quick": QUICK,
    }


def finish(name: str, rows: Sequence[Row]) -> None:
    """Print the rows."""
    print(json.dumps({"benchmark": name, "on": about(), "rows": [row.told() for row in rows]}, indent=2))
