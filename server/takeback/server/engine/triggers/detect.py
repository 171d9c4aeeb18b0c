"""All detectors together: before an act, once its intent stands, and after a call that was refused or failed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from takeback.server.engine.triggers.confusion import outside_scope, schema_drift, target_confusion
from takeback.server.engine.triggers.failures import partial_failure, policy_violation, retry_storm
from takeback.server.engine.triggers.pace import mutation_rate, repeated_update, step_count
from takeback.server.engine.triggers.radius import blast_radius, radius_passed
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.engine.triggers.tally import Tally
from takeback.server.engine.triggers.values import Attempt, Firing

WARN_AGAIN = timedelta(minutes=10)
"""A warning about the same thing is not repeated before."""


def before(
    settings: TriggerSettings,
    tally: Tally,
    attempt: Attempt,
    *,
    consented: bool,
    everybodys: Iterable[Firing] = (),
) -> list[Firing]:
    """What looks wrong about an act that is about to be made.

    :param consented: a person consented to exactly this act, so that how much it touches is no question any more.
    :param everybodys: what looks wrong about all runs of its principal together.
    """
    counts, now = tally.counts, attempt.at
    counts.pace.at(now)
    found = [
        *step_count(settings.step_count, counts.acts),
        *mutation_rate(settings.mutation_rate, len(counts.pace.entries)),
        *repeated_update(settings.repeated_update, counts.calls.count(attempt.call, now), attempt),
        *schema_drift(settings.schema_drift, tally.tools.get(attempt.tool), attempt),
    ]
    if not consented:
        found += target_confusion(settings.target_confusion, counts.tenants, attempt)
        found += blast_radius(settings.blast_radius, counts.total, counts.minute.at(now), attempt)
    told = _worth_telling(tally, found, now)
    if consented or any(firing.answer != "warn" for firing in told):
        return told  # the act is not made, so that nobody but the run has to be stopped for it
    return told + _worth_telling(tally, everybodys, now)


def intended(settings: TriggerSettings, tally: Tally, now: datetime) -> list[Firing]:
    """What looks wrong once an intent stands among those of others: only what must never be passed."""
    found = radius_passed(settings.blast_radius, tally.counts.total, tally.counts.minute.at(now))
    return [firing for firing in found if firing.answer not in ("off", "warn")]


def after(settings: TriggerSettings, tally: Tally, now: datetime) -> list[Firing]:
    """What looks wrong after a call that was refused or failed."""
    counts = tally.counts
    failures = {key: counts.failures.count(key, now) for key in counts.failures.times}
    systems = {key: counts.systems.count(key, now) for key in counts.systems.times}
    found = [
        *policy_violation(settings.policy_violation, counts.denials.count("", now)),
        *outside_scope(settings.target_confusion, counts.outside),
        *retry_storm(settings.retry_storm, failures),
        *partial_failure(settings.partial_failure, systems),
    ]
    return _worth_telling(tally, found, now)


def _worth_telling(tally: Tally, found: Iterable[Firing], now: datetime) -> list[Firing]:
    told: list[Firing] = []
    for firing in found:
        last = tally.fired.get((firing.trigger, firing.about))
        if firing.answer == "off" or (firing.answer == "warn" and last is not None and now - last < WARN_AGAIN):
            continue
        told.append(firing)
    return told
