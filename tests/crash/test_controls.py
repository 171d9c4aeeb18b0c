"""Negative controls: four servers that are wrong in a way one could overlook, and the suite has to catch each.

A suite in which these pass proves nothing: a server without a single fsync survives every kill -9.
"""

from __future__ import annotations

import pytest
from tests.crash.shim import Worker
from tests.crash.test_dying_process import points, power_cut


def caught(worker: Worker, how: str, mutant: str, stride: int = 9) -> str | None:
    """What the suite says about the first point at which it sees through the mutant; `None` if it never does."""
    untouched = worker.untouched("overwrite")
    for n in points(mutant, untouched["count"], stride):
        worker.clean()
        if how == "power cut":
            power_cut(worker, "overwrite", n, None, mutant)
        else:
            worker.ask("work", "overwrite", at=n, mode=how, mutant=mutant)
        answer = worker.ask("check", "overwrite", worlds=untouched["worlds"], standing=untouched["standing"])
        if "told" not in answer:
            return str(answer.get("error"))
    return None


@pytest.mark.parametrize(
    ("how", "mutant"),
    [
        ("power cut", "without fsync"),
        ("power cut", "synchronous normal"),
        ("after", "acting first"),
        ("torn", "writing in place"),
    ],
)
def test_a_server_that_is_wrong_is_caught(worker: Worker, how: str, mutant: str) -> None:
    words = caught(worker, how, mutant)
    assert words is not None, f"{mutant}: not one {how} was seen through"
    assert "AssertionError" in words or "Error" in words


def test_a_kill_alone_does_not_see_that_nothing_is_synced(worker: Worker) -> None:
    """Why the power cut is there at all."""
    assert caught(worker, "before", "without fsync", 67) is None
