"""Rules that people write: matched on the effect of a call, first match wins, the default policy where none matches.

Pure: what a rule needs to know is in the call. A rule's conditions all have to hold. Those about objects (`systems`,
`objects`, `verbs`) have to hold for one and the same effect: for any of them if the rule stands in the way, for all of them if
it allows, so that nothing is allowed because something beside it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from takeback.journal.events import RunMode
from takeback.journal.states import Effect, Reversibility
from takeback.server.engine.policy import SAYS_SO, Decision, DefaultPolicy, Judged, Verdict
from takeback.server.engine.triggers.values import size_of

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
"""`*` stands for any characters, folders' `/` among them, `?` for one, `[…]` for one of these. Case counts."""
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NO_LABELS: Final[Mapping[str, str]] = {}
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class _Part(BaseModel):
    """Base of all parts of the file: unknown words are refused, because a rule that is not meant is no rule."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Hours(_Part):
    """When a rule holds. From `from` to before `to`; over midnight if `to` is not later."""

    days: tuple[Day, ...] = _DAYS
    start: time = Field(default=time(0), alias="from")
    end: time = Field(default=time(0), alias="to")
    zone: str = "UTC"

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone {zone!r}") from error
        return zone

    def hold(self, at: datetime) -> bool:
        """Whether this moment is among them. The hours after midnight belong to the day on which they began."""
        local = at.astimezone(ZoneInfo(self.zone))
        now, today = local.time().replace(tzinfo=None), local.weekday()
        if self.start < self.end:
            return _DAYS[today] in self.days and self.start <= now < self.end
        if now >= self.start:
            return _DAYS[today] in self.days
        return now < self.end and _DAYS[today - 1] in self.days


class MoreThan(_Part):
    """How much a call may touch before the rule holds. One that is passed is enough."""

    objects: int | None = Field(default=None, ge=0)
    rows: int | None = Field(default=None, ge=0)
    recipients: int | None = Field(default=None, ge=0)
    bytes: int | None = Field(default=None, ge=0)
    deleted: int | None = Field(default=None, ge=0)
    """Objects and rows that are gone afterwards; what only moves is not. A folder is one object."""
    schema_changes: int | None = Field(default=None, ge=0)
    """Tables, views, indexes … of a database that are made, altered or dropped."""

    def passed(self, call: Judged) -> bool:
        """Whether the call touches more."""
        there = sizes(call)
        return any(limit is not None and there[name] > limit for name, limit in self.model_dump().items())

    @model_validator(mode="after")
    def _something(self) -> Self:
        if all(limit is None for limit in self.model_dump().values()):
            raise ValueError("it names no limit")
        return self


class When(_Part):
    """What a rule is about. Left out means: whatever it is."""

    tools: tuple[Pattern, ...] = ()
    systems: tuple[Pattern, ...] = ()
    objects: tuple[Pattern, ...] = ()
    verbs: tuple[Literal["created", "changed", "deleted"], ...] = ()
    labels: dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], Pattern] = Field(default_factory=dict)
    """Of the database, calendar or mailbox that the effect is in; each has to be there."""
    reversibility: tuple[Reversibility, ...] = ()
    held: bool | None = None
    known: bool | None = None
    more_than: MoreThan | None = None
    addressed_to: tuple[Pattern, ...] = ()
    """Addresses of people whom the call writes to; their case does not count."""
    addressed_beyond: tuple[Pattern, ...] = ()
    """Addresses: met by whoever is none of these."""
    modes: tuple[RunMode, ...] = ()
    scoped: bool | None = None
    principals: tuple[Pattern, ...] = ()
    clients: tuple[Pattern, ...] = ()
    hours: Hours | None = None
    compensation: bool = False
    """Whether it is about the taking back of an earlier act; rules about acts say nothing of that."""

    def matches(self, call: Judged, *, all_effects: bool) -> bool:
        """Whether all conditions hold.

        :param all_effects: those about objects have to hold for each effect.
        """
        return (
            call.compensation == self.compensation
            and _named(call.tool, self.tools)
            and (not self.reversibility or call.reversibility in self.reversibility)
            and self.held in (None, call.held)
            and self.known in (None, call.known)
            and self.scoped in (None, bool(call.scope))
            and (not self.modes or call.mode in self.modes)
            and _named(call.caller.principal, self.principals)
            and _named(call.caller.client, self.clients)
            and (self.more_than is None or self.more_than.passed(call))
            and self._addresses(call, all_effects=all_effects)
            and (self.hours is None or (call.at is not None and self.hours.hold(call.at)))
            and self._touches(call.effects, call.labels, all_effects=all_effects)
        )

    def _addresses(self, call: Judged, *, all_effects: bool) -> bool:
        if not (self.addressed_to or self.addressed_beyond):
            return True
        to, within = (
            [pattern.casefold() for pattern in patterns] for patterns in (self.addressed_to, self.addressed_beyond)
        )
        named = _recipients(call.effects)
        met = [_named(each, to) and not (within and _named(each, within)) for each in named]
        # whoever is only counted may be anybody: beyond all patterns, and surely meant by none
        met += [not self.addressed_to] * (sizes(call)["recipients"] - len(named))
        return bool(met) and (all(met) if all_effects else any(met))

    def _touches(self, effects: Sequence[Effect], labels: Sequence[Mapping[str, str]], *, all_effects: bool) -> bool:
        if not (self.systems or self.objects or self.verbs or self.labels):
            return True
        met = [
            _named(effect.system, self.systems)
            and _named(effect.object, self.objects)
            and (not self.verbs or effect.verb in self.verbs)
            and all(fnmatchcase(own.get(name, ""), pattern) for name, pattern in self.labels.items())
            for effect, own in zip(effects, labels or [NO_LABELS] * len(effects), strict=True)
        ]
        return bool(met) and (all(met) if all_effects else any(met))


class Rule(_Part):
    """One rule of the file."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """What the journal records."""
    when: When = When()
    then: Decision
    reason: Annotated[str, StringConstraints(max_length=300)] = ""
    """Told to whoever is refused or asked."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.id.startswith("default."):
            raise ValueError(f"the id {self.id!r} is one of the default policy's; choose another")
        if self.when.compensation and self.then == "shadow":
            raise ValueError("what takes something back is allowed, asked about or denied; it cannot only be shown")
        return self


class PolicyFile(_Part):
    """The whole file."""

    version: Literal[1]
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ValueError(f"the id {rule.id!r} is given to two rules")
            seen.add(rule.id)
        return self


class RulesPolicy:
    """The rules in their order, then the default policy."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules, self._otherwise = tuple(rules), DefaultPolicy()
        self.judges_back = any(rule.when.compensation for rule in self.rules)

    def judge(self, call: Judged) -> Verdict:
        """See `Policy`. A run in shadow mode stays without effect, whatever a rule allows."""
        for rule in self.rules:
            if rule.when.matches(call, all_effects=rule.then == "allow"):
                if call.mode == "shadow" and not call.compensation and rule.then != "deny":
                    break
                return Verdict(rule.then, rule.id, rule.reason or (_why(call) if rule.then != "allow" else ""))
        return self._otherwise.judge(call)


def sizes(call: Judged) -> dict[str, int]:
    """How much a call touches, as `MoreThan` names it. What the tool counted goes before what its effects tell."""
    counted = call.counts
    told = size_of(call.effects, counted)
    return {
        "objects": max(len(call.effects), counted.get("objects", 0)),
        "rows": told.rows,
        "recipients": counted.get("recipients", len(_recipients(call.effects))),
        "bytes": sum(max(effect.before.size or 0, effect.after.size or 0) for effect in call.effects),
        "deleted": max(len(told.deleted) + told.gone, counted.get("deleted_rows", 0)),
        "schema_changes": counted.get("schema", 0),
    }


def _recipients(effects: Sequence[Effect]) -> set[str]:
    """Whom the messages are for that a call puts into the outbox."""
    messages = [effect.after.ref.get("message") for effect in effects if effect.after.kind == "held"]
    named = [message.get("recipients") for message in messages if isinstance(message, dict)]
    return {str(each).casefold() for people in named if isinstance(people, list | tuple) for each in people}


def _why(call: Judged) -> str:
    return call.reason or SAYS_SO


def _named(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
