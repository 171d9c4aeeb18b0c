"""Events of calls that are collected instead of made: the plan of a planned run, the stage of a staged one.

A collected call has no effect. Carrying out makes the collected calls in their order, each as an action of its own that names
the call as its parent; so what has been made of a collection is found by its actions, whatever else is known.
"""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from takeback.journal.event_base import BaseEvent, Caller
from takeback.journal.ids import ActionId, ApprovalId
from takeback.journal.states import Effect, Reversibility

CollectionEnd = Literal["carried_out", "stopped", "taken_back", "thrown_away"]


class CallCollected(BaseEvent):
    """A call was prepared, judged, shown, and put down for later. Nothing was done.

    Said once more of the same call if what it would do is another thing by the time a person is asked.
    """

    type: Literal["call.collected"] = "call.collected"
    action_id: ActionId
    """Of the call; the action that is made of it later has an id of its own."""
    tool: str
    tool_version: str
    caller: Caller
    step: str | None = None
    idempotency_key: str | None = None
    requested: dict[str, JsonValue]
    """Arguments as they came, secrets replaced by salted digests."""
    arguments: str
    """Name in the object store of the arguments as they are: what will be carried out."""
    argument_digest: str
    targets: tuple[str, ...] = ()
    """What the call is about, as `system:object`; with the effects, what later calls may build on."""
    effects: tuple[Effect, ...] = ()
    """As they were prepared; none if nothing could be prepared."""
    reversibility: Reversibility = "reversible"
    reason: str = ""
    how: str = ""
    summary: str = ""
    unseen: str = ""
    """Why it could not be shown (for certain) what it will do; empty if it was."""
    builds_on: tuple[ActionId, ...] = ()
    """Earlier calls of the collection that touch the same objects."""
    counts: dict[str, int] = {}
    """How much it touches beyond what the effects tell one by one."""
    bound: str = ""
    """Digest over the objects, what stood there, and how much of it the call touches."""
    policy_rule: str = ""
    decision: str = ""
    """What the policy said of the effect: allow or ask."""


class CollectionBegun(BaseEvent):
    """From here on these calls are carried out, in the order in which they were collected; the run takes no other ones."""

    type: Literal["collection.begun"] = "collection.begun"
    calls: tuple[ActionId, ...]
    by: Caller
    approval_id: ApprovalId | None = None
    summary: str = ""
    """Of the run, as it was to be finished with."""


class CollectionEnded(BaseEvent):
    """The collected calls are no more: made, stopped at a difference, taken back, or never begun."""

    type: Literal["collection.ended"] = "collection.ended"
    calls: tuple[ActionId, ...]
    ended: CollectionEnd
    why: str = ""
