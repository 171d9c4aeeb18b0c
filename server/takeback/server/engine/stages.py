"""What a staged run sees: the world with its own staged changes, where a family can show that (files).

A view is made from what the run has collected, by making the same calls on it; it is a cache, lost with the process and made
anew. Where there is no view (databases, calendars, mail), what is staged is not seen by later reads, and is said not to be.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from pydantic import BaseModel

from takeback.journal.ids import ActionId
from takeback.journal.views import CollectedCall, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call, no_progress
from takeback.server.engine.core import Core
from takeback.server.engine.report import sentence
from takeback.server.engine.seen import Seen
from takeback.server.engine.work import Work, parse
from takeback.tools import adapt
from takeback.tools.contract import AnyTool, CallContext, Committed, Prepared, ReadTool

VIEWS: Final = 16
"""Views kept; the one that was not used for longest is made anew when it is wanted."""


@dataclass(slots=True)
class View:
    """One run's view."""

    tools: Mapping[str, AnyTool]
    seen: Seen = field(default_factory=Seen)
    """What was read in it: nothing that holds anybody to what is really there."""
    made: list[str] = field(default_factory=lambda: list[str]())
    """Ids of the calls that it shows."""


@dataclass(slots=True)
class InView:
    """A call as it was prepared in the view of its run."""

    view: View
    prepared: Prepared

    async def made(self, call_id: str) -> Committed:
        """Show it from now on."""
        committed = await self.prepared.commit()
        self.view.made.append(call_id)
        return committed


class Stages:
    """The views of one engine."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._views: OrderedDict[str, View] = OrderedDict()
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def view(self, run: RunView) -> AsyncGenerator[View, None]:
        """The view of a run, with all that it has staged; nobody else uses it meanwhile.

        :raises EngineError: what was staged cannot be made on what is there now.
        """
        async with self._lock:
            calls = await self._core.journal.find(
                CollectedCall, run_id=run.run_id, status=("collected", "begun"), oldest_first=True
            )
            view = self._views.pop(run.id, None) or View(self._core.stage())
            wanted = [call for call in sorted(calls, key=lambda call: call.position) if call.tool in view.tools]
            if view.made != [call.id for call in wanted[: len(view.made)]]:
                view = View(self._core.stage())
            await self._catch_up(run, view, wanted[len(view.made) :])
            self._views[run.id] = view
            while len(self._views) > VIEWS:
                self._views.popitem(last=False)
            yield view

    async def _catch_up(self, run: RunView, view: View, calls: Sequence[CollectedCall]) -> None:
        for call in calls:
            tool = view.tools[call.tool]
            try:
                arguments = parse(tool, json.loads(await self._core.objects.get(call.arguments)))
                async with await adapt.prepare(tool, arguments, self._context(run, call.caller)) as prepared:
                    await prepared.commit()
            except Exception as error:  # whatever it is: what cannot be shown is not shown half
                raise EngineError(
                    "stage_drifted",
                    f"What was staged cannot be shown any more, because the world has changed: {sentence(str(error))}",
                    "rollback_run on this run throws the stage away; then stage anew.",
                ) from error
            view.made.append(call.id)

    def _context(self, run: RunView, caller: Any) -> CallContext:
        return CallContext(
            run_id=run.run_id,
            action_id=ActionId(""),
            caller=caller,
            objects=self._core.objects,
            progress=no_progress,
        )

    @asynccontextmanager
    async def prepared(self, work: Work) -> AsyncGenerator[InView | None, None]:
        """A staged call, prepared in its run's view; `None` where there is none.

        :raises ToolError, TargetError: it cannot be done on what the run has staged.
        """
        if work.run.mode != "staged" or work.tool.name not in self._core.staging:
            yield None
            return
        async with self.view(work.run) as view:
            context = self._context(work.run, work.call.caller)
            async with await adapt.prepare(view.tools[work.tool.name], work.arguments, context) as prepared:
                yield InView(view, prepared)

    async def read(self, call: Call, arguments: Any) -> BaseModel | None:
        """The answer of a reading call in a staged run; `None`: it reads what is really there.

        :raises EngineError: the run is unknown or foreign, or its stage cannot be shown.
        """
        if call.run_id is None:
            return None
        run = await self._core.run(call.caller, call.run_id)
        if run.mode != "staged" or call.tool not in self._core.staging:
            return None
        async with self.view(run) as view:
            tool = view.tools[call.tool]
            assert isinstance(tool, ReadTool), "a view's tools are of the kinds that they are elsewhere"
            context = self._context(run, call.caller)
            with anyio.fail_after(tool.timeout):
                result: BaseModel = await tool.run(arguments, context)
            view.seen.note(call.caller, context.seen)
            return result
