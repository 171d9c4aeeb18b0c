"""How many acts, how fast, and whether they are always the same one. Asked before an act."""

from __future__ import annotations

from takeback.server.engine.triggers.settings import MutationRate, RepeatedUpdate, StepCount
from takeback.server.engine.triggers.values import Attempt, Firing


def step_count(settings: StepCount, acts: int) -> list[Firing]:
    """The run has made as many acts as a run should need."""
    if acts < settings.threshold:
        return []
    return [
        Firing(
            "step_count",
            settings.answer,
            f"the run has made {acts:,} acts already",
            {"acts": acts, "threshold": settings.threshold},
        )
    ]


def mutation_rate(settings: MutationRate, recent: int) -> list[Firing]:
    """Acts follow one another faster than somebody can look.

    :param recent: acts within the window.
    """
    if recent < settings.threshold:
        return []
    return [
        Firing(
            "mutation_rate",
            settings.answer,
            f"the run has made {recent:,} acts within {settings.window_seconds:g} s",
            {"acts": recent, "seconds": settings.window_seconds, "threshold": settings.threshold},
        )
    ]


def repeated_update(settings: RepeatedUpdate, times: int, attempt: Attempt) -> list[Firing]:
    """The run goes in circles.

    :param times: how often the very same call was made within the window.
    """
    if times < settings.threshold:
        return []
    return [
        Firing(
            "repeated_update",
            settings.answer,
            f"the run has made the same call of {attempt.tool} {times} times within {settings.window_seconds:g} s",
            {"tool": attempt.tool, "times": times, "threshold": settings.threshold},
            about=attempt.tool,
        )
    ]
