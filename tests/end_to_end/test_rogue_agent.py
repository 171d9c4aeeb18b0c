"""A rogue agent, over stdio: contained before it does more than it may, and alone.

It loops, works for the wrong tenant, deletes in masses, and writes to a hundred people, in all four families, each in a run of
its own. Beside it, through the same client, somebody's other run goes on.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

Step = tuple[str, dict[str, Any]]

CONFIG = """
[triggers.target_confusion]
tenants = ["*/customers/{tenant}/*", "*@{tenant}.example"]

[triggers.blast_radius]
deleted_per_minute = 30
recipients_per_minute = 10
"""
EVENT = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//somebody//EN\r\nBEGIN:VEVENT\r\nUID:{0}\r\nDTSTAMP:20260101T000000Z\r\n"
    "DTSTART:20270101T100000Z\r\nDTEND:20270101T110000Z\r\nSUMMARY:Talk {0}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
LETTER = "From: anna@example.org\r\nTo: me@localhost\r\nSubject: No {0}\r\nMessage-ID: <{0}@example.org>\r\n\r\nHello {0}\r\n"
DELETED, PEOPLE, LOOPS, MANY = 30, 10, 20, 40


@pytest.fixture
def world(tmp_path: Path) -> Path:
    site, data = tmp_path / "site", tmp_path / "data"
    for customer in ("acme", "globex"):
        (site / "customers" / customer).mkdir(parents=True)
        (site / "customers" / customer / "terms.txt").write_text("before\n")
    (site / "old").mkdir()
    for number in range(MANY):
        (site / "old" / f"{number}.txt").write_text(f"{number}\n")
    with sqlite3.connect(site / "shop.db") as shop:
        shop.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY, total INT)")
        shop.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= 50500)"
            " INSERT INTO orders SELECT i, i FROM n"
        )
    shop.close()
    calendar, mail = tmp_path / "calendar", tmp_path / "mail"
    calendar.mkdir()
    for number in range(MANY):
        (calendar / f"{number}.ics").write_text(EVENT.format(number), newline="")
    for sub in ("cur", "new", "tmp"):
        (mail / sub).mkdir(parents=True)
    for number in range(MANY):
        (mail / "cur" / f"{1764380000 + number}.M{number}P1.host:2,S").write_text(LETTER.format(number), newline="")
    (tmp_path / "config.toml").write_text(
        CONFIG + f'[calendars.work]\npath = "{calendar}"\n[mailboxes.work]\npath = "{mail}"\naddress = "me@localhost"\n'
    )
    assert not data.exists()
    return tmp_path


@asynccontextmanager
async def chat(folder: Path) -> AsyncIterator[Client]:
    named = {"CONFIG": "config.toml", "DATA": "data", "KEY_FILE": "key.json", "ANCHOR_FILE": "anchors"}
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "takeback", "serve", "--workspace", str(folder / "site")],
        env={f"TAKEBACK_{name}": str(folder / file) for name, file in named.items()},
    )
    async with Client(server) as client:
        yield client


def seen(folder: Path) -> dict[str, str]:
    """Files, rows, events and letters, by digests made without takeback."""
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("site", "calendar", "mail")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
        and ".takeback" not in path.parts
        and path.name != "maildirfolder"
        and path.suffix not in (".db", ".db-wal", ".db-shm")
    }
    shop = sqlite3.connect(folder / "site" / "shop.db")
    rows = repr(shop.execute("SELECT * FROM orders ORDER BY id").fetchall())
    shop.close()
    return {**found, "orders": hashlib.sha256(rows.encode()).hexdigest()}


def loop(number: int) -> Step:
    return "write_file", {"path": "status.txt", "content": "still working\n"}


def wrong_tenant(number: int) -> Step:
    customer = "acme" if number < 3 else "globex"
    return "write_file", {"path": f"customers/{customer}/{number}.txt", "content": "terms\n"}


def wrong_tenant_s_mail(number: int) -> Step:
    if number == 0:
        return wrong_tenant(0)
    return "send_email", {"to": ["bob@globex.example"], "subject": "Your terms", "body": "Hello", "hold_seconds": 600}


def delete_files(number: int) -> Step:
    return "delete_file", {"path": f"old/{number}.txt"}


def delete_rows(number: int) -> Step:
    sql = ("DELETE FROM orders WHERE id <= 10", "DELETE FROM orders")[min(number, 1)]
    return "execute_sql", {"database": "shop.db", "sql": sql}


def delete_events(number: int) -> Step:
    return "delete_event", {"calendar": "work", "event_id": f"{number}"}


def delete_mail(number: int) -> Step:
    return "delete_email", {"mailbox": "work", "message_ids": [f"{1764380000 + number}.M{number}P1.host"]}


def write_to_everybody(number: int) -> Step:
    return "send_email", {"to": [f"p{number}@example.org"], "subject": "Offer", "body": "Buy!", "hold_seconds": 600}


def write_to_everybody_at_once(number: int) -> Step:
    people = [f"p{each}@example.org" for each in range(100)]
    return "send_email", {"to": people[:1], "bcc": people[1:], "subject": "Offer", "body": "Buy!", "hold_seconds": 600}


ROGUES: list[tuple[Callable[[int], Step], int, str]] = [
    (loop, LOOPS, "repeated_update"),
    (wrong_tenant, 3, "target_confusion"),
    (wrong_tenant_s_mail, 1, "target_confusion"),
    (delete_files, DELETED, "blast_radius"),
    (delete_rows, 1, "blast_radius"),
    (delete_events, DELETED, "blast_radius"),
    (delete_mail, DELETED, "blast_radius"),
    (write_to_everybody, PEOPLE, "blast_radius"),
    (write_to_everybody_at_once, 0, "blast_radius"),
]


async def test_a_rogue_agent_is_contained_before_its_blast_radius_exceeds_the_threshold_and_nothing_else_is_stopped(
    world: Path,
) -> None:
    before = seen(world)
    async with chat(world) as client:

        async def act(tool: str, **arguments: Any) -> dict[str, Any]:
            answer = await client.call_tool(tool, arguments)
            assert answer.structured_content is not None, answer
            return dict(answer.structured_content)

        good = (await act("start_run", goal="Write the report"))["run_id"]
        runs = [(await act("start_run", goal=rogue.__name__))["run_id"] for rogue, _, _ in ROGUES]
        for (rogue, allowed, trigger), run in zip(ROGUES, runs, strict=True):
            done = 0
            for number in range(MANY):
                tool, arguments = rogue(number)
                answer = await act(tool, **arguments, run_id=run)
                if answer["status"] not in ("applied", "held"):
                    assert answer["error"]["code"] == "contained" and trigger in answer["error"]["message"], answer
                    break
                done += 1
            assert done == allowed, rogue.__name__
            again = await act("write_file", path="one more.txt", content="x", run_id=run)
            assert again["status"] == "denied"
            fine = await act("write_file", path=f"report/{rogue.__name__}.txt", content="fine\n", run_id=good)
            assert fine["status"] == "applied", "another run goes on"
        fresh = (await act("start_run", goal="Go on in a new run"))["run_id"]
        assert (await act("write_file", path="new.txt", content="x", run_id=fresh))["status"] == "denied"
        assert (await act("read_file", path="report/loop.txt"))["content"] == "fine\n"
        held = (await act("list_outbox"))["messages"]
        assert sum(len(message["recipients"]) for message in held) == PEOPLE and {one["status"] for one in held} == {
            "HELD"
        }
        for run in [*runs[::-1], good]:
            answer = await act("rollback_run", run_id=run)
            assert answer.get("status") == "complete" or answer["error"]["code"] == "nothing", answer
        assert (await act("list_outbox"))["messages"] == []
    assert seen(world) == before
