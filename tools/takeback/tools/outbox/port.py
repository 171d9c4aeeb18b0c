"""The port of the outbox: messages are objects of the target system `outbox`, and holding one is an effect like any other.

Creating a held message is the effect `absent → held`. Taking it back inside its window is the reversed swap, a compare-and-set,
so that exactly one of the sender and the rollback wins. What went out cannot be swapped back: it has drifted to `sent`, and is
made up for by a correction that a person agrees to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from takeback.checkpoints.objects import ObjectStore
from takeback.journal.states import Effect, Frozen

if TYPE_CHECKING:
    from takeback.tools.outbox.rows import Row

ATTACHED = "attached"
"""In the `ref` of a new message's state: the digest of what it takes from elsewhere (files). The arguments do not say what that
is, so a consent to the call is bound to it too."""
SYSTEM = "outbox"
"""Name of the target system; object ids are the ids of messages."""


class Outgoing(Frozen):
    """Something that shall leave this machine when its time has come. Immutable; its final bytes are an object in the store."""

    carrier: str
    """Who delivers it: the name of a `Carrier`, such as `mail:work`."""
    content: str
    """Name of the final bytes in the object store."""
    size: int
    sender: str
    recipients: tuple[str, ...]
    subject: str
    """For people; already decoded."""
    reference: str
    """What it is found by on the other side: the Message-ID."""
    memo: JsonValue = None
    """Whatever else the carrier needs."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """It went out."""

    detail: str
    """One sentence for people: "taken by mail.example.org for 2 recipients"."""
    returned: JsonValue = None
    """What the act of a tool returned, for its `compensate`."""


class NotSent(Exception):
    """Proven: it did not go out. `again` says whether a later attempt may succeed."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


class TakenForSome(NotSent):
    """Nothing has gone out yet: the message would be taken for some of its recipients, and not for these."""

    def __init__(self, refused: Mapping[str, NotSent]) -> None:
        """
        :param refused: by recipient, why it is not taken for them, and whether it may be later.
        """
        super().__init__(f"refused for {', '.join(refused)}", again=True)
        self.refused = refused


class Corrector(ABC):
    """Makes up for messages that say something of an object elsewhere, by what holds there once the act was taken back.

    A message names its corrector, and what else that needs, in its memo: `{"corrector": NAME, "object": …, …}`. Messages
    about one object leave in the order in which they were held; of one act in that of `turn`. The
    act that holds it is taken back although the message went out: its other effects are put back so that they count as
    newer (`TargetSystem.newer`), and then the correction is proposed to a person.
    """

    name: str

    @abstractmethod
    async def corrections(
        self, message: Outgoing, content: bytes, *, sent_at: str, reference: str
    ) -> Sequence[tuple[Outgoing, bytes]]:
        """As `Carrier.correction`; together they make up for the message, in this order. None: nothing has to be said."""

    async def broken(self, message: Outgoing, content: bytes) -> str:
        """Why a message that is about to leave is not true any more ("the event is not there any more"); empty if it is.

        :raises Exception: it could not be looked at; the message is kept, and tried again.
        """
        return ""


def corrector_of(memo: JsonValue) -> str:
    """The name of the corrector that a message's memo names; empty if its carrier corrects it."""
    named = memo.get("corrector") if isinstance(memo, dict) else None
    return named if isinstance(named, str) else ""


class Carrier(ABC):
    """Brings messages out. Any other exception than `NotSent` means that nobody knows whether it went out."""

    name: str
    local: bool = False
    """It delivers on this machine alone, and every answer says so."""

    @abstractmethod
    async def deliver(self, message: Outgoing, content: bytes) -> Delivered:
        """Send the bytes exactly as they are.

        :raises NotSent: it did not go out.
        """

    async def deliver_to_all(self, message: Outgoing, content: bytes) -> Delivered:
        """As `deliver`, but to all recipients or to nobody.

        What would be taken for some of them only is parted first, so that what is left of it is known before anything leaves.
        A carrier that cannot tell beforehand sends it to whom it can, and says so in its detail.

        :raises TakenForSome: it would be taken for some of them only.
        :raises NotSent: as `deliver`.
        """
        return await self.deliver(message, content)

    async def happened(self, message: Outgoing) -> bool | None:
        """Did it go out? Looks at the other side (the Sent folder); `None` if nobody can say."""
        return None

    async def correction(
        self, message: Outgoing, content: bytes, *, sent_at: str, reference: str
    ) -> tuple[Outgoing, bytes] | None:
        """What makes up for a message that went out: a fixed template, filled from the message's own header fields. It waits
        for a person's consent. `None`: there is no such thing.

        :param sent_at: RFC 3339.
        :param reference: for the header of the correction: unique, and the same whenever it is made again.
        """
        from takeback.tools.outbox.correcting import mail_correction

        return mail_correction(message, content, sent_at=sent_at, reference=reference)


class Outbox(ABC):
    """What tools see of the outbox (`Services.outbox`)."""

    hold_seconds: float
    """How long a message is to be held if the caller does not say (`[outbox] hold_seconds`)."""

    @abstractmethod
    async def rows(self, owner: str, *, everything: bool = False) -> Sequence[Row]:
        """The messages of a principal that wait, are being sent, or of which nobody knows; due first in front.

        :param owner: the principal (`CallContext.caller.principal`).
        :param everything: also those that went out or were cancelled.
        """

    @abstractmethod
    async def about(self, corrector: str, object: str) -> Sequence[Row]:
        """The messages of everybody that say something of an object and were not cancelled (`Corrector`)."""

    @abstractmethod
    async def hold(self, messages: Sequence[tuple[Outgoing, float]], objects: ObjectStore) -> Sequence[Effect]:
        """Prepare holding each message for so many seconds: effects `absent → held` for `Prepared.effects`, to be made by
        `swap` of the system. The window begins with the swap. Nothing is visible before it.

        The contents are in the store by the time of the swap: put there before, or travelling with the intent
        (`Prepared.blobs`). An act that holds messages is at best compensable, and the engine says so.

        :raises Refused: a window is longer or shorter than the settings allow.
        """
