"""What the guard says to whoever called: what was noticed, what comes of it, what was taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from takeback.server.engine.answers import RollbackAnswer
from takeback.server.engine.checks.running import Checked
from takeback.server.engine.containment import Level
from takeback.server.engine.triggers.principals import TRIGGER as PRINCIPAL
from takeback.server.engine.triggers.settings import Answer
from takeback.server.engine.triggers.values import Firing

WORST: Final[tuple[Answer, ...]] = ("off", "warn", "read_only", "contain", "quarantine", "rollback")
LEVELS: Final[dict[Answer, Level]] = {
    "read_only": "contained",
    "contain": "contained",
    "quarantine": "quarantined",
    "rollback": "contained",
}
ADVICE: Final = "Stop here and tell the user: a person decides with `takeback release`, or rolls the run back."


def undone(back: RollbackAnswer) -> str:
    """How an act was taken back at once."""
    outcomes = {step.outcome for step in back.steps}
    if "compensated" in outcomes:
        made_up = "; ".join(step.why.rstrip(".") for step in back.steps if step.outcome == "compensated" and step.why)
        return f"It was made up for at once: {made_up or 'see the report'}."
    if "merged" in outcomes:
        return "It was taken back at once; what somebody else changed meanwhile is kept."
    return "It was taken back at once: everything is as before it."


def of_check(one: Checked) -> Firing:
    """A check of the user's that does not hold, as a trigger."""
    evidence: dict[str, JsonValue] = {"check": one.check, "object": one.object, "status": one.status}
    answer: Answer = one.on_fail if one.status == "fails" else "warn"
    return Firing("check", answer, one.why, evidence, about=one.check)


def sentence_of(firing: Firing) -> str:
    """What was noticed."""
    return f"{firing.why[:1].upper()}{firing.why[1:]} ({firing.trigger})."


def warning_of(firing: Firing) -> str:
    """What was noticed, and does not stop the call."""
    return f"{sentence_of(firing)} Look whether this is still what the user wants."


def what_follows(found: Sequence[Firing]) -> str:
    """What is held from now on."""
    told: list[str] = []
    for firing in found:
        if firing.trigger == PRINCIPAL:
            held = "is quarantined" if firing.answer == "quarantine" else "may only read"
            told.append(f"Whatever {firing.evidence['principal']} runs {held} now.")
    answers = [firing.answer for firing in found if firing.trigger != PRINCIPAL or firing.answer == "rollback"]
    if not answers:
        return told[0]
    match max(answers, key=WORST.index):
        case "read_only":
            what = "The run may only read now."
        case "quarantine":
            what = "The run is quarantined now."
        case "rollback":
            what = "The run is contained now, and taken back."
        case _:
            what = "The run is contained now: it may only read."
    return " ".join([what, *told])
