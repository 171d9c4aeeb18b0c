"""The demo's little world, and a way to fingerprint it that shares nothing with the server it is there to check."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

CONFIG = "site.toml"
DRAFTS = "drafts"
SHOP = "data/shop.db"

_FILES = {
    CONFIG: """\
# The public site
title = "Second quarter"
report = "reports/q2.md"

[build]
minify = true
drafts = false

[contact]
mail = "office@example.org"
""",
    "reports/q2.md": "# Second quarter\n\nRevenue grew by 4 per cent.\n",
    f"{DRAFTS}/q3.md": "# Third quarter (draft)\n\nRevenue grew by 6 per cent.\n",
    f"{DRAFTS}/ideas.txt": "A chart for the front page?\n",
    f"{DRAFTS}/old/q1.md": "# First quarter\n",
    "data/sales.csv": "month,revenue\n2026-07,120\n2026-08,131\n2026-09,127\n",
}

_TABLES = """\
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, mail TEXT);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    customer INTEGER NOT NULL REFERENCES customers ON DELETE CASCADE,
    status TEXT NOT NULL,
    note TEXT
);
CREATE TABLE log (at INTEGER PRIMARY KEY, what TEXT);
CREATE TRIGGER order_deleted AFTER DELETE ON orders BEGIN INSERT INTO log (what) VALUES ('lost order ' || old.id); END;
INSERT INTO customers VALUES (1, 'Ada', 'ada@example.org'), (2, 'Grace', 'grace@example.org'), (3, 'Edsger', NULL);
INSERT INTO orders (customer, status) VALUES (1, 'open'), (2, 'open'), (2, 'shipped'), (3, 'open');
"""


def build(workspace: Path) -> None:
    """Make the world."""
    for name, content in _FILES.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    with _opened(workspace / SHOP) as shop:
        shop.executescript(_TABLES)
    if os.name == "posix":
        (workspace / "data" / "sales.csv").chmod(0o640)


def persons_edit(workspace: Path) -> None:
    """What a person does meanwhile, in an editor, without asking anybody: another address in the same file."""
    path = workspace / CONFIG
    path.write_bytes(path.read_bytes().replace(b"office@example.org", b"press@example.org"))


def persons_note(workspace: Path) -> None:
    """What a person does meanwhile, in another program: a note in another column of a row that the agent has changed."""
    with _opened(workspace / SHOP) as shop:
        shop.execute("UPDATE orders SET note = 'call before delivery' WHERE id = 1")


def first_order(workspace: Path) -> str:
    """The order to which the person wrote a note."""
    with _opened(workspace / SHOP) as shop:
        status, note = shop.execute("SELECT status, note FROM orders WHERE id = 1").fetchone()
    return f"order 1: status = {status!r}, note = {note!r}"


@contextmanager
def _opened(shop: Path) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


def _rows(shop: Path) -> bytes:
    # what is in the database, counters included, in one spelling: two files with the same rows need not have the same bytes
    with _opened(shop) as connection:
        return "\n".join(connection.iterdump()).encode()


def fingerprint(workspace: Path) -> dict[str, str]:
    """Every name below the workspace with the digest of its kind, permissions and content."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(workspace):
        if Path(folder) == workspace and ".takeback" in folders:
            folders.remove(".takeback")  # the server's own trash, where the data directory is on another disk
        for name in [*folders, *files]:
            path = Path(folder, name)
            info = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
            if path == workspace / SHOP:
                content = _rows(path)
            meaning = f"{stat.S_IFMT(info.st_mode)} {stat.S_IMODE(info.st_mode):o} ".encode() + content
            found[path.relative_to(workspace).as_posix()] = hashlib.sha256(meaning).hexdigest()
    return found


def calendar(data: Path) -> dict[str, bytes]:
    """The events of the calendar on this machine, as they lie on the disk."""
    return {path.name: path.read_bytes() for path in (data / "calendar" / "default").glob("*.ics")}


def delivered(data: Path) -> list[str]:
    """All mail in the mailbox on this machine, in whatever folder."""
    return sorted(
        str(path) for path in (data / "mail").rglob("*") if path.is_file() and path.parent.name in ("new", "cur")
    )


def differences(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """Names that are not the same on both sides."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def digest(world: dict[str, str]) -> str:
    """One short word for the whole world."""
    lines = "".join(f"{name} {each}\n" for name, each in sorted(world.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
