"""From the settings of a mailbox to its store."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from blake3 import blake3

from takeback.tools.email.credentials import password_of
from takeback.tools.email.imap.store import ImapStore
from takeback.tools.email.imap.wire import SECONDS, Account
from takeback.tools.email.port import Role
from takeback.tools.email.settings import MailboxSettings, server


def account_of(
    settings: MailboxSettings, password: str, *, context: ssl.SSLContext | None = None, seconds: float = SECONDS
) -> Account:
    """Which server, and who asks."""
    where = server(settings.imap or "")
    assert where is not None, "checked when the settings were read"
    return Account(*where, settings.username, password, context, seconds)


def open_imap(
    name: str,
    settings: MailboxSettings,
    data: Path,
    *,
    environment: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
) -> ImapStore:
    """The mailbox. Nothing is asked of the server yet.

    :param context: whom to believe; by default the authorities that the system knows.
    """
    known = os.environ if environment is None else environment

    def account() -> Account:
        password = password_of(name, settings, settings.imap or "", known)
        return account_of(settings, password, context=context, seconds=seconds)

    # numbers mean something on this server and for this user only
    whose = blake3(f"{settings.imap}\0{settings.username}".encode()).hexdigest()[:16]
    named = cast(
        "dict[Role, str]",
        {role: getattr(settings, role) for role in ("sent", "drafts", "trash") if role in settings.model_fields_set},
    )
    return ImapStore(account, data / "mail" / "imap" / f"{name}-{whose}.sqlite3", configured=named)
