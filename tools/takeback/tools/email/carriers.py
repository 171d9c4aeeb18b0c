"""Who brings mail out: into the Maildirs of this machine, or over SMTP. Both leave a copy in Sent, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from takeback.tools.email.addresses import parse
from takeback.tools.email.maildir.folders import digest_of
from takeback.tools.email.port import INBOX, Change, Flag, Made
from takeback.tools.email.send_tool import CARRIER
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.email.system import MailSystem
from takeback.tools.outbox.port import Carrier, Delivered, NotSent, Outgoing
from takeback.tools.system import Refused, TargetError, Unavailable


async def file_copy(
    system: MailSystem, mailbox: str, folder: str, content: bytes, flags: Sequence[Flag], reference: str
) -> None:
    """Put a message into a folder, once, however often it is asked for.

    :raises TargetError: it cannot be put there.
    """
    store = system.store(mailbox)
    seed = f"{folder}\0{reference}"
    key, placement = store.fresh(content, digest_of(content), folder, flags, seed)
    [there] = await store.look([key])
    if there is not None:
        return
    made = await store.change([Change(key, None, placement, content)])
    if not isinstance(made, Made):
        raise Unavailable(made.why, advice="Try again.")


async def lies_in(system: MailSystem, mailbox: str, reference: str, folder: str | None = None) -> bool:
    """Whether a message with that Message-ID lies in Sent, or in another folder."""
    store = system.store(mailbox)
    return await store.holds(folder or (await store.roles())["sent"], reference)


def _not_sent(error: TargetError) -> NotSent:
    return NotSent(str(error), again=isinstance(error, Unavailable))


class LocalCarrier(Carrier):
    """Delivers into the mailboxes of this machine: the recipient's INBOX, and a copy in Sent."""

    local = True

    def __init__(self, mailbox: str, settings: Mapping[str, MailboxSettings], system: MailSystem) -> None:
        self.name = CARRIER + mailbox
        self._mailbox, self._settings, self._system = mailbox, settings, system

    async def deliver(self, message: Outgoing, content: bytes) -> Delivered:
        reached = self._reached(message)
        nobody = [to for to in message.recipients if to not in reached]
        missed: dict[str, TargetError] = {}
        """Mailboxes that it could not be brought to, and why. Once somebody has it, it has gone out all the same."""
        for name in dict.fromkeys(reached.values()):
            try:
                await file_copy(self._system, name, INBOX, content, [], message.reference)
            except (Refused, Unavailable) as error:
                missed[name] = error
        got = [to for to, name in reached.items() if name not in missed]
        if missed and not got:
            raise _not_sent(next(iter(missed.values())))
        sent = self._settings[self._mailbox].sent
        copy = f"with a copy in {sent}"
        try:
            await file_copy(self._system, self._mailbox, sent, content, ["seen"], message.reference)
        except (Refused, Unavailable) as error:
            if not got:
                raise _not_sent(error) from error
            copy = f"and no copy could be put into {sent}: {error}"
        told = f"delivered only on this machine: to {', '.join(got) or 'nobody'}, {copy}"
        for to, name in reached.items():
            if name in missed:
                told += f"; it could not be brought to {to}: {missed[name]}"
        if nobody:
            told += f"; no mailbox on this machine belongs to {', '.join(nobody)}"
        return Delivered(told)

    async def happened(self, message: Outgoing) -> bool | None:
        try:
            if await lies_in(self._system, self._mailbox, message.reference):
                return True  # the copy in Sent is the last thing that is made
            places = dict.fromkeys(self._reached(message).values())
            found = [await lies_in(self._system, mailbox, message.reference, INBOX) for mailbox in places]
        except TargetError:
            return None
        # who died in between may have brought it to somebody already; whether the others had it, and filed it, nobody knows
        return None if any(found) and not all(found) else any(found)

    def _reached(self, message: Outgoing) -> dict[str, str]:
        """Recipients who have a mailbox here, and which."""
        own = {
            parse(its.address).spec.lower(): name
            for name, its in self._settings.items()
            if not its.read_only and its.imap is None  # mail gets to a server through a server
        }
        return {to: own[to.lower()] for to in message.recipients if to.lower() in own}
