"""Several collected calls on one object, made in one step: nobody sees the object as it is between them.

The life of a call, for all of them at a time: each is prepared, judged and intended by itself, all intents in one transaction;
one swap; each outcome by itself, again in one transaction. So after a crash all of them took effect or none (`settle.py`), and
each is an action of its own, with its key, its step, its checkpoint and its way back.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, cast

import anyio

from takeback.checkpoints.objects import ObjectError
from takeback.journal.events import ActionFailed, ActionInDoubt, BaseEvent
from takeback.journal.log import JournalError, Stale
from takeback.server.engine import keys, outgoing
from takeback.server.engine.acting import NOBODY_KNOWS, Actor, mismatches_of
from takeback.server.engine.answers import CallAnswer, EngineError
from takeback.server.engine.calls import Call
from takeback.server.engine.collecting import check_carried
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.guard import Guard
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.policy import Verdict
from takeback.server.engine.seen import Seen
from takeback.server.engine.settle import settle_held
from takeback.server.engine.shield import shielded
from takeback.server.engine.staleness import check_stale
from takeback.server.engine.work import Work, replayed
from takeback.tools.contract import Prepared, ToolError
from takeback.tools.successive import NotInOneStep, Successive, SuccessiveTool
from takeback.tools.system import TargetError

log = logging.getLogger(__name__)

ATTEMPTS: Final = 6
_EARLY: Final = (EngineError, ToolError, TargetError, ObjectError, TimeoutError, LockTimeout, JournalError)
"""What a call can fail with before its intent."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a call that are the same for one and for several."""

    admit: Callable[[Call], Awaitable[Work]]
    """Resolve the run, validate the arguments."""
    locked: Callable[[Work], AbstractAsyncContextManager[None]]
    """Name its targets and hold their locks."""
    judge: Callable[[Work, Prepared], Verdict]
    """What the policy says of its effect."""
    failed: Callable[[Call, Work | None, str, EngineError], Awaitable[CallAnswer]]
    """Write down and answer that it failed before it had an effect."""


@dataclass(frozen=True, slots=True)
class Refused:
    """None of them was made: which one is to blame, and what is answered for it."""

    index: int
    answer: CallAnswer


class _Blamed(Exception):
    """It fails because of this one of them; nothing has happened."""

    def __init__(self, index: int, error: EngineError) -> None:
        super().__init__(error.message)
        self.index, self.error = index, error


class AtOnce:
    """Makes calls in one step, for one engine."""

    def __init__(self, core: Core, seen: Seen, guard: Guard, actor: Actor, steps: Steps) -> None:
        self._core, self._seen, self._guard, self._actor, self._steps = core, seen, guard, actor, steps

    async def call(self, calls: Sequence[Call]) -> Sequence[CallAnswer] | Refused:
        """Make all of them, or none.

        :param calls: at least two, carried, of `SuccessiveTool`s, on the same target.
        :raises NotInOneStep: one after the other they may be made; nothing has changed.
        """
        works: list[Work] = []
        try:
            for _ in range(ATTEMPTS):
                works.clear()
                for index, call in enumerate(calls):
                    with _blaming(index):
                        works.append(await self._steps.admit(call))
                try:
                    made = await self._all(works)
                except Stale:
                    continue
                # their locks are free, so what a check demands can be done
                told = [await self._guard.settled(work, one) for work, one in zip(works, made, strict=True)]
                wrong = [index for index, answer in enumerate(told) if answer.is_error]
                return Refused(wrong[-1], told[wrong[-1]]) if wrong else told
            raise EngineError("busy", "Other calls kept changing the same run.", "Repeat the call in a moment.")
        except _Blamed as blamed:
            return await self._refused(calls, works, blamed.index, blamed.error)
        except _EARLY as error:
            return await self._refused(calls, works, len(calls) - 1, _mended(error))

    async def _refused(self, calls: Sequence[Call], works: Sequence[Work], index: int, error: EngineError) -> Refused:
        work = works[index] if index < len(works) else None
        return Refused(index, await self._steps.failed(calls[index], work, calls[index].run_id or "", error))

    async def _all(self, works: Sequence[Work]) -> list[CallAnswer]:
        async with self._prepared(works) as (prepared, verdicts):
            return await shielded(lambda: self._act(works, prepared, verdicts))

    @asynccontextmanager
    async def _prepared(self, works: Sequence[Work]) -> AsyncGenerator[tuple[Successive, list[Verdict]], None]:
        """All of them prepared and judged, under their locks.

        :raises _Blamed: one of them cannot be made.
        :raises NotInOneStep: they have to be made one after the other.
        """
        first = works[0]
        async with self._steps.locked(first):
            for index, work in enumerate(works):
                with _blaming(index):
                    if work is not first:
                        work.targets = work.context.targets = tuple(
                            await work.tool.targets(work.arguments, work.context)
                        )
                    await self._check_key(work)
            if any(work.lock_names() != first.lock_names() for work in works):
                raise NotInOneStep
            tool = cast(SuccessiveTool, first.tool)
            with _blaming(len(works) - 1), anyio.fail_after(first.tool.timeout):
                prepared = await tool.prepare_all([(work.tool, work.arguments) for work in works], first.targets[0])
            async with prepared:
                verdicts: list[Verdict] = []
                for index, (work, part) in enumerate(zip(works, prepared.parts, strict=True)):
                    with _blaming(index):
                        verdicts.append(await self._judged(work, part, self._seen if work is first else Seen()))
                yield prepared, verdicts

    async def _check_key(self, work: Work) -> None:
        if (key := work.call.idempotency_key) is None:
            return
        check = await keys.check_key(self._core, work.run, work.tool.name, key, work.argument_digest)
        if check.recorded is not None:
            raise NotInOneStep  # it was made before: by itself it is answered from the journal
        work.expect[check.view] = check.version

    async def _judged(self, work: Work, part: Prepared, seen: Seen) -> Verdict:
        outgoing.said_as_it_is(part)
        self._guard.check_held(work, part)
        check_stale(self._core, work, part, seen)
        verdict = self._steps.judge(work, part)
        if verdict.decision in ("deny", "shadow"):
            why = verdict.reason or "no reason given"
            raise EngineError("denied", f"Policy rule {verdict.rule} forbids this: {why}.", verdict.advice)
        assert work.call.carried is not None, "only what was collected is made at once"
        check_carried(work.call.carried, part, verdict)
        await self._guard.before(work, part)
        return verdict

    # -- from the intent on ----------------------------------------------------------------------------------------------

    async def _act(self, works: Sequence[Work], prepared: Successive, verdicts: Sequence[Verdict]) -> list[CallAnswer]:
        await self._intend(works, prepared, verdicts)
        last = works[-1]
        try:
            committed = await self._actor.commit(last, prepared.commit)
        except ToolError as error:
            await self._core.journal.append(
                [self._failed(work, error.code, str(error), error.advice) for work in works]
            )
            raise _Blamed(len(works) - 1, EngineError(error.code, str(error), error.advice)) from error
        except (Exception, anyio.get_cancelled_exc_class()) as error:  # the world has to be asked what came of it
            log.warning("%s broke off in its commit: %s", last.tool.name, type(error).__name__)
            return await self._after_break(works, error)
        try:
            effects = [effect for each in committed for effect in each.effects]
            mismatches = mismatches_of(self._core, prepared.parts[-1].effects, committed[-1].effects)
            events: list[BaseEvent] = await self._guard.observed(last, effects, mismatches)
            applied = [
                self._actor.applied(work, part, each, mismatches if work is last else ())
                for work, part, each in zip(works, prepared.parts, committed, strict=True)
            ]
            recorded = await self._core.journal.append([*events, *applied])
            self._guard.concluded(last.run.run_id, recorded)
            self._seen.note_effects(last.call.caller, committed[-1].effects)
            return [
                self._actor.answer(work, part, each, event, None)
                for work, part, each, event in zip(works, prepared.parts, committed, applied, strict=True)
            ]
        except Exception as error:  # a fault in saying what was done does not undo it
            log.warning("%s broke off after its commit: %s", last.tool.name, type(error).__name__)
            return await self._after_break(works, error)

    async def _intend(self, works: Sequence[Work], prepared: Successive, verdicts: Sequence[Verdict]) -> None:
        ids = tuple(work.action_id for work in works)
        events = [
            event
            for work, part, verdict in zip(works, prepared.parts, verdicts, strict=True)
            for event in self._actor.intent(work, part, verdict, together=ids)
        ]
        blobs = {name: data for part in prepared.parts for name, data in part.blobs.items()}
        expect = {view: version for work in works for view, version in work.expect.items()}
        recorded = await self._core.journal.append(events, blobs=blobs, expect=expect)
        for work in works:
            work.intended = True
        last = works[-1]
        last.judged_at = -2  # each was judged as if the others were not made, so all together are looked at once more
        try:
            await self._guard.intended(last, recorded)
        except EngineError as error:
            await self._core.journal.append(
                [self._failed(work, error.code, error.message, error.advice) for work in works if work is not last]
            )
            raise _Blamed(len(works) - 1, error) from error

    def _failed(self, work: Work, code: str, message: str, advice: str) -> ActionFailed:
        return ActionFailed(
            run_id=work.run.run_id,
            at=self._core.now(),
            action_id=work.action_id,
            tool=work.tool.name,
            code=code,
            message=message,
            advice=advice,
            step=work.call.step,
        )

    async def _after_break(self, works: Sequence[Work], error: BaseException) -> list[CallAnswer]:
        """It broke off once all were intended: what came of it the world is asked."""
        core, why = self._core, f"the commit broke off: {type(error).__name__}"
        try:
            await core.journal.append(
                [
                    ActionInDoubt(run_id=work.run.run_id, at=core.now(), action_id=work.action_id, reason=why)
                    for work in works
                ]
            )
            settled = [await settle_held(core, work.action_id, by="engine") for work in works]
        except JournalError as broken:
            raise _Blamed(len(works) - 1, EngineError("in_doubt", NOBODY_KNOWS, broken.advice)) from broken
        if all(action is not None and action.status == "applied" for action in settled):
            said = "The act broke off on the way, but it took effect."
            return [
                replayed(action, [*work.warnings, said], status="applied")
                for action, work in zip(settled, works, strict=True)
                if action is not None
            ]
        raise _Blamed(
            len(works) - 1,
            EngineError(
                "broke_off"
                if all(each is not None and each.status == "not_applied" for each in settled)
                else "in_doubt",
                f"It broke off ({type(error).__name__}).",
                "Look whether the change is there; takeback conflicts shows what is open.",
            ),
        )


@contextmanager
def _blaming(index: int) -> Generator[None, None, None]:
    """Say which call it was that could not be made; before its intent, so nothing has happened."""
    try:
        yield
    except _EARLY as error:
        raise _Blamed(index, _mended(error)) from error


def _mended(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    if isinstance(error, LockTimeout):
        return EngineError("locked", f"Could not start: {error}.", "Repeat the call when the other one is done.")
    if isinstance(error, TimeoutError):
        return EngineError("timeout", "It took too long.", "Nothing has changed; try less at once.")
    text = str(error) or fault(error)
    return EngineError(
        getattr(error, "code", "storage"),
        text if text.endswith((".", "!", "?")) else f"{text}.",
        getattr(error, "advice", ""),
    )
