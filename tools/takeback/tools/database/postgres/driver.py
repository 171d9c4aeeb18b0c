"""A connection that speaks the extended protocol only, in texts: what PostgreSQL writes is what PostgreSQL reads again.

The simple protocol runs every statement of a text (`SELECT 1; COMMIT; DROP …`), the extended one exactly one. That is used for
everything, with and without parameters, on the level of libpq, where nothing chooses for itself. All calls block: they belong
into threads (`threads.py`).
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from takeback.tools.database.postgres.failures import Lost, ServerFailure
from takeback.tools.system import Refused

if TYPE_CHECKING:
    import psycopg
    from psycopg import pq

MISSING: Final = "PostgreSQL needs the driver psycopg, which is not installed."
INSTALL: Final = 'Install it with: pip install "takeback[postgres]"'
_SERIALIZATION: Final = frozenset({"40001", "40P01"})

Line = tuple[str | None, ...]
"""A row as the server spells it: each value by its type's own output function, `None` for NULL."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one statement."""

    columns: tuple[str, ...]
    types: tuple[int, ...]
    """Object ids of the columns' types."""
    rows: list[Line]
    changed: int | None
    """Rows that the server counted; `None` where it does not count."""
    truncated: bool = False


class Connection:
    """One connection. Not for two threads at once, but for `cancel`."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        from psycopg import pq

        self._owner, self._pq = connection, pq
        self._raw: pq.abc.PGconn = connection.pgconn
        self.cancelled = False
        """Whether somebody asked it to stop."""

    @property
    def version(self) -> int:
        """Of the server: 180004 for 18.4."""
        return self._raw.server_version

    @property
    def alive(self) -> bool:
        """Whether it may still be used."""
        return self._raw.status == self._pq.ConnStatus.OK

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self.alive and self._raw.transaction_status == self._pq.TransactionStatus.IDLE

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open and has not failed."""
        return self.alive and self._raw.transaction_status == self._pq.TransactionStatus.INTRANS

    @property
    def superuser(self) -> bool:
        """Whether the server says so."""
        return self._raw.parameter_status(b"is_superuser") == b"on"

    @property
    def encoding(self) -> str:
        """Of the database."""
        return (self._raw.parameter_status(b"server_encoding") or b"").decode("ascii", "replace")

    def run(self, sql: str, parameters: Sequence[str | None] = ()) -> Answer:
        """Run one statement.

        :raises ServerFailure: the server refused it.
        :raises Lost: the connection is gone; nobody knows what came of it.
        """
        self._send(lambda: self._raw.send_query_params(sql.encode(), [_bytes(value) for value in parameters]))
        result = self._only()
        self._settle(result)
        return self._answer(result)

    def rows(self, sql: str, parameters: Sequence[str | None] = ()) -> list[Line]:
        """The rows of one statement."""
        return self.run(sql, parameters).rows

    def one(self, sql: str, parameters: Sequence[str | None] = ()) -> Line:
        """The only row of one statement."""
        [row] = self.rows(sql, parameters)
        return row

    def value(self, sql: str, parameters: Sequence[str | None] = ()) -> str:
        """The only value of one statement; NULL is an empty text."""
        return self.one(sql, parameters)[0] or ""

    def first(self, sql: str, parameters: Sequence[str | None], *, rows: int, size: int) -> Answer:
        """Run one statement and take only its first rows; of the rest nothing is kept.

        :param size: bytes of values after which no more are taken.
        """
        self._send(lambda: self._raw.send_query_params(sql.encode(), [_bytes(value) for value in parameters]))
        self._raw.set_single_row_mode()
        kept: list[Line] = []
        answer: Answer | None = None
        failed: ServerFailure | None = None
        taken, truncated, changed = 0, False, None
        while True:
            result = self._next()
            if result is None:
                break
            if result.status not in (
                self._pq.ExecStatus.SINGLE_TUPLE,
                self._pq.ExecStatus.TUPLES_OK,
                self._pq.ExecStatus.COMMAND_OK,
            ):
                failed = failed or self._failed(result)
                continue
            one = self._answer(result)
            answer = answer or one
            changed = one.changed if one.changed is not None else changed
            for line in one.rows:
                taken += sum(len(value) for value in line if value is not None)
                if len(kept) >= rows or (taken > size and kept):
                    truncated = True
                    continue
                kept.append(line)
        if failed is not None:
            raise failed
        if answer is None:
            raise Lost("The connection to the database was lost.")
        return Answer(answer.columns, answer.types, kept, changed, truncated)

    def parameter_types(self, sql: str) -> tuple[int, ...]:
        """Object ids of the types that a statement's placeholders have."""
        self._send(lambda: self._raw.send_prepare(b"", sql.encode()))
        self._settle(self._only())
        self._send(lambda: self._raw.send_describe_prepared(b""))
        described = self._only()
        self._settle(described)
        return tuple(described.param_type(index) for index in range(described.nparams))

    def cancel(self) -> None:
        """Ask the server to stop what runs. From any thread; asking too late does no harm."""
        self.cancelled = True
        with contextlib.suppress(Exception):  # whatever goes wrong here, the statement's own end is waited for
            self._raw.get_cancel().cancel()

    def rollback(self) -> None:
        """Leave a transaction, if there is one and the connection lives."""
        if self.alive and not self.idle:
            with contextlib.suppress(ServerFailure, Lost):
                self.run("ROLLBACK")

    def close(self) -> None:
        """Let go of it."""
        with contextlib.suppress(Exception):  # closing what is broken already is no failure
            self._owner.close()

    # -- sending and waiting -----------------------------------------------------------------------------------------------

    def _send(self, send: Callable[[], None]) -> None:
        self._check()
        try:
            send()
            while self._raw.flush():  # what does not fit into the socket yet waits in libpq
                if _wait(self._raw.socket, writing=True):
                    self._raw.consume_input()
        except self._errors() as error:
            raise self._failure(None) from error

    def _next(self) -> pq.abc.PGresult | None:
        """The next result. Waits on the socket: a call of libpq that waits would keep all other threads waiting too."""
        try:
            while self._raw.is_busy():
                _wait(self._raw.socket)
                self._raw.consume_input()
            return self._raw.get_result()
        except self._errors() as error:
            raise self._failure(None) from error

    def _only(self) -> pq.abc.PGresult:
        """The last result of what was sent; those before it say less."""
        last: pq.abc.PGresult | None = None
        copying = (self._pq.ExecStatus.COPY_IN, self._pq.ExecStatus.COPY_OUT, self._pq.ExecStatus.COPY_BOTH)
        while (result := self._next()) is not None:
            last = result
            if result.status in copying:
                break
        if last is None:
            raise Lost("The connection to the database was lost.")
        return last

    # -- what libpq says ---------------------------------------------------------------------------------------------------

    def _errors(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.Error,)

    def _check(self) -> None:
        if not self.alive:
            raise Lost("The connection to the database was lost.")

    def _settle(self, result: pq.abc.PGresult) -> None:
        status = self._pq.ExecStatus
        if result.status in (status.TUPLES_OK, status.COMMAND_OK):
            return
        raise self._failed(result)

    def _failed(self, result: pq.abc.PGresult) -> ServerFailure:
        status = self._pq.ExecStatus
        if result.status in (status.COPY_IN, status.COPY_OUT, status.COPY_BOTH):
            self.close()  # the data would have to pass here, and nobody sends or takes it
            return ServerFailure("0A000", "COPY from or to the client is not possible here.")
        if result.status == status.EMPTY_QUERY:
            return ServerFailure("42601", "There is no statement in the text.")
        return self._failure(result)

    def _failure(self, result: pq.abc.PGresult | None) -> ServerFailure:
        code = b"" if result is None else result.error_field(self._pq.DiagnosticField.SQLSTATE) or b""
        if not code or not self.alive or code.startswith(b"57P"):
            raise Lost("The connection to the database was lost.")
        field = self._pq.DiagnosticField
        assert result is not None

        def said(which: pq.DiagnosticField) -> str:
            return (result.error_field(which) or b"").decode("utf-8", "replace")

        return ServerFailure(
            code.decode("ascii"),
            said(field.MESSAGE_PRIMARY),
            constraint=said(field.CONSTRAINT_NAME),
            table=said(field.TABLE_NAME),
            column=said(field.COLUMN_NAME),
        )

    def _answer(self, result: pq.abc.PGresult) -> Answer:
        width = result.nfields
        columns = tuple((result.fname(index) or b"").decode() for index in range(width))
        types = tuple(result.ftype(index) for index in range(width))
        get = result.get_value
        places = range(width)
        rows = [
            tuple(None if (value := get(row, place)) is None else bytes(value).decode() for place in places)
            for row in range(result.ntuples)
        ]
        counted = result.command_tuples
        return Answer(columns, types, rows, counted)


def _wait(fd: int, *, writing: bool = False) -> bool:
    """Wait until there is something to read, or room to write; whether there is something to read."""
    # poll knows no limit of descriptors, and is not everywhere
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fd, select.POLLIN | (select.POLLOUT if writing else 0))
        return any(event & ~select.POLLOUT for _, event in poll.poll())
    readable, _, _ = select.select([fd], [fd] if writing else [], [])
    return bool(readable)


def _bytes(value: str | None) -> bytes | None:
    if value is None:
        return None
    if "\0" in value:
        raise Refused("A text holds a NUL character, which PostgreSQL cannot store.", advice="Leave it out.")
    return value.encode("utf-8", "surrogatepass")


def array(values: Iterable[str | None]) -> str:
    """A one-dimensional array as a text, whatever stands in it."""
    return (
        "{"
        + ",".join(
            "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values
        )
        + "}"
    )


def identifier(name: str) -> str:
    """A name inside a statement."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text inside a statement that cannot take parameters."""
    return " E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def transient(error: ServerFailure) -> bool:
    """Whether the same transaction may succeed when it is tried again."""
    return error.code in _SERIALIZATION
