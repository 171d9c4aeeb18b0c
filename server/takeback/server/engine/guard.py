"""The guard: looks at each acting call before, during and after it, and does what the answer to a trigger says.

The counts of a run are kept in memory and are a fold over its events: whatever somebody else wrote is read before the next
call is judged. Bounds that must not be passed are looked at once more when the intent stands, because another process may have
been faster; then the act is not made.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from blake3 import blake3
from pydantic import JsonValue

from takeback.journal.events import (
    ActionFailed,
    BaseEvent,
    Caller,
    ConflictOpened,
    Recorded,
    ScopeContained,
    TriggerFired,
)
from takeback.journal.guarding import HOLDS
from takeback.journal.ids import RunId, new_conflict_id
from takeback.journal.log import ViewKey
from takeback.journal.states import Effect
from takeback.journal.views import RunView
from takeback.server.engine import containment, holds
from takeback.server.engine.answers import CallAnswer, EngineError, ErrorInfo, RollbackAnswer
from takeback.server.engine.calls import no_progress
from takeback.server.engine.checks.running import Checks
from takeback.server.engine.containment import HELD
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.guard_words import (
    ADVICE,
    LEVELS,
    WORST,
    of_check,
    sentence_of,
    undone,
    warning_of,
    what_follows,
)
from takeback.server.engine.rollback import Rollbacks
from takeback.server.engine.select import wish_for_rollback
from takeback.server.engine.shield import shielded
from takeback.server.engine.triggers import detect
from takeback.server.engine.triggers.principals import TRIGGER as PRINCIPAL
from takeback.server.engine.triggers.tally import Tally
from takeback.server.engine.triggers.values import Attempt, Firing, size_of
from takeback.server.engine.unanswered import unanswered
from takeback.server.engine.watch import Watch
from takeback.server.engine.work import Work, where, without_secrets
from takeback.tools.contract import AnyTool, Prepared

log = logging.getLogger(__name__)

KEPT: Final = 512
"""Runs whose counts are remembered."""
PAGE: Final = 500


class Guard:
    """For one engine."""

    def __init__(self, core: Core, rollbacks: Rollbacks) -> None:
        self._core, self._rollbacks = core, rollbacks
        self._settings = core.settings.triggers
        self._tallies: OrderedDict[RunId, Tally] = OrderedDict()
        self._schemas: dict[str, tuple[AnyTool, str]] = {}
        self._watch = Watch(core)
        self.checks = Checks(core)

    # -- before -----------------------------------------------------------------------------------------------------------

    async def admit(self, work: Work) -> None:
        """Refuse what is held, and bind the intent to what was seen: whatever is contained until then refuses it.

        :raises EngineError: `contained`.
        """
        work.held = await holds.present(self._core)
        work.expect[holds.KEY] = work.held.version
        for above in await containment.ancestors(self._core, work.run):
            work.expect[ViewKey("run", above.id)] = above.version
        holds.check(work.held, principal=work.run.owner.principal, tool=work.tool)

    def check_held(self, work: Work, prepared: Prepared) -> None:
        """Refuse what is held, now that it is known what the call would touch.

        :raises EngineError: `contained`.
        """
        if work.held is not None:
            holds.check(work.held, principal=work.run.owner.principal, tool=work.tool, effects=prepared.effects)

    async def before(self, work: Work, prepared: Prepared) -> None:
        """Look at an act that is allowed and about to be made.

        :raises EngineError: `contained`: it is not made.
        """
        attempt = Attempt(
            tool=work.tool.name,
            version=work.tool.version,
            schema=self.schema(work.tool),
            arguments=work.argument_digest,
            size=size_of(prepared.effects, prepared.counts),
            at=self._core.now(),
        )
        tally = await self._tally(work.run.run_id)
        work.judged_at = tally.seq
        carried = work.call.carried
        consented = work.approval_id is not None or (carried is not None and carried.approval_id is not None)
        together = await self._watch.before(work.run.owner.principal, attempt)
        found = detect.before(self._settings, tally, attempt, consented=consented, everybodys=together)
        for firing in found:
            if firing.answer == "warn":
                work.warnings.append(warning_of(firing))
                work.fired.append(self._fired(work, firing))
        if strong := [firing for firing in found if firing.answer != "warn"]:
            await self._stop(work, strong, [])

    def schema(self, tool: AnyTool) -> str:
        """Fingerprint of what a tool says it takes."""
        known = self._schemas.get(tool.name)
        if known is None or known[0] is not tool:
            text = json.dumps(tool.arguments.model_json_schema(), sort_keys=True)
            known = self._schemas[tool.name] = (tool, blake3(text.encode("utf-8")).hexdigest(length=8))
        return known[1]

    # -- while it is made ---------------------------------------------------------------------------------------------------

    async def intended(self, work: Work, recorded: Sequence[Recorded]) -> None:
        """Its intent stands: with it, and with whatever others intended just before, no bound may be passed.

        :raises EngineError: `contained`: it is not made, and the journal says so.
        """
        own = [one for one in recorded if one.run_id == work.run.run_id]
        tally = await self._caught_up(work.run.run_id, own)
        found: list[Firing] = []
        if own[0].seq != work.judged_at + 1:  # else nothing came between: it was judged as things are
            found += detect.intended(self._settings, tally, self._core.now())
        if found := found or await self._watch.intended(work.run.owner.principal, recorded[-1].position):
            failed = ActionFailed(
                run_id=work.run.run_id,
                at=self._core.now(),
                action_id=work.action_id,
                tool=work.tool.name,
                code="contained",
                message=sentence_of(found[0]),
                advice=ADVICE,
                step=work.call.step,
            )
            await self._stop(work, found, [failed])

    async def still_free(self, work: Work) -> bool:
        """Whether an act that has to be tried again may be: nothing it belongs to has been contained meanwhile."""
        run = await self._core.journal.get(RunView, work.run.run_id)
        view = await holds.present(self._core)
        return run is not None and run.status not in HELD and view.version == work.expect.get(holds.KEY, view.version)

    def concluded(self, run_id: RunId, recorded: Sequence[Recorded]) -> None:
        """Take in what was written, if nothing else was written before it."""
        tally = self._tallies.get(run_id)
        own = [one for one in recorded if one.run_id == run_id]
        if tally is not None and own and own[0].seq == tally.seq + 1:
            tally.take(own)

    async def observed(self, work: Work, effects: Sequence[Effect], mismatches: Sequence[str]) -> list[BaseEvent]:
        """Step 7: what of the act is not as it should be, as events for its conclusion. Warnings go into the work."""
        found: list[Firing] = []
        if mismatches and (answer := self._settings.failed_postcondition.answer) != "off":
            evidence: dict[str, JsonValue] = {"objects": list(mismatches)}
            found.append(Firing("failed_postcondition", answer, "an object was not as the act left it", evidence))
            if answer == "rollback":
                work.take_back, work.because = "action", "Right after the act an object was not as the act left it."
        checked = await self.checks.after(effects, work.call.caller)
        work.warnings += [one.sentence for one in checked]
        found += [of_check(one) for one in checked]
        for one in checked:
            if one.status == "fails" and one.on_fail == "rollback" and not work.take_back:
                work.take_back, work.because = "action", one.sentence
        events: list[BaseEvent] = [self._fired(work, firing) for firing in found]
        if work.take_back == "action":
            events += self._promised(work, effects)
        # what is taken back at once needs no containment: the run can try again
        strong = [firing for firing in found if firing.answer not in ("warn", "rollback")]
        return events + (await self._containing(work, strong) if strong else [])

    def _promised(self, work: Work, effects: Sequence[Effect]) -> list[BaseEvent]:
        """That the act is to be taken back is open until it is, also if nobody lives to do it. The rollback closes it."""
        effect = next((effect for effect in effects if effect.verb != "unchanged"), None)
        return [
            ConflictOpened(
                run_id=work.run.run_id,
                at=self._core.now(),
                conflict_id=new_conflict_id(),
                kind="failed",
                action_id=work.action_id,
                system=effect.system if effect else work.tool.name,
                object=effect.object if effect else "",
                base=effect.after if effect else None,
                ours=effect.before if effect else None,
                theirs=effect.after if effect else None,
                why=f"{work.because} It was to be taken back at once, and nobody has said yet that it was.",
                next_step=f"Take it back: rollback_run with actions [{work.action_id}].",
            )
        ]

    # -- after ------------------------------------------------------------------------------------------------------------

    async def settled(self, work: Work, answer: CallAnswer) -> CallAnswer:
        """The call is over and its locks are free: take back what has to be, and look at failures. Raises nothing."""
        try:
            if work.take_back == "action" and answer.action_id is not None and not answer.is_error:
                return await shielded(lambda: self._taken_back(work, answer))
            if answer.is_error and answer.status != "pending_approval" and not work.take_back:
                answer.warnings += await self._after_failure(work)
            if work.take_back == "run":
                back = await shielded(lambda: self._roll_back(work.call.caller, run_id=work.run.run_id))
                answer.warnings.append(f"The run was taken back, as the trigger demands: {back.status}.")
        except Exception as error:  # the call is over whatever comes of this, and its answer has to be told
            log.warning("what a trigger or check demands could not be done: %s", where(error))
            if work.take_back:
                what = "the act" if work.take_back == "action" else "the run"
                why = error.message if isinstance(error, EngineError) else fault(error)
                answer.warnings.append(f"{work.because} Taking {what} back did not succeed: {why}".strip())
        return answer

    async def _after_failure(self, work: Work) -> list[str]:
        run = await self._core.journal.get(RunView, work.run.run_id)
        if run is None or run.status not in ("open", "stalled"):
            return []
        found = detect.after(self._settings, await self._tally(run.run_id), self._core.now())
        if not found:
            return []
        events: list[BaseEvent] = [self._fired(work, firing) for firing in found]
        strong = [firing for firing in found if firing.answer != "warn"]
        if strong:
            events += await self._containing(work, strong)
        await self._core.record(events)
        return [warning_of(firing) for firing in found if firing.answer == "warn"] + [
            f"{sentence_of(firing)} {what_follows(strong)}" for firing in strong
        ]

    async def _taken_back(self, work: Work, answer: CallAnswer) -> CallAnswer:
        back = await self._roll_back(work.call.caller, actions=(str(answer.action_id),))
        if back.status != "complete":
            left = "; ".join(item.why for item in back.open_items[:3])
            answer.warnings.append(
                f"{work.because} It was to be taken back at once, and that was {back.status}: {left or 'see its report'}."
            )
            return answer
        how = undone(back)
        return answer.model_copy(
            update={
                "status": "failed",
                "undo": None,
                "result": None,
                "digest": None,
                "release_at": None,
                "summary": f"{answer.summary} {how}",
                "error": ErrorInfo(
                    code="check_failed",
                    message=f"{work.because} {how}",
                    advice="Mend what the check says, then call it again.",
                ),
            }
        )

    async def resume_unfinished(self) -> list[RollbackAnswer]:
        """Take back the runs that a trigger wanted taken back, and whose process died after it had contained them."""
        answers: list[RollbackAnswer] = []
        for run in await unanswered(self._core):
            try:
                answers.append(await self._roll_back(run.owner, run_id=run.id))
            except Exception as error:  # it stays contained, and whoever starts next tries again
                log.warning("run %s, which a trigger wants taken back, could not be: %s", run.id, where(error))
        return answers

    async def _roll_back(
        self, caller: Caller, *, run_id: str | None = None, actions: Sequence[str] = ()
    ) -> RollbackAnswer:
        wish = await wish_for_rollback(self._core, caller, run_id=run_id, actions=actions)
        # it was decided by whoever configured it, so nobody has to see the plan first
        wish = replace(wish, needs_digest="")
        return await self._rollbacks.carry_out(caller, wish, dry_run=False, plan_digest=None, progress=no_progress)

    # -- parts ------------------------------------------------------------------------------------------------------------

    async def _stop(self, work: Work, found: Sequence[Firing], along: list[BaseEvent]) -> None:
        fired: list[BaseEvent] = [*work.fired, *(self._fired(work, firing) for firing in found)]
        work.fired.clear()
        await self._core.journal.append([*along, *fired, *await self._containing(work, found)])
        raise EngineError("contained", f"{sentence_of(found[0])} So it was not made. {what_follows(found)}", ADVICE)

    async def _containing(self, work: Work, found: Sequence[Firing]) -> list[BaseEvent]:
        events: list[BaseEvent] = [self._holding(firing) for firing in found if firing.trigger == PRINCIPAL]
        found = [firing for firing in found if firing.trigger != PRINCIPAL or firing.answer == "rollback"]
        if not found:
            return events
        worst = max((firing for firing in found), key=lambda firing: WORST.index(firing.answer))
        if worst.answer == "rollback":
            work.take_back = "run"
        run = await self._core.journal.get(RunView, work.run.run_id)
        if run is None:
            return events
        level, alone = LEVELS[worst.answer], worst.answer == "read_only" and not run.default
        members = await containment.tightening(self._core, run, level, alone=alone)
        reason, by = f"{worst.trigger}: {worst.why}", f"{holds.BY_TRIGGER}{worst.trigger}"
        return events + containment.contained(self._core, members, reason, level, by=by, alone=alone)

    def _holding(self, firing: Firing) -> BaseEvent:
        return ScopeContained(
            run_id=HOLDS,
            at=self._core.now(),
            kind="principal",
            name=str(firing.evidence["principal"]),
            level=LEVELS[firing.answer],
            reason=f"{firing.trigger}: {firing.why}",
            by=f"{holds.BY_TRIGGER}{firing.trigger}",
        )

    def _fired(self, work: Work, firing: Firing) -> TriggerFired:
        return TriggerFired.model_validate(
            {
                "run_id": work.run.run_id,
                "at": self._core.now(),
                "trigger": firing.trigger,
                "answer": firing.answer,
                "evidence": without_secrets(
                    {
                        **firing.evidence,
                        "why": firing.why,
                        "tool": work.tool.name,
                        **({"about": firing.about} if firing.about else {}),
                    }
                ),
                "action_id": work.action_id,
            }
        )

    async def _tally(self, run_id: RunId) -> Tally:
        return await self._caught_up(run_id, ())

    async def _caught_up(self, run_id: RunId, recorded: Sequence[Recorded]) -> Tally:
        tally = self._tallies.get(run_id)
        if tally is None:
            tally = self._tallies[run_id] = Tally(self._settings)
            if len(self._tallies) > KEPT:
                self._tallies.popitem(last=False)
        self._tallies.move_to_end(run_id)
        if recorded:
            if recorded[0].seq == tally.seq + 1:
                tally.take(recorded)
            wanted = recorded[-1].seq
        else:
            wanted = (await self._core.journal.heads([run_id])).get(run_id, (0, ""))[0]
        while tally.seq < wanted:
            page = await self._core.journal.read(run_id, after=tally.position, limit=PAGE)
            if not page:
                break
            tally.take(page)
        return tally
