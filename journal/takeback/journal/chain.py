"""The chain: each event vouches for itself and for its predecessor in the same run, by HMAC-SHA256.

What is chained is a digest of the payload, salted with random bytes that lie beside the payload: so a payload can be erased
together with its salt, nobody can guess afterwards what it said, and the chain still verifies. The position in the whole
journal is not part of it, so that a run can be exported and verified on its own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import Final, cast, get_args

from pydantic_core import PydanticSerializationError

from takeback.journal import events as _events
from takeback.journal.events import BaseEvent, Event, Recorded
from takeback.journal.ids import RunId
from takeback.journal.log import JournalError
from takeback.journal.states import trusted

SALT_BYTES: Final = 16

_CANONICAL: Final = json.JSONEncoder(separators=(",", ":")).encode

TYPES: Final[dict[str, type[BaseEvent]]] = {
    name: member
    for member in get_args(get_args(_events.Event)[0])
    for name in get_args(member.model_fields["type"].annotation)
}
"""Which class reads which type of event."""


@dataclass(frozen=True, slots=True)
class Row:
    """An event as it lies in the journal."""

    position: int
    run_id: RunId
    seq: int
    type: str
    at: str
    action_id: str | None
    payload: bytes | None
    """JSON of the event without its defaults; `None` once erased, together with `salt`."""
    salt: bytes | None
    payload_digest: bytes
    mac: bytes
    key_id: str

    def recorded(self) -> Recorded:
        """The row as readers see it."""
        event = None if self.payload is None else decode(self.type, self.payload)
        return recorded(self, event)


def recorded(row: Row, event: BaseEvent | None) -> Recorded:
    """Put an event beside its place in the journal, without validating once more what was validated already."""
    return trusted(
        Recorded,
        position=row.position,
        seq=row.seq,
        mac=row.mac.hex(),
        key_id=row.key_id,
        event=cast("Event | None", event),  # every event class is a member of the union
        type=row.type,
        run_id=row.run_id,
    )


@dataclass(frozen=True, slots=True)
class Draft:
    """An event made ready to be appended: all that does not depend on where it will stand."""

    event: BaseEvent
    type: str
    at: str
    action_id: str | None
    payload: bytes
    salt: bytes
    payload_digest: bytes


def encode(event: BaseEvent) -> bytes:
    """The payload of an event. Defaults are left out: they are part of the format and never change."""
    return event.model_dump_json(exclude_defaults=True).encode()


def decode(type: str, payload: bytes) -> Event:
    """The event of a payload.

    :raises ValueError: there is no such type, or the payload is not one of it.
    """
    member = TYPES.get(type)
    if member is None:
        raise ValueError(f"there is no event of type {type!r}")
    return member.model_validate_json(payload)  # type: ignore[return-value]  # TYPES holds the members of Event


def action_of(event: BaseEvent) -> str | None:
    """The action that an event is about, if it is about one."""
    action_id = getattr(event, "action_id", None)
    return None if action_id is None else str(action_id)


def digest(salt: bytes, payload: bytes) -> bytes:
    """What the chain says about a payload."""
    return hashlib.sha256(salt + payload).digest()


def draft(event: BaseEvent) -> Draft:
    """Make an event ready to be appended.

    :raises JournalError: it is none of the events, or holds text that is not Unicode.
    """
    type = getattr(event, "type", None)
    if not isinstance(type, str) or not isinstance(event, TYPES.get(type, ())):
        raise JournalError(f"{event.__class__.__name__} is not an event that the journal knows")
    try:
        payload, salt = encode(event), secrets.token_bytes(SALT_BYTES)
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise JournalError(f"the event {type} cannot be written as JSON") from error
    return Draft(
        event=event,
        type=type,
        at=event.at.isoformat(),
        action_id=action_of(event),
        payload=payload,
        salt=salt,
        payload_digest=digest(salt, payload),
    )


def mac(
    key: bytes, *, run_id: str, seq: int, type: str, at: str, payload_digest: bytes, previous: bytes, key_id: str
) -> bytes:
    """HMAC-SHA256 over the canonical bytes: a JSON array in ASCII without blanks, digests in hex."""
    canonical = _CANONICAL(["takeback/1", run_id, seq, type, at, payload_digest.hex(), previous.hex(), key_id])
    return hmac.digest(key, canonical.encode("ascii"), "sha256")


def link(draft: Draft, *, position: int, seq: int, previous: bytes, key_id: str, key: bytes) -> Row:
    """Give a draft its place in the journal and in its run's chain."""
    run_id = draft.event.run_id
    return Row(
        position=position,
        run_id=run_id,
        seq=seq,
        type=draft.type,
        at=draft.at,
        action_id=draft.action_id,
        payload=draft.payload,
        salt=draft.salt,
        payload_digest=draft.payload_digest,
        mac=mac(
            key,
            run_id=run_id,
            seq=seq,
            type=draft.type,
            at=draft.at,
            payload_digest=draft.payload_digest,
            previous=previous,
            key_id=key_id,
        ),
        key_id=key_id,
    )


def holds(row: Row, key: bytes, previous: bytes, *, seq: int | None = None) -> bool:
    """Whether the row's mac is right for its place (or for another `seq`) after the mac `previous`."""
    expected = mac(
        key,
        run_id=row.run_id,
        seq=row.seq if seq is None else seq,
        type=row.type,
        at=row.at,
        payload_digest=row.payload_digest,
        previous=previous,
        key_id=row.key_id,
    )
    return hmac.compare_digest(expected, row.mac)
