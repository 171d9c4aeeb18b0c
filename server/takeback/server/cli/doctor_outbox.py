"""The doctor's part on the outbox: what is held, late, dead or unknown, and whether somebody sends."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from takeback.checkpoints.oslock import held
from takeback.server.cli.login import login_sender
from takeback.server.cli.session import Session
from takeback.server.engine.detached import lock_file
from takeback.server.engine.engine import Engine

if TYPE_CHECKING:
    from takeback.server.cli.doctor import Report

_OVERDUE = 5.0
"""Seconds after its time within which a sender may still be about to send."""


async def examine_outbox(session: Session, report: Report, engine: Engine) -> None:
    """Look at the caller's messages, and whether a sender is at work. Sends nothing."""
    from takeback.server.cli.doctor import Finding

    outbox = engine.core.outbox
    rows = await engine.desk.rows(session.caller)
    number = Counter(row.status for row in rows)
    waiting = [row for row in rows if row.status == "HELD"]
    working = is_sending(session)
    pairs = [("held", f"{len(waiting)}" + (f", the next until {waiting[0].release_time}" if waiting else ""))]
    pairs += [
        (status.lower(), str(number[status])) for status in ("SENDING", "LATE", "DEAD", "UNKNOWN") if number[status]
    ]
    if number["WAITING"]:
        pairs.append(("corrections that wait for your consent", str(number["WAITING"])))
    pairs.append(("sender", "at work" if working else "not at work" if waiting else "not at work, and nothing to do"))
    pairs.append(("sender at login", "yes" if Path(login_sender(session).path).exists() else "no"))
    report.facts["Outbox"] = pairs
    overdue = [row for row in waiting if row.release_at + _OVERDUE < outbox.now()]
    if overdue and not working:
        report.findings.append(
            Finding(
                "open",
                f"{len(overdue)} held since {overdue[0].release_time} should have left, and no sender is at work.",
                "takeback outbox run sends it; takeback install sender lets it start at login.",
            )
        )
    report.findings += [
        Finding("open", f"{row.id}: {row.named} waits for you: {row.detail}.", f"takeback outbox show {row.id}")
        for row in rows
        if row.status in ("LATE", "WAITING")
    ]


def is_sending(session: Session) -> bool:
    """Whether a sender is at work on the data directory."""
    file = lock_file(session.settings().data)
    if not file.exists():
        return False
    with held(os.fspath(file), wait=False) as idle:
        return not idle
