"""The outbox's file, shared by several of one process and by others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from takeback.tools.outbox.store import OutboxStore

LOOK = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM messages').fetchall()"


async def test_a_second_store_in_the_process_takes_nothing_of_the_first_with_it(tmp_path: Path):
    one, two = OutboxStore(tmp_path / "outbox.db"), OutboxStore(tmp_path / "outbox.db")
    await one.read(lambda rows: rows.find(("HELD",)))
    await two.read(lambda rows: rows.find(("HELD",)))
    two.close()
    subprocess.run([sys.executable, "-c", LOOK, str(tmp_path / "outbox.db")], check=True)
    kept = sorted(file.name for file in tmp_path.iterdir())
    one.close()
    assert kept == ["outbox.db", "outbox.db-shm", "outbox.db-wal"]
