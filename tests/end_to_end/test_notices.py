"""People are told by whichever process saw it: by the chat's server, by a command's helper, after a kill at the next start."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.end_to_end import test_chat_and_terminal as machine
from tests.end_to_end.test_chat_and_terminal import act, chat, terminal
from tests.server.notices import sinks

from takeback.checkpoints.oslock import held
from takeback.server.watching import lock_file

SECRET = "s3cret of the receiver"


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sinks.Web]:
    environment = machine.environment
    monkeypatch.setattr(machine, "environment", lambda folder: {**environment(folder), "OPS_SECRET": SECRET})
    with sinks.web() as made:
        (tmp_path / "config.toml").write_text(
            f'[notify.webhooks.ops]\nurl = "{made.url}/ops"\nsecret_variable = "OPS_SECRET"\n'
            f"[audit]\nfile = {json.dumps(str(tmp_path / 'audit.jsonl'))}\n"
        )
        yield made


async def told(web: sinks.Web) -> tuple[str, str]:
    request = await sinks.taken(web.arrived)
    assert sinks.is_signed(request, SECRET)
    return request.json["type"], request.json["run_id"]


def done(folder: Path) -> bool:
    """Whether the process that was started for it has ended."""
    with held(os.fspath(lock_file(folder / "data")), wait=False) as idle:
        return idle


async def test_a_chat_and_a_terminal_both_tell_and_nothing_twice(tmp_path: Path, web: sinks.Web) -> None:
    async with chat(tmp_path) as client:
        failed = str((await act(client, "start_run", goal="one"))["run_id"])
        await act(client, "finish_run", run_id=failed, status="failed", summary="no way")
        assert await told(web) == ("run_failed", failed)
        held = str((await act(client, "start_run", goal="two"))["run_id"])
    code, _ = await terminal(tmp_path, "contain", held, "--reason", "it looked wrong")
    assert code == 0
    assert await told(web) == ("run_contained", held)
    with anyio.fail_after(sinks.SECONDS):
        while not done(tmp_path):  # noqa: ASYNC110 -- what another process does, nobody can be told of
            await anyio.sleep(0.05)
    assert web.arrived.empty()
    code, page = await terminal(tmp_path, "stats")
    assert (code, page["notices"]) == (0, {"sent": 2})
    positions = [json.loads(line)["position"] for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(positions)) == list(range(1, max(positions) + 1))
    assert "notice.sent" in (tmp_path / "audit.jsonl").read_text()


async def test_what_a_killed_process_did_not_come_to_tell_is_told_at_the_next_start(
    tmp_path: Path, web: sinks.Web
) -> None:
    async with chat(tmp_path) as client:
        run = str((await act(client, "start_run", goal="one"))["run_id"])
    # a process that writes the event and is gone before anybody could be told
    dying = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from takeback.server.cli.session import caller\n"
        "from takeback.server.engine.engine import Engine\n"
        "from takeback.server.settings import Settings\n"
        "async def main():\n"
        "    engine = await Engine.open(Settings.load(Path('config.toml'), data=Path('data')))\n"
        "    await engine.contain_run(caller(), sys.argv[1], 'it looked wrong')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    died = await anyio.run_process(
        [sys.executable, "-c", dying, run], cwd=tmp_path, check=False, env=machine.environment(tmp_path)
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert web.arrived.empty()
    async with chat(tmp_path):
        assert await told(web) == ("run_contained", run)
    assert web.arrived.empty()
