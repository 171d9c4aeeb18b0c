"""Who calls: the principal, and the client program as it names itself in either protocol era.

The client's name is what a client says about itself. It is journaled and shown, and chooses the default run; it decides nothing
about what may be seen or approved.
"""

from __future__ import annotations

from mcp.server.session import ServerSession

from takeback.journal.events import Caller
from takeback.server.principal import local_principal

NAME_LIMIT = 120
"""Characters of a client's name or version that are journaled."""


def caller_of(session: ServerSession | None = None) -> Caller:
    """The caller of one request; without a session, whoever started the process, through an unknown client."""
    client = session.client_params.client_info if session is not None and session.client_params is not None else None
    if client is None:
        return Caller(principal=local_principal())
    return Caller(
        principal=local_principal(),
        client=_plain(client.name) or "unknown",
        client_version=_plain(client.version),
    )


def _plain(words: str) -> str:
    """Printable and short: it ends up in lists and questions to people."""
    return "".join(letter for letter in words if letter.isprintable())[:NAME_LIMIT].strip()
