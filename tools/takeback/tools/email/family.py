"""The family of the email tools. Opens nothing at the start: a mailbox is opened when it is first used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Self

from takeback.tools.email.act_tools import DeleteEmailTool, FlagEmailTool, MoveEmailTool
from takeback.tools.email.addresses import BadText, parse
from takeback.tools.email.attaching import Attaching
from takeback.tools.email.carriers import LocalCarrier
from takeback.tools.email.draft_tool import DraftEmailTool
from takeback.tools.email.maildir.store import MaildirStore
from takeback.tools.email.port import MailStore
from takeback.tools.email.read_tools import ListMailboxesTool, ReadEmailTool, SearchEmailTool
from takeback.tools.email.send_tool import ListOutboxTool, SendEmailTool
from takeback.tools.email.settings import DEFAULT, MailboxSettings
from takeback.tools.email.smtp import SmtpCarrier
from takeback.tools.email.system import MailSystem
from takeback.tools.email.writing import LOCAL_ADDRESS
from takeback.tools.files.calls import Calls
from takeback.tools.files.choosing import choose_calls
from takeback.tools.outbox.port import Carrier, Outbox
from takeback.tools.recall import Recall, nothing
from takeback.tools.registry import Family, Services
from takeback.tools.system import Refused


class EmailFamily(Family):
    """Mailboxes: the configured ones, or one in the data directory."""

    name = "email"

    def __init__(
        self, system: MailSystem, settings: Mapping[str, MailboxSettings], attaching: Attaching, outbox: Outbox
    ) -> None:
        self._system, self._attaching = system, attaching
        self.systems = (system,)
        self.tools = (
            ListMailboxesTool(system, settings),
            SearchEmailTool(system, settings),
            ReadEmailTool(system, settings),
            ListOutboxTool(system, settings, outbox),
            DraftEmailTool(system, settings, attaching),
            SendEmailTool(system, settings, attaching, outbox),
            MoveEmailTool(system, settings),
            FlagEmailTool(system, settings),
            DeleteEmailTool(system, settings),
        )
        carriers: list[Carrier] = []
        for name, its in settings.items():
            carriers.append(
                LocalCarrier(name, settings, system) if its.smtp is None else SmtpCarrier(name, its, system)
            )
        self.carriers = tuple(carriers)

    @classmethod
    async def open(cls, services: Services) -> Self:
        settings = dict(services.mailboxes) or {
            DEFAULT: MailboxSettings(path=services.data / "mail" / DEFAULT, address=LOCAL_ADDRESS)
        }
        for name, its in settings.items():
            if not its.address:
                settings[name] = its.model_copy(update={"address": LOCAL_ADDRESS})
            try:
                parse(settings[name].address, f"The address of the mailbox {name}")
            except BadText as error:
                raise Refused(str(error), advice=f"Correct [mailboxes.{name}] address.") from error
        system = MailSystem(
            {
                name: partial(
                    open_store, its, services.data, services.portable_files, name=name, recall=services.recall
                )
                for name, its in settings.items()
            },
            services.objects,
        )
        attaching = Attaching(services.roots, services.data, portable=services.portable_files)
        return cls(system, settings, attaching, services.outbox)

    async def close(self) -> None:
        await self._system.close()
        self._attaching.close()


def open_store(
    settings: MailboxSettings, data: Path, portable: bool, *, name: str = DEFAULT, recall: Recall = nothing
) -> MailStore:
    """The mailbox of some settings.

    :param recall: what the journal knows of its messages.
    :raises Refused: its folders can have no such names.
    """
    if settings.imap is not None:
        from takeback.tools.email.imap.opening import open_imap  # not before there is such a mailbox

        return open_imap(name, settings, data, recall=recall)
    path = settings.path
    assert path is not None, "checked when the settings were read"

    def calls() -> Calls:
        # tried in the data directory; a Maildir on a file system without these calls says so when it is used
        return choose_calls(os.fsencode(os.path.abspath(data)), [os.fsencode(path)], portable=portable)

    return MaildirStore(path, calls, roles=(settings.sent, settings.trash, settings.drafts))
