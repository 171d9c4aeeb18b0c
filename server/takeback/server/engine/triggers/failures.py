"""Calls that are refused or fail, and systems that fail them. Asked after such a call."""

from __future__ import annotations

from collections.abc import Mapping

from takeback.server.engine.triggers.settings import PartialFailure, PolicyViolation, RetryStorm
from takeback.server.engine.triggers.values import Firing


def policy_violation(settings: PolicyViolation, denials: int) -> list[Firing]:
    """The run keeps trying what it must not do.

    :param denials: calls that policy refused within the window.
    """
    if denials < settings.threshold:
        return []
    return [
        Firing(
            "policy_violation",
            settings.answer,
            f"policy refused {denials} calls of the run within {settings.window_seconds:g} s",
            {"denials": denials, "threshold": settings.threshold},
        )
    ]


def retry_storm(settings: RetryStorm, failures: Mapping[tuple[str, str], int]) -> list[Firing]:
    """The run keeps trying what does not work.

    :param failures: within the window, by tool and code, since the tool last succeeded.
    """
    return [
        Firing(
            "retry_storm",
            settings.answer,
            f"{tool} failed {times} times ({code}) within {settings.window_seconds:g} s",
            {"tool": tool, "code": code, "times": times, "threshold": settings.threshold},
            about=f"{tool} {code}",
        )
        for (tool, code), times in failures.items()
        if times >= settings.threshold
    ]


def partial_failure(settings: PartialFailure, systems: Mapping[str, int]) -> list[Firing]:
    """A system does only a part of what it is asked to.

    :param systems: acts within the window that failed or are in doubt, by system.
    """
    return [
        Firing(
            "partial_failure",
            settings.answer,
            f"{times} acts of the run failed or are in doubt at {system} within {settings.window_seconds:g} s",
            {"system": system, "times": times, "threshold": settings.threshold},
            about=system,
        )
        for system, times in systems.items()
        if times >= settings.threshold
    ]
