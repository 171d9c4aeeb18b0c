"""The small files beside the journal, shared by several stores of one process and by others."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from takeback.journal.sidefile import SideFile

LOOK = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM kept').fetchall()"


def opened(folder: Path) -> SideFile:
    return SideFile(
        folder / "side" / "some.db", lambda db: db.execute("CREATE TABLE IF NOT EXISTS kept (name TEXT)") and None
    )


def names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM kept")]


async def test_a_second_store_in_the_process_takes_nothing_of_the_first_with_it(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    await one.read(names)
    await two.read(names)
    two.close()
    subprocess.run([sys.executable, "-c", LOOK, str(one.path)], check=True)
    kept = sorted(file.name for file in one.path.parent.iterdir())
    one.close()
    assert kept == ["some.db", "some.db-shm", "some.db-wal"]


async def test_what_fails_in_the_middle_has_changed_nothing(tmp_path: Path) -> None:
    side = opened(tmp_path)

    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO kept VALUES ('one')")
        raise ValueError

    with pytest.raises(ValueError):
        await side.write(half)
    assert await side.read(names) == []
    await side.write(lambda db: db.execute("INSERT INTO kept VALUES ('two')"))
    side.close()
    assert await side.read(names) == ["two"], "it opens again when it is needed"
    side.close()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions there are access lists")
async def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    side = opened(tmp_path)
    await side.write(lambda db: db.execute("INSERT INTO kept VALUES ('one')"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in side.path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(side.path.parent.stat().st_mode) == 0o700
    side.close()


async def test_what_was_deleted_is_not_left_in_its_log(tmp_path: Path) -> None:
    side = opened(tmp_path)
    await side.write(lambda db: db.execute("INSERT INTO kept VALUES ('a word that nobody may find')"))
    await side.write(lambda db: db.execute("DELETE FROM kept"))
    await side.shed()
    found = b"".join(path.read_bytes() for path in side.path.parent.iterdir())
    side.close()
    assert b"nobody may find" not in found
