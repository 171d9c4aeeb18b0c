"""The protocol's own conformance suite against `takeback serve --http`, gate and all, in both protocol eras."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.node import Programs, programs
from tests.signs import SECONDS

SERVER = Path(__file__).with_name("fixture_server.py")
SUITE = ("@modelcontextprotocol/conformance", "dist/index.js")
REVISIONS = {"2026-07-28": 37, "2025-11-25": 30}
"""How many scenarios a server has to pass."""
SUITE_SECONDS = 120

NOT_OFFERED = {"server-sse-polling"}
"""Reported by the suite and not required: a stream that is taken up again, which the next revision has removed."""


@dataclass
class Ran:
    """One run of the suite."""

    required: list[str]
    checks: dict[str, list[dict[str, Any]]]
    output: str
    code: int

    def failures(self, scenario: str) -> list[str]:
        return [
            f"{scenario}: {check['id']}: {check['status']}: {check.get('errorMessage', '')}"
            for check in self.checks[scenario]
            if check["status"] in ("FAILURE", "WARNING")
        ]


def _required(suite: list[str], revision: str) -> list[str]:
    listed = subprocess.run(
        [*suite, "list", "--requirements", revision], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    server = listed.split("Server scenarios", 1)[1].split("\n\n", 1)[0]
    return [line.strip()[2:] for line in server.splitlines() if line.strip().startswith("- ")]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """Both runs, side by side, against one server."""
    found: Programs = programs()
    suite = found.script(*SUITE)
    folder = tmp_path_factory.mktemp("conformance")
    server = Server(folder)
    try:
        address = ["server", "--url", server.url(), "--requirements"]
        started = {
            revision: subprocess.Popen(
                [*suite, *address, revision, "-o", str(folder / revision)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=found.environment(folder / "home"),
            )
            for revision in REVISIONS
        }
        runs: dict[str, Ran] = {}
        for revision, process in started.items():
            output = process.communicate(timeout=SUITE_SECONDS)[0]
            checks = {
                # server-NAME-YYYY-MM-DDTHH-MM-SS-mmmZ
                path.parent.name.removeprefix("server-")[: -len("-2026-11-20T19-39-08-150Z")]: json.loads(
                    path.read_text()
                )
                for path in (folder / revision).glob("*/checks.json")
            }
            runs[revision] = Ran(_required(suite, revision), checks, output, process.returncode)
        yield runs
        server.process.terminate()
        assert server.process.wait(timeout=SECONDS) == 0, "".join(server.said)
    finally:
        server.end()


class Server:
    """A server in a process of its own, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen([sys.executable, str(SERVER), str(folder)], stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._address = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"serves MCP at (http://\S+)", line):
                self._address = found[1]
                self._ready.set()
        self._ready.set()

    def url(self) -> str:
        assert self._ready.wait(30) and self._address, "".join(self.said)
        return self._address

    def end(self) -> None:
        self.process.kill()
        self.process.wait(timeout=SECONDS)
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_required_scenario_passes(ran: dict[str, Ran], revision: str) -> None:
    run = ran[revision]
    assert len(run.required) == REVISIONS[revision]
    assert not [scenario for scenario in run.required if scenario not in run.checks], run.output
    assert not [line for scenario in run.required for line in run.failures(scenario)]
    assert run.code == 0, run.output


def test_the_tasks_extension_passes_its_scenarios(ran: dict[str, Ran]) -> None:
    run = ran["2026-07-28"]
    scenarios = [scenario for scenario in run.checks if scenario.startswith("tasks-")]
    assert len(scenarios) == 10
    assert not [line for scenario in scenarios for line in run.failures(scenario)]


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_is_not_required_passes_too(ran: dict[str, Ran], revision: str) -> None:
    run = ran[revision]
    others = set(run.checks) - set(run.required) - NOT_OFFERED
    assert others
    assert not [line for scenario in sorted(others) for line in run.failures(scenario)]
