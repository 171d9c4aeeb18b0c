"""Ending planned and staged runs: carried out with consent, or thrown away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from takeback.journal.events import Caller
from takeback.journal.views import RunView
from takeback.server.engine.answers import EngineError, ErrorInfo, RollbackAnswer, StartedRun
from takeback.server.engine.calls import Progress
from takeback.server.engine.carrying import Carrier, Outcome
from takeback.server.engine.collecting import COLLECTING
from takeback.server.engine.core import Core
from takeback.server.engine.runs import Outcome as Wanted
from takeback.server.engine.select import checkpoint_of


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


async def throwing_away(
    core: Core,
    carrier: Carrier,
    caller: Caller,
    run_id: str | None,
    to_checkpoint: str | None,
    parts: Sequence[object],
    roll_back: Callable[[], Awaitable[RollbackAnswer]],
    *,
    dry_run: bool,
) -> RollbackAnswer:
    """Roll back; where that is about all of a run, or what came after a checkpoint, what was collected goes as well.

    :param parts: whatever else narrows the wish down: then what was collected stays.
    :raises EngineError: as the rollback does; that there is nothing to take back only if nothing was collected either.
    """
    answer: RollbackAnswer | None = None
    nothing: EngineError | None = None
    try:
        answer = await roll_back()
    except EngineError as error:
        if error.code != "nothing":
            raise
        nothing = error
    count, run = 0, None
    if not any(parts) and (answer is None or dry_run or answer.status in ("complete", "partial")):
        count, run = await _throw_away(core, carrier, caller, run_id, to_checkpoint, dry_run=dry_run)
    if run is None or not count:
        if answer is None:
            raise nothing or EngineError("nothing", "There is nothing to take back.", "Look at the run with get_run.")
        return answer
    were = f"{count} collected {'call' if count == 1 else 'calls'}"
    told = f"{were} would be thrown away" if dry_run else f"{were} {'was' if count == 1 else 'were'} thrown away"
    if answer is not None:
        return answer.model_copy(update={"report": "\n".join(filter(None, (answer.report, f"{told}.")))})
    return RollbackAnswer(
        status="planned" if dry_run else "complete",
        run_id=run.id,
        run_status=run.status,
        report=f"{told}. Nothing of {'it' if count == 1 else 'them'} had been done.",
    )


async def _throw_away(
    core: Core, carrier: Carrier, caller: Caller, run_id: str | None, to_checkpoint: str | None, *, dry_run: bool
) -> tuple[int, RunView | None]:
    after = 0
    if to_checkpoint is not None:
        checkpoint, run = await checkpoint_of(core, caller, to_checkpoint)
        after = checkpoint.position
    elif run_id is not None:
        run = await core.run(caller, run_id, "decide")
    else:
        return 0, None
    if run.mode not in COLLECTING:
        return 0, None
    if dry_run:
        return sum(call.position > after for call in await carrier.collected(run.run_id)), run
    return await carrier.throw_away(run, after=after, why="the run was taken back"), run
