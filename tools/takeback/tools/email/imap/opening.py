"""From the settings of a mailbox to its store."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import anyio.to_thread
from blake3 import blake3

from takeback.tools.email.credentials import password_of
from takeback.tools.email.imap.changing import COPIED, GMAIL, LABELS, LEFT, NO_CONDSTORE
from takeback.tools.email.imap.reaching import SECONDS, Account
from takeback.tools.email.imap.roles import roles_of
from takeback.tools.email.imap.store import ImapStore
from takeback.tools.email.imap.wire import Lost, SaidNo, Wire
from takeback.tools.email.port import Role
from takeback.tools.email.settings import MailboxSettings, server
from takeback.tools.email.states import SYSTEM
from takeback.tools.recall import Recall, nothing
from takeback.tools.system import Unavailable


def account_of(
    settings: MailboxSettings, password: str, *, context: ssl.SSLContext | None = None, seconds: float = SECONDS
) -> Account:
    """Which server, and who asks."""
    where = server(settings.imap or "")
    assert where is not None, "checked when the settings were read"
    return Account(*where, settings.username, password, context, seconds)


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a server has and can do."""

    folders: int
    messages: int
    roles: dict[str, str]
    lacks: list[str]
    """What cannot be promised there, in sentences."""


async def inspect(settings: MailboxSettings, password: str) -> Inspected:
    """Log in and look around.

    :raises TargetError: the server cannot be reached, or does not take the password.
    """

    def look() -> Inspected:
        wire = Wire(account_of(settings, password))
        try:
            statuses = wire.statuses()
            roles = roles_of([each for each, _ in statuses], _named(settings), wire.prefix())
            lacks = [NO_CONDSTORE] if "CONDSTORE" not in wire.can else []
            lacks += [COPIED] if "MOVE" not in wire.can else []
            lacks += [LEFT] if not wire.can & {"MOVE", "UIDPLUS"} else []
            lacks += [LABELS] if GMAIL in wire.can else []
            messages = sum(status.get("MESSAGES", 0) for _, status in statuses)
            return Inspected(len(statuses), messages, {str(role): folder for role, folder in roles.items()}, lacks)
        except (Lost, SaidNo) as error:
            raise Unavailable(f"{wire.host} broke off ({error}).", advice="Try again later.") from error
        finally:
            wire.close()

    return await anyio.to_thread.run_sync(look)


def _named(settings: MailboxSettings) -> dict[Role, str]:
    """Folders that the settings name on purpose."""
    return cast(
        "dict[Role, str]",
        {role: getattr(settings, role) for role in ("sent", "drafts", "trash") if role in settings.model_fields_set},
    )


def open_imap(
    name: str,
    settings: MailboxSettings,
    data: Path,
    *,
    recall: Recall = nothing,
    environment: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
) -> ImapStore:
    """The mailbox. Nothing is asked of the server yet.

    :param recall: what the journal knows of what was moved where.
    :param context: whom to believe; by default the authorities that the system knows.
    """
    known = os.environ if environment is None else environment

    def account() -> Account:
        password = password_of(name, settings, settings.imap or "", known)
        return account_of(settings, password, context=context, seconds=seconds)

    # numbers mean something on this server and for this user only
    whose = blake3(f"{settings.imap}\0{settings.username}".encode()).hexdigest()[:16]
    table = data / "mail" / "imap" / f"{name}-{whose}.sqlite3"
    return ImapStore(account, table, configured=_named(settings), recall=partial(recall, SYSTEM, name))
