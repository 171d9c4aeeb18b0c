"""Approvals: a person's single-use consent to one exact action or plan.

Made and kept here, rendered from the real effects, bound to principal, run, tool, argument digest, the digest of what stands
there now, and an expiry. Nothing that a model can call can approve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from blake3 import blake3
from pydantic import JsonValue

from takeback.journal.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    BaseEvent,
    Caller,
    TriggerFired,
)
from takeback.journal.ids import ApprovalId, RunId, new_approval_id
from takeback.journal.log import Stale, ViewKey
from takeback.journal.states import Effect
from takeback.journal.views import ApprovalView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.containment import HELD
from takeback.server.engine.core import Core
from takeback.server.engine.graph import PARTIAL
from takeback.server.engine.holds import check_not_frozen
from takeback.server.engine.outgoing import new_place
from takeback.server.engine.policy import SAYS_SO, Verdict
from takeback.server.engine.report import shown
from takeback.server.engine.voiding import ENDED, TIME, TIME_RAN_OUT, WAY_BACK, expired, sweep, why_void
from takeback.tools.adapt import SHOWN
from takeback.tools.contract import Prepared

WINDOW = timedelta(minutes=1)
AMONG = 200
"""So many questions of other people may lie between one's own within a minute, and all of one's own are still counted."""

ATTEMPTS = 5
"""A run may change so often while it is written down that a person is asked in it."""
_PRECEDENCE = {"granted": 0, "denied": 1, "requested": 2}
"""A question may be open twice (two processes asked at once); what a person has said counts first."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What consent is needed for."""

    run_id: RunId
    caller: Caller
    tool: str
    argument_digest: str
    target_digest: str
    question: str
    reason: str
    subject: str = "action"


def target_digest(effects: Sequence[Effect], counts: Mapping[str, int]) -> str:
    """Over the objects, what stands there now, and how much of it is touched: a consent is void once that differs.

    What will stand there is not part of it: the same call may give another result a moment later (`now()`).
    """
    parts = sorted(f"{effect.system}\0{bound(effect)}" for effect in effects)
    parts += [f"{what}\0{count}" for what, count in sorted(counts.items())]
    return "blake3:" + blake3("\0\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def bound(effect: Effect) -> str:
    """What of an effect has to be the same when the call is repeated. Counters move on with each preparation, and keys of new
    rows with them; the rows that one action touched are named by an image that also holds what they became."""
    before, after = effect.before, effect.after
    place = new_place(effect)
    if place is not None:
        return place
    if before.kind == "sequence":
        return f"{effect.object}\0counter"
    if before.absent and after.kind == "row":
        return f"{effect.object.rpartition('/')[0]}\0new row"
    if after.kind == "opaque":
        return f"{effect.object}\0{before.digest}\0{after.ref.get(SHOWN, '')}"
    if before.kind == PARTIAL:
        return f"{effect.object}\0{before.content or before.digest}"
    return f"{effect.object}\0{before.digest}"


async def find_or_ask(core: Core, wanted: Wanted) -> ApprovalView:
    """The approval for exactly this: one that is granted, denied or still open, else a new question.

    The caller acts only on status `granted`, and spends it in the transaction of the intent.
    """
    async with core.asking:  # the same call made four times at once is one question
        found = await _find(core, wanted)
        if found is None:
            await _spare(core, wanted)
            found = await _ask(core, wanted)
        return found


async def _spare(core: Core, wanted: Wanted) -> None:
    """Nobody reads the fiftieth question: over the limit there are no more of them.

    :raises EngineError: `too_many_questions`.
    """
    limits, since = core.settings.approvals, core.now() - WINDOW
    newest = await core.journal.find(ApprovalView, limit=limits.person_per_minute + limits.run_per_minute + AMONG)
    recent = [each for each in newest if each.requested_at > since and each.caller.principal == wanted.caller.principal]
    own = sum(each.run_id == wanted.run_id for each in recent)
    if own < limits.run_per_minute and len(recent) < limits.person_per_minute:
        return
    who, count = ("this run", own) if own >= limits.run_per_minute else ("your runs", len(recent))
    if core.flooded.get(wanted.run_id, since) <= since:
        core.flooded[wanted.run_id] = core.now()
        evidence: dict[str, JsonValue] = {"questions": count, "seconds": WINDOW.seconds, "tool": wanted.tool}
        await core.journal.append(
            [
                TriggerFired(
                    run_id=wanted.run_id, at=core.now(), trigger="question_flood", answer="warn", evidence=evidence
                )
            ]
        )
    raise EngineError(
        "too_many_questions",
        f"A person was asked {count} times within a minute for {who}; they are not asked once more.",
        'Start a run with mode "plan": one question then covers all of it. Or wait a minute.',
    )


async def _find(core: Core, wanted: Wanted) -> ApprovalView | None:
    found: list[ApprovalView] = []
    for approval in await core.journal.find(
        ApprovalView, run_id=wanted.run_id, status=("requested", "granted", "denied")
    ):
        if (
            approval.tool != wanted.tool
            or approval.argument_digest != wanted.argument_digest
            or approval.caller.principal != wanted.caller.principal
        ):
            continue
        if approval.expires_at <= core.now():
            await _expire(core, approval, TIME)
        elif approval.target_digest != wanted.target_digest:
            await _expire(core, approval, "what it was about has changed")
        else:
            found.append(approval)
    return min(found, key=lambda approval: _PRECEDENCE[approval.status], default=None)


async def _ask(core: Core, wanted: Wanted) -> ApprovalView:
    approval_id = new_approval_id()
    for _ in range(ATTEMPTS):
        run = await core.journal.get(RunView, wanted.run_id)
        if run is not None and run.status in ENDED and wanted.tool != WAY_BACK:
            raise EngineError("run_ended", f"Run {run.id} has ended ({run.status}).", "Start a new run with start_run.")
        asked = ApprovalRequested(
            run_id=wanted.run_id,
            at=core.now(),
            approval_id=approval_id,
            subject="plan" if wanted.subject == "plan" else "action",
            tool=wanted.tool,
            caller=wanted.caller,
            argument_digest=wanted.argument_digest,
            target_digest=wanted.target_digest,
            question=wanted.question,
            reason=wanted.reason,
            expires_at=core.now() + timedelta(seconds=core.settings.limits.approval_seconds),
        )
        try:
            # what ends the run makes void what is asked in it by then: nothing is asked behind its back
            await core.journal.append([asked], expect={} if run is None else {ViewKey("run", run.id): run.version})
        except Stale:
            continue
        approval = await core.journal.get(ApprovalView, approval_id)
        assert approval is not None, "an approval is there once its request is durable"
        return approval
    raise EngineError("changed", f"Run {wanted.run_id} keeps changing.", "Repeat the call when it is quieter.")


async def _expire(core: Core, approval: ApprovalView, why: str) -> None:
    try:
        await core.journal.append(
            [expired(core, approval, why)], expect={ViewKey("approval", approval.id): approval.version}
        )
    except Stale:
        return  # answered or used at the same moment; the next look sees that


async def answer(core: Core, caller: Caller, approval_id: str, *, grant: bool, lane: str) -> ApprovalView:
    """Record what a person said.

    :raises EngineError: unknown or foreign, expired, answered already, or (consent) its run is contained.
    """
    approval = await core.journal.get(ApprovalView, approval_id)
    if approval is None or not await core.allows(caller, approval.caller.principal, approval.run_id, "approve"):
        raise EngineError(
            "not_found", f"There is no approval {approval_id!r}.", "List the open ones with `takeback approvals`."
        )
    if approval.status == "requested" and approval.expires_at <= core.now():
        await _expire(core, approval, TIME)
        approval = await core.journal.get(ApprovalView, approval_id) or approval
    run = await core.journal.get(RunView, approval.run_id)
    if approval.status == "requested" and run is not None and run.status in ENDED:
        await sweep(core, run.run_id, run.status)
        approval = await core.journal.get(ApprovalView, approval_id) or approval
    if grant and run is not None and run.status in HELD:
        raise EngineError(
            "contained",
            f"Run {run.id} is {run.status}, so its questions are frozen.",
            f"Release it first with `takeback release {run.id}`, or refuse with `takeback deny`.",
        )
    if approval.status != "requested":
        why = await why_void(core, approval)
        over = run is not None and run.status in ENDED
        raise EngineError(
            "not_open",
            f"Approval {approval.id} is void: {why}."
            if why and why != TIME_RAN_OUT
            else f"Approval {approval.id} is {approval.status} already.",
            "Nothing has to be answered; what is still wanted is asked anew in another run."
            if over
            else "Let the agent repeat its call to be asked anew.",
        )
    if grant:
        await check_not_frozen(core, approval)
    kind = ApprovalGranted if grant else ApprovalDenied
    event: BaseEvent = kind(
        run_id=approval.run_id, at=core.now(), approval_id=ApprovalId(approval.id), by=caller.principal, lane=lane
    )
    try:
        await core.journal.append([event], expect={ViewKey("approval", approval.id): approval.version})
    except Stale as error:
        raise EngineError(
            "not_open", f"Approval {approval.id} was answered at the same moment.", "Look with `takeback approvals`."
        ) from error
    answered = await core.journal.get(ApprovalView, approval_id)
    assert answered is not None, "an approval that was answered is there"
    return answered


def question_of(titles: str, prepared: Prepared, verdict: Verdict) -> str:
    """What a person is asked: what would be done, how far it can be taken back, and which rule of theirs asks."""
    own = not verdict.rule.startswith("default.")
    why = shown(prepared.reason or ("" if own else verdict.reason))  # it may name what others have named
    lines = [titles, f"This is {prepared.reversibility}{f': {why}' if why else '.'}"]
    if own:
        said = shown(verdict.reason) if verdict.reason not in (prepared.reason, SAYS_SO) else ""
        lines.append(f"Rule {verdict.rule} of the policy asks{f': {said}' if said else '.'}")
    return "\n".join(lines)
