"""Connections to one database: opened when they are needed, least privileged, and kept only while nothing is open on them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from takeback.tools.database.postgres.driver import INSTALL, MISSING, Connection
from takeback.tools.database.postgres.failures import Lost, ServerFailure
from takeback.tools.database.postgres.threads import Watch
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.system import Refused, Unavailable

KEYRING_SERVICE: Final = "takeback"
"""Passwords are kept there, each under `database/NAME`."""
KEPT: Final = 2
"""Idle connections that are kept for the next call."""
CONNECT_SECONDS: Final = 10
OLDEST: Final = 150000

FIXED: Final = (
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("timezone", "UTC"),
    ("xmloption", "content"),
    ("search_path", "pg_catalog, pg_temp"),
    ("row_security", "off"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
)
"""Settings under which every value has one spelling that reads back as itself. Where row security would hide rows, `off` makes
reading them an error instead of a silent gap."""
_FIX: Final = "SELECT " + ", ".join(f"pg_catalog.set_config('{name}', '{value}', true)" for name, value in FIXED)
LOCK_MS: Final = 10_000
"""Milliseconds to wait for somebody's lock."""


class Connections:
    """The connections of one configured database."""

    def __init__(self, name: str, settings: DatabaseSettings) -> None:
        self.name, self.settings = name, settings
        self._idle: list[Connection] = []
        self._taken: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def use(self, watch: Watch) -> Generator[Connection]:
        """A connection for one piece of work that is over when the block is left."""
        connection = self.take(watch)
        try:
            yield connection
        finally:
            self.give(connection)

    def take(self, watch: Watch) -> Connection:
        """A connection with no transaction open; `give` it back.

        :raises Unavailable: the server cannot be reached.
        :raises Refused: the role may do too much, or the database cannot be worked with.
        """
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                return watch.add(self._note(self._open()))
            with contextlib.suppress(ServerFailure, Lost):
                kept.run("SELECT 1")  # a server that was restarted meanwhile is noticed here
                return watch.add(self._note(kept))
            kept.close()

    def _note(self, connection: Connection) -> Connection:
        with self._lock:
            self._taken.append(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """The work is over: an open transaction is left, and nothing of the session stays."""
        with self._lock:
            if connection in self._taken:
                self._taken.remove(connection)
        connection.rollback()
        if connection.cancelled or self._closed or not connection.idle:
            connection.close()
            return
        try:
            connection.run("DISCARD ALL")
            # what it counted is passed on now, so that the next transaction begins to count from nothing (`traces.py`)
            connection.run("SELECT pg_catalog.pg_stat_force_next_flush()")
        except (ServerFailure, Lost):
            connection.close()
            return
        with self._lock:
            keep = len(self._idle) < KEPT and not self._closed
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def close(self) -> None:
        """Let go of all; what is still open on one is rolled back by the server."""
        with self._lock:
            left = [*self._idle, *self._taken]
            self._idle, self._taken = [], []
            self._closed = True
        for connection in left:
            connection.close()

    def _open(self) -> Connection:
        try:
            import psycopg
        except ImportError as error:
            raise Refused(MISSING, advice=INSTALL) from error
        password = _password(self.name)
        try:
            made = psycopg.connect(
                self.settings.url,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                application_name="takeback",
                client_encoding="UTF8",
                password=password,
            )
        except psycopg.ProgrammingError as error:
            # what libpq says of an address that it cannot read repeats the address
            raise Refused(
                f"The address of database {self.name} is not one that PostgreSQL's client understands.",
                advice="Correct its url in the configuration: postgresql://user@host:port/name.",
            ) from error
        except psycopg.Error as error:
            raise Unavailable(
                f"Database {self.name} cannot be reached: {_reason(error)}.",
                advice="Check that the server runs, and that host, port, user and password are right.",
            ) from error
        connection = Connection(made)
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: Connection) -> None:
        if connection.superuser and not self.settings.superuser:
            raise Refused(
                f"Database {self.name} is configured with a superuser, who can do what nobody can take back.",
                advice="Make a role for the agent (docs/postgresql.md), or insist with superuser = true.",
            )
        if connection.version < OLDEST:
            raise Refused(
                f"Database {self.name} runs PostgreSQL {connection.version // 10000}; 15 is the oldest that can be used.",
                advice="Upgrade the server.",
            )
        if connection.value("SHOW track_counts") != "on":
            raise Refused(
                f"Database {self.name} does not count what is changed (track_counts is off), which changes are seen by.",
                advice="Switch it on.",
            )
        if connection.encoding == "SQL_ASCII":
            raise Refused(
                f"Database {self.name} has no character encoding (SQL_ASCII), so its texts cannot be read safely.",
                advice="Move it into a database with encoding UTF8.",
            )


def fix(connection: Connection, *, seconds_ms: int = 0, lock_ms: int = LOCK_MS) -> None:
    """Give the open transaction the settings under which images are read and written.

    :param seconds_ms: bound of each statement; 0 is none.
    """
    connection.run(
        f"{_FIX}, pg_catalog.set_config('statement_timeout', $1, true), pg_catalog.set_config('lock_timeout', $2, true)",
        [str(seconds_ms), str(lock_ms)],
    )


def unfix(connection: Connection) -> None:
    """Give the open transaction the settings back that the role usually has."""
    for name, _ in FIXED:
        connection.run(f"SET LOCAL {name} TO DEFAULT")


def _password(name: str) -> str | None:
    """The password that the system's keyring has for the database; else libpq looks where it always looks."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        return keyring.get_password(KEYRING_SERVICE, f"database/{name}")
    except (KeyringError, RuntimeError):
        return None  # no keyring on this machine: the environment and PGPASSFILE are left


def _reason(error: Exception) -> str:
    # one line a host; the last one is the last that was tried
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:300] if lines else type(error).__name__
