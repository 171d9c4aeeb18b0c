"""What only the journal on disk has to show: sharing transactions and files, surviving, refusing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from takeback.journal import events as e
from takeback.journal.ids import ActionId, RunId
from takeback.journal.keys import KeyFile, KeyRing
from takeback.journal.log import JournalBroken, JournalError, JournalFull, KeyUnavailable, Stale, ViewKey
from takeback.journal.schema import SchemaUnknown
from takeback.journal.sqlite import SqliteJournal
from takeback.journal.views import ActionView, RunView

RUN = RunId("run_a")
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from takeback.journal import events as e
from takeback.journal.ids import ActionId, RunId
from takeback.journal.sqlite import SqliteJournal

async def main(path, key, anchor, name, count):
    journal = await SqliteJournal.open(Path(path), key_file=Path(key), anchor_file=Path(anchor))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(count)):
        written = await journal.append([
            e.RunStarted(run_id=RunId("run_shared"), at=datetime.now(UTC), owner=e.Caller(principal=name), goal=str(number)),
            e.RunStalled(run_id=RunId("run_" + name), at=datetime.now(UTC), reason="x" * 3000),
        ])
        print(written[-1].position, flush=True)
    await journal.close()

asyncio.run(main(*sys.argv[1:]))
"""


def start_writer(place: Any, name: str, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, place.path, place.key_file, place.anchor_file, name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def run(*command: object) -> int:
    return subprocess.run([str(word) for word in command], check=False).returncode


def spawn(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *(str(each) for each in arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


async def test_callers_at_the_same_time_share_a_transaction(sqlite_journal: SqliteJournal, make: Any) -> None:
    await sqlite_journal.append([make.started(RUN)])
    before = sqlite_journal.transactions
    written = await asyncio.gather(
        *(sqlite_journal.append([make.intended(RUN, f"act_{number}")]) for number in range(100))
    )
    # the first may have set out alone; all that came while it was under way went together
    assert sqlite_journal.transactions - before <= 2
    assert sorted(each[0].position for each in written) == list(range(2, 102))


async def test_one_fsync_serves_all_callers_of_a_transaction(sqlite_journal: SqliteJournal, make: Any) -> None:
    statements: list[str] = []
    assert sqlite_journal._writer is not None
    await sqlite_journal._writer.connection.set_trace_callback(statements.append)
    await asyncio.gather(*(sqlite_journal.append([make.started(RunId(f"run_{number}"))]) for number in range(50)))
    await sqlite_journal._writer.connection.set_trace_callback(lambda _: None)
    assert statements.count("COMMIT") <= 2


async def test_a_cancelled_caller_takes_neither_its_own_events_nor_those_of_others_along(
    sqlite_journal: SqliteJournal, make: Any
) -> None:
    cancelled = asyncio.ensure_future(sqlite_journal.append([make.started(RunId("run_cancelled"))]))
    other = asyncio.ensure_future(sqlite_journal.append([make.started(RUN)]))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert [each.run_id for each in await other] == [RUN]
    await sqlite_journal.append([make.intended(RUN, "act_1")])
    # it was on its way already, so it happened: the caller asks the journal, never its memory
    assert await sqlite_journal.get(RunView, "run_cancelled") is not None
    assert (await sqlite_journal.verify()).sound


async def test_a_caller_that_does_not_fit_the_schema_fails_alone(sqlite_journal: SqliteJournal, make: Any) -> None:
    class Foreign(e.BaseEvent):
        pass

    foreign = Foreign(run_id=RUN, at=make.started(RUN).at)
    results = await asyncio.gather(
        sqlite_journal.append([foreign]), sqlite_journal.append([make.started(RUN)]), return_exceptions=True
    )
    assert isinstance(results[0], JournalError)
    assert not isinstance(results[1], BaseException)


async def test_several_processes_write_to_one_journal_and_to_one_run(place: Any) -> None:
    processes = [start_writer(place, name, 60) for name in ("a", "b")]
    for process in processes:
        go(process)
    outputs = [process.communicate(timeout=50)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(len(output) == 60 for output in outputs)
    journal = await place.open()
    assert await journal.position() == 240
    assert [each.seq for each in await journal.read(RunId("run_shared"))] == list(range(1, 121))
    found = await journal.verify()
    assert found.sound, found.problems
    await journal.close()


async def test_a_reader_sees_what_another_process_committed(place: Any) -> None:
    writer = start_writer(place, "other", 3)
    journal = await place.open()
    go(writer)
    writer.communicate(timeout=30)
    run = await journal.get(RunView, "run_shared")
    assert run is not None
    written = await journal.append([e.RunStalled(run_id=run.run_id, at=run.started_at, reason="here")])
    assert (written[0].seq, written[0].position) == (4, 7)
    assert (await journal.verify()).sound
    await journal.close()


@pytest.mark.parametrize("acknowledged", [1, 7, 23])
async def test_what_was_acknowledged_survives_a_kill(place: Any, acknowledged: int) -> None:
    writer = start_writer(place, "killed", 10_000)
    go(writer)
    assert writer.stdout is not None
    last = [int(writer.stdout.readline()) for _ in range(acknowledged)][-1]
    writer.kill()
    rest = writer.communicate(timeout=30)[0].split()
    last = max([last, *(int(each) for each in rest)])
    journal = await place.open()
    assert await journal.position() >= last
    found = await journal.verify()
    assert found.sound, found.problems
    run = await journal.get(RunView, "run_shared")
    assert run is not None
    await journal.append([e.RunStalled(run_id=run.run_id, at=run.started_at, reason="after the crash")])
    assert (await journal.verify()).sound
    await journal.close()


async def test_the_key_lies_outside_and_only_its_owner_reads_it(place: Any, make: Any) -> None:
    journal = await place.open()
    await journal.append([make.started(RUN)])
    await journal.close()
    assert stat.S_IMODE(place.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
    secrets = [bytes.fromhex(secret) for secret in _secrets(place.key_file)]
    for file in place.path.parent.iterdir():
        assert not any(secret in file.read_bytes() or secret.hex().encode() in file.read_bytes() for secret in secrets)


def _secrets(key_file: Path) -> list[str]:
    import json

    return list(json.loads(key_file.read_text())["keys"].values())


async def test_a_lost_key_is_refused_and_not_replaced(place: Any, make: Any) -> None:
    journal = await place.open()
    await journal.append([make.started(RUN)])
    await journal.close()
    kept = place.key_file.read_text()
    place.key_file.unlink()

    journal = await place.open()
    with pytest.raises(KeyUnavailable):
        await journal.append([make.intended(RUN, "act_1")])
    assert not place.key_file.exists()
    assert await journal.get(RunView, RUN) is not None  # looking is still possible
    assert [problem.kind for problem in (await journal.verify()).problems] == ["unknown_key"]
    place.key_file.write_text(kept)
    await journal.append([make.intended(RUN, "act_1")])  # the key is back, and no restart was needed
    assert (await journal.verify()).sound
    await journal.close()


async def test_another_key_in_the_place_of_the_journals_is_refused(place: Any, make: Any) -> None:
    journal = await place.open()
    await journal.append([make.started(RUN)])
    await journal.close()
    place.key_file.unlink()
    KeyRing.load(KeyFile(place.key_file)).create()
    journal = await place.open()
    with pytest.raises(KeyUnavailable):
        await journal.append([make.intended(RUN, "act_1")])
    await journal.close()


@pytest.mark.parametrize("text", ["", "{}", "not a key", '{"current": "key_0", "keys": {"key_0": "00"}}'])
async def test_a_damaged_key_file_is_refused(place: Any, text: str) -> None:
    place.key_file.parent.mkdir(parents=True)
    place.key_file.write_text(text)
    with pytest.raises(KeyUnavailable):
        await place.open()
    assert place.key_file.read_text() == text


async def test_of_racing_processes_one_makes_the_key(place: Any, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom takeback.journal.keys import KeyFile, KeyRing\n"
        "ring = KeyRing.load(KeyFile(Path(sys.argv[1])))\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "ring.create()\nprint(ring.current.id)\n"
    )
    processes = [spawn(script, place.key_file) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        go(process)
    assert len({process.communicate(timeout=30)[0] for process in processes}) == 1
    assert [each.name for each in place.key_file.parent.iterdir()] == [place.key_file.name]


async def test_a_key_that_another_process_rotated_is_taken_up(place: Any, make: Any) -> None:
    here, there = await place.open(), await place.open()
    await here.append([make.started(RUN)])
    there.rotate_key()
    first = await there.append([make.intended(RUN, "act_1")])
    second = await here.append([make.intended(RUN, "act_2")])
    assert first[0].key_id == second[0].key_id
    assert (await here.verify()).sound
    await here.close()
    await there.close()


async def test_a_read_only_journal_needs_no_key_and_refuses_to_write(place: Any, make: Any) -> None:
    with pytest.raises(JournalError):
        await place.open(read_only=True)
    assert not place.path.exists()
    assert not place.key_file.exists()
    journal = await place.open()
    await journal.append([make.started(RUN)])
    place.key_file.unlink()
    reader = await place.open(read_only=True)
    assert await reader.get(RunView, RUN) is not None
    with pytest.raises(JournalError):
        await reader.append([make.started(RUN)])
    with pytest.raises(JournalError):
        await reader.erase([1], by="me", why="no", at=make.started(RUN).at)
    await reader.close()
    await journal.close()


async def test_a_newer_schema_is_refused_and_left_alone(place: Any, make: Any) -> None:
    journal = await place.open()
    await journal.append([make.started(RUN)])
    await journal.close()
    with sqlite3.connect(place.path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    for read_only in (False, True):
        with pytest.raises(SchemaUnknown, match="schema 99"):
            await place.open(read_only=read_only)


async def test_a_database_of_another_program_is_refused(place: Any) -> None:
    place.path.parent.mkdir(parents=True)
    with sqlite3.connect(place.path) as database:
        database.execute("CREATE TABLE theirs(x)")
    database.close()
    with pytest.raises(SchemaUnknown):
        await place.open()
    place.path.write_bytes(b"this is a letter, not a database" * 100)
    with pytest.raises(SchemaUnknown):
        await place.open()


async def test_a_full_disk_is_said_and_the_same_call_succeeds_once_there_is_space(
    sqlite_journal: SqliteJournal, make: Any
) -> None:
    await sqlite_journal.append([make.started(RUN)])
    writer = sqlite_journal._writer and sqlite_journal._writer.connection
    assert writer is not None
    (pages,) = await writer.call(lambda connection: connection.execute("PRAGMA page_count").fetchone())
    await writer.call(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 1}").fetchone())
    event = make.intended(RUN, "act_1", content=os.urandom(100_000).hex())
    results = await asyncio.gather(
        sqlite_journal.append([event]), sqlite_journal.append([make.started(RunId("run_b"))]), return_exceptions=True
    )
    assert [type(each) for each in results] == [JournalFull, JournalFull]
    assert await sqlite_journal.position() == 1
    await writer.call(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    await sqlite_journal.append([event])
    assert (await sqlite_journal.verify()).sound


async def test_what_another_writer_committed_in_between_is_built_upon(place: Any, make: Any) -> None:
    one, other = await place.open(), await place.open()
    await one.append([make.started(RUN)])
    await one.append([make.intended(RUN, "act_1", key="k")])
    # another process takes this one for dead, and settles what it left
    await other.append([e.ActionInDoubt(run_id=RUN, at=NOW, action_id=ActionId("act_1"), reason="its process is gone")])
    with pytest.raises(Stale):
        await one.append([make.intended(RUN, "act_2")], expect={ViewKey("action", "act_1"): 2})
    await one.append([make.applied(RUN, "act_1")])
    action = await other.get(ActionView, "act_1")
    assert action is not None
    # the doubt is in the view as well, and stays there as long as it is not settled
    assert (action.status, action.error_code) == ("applied", "in_doubt")
    assert [each.seq for each in await other.read(RUN)] == [1, 2, 3, 4]
    assert (await other.verify()).sound
    await one.close()
    await other.close()


async def test_what_was_not_committed_is_not_built_upon(sqlite_journal: SqliteJournal, make: Any) -> None:
    def no_commit(action: int, what: str | None, *_: object) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT" else sqlite3.SQLITE_OK

    writer = sqlite_journal._writer and sqlite_journal._writer.connection
    assert writer is not None
    await sqlite_journal.append([make.started(RUN)])
    await writer.call(lambda connection: connection.set_authorizer(no_commit))
    with pytest.raises(JournalError):
        await sqlite_journal.append([make.intended(RUN, "act_1"), make.started(RunId("run_lost"))])
    await writer.call(lambda connection: connection.set_authorizer(None))
    await sqlite_journal.append([make.applied(RUN, "act_1")])  # which there never was
    await sqlite_journal.append([make.started(RunId("run_b"))])
    await sqlite_journal.append([make.intended(RUN, "act_2", "/w/b.txt")])
    assert await sqlite_journal.get(ActionView, "act_1") is None
    assert [each.position for each in await sqlite_journal.read()] == [1, 2, 3, 4]
    assert [each.run_id for each in await sqlite_journal.read(RunId("run_b"))] == ["run_b"]
    assert (await sqlite_journal.verify()).sound


async def test_what_was_erased_in_between_is_not_remembered(sqlite_journal: SqliteJournal, make: Any) -> None:
    await sqlite_journal.append([make.started(RUN)])
    await sqlite_journal.append([make.intended(RUN, "act_1", "/w/private.txt", content="salary")])
    await sqlite_journal.erase([2], by="me", why="asked for", at=NOW)
    await sqlite_journal.append([make.applied(RUN, "act_1", "/w/other.txt")])
    action = await sqlite_journal.get(ActionView, "act_1")
    assert action is not None
    assert "salary" not in action.model_dump_json()
    assert (await sqlite_journal.verify()).sound


async def test_a_conclusion_asks_nothing_that_its_intent_has_said(sqlite_journal: SqliteJournal, make: Any) -> None:
    statements: list[str] = []
    assert sqlite_journal._writer is not None
    await sqlite_journal.append([make.started(RUN)])
    await sqlite_journal.append([make.intended(RUN, "act_1")])
    await sqlite_journal._writer.connection.set_trace_callback(statements.append)
    await sqlite_journal.append([make.applied(RUN, "act_1")])
    await sqlite_journal._writer.connection.set_trace_callback(lambda _: None)
    assert [statement.split()[0] for statement in statements] == [
        "BEGIN",
        "PRAGMA",
        "INSERT",
        "INSERT",
        "INSERT",
        "COMMIT",
    ]
    assert len(await sqlite_journal.touching("files", ["/w/a.txt"])) == 1


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts a small tmpfs")
async def test_a_disk_that_is_really_full_costs_no_acknowledged_event(tmp_path: Path, make: Any) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if run("mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", disk):
        pytest.skip("mounting is not allowed here")
    try:
        path = disk / "journal.db"
        keys = tmp_path / "keys.json"
        ballast = disk / "ballast"
        ballast.write_bytes(b"0" * 200_000)
        journal = await SqliteJournal.open(path, key_file=keys, anchor_file=tmp_path / "anchors")
        written = 0
        with pytest.raises(JournalFull):
            for number in range(10_000):
                await journal.append([make.intended(RUN, f"act_{number}", content="x" * 2000)])
                written += 1
        assert await journal.position() == written
        ballast.unlink()
        await journal.append([make.intended(RUN, "act_after")])
        found = await journal.verify()
        assert found.sound, found.problems
        await journal.close()
    finally:
        assert run("umount", disk) == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to find the descriptor of the WAL")
async def test_after_a_failed_write_nothing_is_acknowledged_until_it_is_opened_anew(place: Any, make: Any) -> None:
    journal = await place.open()
    await journal.append([make.started(RUN)])
    wal = [fd for fd in _open_files() if os.path.realpath(f"/proc/self/fd/{fd}").endswith("journal.db-wal")]
    assert wal
    kept = [os.dup(fd) for fd in wal]
    nowhere = os.open(place.path, os.O_RDONLY)  # a write to it fails, as one to a disk that went away
    for fd in wal:
        os.dup2(nowhere, fd)
    results = await asyncio.gather(
        journal.append([make.intended(RUN, "act_1")]),
        journal.append([make.started(RunId("run_b"))]),
        return_exceptions=True,
    )
    for fd, whole in zip(wal, kept, strict=True):
        os.dup2(whole, fd)
        os.close(whole)
    os.close(nowhere)
    assert [type(each) for each in results] == [JournalBroken, JournalBroken]
    with pytest.raises(JournalBroken):
        await journal.append([make.started(RunId("run_c"))])  # though the disk is well again
    await journal.close()
    journal = await place.open()
    assert await journal.position() in (1, 3)  # nobody was told either way
    await journal.append([make.started(RunId("run_c"))])
    assert (await journal.verify()).sound
    await journal.close()


def _open_files() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]


async def test_what_was_erased_is_nowhere_in_the_files(place: Any, make: Any) -> None:
    journal = await place.open()
    try:
        diary = " ".join(f"dear diary {number * number}" for number in range(300))
        await journal.append([make.started(RUN), make.intended(RUN, "act_1", "/w/diary", content=diary)])
        await journal.append([make.applied(RUN, "act_1", "/w/diary", content=diary)])
        for number in range(5):
            await journal.append([make.intended(RUN, f"act_more_{number}")])
        with closing(sqlite3.connect(place.path)) as database:
            found = database.execute("SELECT payload FROM events WHERE position IN (2, 3)").fetchall()
        pieces = [frame[start : start + 24] for (frame,) in found for start in range(8, len(frame) - 24, 24)]
        assert len(pieces) > 40
        await journal.erase([2, 3], by="me", why="asked for", at=make.started(RUN).at)
        for file in place.path.parent.iterdir():
            content = file.read_bytes()
            assert b"diary" not in content, file.name
            assert not any(piece in content for piece in pieces), file.name
    finally:
        await journal.close()


async def test_a_commit_waits_for_the_disk(sqlite_journal: SqliteJournal) -> None:
    # with anything less than FULL, what was acknowledged is lost with the power
    assert sqlite_journal._writer is not None
    asked = {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "secure_delete": 1}
    for name, expected in asked.items():
        found = await sqlite_journal._writer.connection.call(
            lambda connection, name=name: connection.execute(f"PRAGMA {name}").fetchone()[0]  # type: ignore[misc] -- a lambda with a default
        )
        assert (name, found) == (name, expected)


async def test_unanchored_heads_fail_nobody_and_are_anchored_with_the_next_commit(place: Any, make: Any) -> None:
    journal = await place.open()
    place.anchor_file.mkdir()  # nobody can write a line there
    await journal.append([make.started(RUN)])
    assert journal.unanchored is not None
    place.anchor_file.rmdir()
    await journal.append([make.started(RunId("run_b"))])
    assert journal.unanchored is None
    text = place.anchor_file.read_text()
    assert RUN in text
    assert "run_b" in text
    await journal.close()


async def test_a_journal_opens_again_with_everything_in_it(place: Any, make: Any) -> None:
    for number in range(3):
        journal = await place.open()
        await journal.append([make.intended(RUN, f"act_{number}")])
        await journal.close()
    journal = await place.open(read_only=True)
    assert len(await journal.find(ActionView)) == 3
    assert (await journal.verify()).sound
    await journal.close()


async def test_a_second_journal_in_the_process_takes_nothing_of_the_first_with_it(place: Any):
    """To close a file lets go of the process's locks on it; whoever closes the database next would delete the log in use."""
    one = await SqliteJournal.open(place.path, key_file=place.key_file, anchor_file=None)
    two = await SqliteJournal.open(place.path, key_file=place.key_file, anchor_file=None)
    await two.close()
    process = start_writer(place, "other", 0)
    process.communicate("\n")
    owner = e.Caller(principal="me")
    await one.append([e.RunStarted(run_id=RUN, at=NOW, owner=owner, goal="after the others have closed")])
    look = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM events').fetchone()[0])"
    )
    counted = subprocess.run([sys.executable, "-c", look, str(place.path)], capture_output=True, text=True)
    await one.close()
    assert counted.stdout.strip() == "1"
