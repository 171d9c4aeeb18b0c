"""Calls that follow each other on one object, prepared to become visible in one step: nobody sees what lies between them.

Each keeps its own effects, so that it is told, and taken back, as if it had been made by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from takeback.journal.states import Effect
from takeback.tools.contract import Committed, DriftedBeforeCommit, SwapPrepared, Target, ToolError
from takeback.tools.system import Drifted, TargetSystem, Unavailable


class NotInOneStep(Exception):
    """They can only be made one after the other. Nothing has changed."""


class Successive:
    """Several prepared calls. An async context manager: leave it without `commit` and they never were."""

    def __init__(self, system: TargetSystem, parts: Sequence[SwapPrepared]) -> None:
        """:param parts: in their order; each begins where the one before it ends."""
        self._system, self.parts = system, tuple(parts)

    async def commit(self) -> list[Committed]:
        """Make all of them visible in one step, and read back; what came of each.

        :raises ToolError: proven: nothing happened. Anything else raised here leaves all of them in doubt.
        """
        acts: list[Sequence[Effect]] = [part.effects for part in self.parts]
        self._attempt(True)
        try:
            swapped = await self._system.swap(self._system.at_once(acts))
        except Unavailable as error:
            self._attempt(False)
            raise ToolError(str(error), advice=error.advice, code=error.code) from error
        if isinstance(swapped, Drifted):
            self._attempt(False)
            raise DriftedBeforeCommit(swapped)
        told = self._system.each_of(acts, swapped.effects)
        last = self.parts[-1]
        return [
            part.told(effects, swapped.warnings if part is last else ())
            for part, effects in zip(self.parts, told, strict=True)
        ]

    def _attempt(self, attempted: bool) -> None:
        for part in self.parts:
            part.attempted = attempted

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self.parts:
            await part.discard()


class SuccessiveTool(ABC):
    """A tool whose calls on one object can be made in one step, each from its arguments and what the one before it leaves."""

    @abstractmethod
    async def prepare_all(self, calls: Sequence[tuple[Any, Any]], target: Target) -> Successive:
        """Prepare calls of such tools as `ReversibleTool.prepare` does, under the locks of their one target.

        :param calls: tools and arguments, in their order; the first tool is this one.
        :raises ToolError: one of them cannot be done.
        :raises NotInOneStep: one after the other they could.
        """
