"""Ending planned and staged runs: carried out with consent, or thrown away."""

from __future__ import annotations

from collections.abc import Sequence

from takeback.journal.events import Caller
from takeback.journal.views import RunView
from takeback.server.engine.answers import ErrorInfo, RollbackAnswer, StartedRun
from takeback.server.engine.calls import Progress
from takeback.server.engine.carrying import Carrier, Outcome
from takeback.server.engine.collecting import COLLECTING
from takeback.server.engine.core import Core
from takeback.server.engine.runs import Outcome as Wanted


async def end_collecting(
    core: Core, carrier: Carrier, caller: Caller, run_id: str, wanted: Wanted, summary: str, progress: Progress
) -> tuple[StartedRun | None, Outcome]:
    """What has to be done before the run can end: its answer if it does not end now, and what was made.

    :raises EngineError: unknown or foreign, ended already, or being carried out elsewhere.
    """
    run = await core.run(caller, run_id)
    if run.mode not in COLLECTING:
        return None, Outcome()
    if wanted != "done":
        await carrier.throw_away(run, why=f"the run was ended as {wanted}")
        return None, Outcome()
    outcome = await carrier.carry_out(caller, run, summary=summary, progress=progress)
    if outcome.pending is not None:
        approval = outcome.pending
        message = f"A person has to approve the whole of it first ({approval.id})."
        advice = f"Ask the person to run `takeback approve {approval.id}`, then repeat exactly the same call."
        return (
            StartedRun(
                run_id=run.id,
                status=run.status,
                approval_id=approval.id,
                question=approval.question,
                error=ErrorInfo(code="pending_approval", message=message, advice=advice),
                text=message,
            ),
            outcome,
        )
    if outcome.refused is not None:
        error = outcome.refused
        said = ErrorInfo(code=error.code, message=error.message, advice=error.advice)
        now = await core.run(caller, run_id)
        return StartedRun(
            run_id=run.id, status=now.status, made=made_of(outcome), error=said, text=error.message
        ), outcome
    return None, outcome


def made_of(outcome: Outcome) -> list[str]:
    """What was made, a sentence each."""
    return [answer.summary or str(answer.action_id) for answer in outcome.made]


async def thrown_away(
    core: Core, carrier: Carrier, caller: Caller, run_id: str | None, chosen: Sequence[object], *, dry_run: bool
) -> tuple[int, RunView | None]:
    """Taking a whole run back throws away what it has collected; how many calls that were (in a dry run: would be).

    :param chosen: whatever narrows the wish down to a part of the run: then nothing is thrown away.
    """
    if run_id is None or any(chosen):
        return 0, None
    run = await core.run(caller, run_id)
    if run.mode not in COLLECTING:
        return 0, None
    if dry_run:
        return len(await carrier.collected(run.run_id)), run
    return await carrier.throw_away(run, why="the run was taken back"), run


def only_thrown_away(count: int, run: RunView, *, dry_run: bool) -> RollbackAnswer:
    """The answer where nothing else had been done."""
    were = f"{count} collected {'call' if count == 1 else 'calls'}"
    report = f"{were} would be thrown away" if dry_run else f"{were} {'was' if count == 1 else 'were'} thrown away"
    return RollbackAnswer(
        status="planned" if dry_run else "complete",
        run_id=run.id,
        run_status=run.status,
        report=f"{report}. Nothing of {'it' if count == 1 else 'them'} had been done.",
    )
