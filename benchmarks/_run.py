"""All benchmarks, one after the other, and then the report. `QUICK=1` for two minutes instead of ten."""

from __future__ import annotations

import subprocess
import sys

from _report import main as report
from _setting import HERE, QUICK, say

PARTS: dict[str, list[str]] = {
    "files": [],
    "undo": [],
    "sqlite": [],
    "postgres": [],
    "notices": [],
    "journal": ["--actions", "10000", "--pairs", "100"] if QUICK else ["--actions", "100000"],
}


def main() -> None:
    """Run, keep what is printed, report."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    for name, options in PARTS.items():
        say(f"benchmark {name} …")
        told = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *options], stdout=subprocess.PIPE, check=True)
        (results / f"{name}.json").write_bytes(told.stdout)
    report()


if __name__ == "__main__":
    main()
