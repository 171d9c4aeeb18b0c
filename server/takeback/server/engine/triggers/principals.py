"""Blast radius of a principal: how much all their runs touch together, parallel, forked or one after the other.

A fold over the events of all runs of the last hour. A run has bounds of its own; who spreads work over many runs passes none of
them and still does as much damage as one run that does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from takeback.journal import events as e
from takeback.journal.events import Recorded
from takeback.journal.ids import ActionId, RunId
from takeback.server.engine.triggers.radius import passed
from takeback.server.engine.triggers.settings import PrincipalRadius
from takeback.server.engine.triggers.values import NOTHING, Attempt, Firing, Size, size_of
from takeback.server.engine.triggers.windows import Entry, Window

TRIGGER: Final = "principal_radius"
HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)


@dataclass(slots=True)
class Share(Entry):
    """One act, and the run in which it was made."""

    run_id: str = ""


@dataclass(slots=True)
class Account:
    """What one principal's runs did of late."""

    hour: Window = field(default_factory=lambda: Window(HOUR.total_seconds()))
    minute: Window = field(default_factory=lambda: Window(MINUTE.total_seconds()))

    def add(self, share: Share) -> None:
        """An act more."""
        self.hour.add(share)
        self.minute.add(share)

    def void(self, share: Share) -> None:
        """It turned out not to have happened, or a person has looked at it."""
        self.hour.void(share)
        self.minute.void(share)


class Principals:
    """Of everybody who works on one data directory."""

    def __init__(self, settings: PrincipalRadius) -> None:
        self._settings = settings
        self.position = 0
        """Of the newest event that was taken in."""
        self._accounts: dict[str, Account] = {}
        self._pending: dict[ActionId, tuple[str, Share]] = {}

    def take(self, events: Iterable[Recorded]) -> None:
        """Take in events of all runs, in their order; those that are known already are passed over."""
        for recorded in events:
            if recorded.position <= self.position:
                continue
            self.position = recorded.position
            event = recorded.event
            if isinstance(event, e.ActionIntended):
                self._intended(event)
            elif isinstance(event, e.ActionApplied):
                self._pending.pop(event.action_id, None)
            elif isinstance(event, e.ActionFailed):
                self._void(event.action_id)
            elif isinstance(event, e.ActionSettled):
                if event.outcome == "not_applied":
                    self._void(event.action_id)
                self._pending.pop(event.action_id, None)
            elif isinstance(event, e.RunReleased):
                self._looked_at(event.run_id)
            elif isinstance(event, e.ScopeReleased) and event.kind == "principal":
                self._accounts.pop(event.name, None)

    def would_pass(self, principal: str, attempt: Attempt) -> list[Firing]:
        """Before an act: with it the principal's runs would touch more than they may together."""
        return self._passed(principal, attempt.size, attempt.at, "a call would bring")

    def passed(self, principal: str, now: datetime) -> list[Firing]:
        """After an intent, which another run may have been faster with: they touch more than they may."""
        return self._passed(principal, NOTHING, now, "together with other calls one would bring")

    def _passed(self, principal: str, size: Size, now: datetime, how: str) -> list[Firing]:
        account = self._accounts.get(principal) or Account()
        hour, minute = account.hour.at(now), account.minute.at(now)
        found = passed(
            self._settings,
            (("within an hour", hour.with_(size), "_per_hour"), ("within a minute", minute.with_(size), "_per_minute")),
            trigger=TRIGGER,
            how=f"{how} all runs of {principal}",
        )
        if found is None:
            return []
        runs = {share.run_id for share in account.hour.entries if isinstance(share, Share)}
        found.evidence.update(
            {"principal": principal, "runs": list[JsonValue](sorted(runs)[:20]), "of_runs": len(runs)}
        )
        return [found]

    def _intended(self, event: e.ActionIntended) -> None:
        principal = event.caller.principal
        account = self._accounts.get(principal)
        if account is None:
            self._forget_idle(event.at)
            account = self._accounts[principal] = Account()
        # what a person consented to, exactly as it is, is not the runs' to answer for
        size = size_of(event.effects, event.counts) if event.approval_id is None else NOTHING
        share = Share(event.at, size, (event.tool, event.action_id), event.run_id)
        account.hour.at(event.at)
        account.minute.at(event.at)
        account.add(share)
        self._pending[event.action_id] = principal, share

    def _void(self, action_id: ActionId) -> None:
        principal, share = self._pending.pop(action_id, ("", None))
        account = self._accounts.get(principal)
        if account is not None and share is not None:
            account.void(share)

    def _looked_at(self, run_id: RunId) -> None:
        for account in self._accounts.values():
            for share in [each for each in account.hour.entries if isinstance(each, Share) and each.run_id == run_id]:
                account.void(share)

    def _forget_idle(self, now: datetime) -> None:
        for account in self._accounts.values():
            account.hour.at(now)
        self._accounts = {name: account for name, account in self._accounts.items() if account.hour.entries}
