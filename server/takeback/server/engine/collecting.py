"""Calls of planned and staged runs: prepared, judged, shown, and put down instead of made.

Nothing of such a call is visible to anybody, so a later call is looked at as if the earlier ones had not been made. Where it
touches the same objects, that is said; where it cannot be looked at at all because of that (a file that an earlier call will
create), it is put down unseen, and said to be.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from takeback.journal.collecting import CallCollected
from takeback.journal.events import RunMode
from takeback.journal.ids import ActionId
from takeback.journal.states import Effect
from takeback.journal.views import CollectedCall
from takeback.server.engine import approvals, outgoing
from takeback.server.engine.answers import CallAnswer, EngineError, UndoInfo
from takeback.server.engine.calls import Carried
from takeback.server.engine.core import Core
from takeback.server.engine.plan import object_key
from takeback.server.engine.policy import Verdict
from takeback.server.engine.stages import InView
from takeback.server.engine.work import Work, journaled
from takeback.tools.contract import Prepared
from takeback.tools.system import TargetSystem

COLLECTING: Final[frozenset[RunMode]] = frozenset({"plan", "staged"})
"""Modes of runs whose calls are put down for later."""
WAIT_SECONDS = 20.0
MOST_CALLS: Final = 50
"""A person has to be able to read what they consent to."""

Place = tuple[str, str]
"""System and object."""


class Collector:
    """Puts calls down for one engine."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def collects(self, work: Work) -> bool:
        """Whether this call is put down instead of made."""
        return work.run.mode in COLLECTING and work.call.carried is None and not work.call.dry_run

    @asynccontextmanager
    async def alone(self, work: Work) -> AsyncGenerator[None, None]:
        """While a call is put down, nobody begins to carry the run's calls out, and the other way round."""
        async with self._core.collections.hold([work.run.id], timeout=WAIT_SECONDS):
            yield

    async def admit(self, work: Work) -> CallAnswer | None:
        """The answer that a call with the same idempotency key got; `None`: put it down.

        :raises EngineError: the key has other arguments, or the run takes no more calls for now.
        """
        found = await self._collected(work)
        if any(call.status == "begun" for call in found):
            raise EngineError(
                "carrying_out", f"Run {work.run.id} is being carried out.", "Look at it with get_run when that is over."
            )
        key = work.call.idempotency_key
        for call in found:
            if key is not None and (call.tool, call.idempotency_key) == (work.tool.name, key):
                if call.argument_digest != work.argument_digest:
                    raise EngineError(
                        "key_reused",
                        f"The idempotency key {key!r} was used with other arguments.",
                        "Use a new key for a new act, or repeat the call exactly.",
                    )
                return answered(work, call, [], [*work.warnings, "It was put down before, and not once more."])
        if len(found) >= MOST_CALLS:
            raise EngineError(
                "too_many_calls",
                f"Run {work.run.id} has {len(found)} calls put down already; a person could not read more.",
                "Have them carried out with finish_run, then go on in another run.",
            )
        return None

    async def builds(self, work: Work) -> bool:
        """Whether a call that cannot be prepared may only have to wait for what the run has put down before."""
        here = [(target.system, target.object) for target in work.targets]
        return bool(builds_on(self._core, await self._collected(work), here))

    async def put_down(
        self,
        work: Work,
        prepared: Prepared | None,
        unseen: str,
        verdict: Verdict | None,
        previews: list[str],
        shown_in: InView | None,
    ) -> CallAnswer:
        """Put a call down.

        :param prepared: on what is really there; `None` if that cannot be done yet, and `unseen` says why.
        :param shown_in: as it was prepared on what the run has staged, where that can be seen.
        :raises EngineError: a staged run cannot take it.
        """
        staged = work.run.mode == "staged"
        if staged and prepared is not None and (why := no_stage(prepared)):
            raise EngineError(
                "not_staged",
                f"{work.tool.name} cannot be staged: {why}",
                "Make it in a run of its own, after this one.",
            )
        here = [(target.system, target.object) for target in work.targets]
        here += places(prepared.effects) if prepared is not None else []
        related = builds_on(self._core, await self._collected(work), here)
        if prepared is not None and any(as_a_whole(self._core, call) for call in related):
            unseen = "what it will find depends on what earlier steps do to the same database"
        summary = summary_of(previews) if previews else f"{work.tool.title}: cannot be shown beforehand"
        event = await self._event(work, related, verdict, prepared, summary)
        event = event.model_copy(update={"unseen": unseen})
        data = work.arguments.model_dump_json().encode()
        name, blobs = await stored(self._core, data)
        await self._core.journal.append(
            [event.model_copy(update={"arguments": name})], blobs=blobs, expect=dict(work.expect)
        )
        call = await self._core.journal.get(CollectedCall, event.action_id)
        assert call is not None, "a call is put down once that is durable"
        warnings = [*work.warnings, *([prepared.reason] if prepared is not None and prepared.reason else [])]
        warnings += _said_of(related, unseen, staged=staged, shown=shown_in is not None)
        answer = answered(work, call, previews, warnings)
        if shown_in is None:
            return answer
        committed = await shown_in.made(call.id)
        result = committed.result.model_dump(mode="json")
        return answer.model_copy(update={"result": result, "digest": committed.digest})

    async def _event(
        self,
        work: Work,
        related: Sequence[CollectedCall],
        verdict: Verdict | None,
        prepared: Prepared | None,
        summary: str,
    ) -> CallCollected:
        return CallCollected(
            run_id=work.run.run_id,
            at=self._core.now(),
            action_id=work.action_id,
            tool=work.tool.name,
            tool_version=work.tool.version,
            caller=work.call.caller,
            step=work.call.step,
            idempotency_key=work.call.idempotency_key,
            requested=journaled(work.call.arguments),
            arguments="",
            argument_digest=work.argument_digest,
            targets=tuple(object_key(target.system, target.object) for target in work.targets),
            summary=summary,
            builds_on=tuple(ActionId(call.id) for call in related),
            policy_rule=verdict.rule if verdict else "",
            decision=verdict.decision if verdict else "",
        ).model_copy(update=_seen(prepared) if prepared is not None else {})

    async def _collected(self, work: Work) -> Sequence[CollectedCall]:
        return await self._core.journal.find(
            CollectedCall, run_id=work.run.run_id, status=("collected", "begun"), oldest_first=True
        )


async def stored(core: Core, data: bytes) -> tuple[str, dict[str, bytes]]:
    """Keep the arguments of a call: their name, and what has to be written with the event that names them."""
    from takeback.checkpoints.objects import SMALL

    if len(data) <= SMALL:
        name, blobs = core.objects.small(data)
        return name, dict(blobs)
    return await core.objects.put(data), {}


def _seen(prepared: Prepared) -> dict[str, object]:
    return {
        "effects": prepared.effects,
        "reversibility": prepared.reversibility,
        "reason": prepared.reason,
        "how": prepared.how,
        "counts": dict(prepared.counts),
        "bound": approvals.target_digest(prepared.effects, prepared.counts),
    }


def shown_anew(
    call: CollectedCall, prepared: Prepared, verdict: Verdict, previews: list[str], at: object
) -> CallCollected:
    """The same call, as it would be by now."""
    kept = {name: getattr(call, name) for name in CallCollected.model_fields if hasattr(call, name)}
    return CallCollected.model_validate(
        kept
        | _seen(prepared)
        | {
            "action_id": call.id,
            "at": at,
            "summary": summary_of(previews),
            "policy_rule": verdict.rule,
            "decision": verdict.decision,
            "unseen": call.unseen if call.bound else "",  # what was prepared all the same is as uncertain as it was
        }
    )


def answered(work: Work, call: CollectedCall, previews: list[str], warnings: list[str]) -> CallAnswer:
    """What is said of a call that was put down."""
    staged = work.run.mode == "staged"
    words = "Staged, and not visible yet: " if staged else "Nothing was done; planned: "
    return CallAnswer(
        status="staged" if staged else "shadowed",
        run_id=work.run.id,
        action_id=call.id,
        reversibility=None if call.unseen else call.reversibility,
        undo=UndoInfo(how="finish_run with status abandoned throws it away; once made, it is taken back like any act."),
        summary=words + call.summary,
        preview=previews or None,
        warnings=warnings,
    )


def summary_of(previews: Iterable[str]) -> str:
    """The first lines of previews, as one."""
    titles = [text.split("\n")[0] for text in previews]
    more = f"; and {len(titles) - 20} more" if len(titles) > 20 else ""
    return ("; ".join(titles[:20]) + more) or "change nothing"


def no_stage(prepared: Prepared) -> str:
    """Why a call cannot be one of several that are made all or not at all; empty if it can."""
    if prepared.reversibility == "reversible" or outgoing.has_window(prepared.effects):
        return ""
    return prepared.reason or "it could not be put back exactly if a later one failed."


def _said_of(related: Sequence[CollectedCall], unseen: str, *, staged: bool, shown: bool) -> list[str]:
    """What whoever called should know of how a call was looked at."""
    if shown:
        return ["Nobody else sees it before finish_run; you do, if you pass this run_id to the reading tools too."]
    said = ["What reads see is the world without it, until finish_run."] if staged else []
    if unseen:
        said.append(
            f"It cannot be shown for certain what this will do ({unseen.rstrip('.')}): it builds on what was not done yet. "
            "It is made only if policy allows what it then turns out to do."
        )
    elif related:
        said.append(
            f"It was looked at as if the {len(related)} earlier of this run that touch the same had not been called."
        )
    return said


def strictest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The one that stands in the way most; `None` of none."""
    order = ("deny", "shadow", "ask", "allow")
    return min(verdicts, key=lambda verdict: order.index(verdict.decision), default=None)


# -- what belongs together -----------------------------------------------------------------------------------------------


def places(effects: Iterable[Effect]) -> list[Place]:
    """Where effects are that somebody can look at."""
    return [(effect.system, effect.object) for effect in effects if effect.before.kind != "opaque"]


def touching(core: Core, one: Place, other: Place) -> bool:
    """Whether what is done at one place can make a difference at the other."""
    if one[0] != other[0]:
        return False
    system = core.systems.get(one[0])
    a, b = one[1], other[1]
    if a == b or a.startswith(b.rstrip("/") + "/") or b.startswith(a.rstrip("/") + "/"):
        return True
    return system is not None and system.locked_as(a) == system.locked_as(b)


def builds_on(core: Core, earlier: Iterable[CollectedCall], here: Sequence[Place]) -> list[CollectedCall]:
    """Those of the earlier calls that touch one of these places, or of which nobody knows what they touch."""
    return [
        call
        for call in earlier
        if (call.unseen and not call.targets)
        or any(touching(core, place, there) for place in here for there in touched_by(call))
    ]


def touched_by(call: CollectedCall) -> list[Place]:
    """Where a call that was put down may make a difference."""
    named = [(system, object) for system, _, object in (target.partition(":") for target in call.targets)]
    return list(dict.fromkeys([*named, *places(call.effects)]))


def as_a_whole(core: Core, call: CollectedCall) -> bool:
    """Whether a call works on something as a whole (a database), so that what a later one finds there cannot be known."""
    systems = [core.systems.get(name) for name, _ in touched_by(call)]
    return any(each is not None and type(each).locked_as is not TargetSystem.locked_as for each in systems)


def check_carried(carried: Carried, prepared: Prepared, verdict: Verdict) -> None:
    """Whether a collected call, prepared once more to be made, is what it was collected as.

    :raises EngineError: it is not, or a person would have to see it first.
    """
    if why := carried.fits(prepared.effects, prepared.counts, prepared.reversibility):
        raise EngineError("differs", why, "Look at what is there now, and plan the rest anew.")
    if verdict.decision == "ask" and not (carried.shown and carried.approval_id):
        raise EngineError(
            "not_seen",
            f"A person has to be asked about this first, and has not seen it ({verdict.reason or prepared.reason}).",
            "Plan the rest anew: now it can be shown.",
        )
