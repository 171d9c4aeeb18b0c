"""Who calls: the principal, and the client program as it names itself in either protocol era.

The client's name is what a client says about itself. It is journaled and shown, and chooses the default run; it decides nothing
about what may be seen or approved.

Over standard streams the principal is whoever started the process. A server that many people reach is told per request, and
once `only_authenticated` has been called a request about which nothing is known is nobody's: it never falls back to the
process's user.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from mcp.server.session import ServerSession

from takeback.journal.events import Caller
from takeback.server.principal import local_principal

NAME_LIMIT = 120
"""Characters of a client's name or version that are journaled."""

_authenticated: ContextVar[str | None] = ContextVar("takeback_principal", default=None)
_required = False


class NotAuthenticated(RuntimeError):
    """Something was asked for without anybody being known to ask: a mistake in the program, never a client's."""


def only_authenticated() -> None:
    """From now on, this process has no callers but those that `acting_as` names."""
    global _required
    _required = True


@contextmanager
def acting_as(principal: str) -> Generator[None]:
    """What is done inside, tasks begun in it included, is done for this principal."""
    before = _authenticated.set(principal)
    try:
        yield
    finally:
        _authenticated.reset(before)


def present_principal() -> str:
    """Whose request this is.

    :raises NotAuthenticated: nobody's, where somebody has to be known.
    """
    principal = _authenticated.get()
    if principal is not None:
        return principal
    if _required:
        raise NotAuthenticated("no principal is known for this request")
    return local_principal()


def caller_of(session: ServerSession | None = None) -> Caller:
    """The caller of one request; without a session, through an unknown client.

    :raises NotAuthenticated: as `present_principal`.
    """
    client = session.client_params.client_info if session is not None and session.client_params is not None else None
    if client is None:
        return Caller(principal=present_principal())
    return Caller(
        principal=present_principal(),
        client=_plain(client.name) or "unknown",
        client_version=_plain(client.version),
    )


def _plain(words: str) -> str:
    """Printable and short: it ends up in lists and questions to people."""
    return "".join(letter for letter in words if letter.isprintable())[:NAME_LIMIT].strip()
