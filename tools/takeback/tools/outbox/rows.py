"""One message in the outbox, as its row says it. Values only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import JsonValue

from takeback.journal.states import Effect
from takeback.tools.outbox.parting import same_but_for_order, whole
from takeback.tools.outbox.port import SYSTEM, Outgoing

Status = Literal["HELD", "SENDING", "SENT", "UNKNOWN", "CANCELLED", "LATE", "DEAD", "WAITING"]
"""Where a message stands.

=========  =====================================================================================================
HELD       waits for its time; goes out by itself
SENDING    the sender is at it, or died while it was
SENT       went out
UNKNOWN    the connection was lost at the wrong moment: nobody knows
CANCELLED  was taken back before it left
LATE       was not sent in time, or its act could not be taken back whole: waits for a person
DEAD       could not be sent, however often it was tried: waits for a person
WAITING    a correction that the server proposes: waits for a person's consent
=========  =====================================================================================================
"""

AT_HOME: Final[tuple[Status, ...]] = ("HELD", "LATE", "DEAD", "WAITING")
"""Nothing has left the machine, and the message is still there."""


@dataclass(frozen=True, slots=True)
class Row:
    """A message and where it stands. Times are seconds since 1970, UTC."""

    id: str
    status: Status
    message: Outgoing
    window: float
    """Seconds that it was to be held."""
    held_at: float
    release_at: float
    """When it is due; later than that after a failed attempt (then this is when it is tried again)."""
    attempts: int
    changed_at: float
    detail: str
    """What was last said about it, for people."""
    told: Status | Literal[""]
    """The last status that stands in the journal."""
    corrects: str
    """The message that this one is a correction of."""
    run_id: str
    action_id: str
    owner: str
    """The principal whose message it is; empty until its act is concluded."""
    held_as: Outgoing | None = None
    """The message as its act put it here, if a person has changed it since, or a part of it was left out."""

    @property
    def named(self) -> str:
        """What it is, for people: "the message to ada@example.org"."""
        if self.message.recipients:
            return f"the message to {', '.join(self.message.recipients)}"
        return f"the act “{self.message.subject}”"

    @property
    def edited(self) -> bool:
        """Whether a person has changed it since its act put it here."""
        return self.held_as is not None and not same_but_for_order(whole(self.message), self.held_as)

    @property
    def release_time(self) -> str:
        """`release_at` as it is answered: RFC 3339, UTC."""
        return when(self.release_at)

    def shown(self) -> dict[str, JsonValue]:
        """What everybody may see of it who may see it at all: programs, models, people."""
        message = self.message
        return {
            "id": self.id,
            "status": self.status,
            "release_at": self.release_time,
            "recipients": list(message.recipients),
            "subject": message.subject,
            "carrier": message.carrier,
            "size": message.size,
            "attempts": self.attempts,
            **({"edited": True} if self.edited else {}),
            "detail": self.detail,
            "corrects": self.corrects,
            "run_id": self.run_id,
            "action_id": self.action_id,
        }


def due(made: Iterable[Effect]) -> str:
    """When the first of the messages that were just held leaves, as it is answered: a moment stays true, seconds do not."""
    times = [effect.after.ref.get("release_at") for effect in made if effect.system == SYSTEM]
    return min((time for time in times if isinstance(time, str)), default="its time")


def when(seconds: float) -> str:
    """A time as it is answered: RFC 3339, UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
