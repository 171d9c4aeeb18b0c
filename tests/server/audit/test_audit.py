"""The stream of every event: nothing is skipped, whoever dies; nothing in it that is a secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.server.engine.bench import Bench, OpenBench
from tests.server.notices import sinks

from takeback.server.audit.auditor import PATIENCE, Auditor, read_place
from takeback.server.audit.sinks import FileSink
from takeback.server.settings import AuditSection, SettingsError, load
from takeback.server.watching import watched

TOKEN = "ghp_" + "a1B2" * 9


class Stop(Exception):
    """The process dies here."""


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def busy(bench: Bench, acts: int = 4) -> str:
    run = await bench.start(f"use {TOKEN}")
    for n in range(acts):
        await bench.set(run, f"key{n}", f"the token is {TOKEN}")
    await bench.back(run_id=run)
    return run


async def begun(bench: Bench) -> Auditor:
    auditor = Auditor(bench.engine.core)
    await auditor.begin()
    return auditor


async def test_every_event_is_a_line_in_order_and_without_secrets(open_bench: OpenBench, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    bench = await open_bench(audit=AuditSection(file=file))
    core = bench.engine.core
    await bench.start("before anybody listened")
    async with watched(core, core.settings):
        start = await core.journal.position()
        run = await busy(bench)
        last = await core.journal.position()
        with anyio.fail_after(sinks.SECONDS):
            while (place := read_place(core.settings.data, "file")) is None or place.position < last:  # noqa: ASYNC110 -- a file
                await anyio.sleep(0.01)
    found = lines(file)
    assert [each["position"] for each in found] == list(range(start + 1, last + 1))
    events = [recorded async for recorded in read(bench, start)]
    assert [each["type"] for each in found] == [recorded.type for recorded in events]
    assert {each["run_id"] for each in found} == {run}
    assert TOKEN not in file.read_text()
    assert not any("memo" in each or "plan" in each for each in found)
    assert file.stat().st_mode & 0o077 == 0


async def read(bench: Bench, after: int) -> Any:
    for recorded in await bench.engine.core.journal.read(after=after):
        yield recorded


@pytest.mark.parametrize(("step", "times"), [("read", 2), ("written", 1), ("written", 3), ("noted", 2)])
async def test_a_kill_in_between_skips_nothing(open_bench: OpenBench, tmp_path: Path, step: str, times: int) -> None:
    file = tmp_path / "audit.jsonl"
    bench = await open_bench(audit=AuditSection(file=file))
    core = bench.engine.core
    await begun(bench)
    start = await core.journal.position()
    await busy(bench)
    settings = tmp_path / "settings.json"
    settings.write_text(core.settings.model_dump_json())
    dying = [sys.executable, str(Path(__file__).with_name("dying.py")), str(settings), step, str(times)]
    died = await anyio.run_process(dying, check=False, stderr=subprocess.PIPE)
    assert died.returncode == -9, died.stderr
    with file.open("ab") as half:  # and the disk kept half a line of what it was at
        half.write(b'{"position":')
    auditor = await begun(bench)
    assert await auditor.drain(auditor.sinks[0])
    told = [line for line in file.read_text().splitlines() if line.endswith("}")]
    positions = [json.loads(line)["position"] for line in told]
    last = await core.journal.position()
    assert list(dict.fromkeys(positions)) == list(range(start + 1, last + 1)), "in order, and nothing is skipped"
    repeated = len(positions) - len(set(positions))
    assert repeated == (5 if step == "written" else 0), "what was not noted comes again, and nothing else"
    assert not await auditor.unfinished()


async def test_a_file_that_was_moved_away_is_begun_anew(open_bench: OpenBench, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    bench = await open_bench(audit=AuditSection(file=file))
    auditor = await begun(bench)
    await bench.start("one")
    await auditor.drain(auditor.sinks[0])
    file.rename(tmp_path / "audit.1")
    await bench.start("two")
    await auditor.drain(auditor.sinks[0])
    both = lines(tmp_path / "audit.1") + lines(file)
    assert [each["position"] for each in both] == [1, 2, 3, 4]


async def test_a_sink_that_fails_is_said_and_goes_on_where_it_stood(
    open_bench: OpenBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_SECRET", "s3cret")
    with sinks.web() as web:
        web.answers = [503]
        audit = AuditSection(file=tmp_path / "missing" / "audit.jsonl", url=web.url, secret_variable="AUDIT_SECRET")
        bench = await open_bench(audit=audit)
        auditor = await begun(bench)
        await bench.start("one")
        by_name = {sink.name: sink for sink in auditor.sinks}
        assert not await auditor.drain(by_name["file"])
        assert not await auditor.drain(by_name["webhook"])
        for name, why in (("file", "No such file or directory"), ("webhook", "the server answered 503")):
            place = read_place(bench.engine.core.settings.data, name)
            assert place is not None
            assert why in place.failed
            assert (place.position, bool(place.since)) == (0, True)
        assert await auditor.unfinished()
        for _ in range(PATIENCE):
            assert not await auditor.drain(by_name["file"])
        assert await auditor.drain(by_name["webhook"])
        assert not await auditor.unfinished(), "nobody waits for ever for a file that cannot be written"
        assert await Auditor(bench.engine.core).unfinished(), "the next start tries again"
        requests = [web.arrived.get_nowait(), web.arrived.get_nowait()]
    assert all(sinks.is_signed(request, "s3cret") for request in requests)
    assert [request.headers["webhook-id"] for request in requests] == ["audit-1-2"] * 2
    assert requests[0].body == requests[1].body
    assert [json.loads(line)["type"] for line in requests[1].body.splitlines()] == ["run.started", "checkpoint.named"]
    place = read_place(bench.engine.core.settings.data, "webhook")
    assert place is not None
    assert (place.position, place.failed) == (2, "")


async def test_two_processes_stream_as_one(open_bench: OpenBench, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    benches = [await open_bench(audit=AuditSection(file=file)) for _ in range(2)]
    auditors = [await begun(bench) for bench in benches]
    for bench in benches:
        await busy(bench, 2)
    async with anyio.create_task_group() as group:
        for auditor in auditors:
            group.start_soon(auditor.drain, auditor.sinks[0])
    assert [each["position"] for each in lines(file)] == list(
        range(1, await benches[0].engine.core.journal.position() + 1)
    )


async def test_lines_are_on_the_disk_before_they_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real(fd))[1])
    await FileSink(tmp_path / "a", fsync=True).write(["{}"], 1, 1)
    assert len(synced) == 1
    await FileSink(tmp_path / "b", fsync=False).write(["{}"], 1, 1)
    assert len(synced) == 1


def test_an_address_with_a_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[audit]\nurl = "https://me:s3cret@example.org/"\n')
    with pytest.raises(SettingsError) as refused:
        load(tmp_path / "config.toml", environment={})
    assert "s3cret" not in refused.value.message
