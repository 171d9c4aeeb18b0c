"""The policy port, and the default policy that holds where no rule of the policy file does (`policy_rules.py`).

A policy judges the real effect of one call, after preparation and before the intent: what it would do, and how well that can
be taken back. First match wins; every rule has an id that the journal records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

from takeback.journal.events import Caller, RunMode
from takeback.journal.states import Effect, Reversibility

Decision = Literal["allow", "ask", "deny", "shadow"]
SAYS_SO: Final = "a rule of the policy says so"
"""The reason of a rule that gives none, where the call has none either."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One call with its prepared effects."""

    tool: str
    known: bool
    """False for a tool without a recovery contract of its own (an upstream tool nobody has described)."""
    caller: Caller
    mode: RunMode
    scope: tuple[str, ...]
    effects: tuple[Effect, ...]
    reversibility: Reversibility
    reason: str
    labels: tuple[Mapping[str, str], ...] = ()
    """Of what each effect is in (`labels.py`), parallel to the effects; empty: nothing has any."""
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """How much it touches, where the effects do not tell one by one: rows, tables, … (`Prepared.counts`)."""
    held: bool = False
    """The act waits in the outbox for a while, in which it can be cancelled."""
    at: datetime | None = None
    """When; `None` if nobody knows."""
    compensation: bool = False
    """This is the taking back of an earlier act, not a new one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says, by which rule, and why."""

    decision: Decision
    rule: str
    reason: str = ""
    advice: str = ""
    """What the caller can do about a refusal, where there is more to say than to do something else."""


class Policy(Protocol):
    """Whatever can judge a call."""

    @property
    def judges_back(self) -> bool:
        """Whether anything of it is about taking back; if not, nothing has to be asked of it then."""
        ...

    def judge(self, call: Judged) -> Verdict:
        """Decide. Pure: no IO, no clock."""
        ...


class DefaultPolicy:
    """Reversible: allow. Compensable: allow while held, else ask. Irreversible and unknown: ask."""

    judges_back = False

    def judge(self, call: Judged) -> Verdict:
        """See the class."""
        if call.compensation:
            return Verdict("allow", "default.compensation")
        if call.mode == "shadow":
            return Verdict("shadow", "default.shadow", "the run is in shadow mode")
        if not call.known:
            return Verdict("ask", "default.unknown", "nobody has said how this tool is taken back")
        match call.reversibility:
            case "reversible":
                return Verdict("allow", "default.reversible")
            case "compensable" if call.held:
                return Verdict("allow", "default.held")
            case "compensable":
                return Verdict("ask", "default.compensable", call.reason or "it can only be made up for")
            case "irreversible":
                return Verdict("ask", "default.irreversible", call.reason or "it cannot be taken back")
