"""Placements of messages as states of the journal, and back. Pure but for the hash."""

from __future__ import annotations

import json
from typing import Final, cast

from blake3 import blake3
from pydantic import JsonValue

from takeback.journal.states import ABSENT, State
from takeback.tools.email.maildir.names import is_key
from takeback.tools.email.port import Placement

SYSTEM: Final = "email"
"""The name of the target system in effects."""
KIND: Final = "message"


def object_of(mailbox: str, key: str) -> str:
    """The object that a message is: `work/1764380000.M1P2.host`."""
    return f"{mailbox}/{key}"


def parts(object: str) -> tuple[str, str]:
    """Mailbox and key of an object; the key is empty for the mailbox itself."""
    mailbox, _, key = object.partition("/")
    return mailbox, key if is_key(key) else ""


def state_of(mailbox: str, key: str, placement: Placement | None, *, stored: str | None = None) -> State:
    """The state of a message.

    :param stored: name of its bytes in the object store, if they lie there.
    """
    if placement is None:
        return ABSENT
    where: list[JsonValue] = [
        placement.folder,
        [*sorted(placement.flags)],
        placement.date_ns,
        placement.digest,
        placement.ref,
    ]
    fingerprint = blake3(json.dumps(where, sort_keys=True).encode()).hexdigest()
    return State(
        digest=f"mail:{fingerprint}",
        kind=KIND,
        content=placement.digest,
        size=placement.size,
        objects=(stored,) if stored else (),
        ref={"mailbox": mailbox, "key": key, "place": where},
    )


def placement_of(state: State) -> Placement | None:
    """What `state_of` was given."""
    if state.absent:
        return None
    folder, flags, date_ns, digest, ref = cast("list[JsonValue]", state.ref["place"])
    return Placement(
        str(folder),
        frozenset(str(flag) for flag in cast("list[JsonValue]", flags)),
        cast("int", date_ns),
        str(digest),
        state.size or 0,
        cast("dict[str, JsonValue]", ref),
    )
