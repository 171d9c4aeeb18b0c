"""Statements that ran and are not committed yet, as the engine handles them; and what became of a COMMIT that broke off."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from takeback.journal.states import Effect
from takeback.tools.contract import ToolError
from takeback.tools.database.port import Done, Execution
from takeback.tools.database.postgres.capture import Opened
from takeback.tools.database.postgres.connecting import Connections
from takeback.tools.database.postgres.driver import Answer
from takeback.tools.database.postgres.effects import Told
from takeback.tools.database.postgres.failures import CommitUnknown, Lost, ServerFailure, as_target, told
from takeback.tools.database.postgres.texts import shown
from takeback.tools.database.postgres.threads import Watch, in_thread
from takeback.tools.database.postgres.traces import SERVER, UP
from takeback.tools.system import TargetError, Unavailable

SETTLING_SECONDS: Final = 5.0
"""How long it is asked what became of a COMMIT whose connection was lost, before that is left to recovery."""
_PAUSE: Final = 0.1
T = TypeVar("T")


class PostgresExecution(Execution):
    """Statements in an open transaction."""

    def __init__(self, opened: Opened, told: Told) -> None:
        self._opened = opened
        self.effects = tuple(told.effects)
        self.done = tuple(map(_done, opened.answers))
        self.changed = tuple(told.changed)
        self.samples = told.samples
        self.reversibility, self.reason, self.how = told.reversibility, told.reason, told.how
        self.blobs = told.blobs
        self.warnings = tuple(opened.captured.warnings)
        captured = opened.captured
        self.schema = captured.reshaped + len(captured.turns) + len(captured.altered)

    async def commit(self) -> tuple[Effect, ...]:
        await in_thread(lambda: commit(self._opened), Watch())
        return self.effects

    async def discard(self) -> None:
        if not self._opened.over:
            await in_thread(self._opened.drop, Watch())


def _done(answer: Answer) -> Done:
    return Done(changed=answer.changed, returned=shown(answer) if answer.columns else None)


def commit(opened: Opened) -> None:
    """COMMIT.

    :raises ToolError: proven: nothing has changed.
    :raises CommitUnknown: nobody knows yet.
    """
    if opened.over:
        raise ToolError("The transaction is over.", advice="Repeat the call.", code="lost")
    connection = opened.connection
    try:
        connection.run("SET LOCAL statement_timeout = 0")
        connection.run("COMMIT")
    except ServerFailure as error:
        opened.drop()
        raise told(error) from error
    except Lost as error:
        opened.drop()
        if not opened.xid or settle(opened.connections, opened.xid) is False:
            raise ToolError(
                "The connection to the database was lost before the commit; nothing has changed.",
                advice="Try again.",
                code="lost",
            ) from error
        return
    opened.over = True
    opened.connections.give(connection)


def settle(connections: Connections, xid: str) -> bool:
    """Whether a transaction whose COMMIT broke off took place.

    :raises CommitUnknown: it could not be told within a few seconds.
    """
    found: bool | None = None
    try:
        found = patiently(lambda: status(connections, xid))
    except TargetError as error:
        raise CommitUnknown(str(error)) from error
    if found is None:
        raise CommitUnknown("the server has started anew since")
    return found


def patiently(ask: Callable[[], T]) -> T:
    """Ask again for a few seconds while the answer is out of reach.

    :raises TargetError: it stayed so, or cannot be told at all.
    """
    end = time.monotonic() + SETTLING_SECONDS
    while True:
        try:
            return ask()
        except Unavailable:
            if time.monotonic() > end:
                raise
        time.sleep(_PAUSE)


def status(connections: Connections, xid: str) -> bool | None:
    """Whether the transaction of that number was committed. `None`: one was, but the server has started anew since, and may
    have given the number once more.

    :raises Unavailable: it is still at work, or the server is out of reach.
    :raises TargetError: the server does not know any more.
    """
    number, server, up = (*xid.split("@"), "")[:3]
    try:
        with connections.use(Watch()) as connection:
            if connection.value(SERVER) != server:
                raise TargetError(
                    f"Transaction {number} was run by another server than this one.",
                    advice="Look whether the change is there, then settle it by hand.",
                )
            same = connection.value(UP) == up
            said = connection.value("SELECT coalesce(pg_catalog.pg_xact_status($1::xid8), 'forgotten')", [number])
    except Lost as error:
        raise Unavailable("The connection to the database was lost.", advice="Try again.") from error
    except ServerFailure as error:
        if error.code != "22023":
            raise as_target(error, f"Transaction {number} cannot be looked up") from error
        return (
            False  # the server came back from a crash without it: a number that it has yet to give was never committed
        )
    match said:
        case "committed":
            return True if same else None
        case "aborted":
            return False
        case "in progress":
            if not same:
                return False  # ours ended with the server, so this is another's
            raise Unavailable(
                f"Transaction {number} is still at work at the server.", advice="Try again a little later."
            )
        case _:
            raise TargetError(
                f"Transaction {number} is too old: the server has forgotten what became of it.",
                advice="Look whether the change is there, then settle it by hand.",
            )
