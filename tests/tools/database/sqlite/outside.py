"""Another program at the user's database: a process of its own, on the SQLite of Python's standard library.

It must not be this process: two SQLite libraries at one file in one process drop each other's locks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

_PROGRAM = r"""
import hashlib, json, sqlite3, sys

connections = {}

def open_(path):
    connection = connections.get(path)
    if connection is None:
        connection = connections[path] = sqlite3.connect(path, isolation_level=None, timeout=20)
        connection.text_factory = bytes
        connection.execute("PRAGMA foreign_keys = ON")
    return connection

def name(raw):
    return raw.decode("utf-8")

def quoted(text):
    return '"' + text.replace('"', '""') + '"'

def cell(value):
    return value.hex() if isinstance(value, bytes) else repr(value)

def dump(path):
    connection = open_(path)
    connection.execute("BEGIN")
    try:
        told = {}
        schema = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
        told["schema"] = [[name(kind), name(each), None if sql is None else name(sql)] for kind, each, sql in schema]
        for kind, raw, sql in schema:
            if kind != b"table":
                continue
            table = name(raw)
            text = (sql or b"").decode("utf-8")
            columns = [name(row[1]) for row in connection.execute(f"PRAGMA table_xinfo({quoted(table)})") if row[6] != 1]
            wanted = []
            virtual, without = text.upper().startswith("CREATE VIRTUAL"), "WITHOUT ROWID" in text.upper()
            if not virtual and not without and table != "sqlite_sequence":
                wanted.append("rowid")
            for column in columns:
                wanted += [f"typeof({quoted(column)})", f"CAST({quoted(column)} AS BLOB)", f"hex({quoted(column)})"]
            rows = connection.execute(f"SELECT {', '.join(wanted)} FROM {quoted(table)}").fetchall()
            told["table " + table] = sorted([cell(value) for value in row] for row in rows)
        for kind, raw, sql in schema:
            text = (sql or b"").decode("utf-8")
            if kind == b"table" and "USING FTS" in text.upper():
                table = name(raw)
                for word in ("alpha", "beta", "gamma", "delta"):
                    rows = connection.execute(f"SELECT rowid FROM {quoted(table)} WHERE {quoted(table)} MATCH ?", (word,))
                    told[f"match {table} {word}"] = sorted(row[0] for row in rows)
        told["version"] = [connection.execute(f"PRAGMA {each}").fetchone()[0] for each in ("user_version", "application_id")]
        return told
    finally:
        connection.execute("COMMIT")

def check(path):
    connection = open_(path)
    found = [name(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    schema = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
    for raw, sql in schema:
        if sql and b"USING FTS5" in sql.upper():
            connection.execute(f"INSERT INTO {quoted(name(raw))}({quoted(name(raw))}) VALUES ('integrity-check')")
    return found

def run(path, sql, values):
    connection = open_(path)
    given = [bytes.fromhex(value["hex"]) if isinstance(value, dict) else value for value in values]
    rows = connection.execute(sql, given).fetchall()
    return [[value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in row] for row in rows]

def script(path, sql):
    open_(path).executescript(sql)

def close():
    while connections:
        connections.popitem()[1].close()

for line in sys.stdin:
    verb, arguments = json.loads(line)
    try:
        answer = [True, globals()[verb](*arguments)]
    except sqlite3.Error as error:
        answer = [False, f"{type(error).__name__}: {error}"]
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
"""


class OutsideError(Exception):
    """SQLite refused it there."""


class Outside:
    """The other program."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _ask(self, verb: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([verb, arguments]) + "\n")
        self._process.stdin.flush()
        good, answer = json.loads(self._process.stdout.readline())
        if not good:
            raise OutsideError(answer)
        return answer

    def dump(self, path: Path) -> dict[str, Any]:
        """Schema, every cell with type and bytes, rowids, counters, what full-text searches find."""
        told: dict[str, Any] = self._ask("dump", str(path))
        return told

    def check(self, path: Path) -> None:
        """The file is sound, and so are its full-text indexes."""
        assert self._ask("check", str(path)) == ["ok"]

    def run(self, path: Path, sql: str, *values: Any) -> list[list[Any]]:
        """One statement, committed at once."""
        rows: list[list[Any]] = self._ask("run", str(path), sql, list(values))
        return rows

    def script(self, path: Path, sql: str) -> None:
        """Several statements."""
        self._ask("script", str(path), sql)

    def close(self) -> None:
        """Let go of all files."""
        self._ask("close")


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Where two dumps differ."""
    return {key: (before.get(key), after.get(key)) for key in {*before, *after} if before.get(key) != after.get(key)}
