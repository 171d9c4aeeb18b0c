"""Where the messages of an act are by now, as the journal has heard: what is held is not told as if it had been done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from takeback.journal.events import MailMoved
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.outgoing import holding

_FIRST_SAID: Final = ("unknown", "late", "sending", "held", "sent", "cancelled")
"""Of an act with several messages the one is told first that a person has to know of first."""
_WORDS: Final = {
    "held": "held until {release_at}",
    "sending": "being sent since {at}",
    "sent": "sent, noted at {at}",
    "cancelled": "cancelled at {at}",
    "unknown": "nobody knows whether it went out",
    "late": "waits for a person since {at}",
}


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """One message, by the last thing that the journal heard of it."""

    message_id: str
    status: str
    """The last word of the event: `held`, `sending`, `sent`, `unknown`, `cancelled`, `late`."""
    at: datetime
    """When that was written down."""
    release_at: datetime | None
    """When it leaves, while it is held."""
    detail: str
    correction: bool
    """It makes up for a message of the act, and is none of those that the act held."""

    @property
    def words(self) -> str:
        """Where it is, for people: "held until 2027-01-15T08:02:00.000Z"."""
        release = rfc3339(self.release_at) if self.release_at is not None else "its time"
        return _WORDS[self.status].format(at=rfc3339(self.at), release_at=release)

    def shown(self) -> dict[str, Any]:
        """As it is answered."""
        row: dict[str, Any] = {"outbox_id": self.message_id, "status": self.status, "at": rfc3339(self.at)}
        optional = {
            "release_at": rfc3339(self.release_at) if self.release_at is not None else "",
            "detail": self.detail,
            "correction": self.correction,
        }
        return row | {name: value for name, value in optional.items() if value}


Mail = Mapping[str, Sequence[Whereabouts]]
"""By act: its messages, and what makes up for them, in the order in which the journal first heard of them."""


async def messages_of(core: Core, run_id: RunId, actions: Sequence[ActionView]) -> Mail:
    """Where the messages of these acts of one run are. Reads nothing if none of them holds any."""
    own = {action.id: _held_by(action) for action in actions}
    own = {id: messages for id, messages in own.items() if messages}
    if not own:
        return {}
    found: dict[str, dict[str, Whereabouts]] = {id: {} for id in own}
    after = min(action.position for action in actions if action.id in own)
    while events := await core.journal.read(run_id, after=after):
        for recorded in events:
            event = recorded.event
            if isinstance(event, MailMoved) and event.action_id in found:
                found[event.action_id][event.message_id] = Whereabouts(
                    message_id=event.message_id,
                    status=event.type.removeprefix("mail."),
                    at=event.at,
                    release_at=event.release_at,
                    detail=event.detail,
                    correction=event.message_id not in own[event.action_id] and not event.rest_of,
                )
        after = events[-1].position
    return {id: tuple(messages.values()) for id, messages in found.items() if messages}


def foremost(messages: Sequence[Whereabouts]) -> Whereabouts | None:
    """The message that says where the act is: what is most in doubt or still to come goes before what is over."""
    own = [message for message in messages if not message.correction]
    return min(own, key=lambda one: (_FIRST_SAID.index(one.status), one.release_at or one.at), default=None)


def _held_by(action: ActionView) -> set[str]:
    """Its messages; of an act that has been done meanwhile, its place in the outbox stands in its answer alone."""
    held = {effect.object for effect in holding(action.effects)}
    waited = action.answer.get("outbox_id") if action.memo is not None else None
    return held | ({waited} if isinstance(waited, str) else set())


def sentences(mail: Mail) -> dict[str, str]:
    """By act: one sentence about its messages."""
    return {id: told(messages) for id, messages in mail.items()}


def told(messages: Sequence[Whereabouts]) -> str:
    """One sentence about all of them; empty if there is none."""
    first = foremost(messages)
    if first is None:
        return ""
    own = [message for message in messages if not message.correction]
    alike = sum(message.status == first.status for message in own)
    head = first.words if len(own) == 1 else f"{alike} of {len(own)} messages {first.words}"
    sent = sum(message.correction and message.status == "sent" for message in messages)
    return head[0].upper() + head[1:] + (f"; {sent} corrected" if sent else "") + "."
