"""What the tools about runs state of themselves: how far a call is taken back, and what policy has to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Statement:
    """One tool about runs. Texts are one line each."""

    what: str
    """What a call is: `read only`, `changes the journal only`, or how it changes the world."""
    how: str = ""
    """How it is taken back."""
    unless: str = ""
    policy: str = ""
    """How rules of the policy bear on it."""


READ: Final = "read only"
PUT_BACK: Final = "puts earlier states back"
STEPS: Final = "each step, by rules with `compensation: true`"
AGAIN: Final = "`redo_rollback` brings back what was `restored` or `merged`"
LOST: Final = "what was only `compensated` is not done a second time"

STATEMENTS: Final[Mapping[str, Statement]] = {
    "list_runs": Statement(READ),
    "get_run": Statement(READ),
    "list_checkpoints": Statement(READ),
    "list_versions": Statement(READ),
    "start_run": Statement("nothing but the journal", "`finish_run` with `abandoned`"),
    "finish_run": Statement(
        "nothing but the journal; carries out what a `plan` or `staged` run has put down",
        "`rollback_run` takes the run's acts back, before and after",
        "each of those acts is as its tool is",
        "each of those acts, when it is put down and when it is carried out",
    ),
    "create_checkpoint": Statement("nothing but the journal", "it may stay: a mark changes nothing"),
    "resume_from": Statement(
        "nothing but the journal; with `restore` a rollback",
        f"the rollback: {AGAIN}",
        LOST,
        STEPS,
    ),
    "rollback_run": Statement(PUT_BACK, AGAIN, LOST, STEPS),
    "redo_rollback": Statement(
        PUT_BACK, "`redo_rollback` again, to any depth", "somebody changed the same since", STEPS
    ),
    "restore_version": Statement(
        PUT_BACK,
        f"{AGAIN}; what stood there is a version too",
        "the content of that version is not kept any more (refused)",
        "like a step of a rollback; what a rule denies or asks about is left to a person",
    ),
    "resolve_conflict": Statement(
        PUT_BACK,
        f"{AGAIN}; with `ours` what stood there is stored first",
        "the choice was `theirs`: nothing was changed",
        "like a step of a rollback; what a rule denies or asks about is left to a person",
    ),
    "contain_run": Statement(
        "nothing but the journal", "a person releases it (`takeback release`, the page)", "no tool does"
    ),
}
"""By name, in the order in which they are listed."""
