"""The demo's little world, and ways to look at it that share nothing with the server they are there to check."""

from __future__ import annotations

import email
import email.policy
import hashlib
import os
import sqlite3
import stat
from collections.abc import Generator
from contextlib import closing, contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

CONFIG = "site.toml"
DRAFTS = "drafts"
SHOP = "data/shop.db"
EVERYBODY = OFFICE, PRESS, GUEST = ("office", "press", "grace")
"""Whose mailboxes there are. The office has a calendar too."""

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


_APPOINTMENT = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//example.org//A paper diary//EN
BEGIN:VEVENT
UID:dentist@example.org
DTSTAMP:20260901T080000Z
DTSTART:20261006T090000
DTEND:20261006T093000
SUMMARY:Dentist
X-MOOD:brave
END:VEVENT
END:VCALENDAR
"""


def address(name: str) -> str:
    """Where the mail of somebody's mailbox is sent to."""
    return f"{name}@example.org"


def settings(home: Path) -> dict[str, dict[str, dict[str, str]]]:
    """The configuration: a calendar that tells guests by mail, and a mailbox for everybody who may be written to.

    No mail leaves this machine: it is delivered into these folders, and what is said of mail that has left is seen there.
    """
    return {
        "calendars": {OFFICE: {"path": str(home / "calendars" / OFFICE), "mailbox": OFFICE}},
        "mailboxes": {name: {"path": str(home / "mailboxes" / name), "address": address(name)} for name in EVERYBODY},
    }


def build_office(home: Path) -> None:
    """Make what is beside the workspace: a calendar with an appointment in it. Mailboxes are made when mail arrives."""
    folder = home / "calendars" / OFFICE
    folder.mkdir(parents=True)
    (folder / "dentist.ics").write_bytes(_APPOINTMENT.replace("\n", "\r\n").encode())


def build(workspace: Path) -> None:
    """Make the workspace."""
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


def calendar(home: Path) -> dict[str, bytes]:
    """The events of the office's calendar, as they lie on the disk."""
    return {path.name: path.read_bytes() for path in (home / "calendars" / OFFICE).iterdir()}


class Letter(NamedTuple):
    """What somebody reads who gets a message."""

    subject: str
    text: str


def letter(content: bytes) -> Letter:
    """A message, read."""
    return _read(email.message_from_bytes(content, policy=email.policy.default))


def mail(home: Path, whose: str) -> list[Letter]:
    """All that lies in somebody's mailbox, in whatever folder, answers after what they answer."""
    paths = [path for path in sorted((home / "mailboxes" / whose).rglob("*")) if path.parent.name in ("new", "cur")]
    found = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths]
    return [_read(message) for message in sorted(found, key=lambda message: "In-Reply-To" in message)]


def _read(message: EmailMessage) -> Letter:
    text = message.get_body(("plain",))
    return Letter(str(message["Subject"]), "" if text is None else text.get_content().replace("\r\n", "\n"))


def differences(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """Names that are not the same on both sides."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def digest(world: dict[str, str]) -> str:
    """One short word for the whole world."""
    lines = "".join(f"{name} {each}\n" for name, each in sorted(world.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
