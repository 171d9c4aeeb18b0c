"""What every command shares: settings, the caller, the open engine, and ids given by their first characters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from takeback.journal.events import Caller
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView, ApprovalView, CheckpointView, OpenItem, RollbackView, RunView
from takeback.server.cli.terminal import Terminal
from takeback.server.engine.answers import EngineError
from takeback.server.principal import local_principal
from takeback.server.roots import remembered, together
from takeback.server.settings import Loaded, Settings, WorkspaceSettings, load
from takeback.server.watching import watched

if TYPE_CHECKING:
    from takeback.server.engine.engine import Engine

WHOLE = 26
"""Characters of an id after its prefix."""

Kind = (
    type[ActionView] | type[RunView] | type[CheckpointView] | type[RollbackView] | type[ApprovalView] | type[OpenItem]
)
_KINDS: dict[Kind, tuple[str, str, str]] = {
    ActionView: ("act_", "action", "takeback show RUN"),
    RunView: ("run_", "run", "takeback runs"),
    CheckpointView: ("chk_", "checkpoint", "takeback checkpoints"),
    RollbackView: ("rbk_", "rollback", "takeback show RUN"),
    ApprovalView: ("apr_", "approval", "takeback approvals --all"),
    OpenItem: ("cfl_", "open item", "takeback conflicts"),
}


def caller() -> Caller:
    """Who sits at this terminal: on one's own machine all clients of a user are one person."""
    return Caller(principal=local_principal(), client="takeback", client_version=version("takeback"))


@dataclass
class Session:
    """One command's view of the world. Nothing is opened before it is needed."""

    terminal: Terminal
    config: Path | None = None
    data: Path | None = None
    roots: tuple[Path, ...] = ()
    debug: bool = False
    caller: Caller = field(default_factory=caller)

    def loaded(self) -> Loaded:
        """The configuration.

        :raises SettingsError:
        """
        return load(self.config, roots=self.roots, data=self.data)

    def settings(self) -> Settings:
        """The configuration, with the folders that servers on this data directory were started with.

        :raises SettingsError:
        """
        settings = self.loaded().settings
        if self.roots:
            return settings
        roots = together(settings.data, settings.workspace.roots, remembered(settings.data))
        return settings.model_copy(update={"workspace": WorkspaceSettings(roots=roots)})

    @asynccontextmanager
    async def engine(self, *, recover: bool = False) -> AsyncGenerator[Engine]:
        """The engine on the configured data directory.

        :param recover: settle what a dead process left in doubt; only commands that act do so.
        :raises EngineError: there is no journal yet.
        """
        from takeback.server.engine.engine import Engine

        settings = self.settings()
        if not settings.data.is_dir():
            raise EngineError(
                "not_found",
                f"There is no journal in {settings.data} yet.",
                "Name the data directory with --data, or start the server first: takeback serve --workspace DIR.",
            )
        engine = await Engine.open(settings, recover=recover)
        engine.core.persons_door = True
        waiting = False
        try:
            async with watched(engine.core, settings, here=False):
                yield engine
            waiting = recover and await engine.core.outbox.waiting()
        finally:
            await engine.close()
        if waiting:
            from takeback.server.engine.detached import start_sender

            start_sender(settings)

    async def id(self, engine: Engine, kind: Kind, given: str) -> str:
        """The whole id that begins with what was given, with or without its prefix.

        :raises EngineError: `not_found` if there is none that is the caller's; `ambiguous` if there are several.
        """
        prefix, noun, listing = _KINDS[kind]
        wanted = given if given.startswith(prefix) else prefix + given
        if len(wanted) == len(prefix) + WHOLE:
            return wanted
        core = engine.core
        candidates = [view for view in await core.journal.find(kind) if view.id.startswith(wanted)] if given else []
        mine = [view.id for view in candidates if await self._mine(engine, view.run_id)]
        if not mine:
            raise EngineError("not_found", f"There is no {noun} {given!r}.", f"{listing} lists them.")
        if len(mine) > 1:
            raise EngineError("ambiguous", f"{len(mine)} ids begin with {given!r}.", "Give one or two characters more.")
        return mine[0]

    async def ids(self, engine: Engine, kind: Kind, given: Sequence[str]) -> list[str]:
        """`id` for several."""
        return [await self.id(engine, kind, each) for each in given]

    async def actions(self, engine: Engine, given: Sequence[str]) -> list[str]:
        """`ids` of actions."""
        return await self.ids(engine, ActionView, given)

    async def latest_rollback(self, engine: Engine) -> str:
        """The caller's newest rollback that has not been brought back yet.

        :raises EngineError: there is none.
        """
        for view in await engine.core.journal.find(RollbackView, status=("complete", "partial")):
            if view.redone_by is None and view.kind == "rollback" and await self._mine(engine, view.run_id):
                return view.id
        raise EngineError(
            "not_found", "There is no rollback that could be brought back.", "takeback runs lists your runs."
        )

    async def _mine(self, engine: Engine, run_id: RunId) -> bool:
        run = await engine.core.journal.get(RunView, run_id)
        return run is not None and engine.core.may_see(self.caller, run)
