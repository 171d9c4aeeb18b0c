"""What a run has done so far, as far as triggers need it: a fold over the run's events, kept up to date event by event.

A person's release begins the counts anew: they have looked at it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from takeback.journal import events as e
from takeback.journal.events import Recorded
from takeback.server.engine.triggers.confusion import tenants_of
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.engine.triggers.values import NOTHING, Size, size_of
from takeback.server.engine.triggers.windows import Amount, Entry, Times, Window

MINUTE: Final = 60.0
SCOPE: Final = "default.scope"
BROKE_OFF: Final = "broke_off"
AWAY: Final = frozenset({"unavailable", "timeout"})
"""Codes of failures that a system is to blame for, even if nothing was intended yet."""
OURS: Final = ("containment", "trigger.")
FLOOD: Final = "too_many_questions"
"""Not asked again: that has a warning of its own (`question_flood`)."""
"""Rules under which a call is refused because of an earlier firing: that is no new violation."""
HELD: Final = frozenset({"contained", "denied"})
"""Codes of failures that say the same."""


@dataclass(slots=True)
class Counts:
    """What begins anew with a release."""

    acts: int
    total: Amount
    minute: Window
    pace: Window
    calls: Times[tuple[str, str]]
    failures: Times[tuple[str, str]]
    systems: Times[str]
    denials: Times[str]
    outside: int = 0
    pending: dict[str, Entry] = field(default_factory=dict[str, Entry])
    tenants: Counter[str] = field(default_factory=Counter[str])


def fresh(settings: TriggerSettings) -> Counts:
    """Nothing has happened."""
    return Counts(
        acts=0,
        total=Amount(),
        minute=Window(MINUTE),
        pace=Window(settings.mutation_rate.window_seconds),
        calls=Times(settings.repeated_update.window_seconds, settings.repeated_update.threshold + 1),
        failures=Times(settings.retry_storm.window_seconds, settings.retry_storm.threshold + 1),
        systems=Times(settings.partial_failure.window_seconds, settings.partial_failure.threshold + 1),
        denials=Times(settings.policy_violation.window_seconds, settings.policy_violation.threshold + 1),
    )


class Tally:
    """Of one run."""

    def __init__(self, settings: TriggerSettings) -> None:
        self._settings = settings
        self.position, self.seq = 0, 0
        """Of the newest event that was taken in."""
        self.counts = fresh(settings)
        self.tools: dict[str, tuple[str, str]] = {}
        """Version and schema of each tool when the run began to use it."""
        self.places: dict[str, frozenset[str]] = {}
        """Systems that a tool was last seen to act on."""
        self.fired: dict[tuple[str, str], datetime] = {}
        """When each trigger fired last, by what it was about."""

    def take(self, events: Iterable[Recorded]) -> None:
        """Take in events of the run, in their order; those that are known already are passed over."""
        for recorded in events:
            if recorded.seq <= self.seq:
                continue
            self.seq, self.position = recorded.seq, recorded.position
            event = recorded.event
            if isinstance(event, e.ActionIntended):
                self._intended(event)
            elif isinstance(event, e.ActionApplied):
                self._applied(event)
            elif isinstance(event, e.ActionFailed | e.ActionInDoubt | e.ActionSettled):
                self._ended(event)
            elif isinstance(event, e.ActionDenied):
                self._denied(event)
            elif isinstance(event, e.TriggerFired):
                self.fired[event.trigger, str(event.evidence.get("about", ""))] = event.at
            elif isinstance(event, e.RunReleased):
                self.counts = fresh(self._settings)
                self.tools.clear()
                self.fired.clear()

    def _intended(self, event: e.ActionIntended) -> None:
        counts = self.counts
        self.tools.setdefault(event.tool, (event.tool_version, event.tool_schema))
        size = size_of(event.effects, event.counts)
        self.places[event.tool] = size.systems
        # what a person consented to, exactly as it is, is not the run's to answer for
        entry = Entry(event.at, size if event.approval_id is None else NOTHING, (event.tool, event.argument_digest))
        counts.acts += 1
        counts.total.add(entry.size)
        counts.minute.add(entry)
        counts.pace.add(Entry(event.at, NOTHING))
        counts.calls.add(entry.call, event.at)
        counts.tenants.update(tenants_of(self._settings.target_confusion.tenants, entry.size))
        counts.pending[event.action_id] = entry

    def _applied(self, event: e.ActionApplied) -> None:
        entry = self.counts.pending.pop(event.action_id, None)
        if entry is not None:
            for key in [key for key in self.counts.failures.times if key[0] == entry.call[0]]:
                self.counts.failures.forget(key)

    def _ended(self, event: e.ActionFailed | e.ActionInDoubt | e.ActionSettled) -> None:
        counts = self.counts
        if isinstance(event, e.ActionInDoubt):
            entry = counts.pending.get(event.action_id)
            self._failed_at(event.at, entry.size if entry is not None else NOTHING)
            return
        entry = counts.pending.pop(event.action_id, None)
        if isinstance(event, e.ActionSettled):
            if event.outcome == "not_applied" and entry is not None:
                self._void(entry)
                counts.failures.add((entry.call[0], BROKE_OFF), event.at)
            return
        if entry is not None:
            self._void(entry)
            self._failed_at(event.at, entry.size)
        elif event.code in AWAY:
            for system in self.places.get(event.tool) or (event.tool,):
                counts.systems.add(system, event.at)
        if event.code not in HELD and event.code != FLOOD:
            counts.failures.add((event.tool, event.code), event.at)

    def _failed_at(self, at: datetime, size: Size) -> None:
        for system in size.systems:
            self.counts.systems.add(system, at)

    def _void(self, entry: Entry) -> None:
        counts = self.counts
        counts.acts -= 1
        counts.total.take(entry.size)
        counts.minute.void(entry)
        counts.calls.remove(entry.call, entry.at)
        for tenant in tenants_of(self._settings.target_confusion.tenants, entry.size):
            counts.tenants[tenant] -= 1
            if not counts.tenants[tenant]:
                del counts.tenants[tenant]

    def _denied(self, event: e.ActionDenied) -> None:
        if event.policy_rule.startswith(OURS):
            return
        self.counts.denials.add("", event.at)
        if event.policy_rule == SCOPE:
            self.counts.outside += 1
