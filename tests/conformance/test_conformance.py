"""The protocol's own conformance suite against our whole stack, over HTTP, in both protocol eras."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.node import Programs, programs

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
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, str(SERVER), str(folder)], stdout=subprocess.PIPE, stderr=log)
        try:
            assert server.stdout is not None
            port = server.stdout.readline().decode().strip()
            assert port, (folder / "server.log").read_text()
            address = ["server", "--url", f"http://127.0.0.1:{port}/mcp", "--requirements"]
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
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            finally:
                server.kill()
                if server.stdout is not None:
                    server.stdout.close()


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
