"""What is rehearsed: a run of the journal in a copy of its world, or the demo's task in the demo's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from takeback.journal.views import ActionView
from takeback.server.drill.calls import LeftOut, Repeat, choose
from takeback.server.drill.sandbox import Builder, Shape
from takeback.server.drill.worker import Task
from takeback.server.drill.world import world
from takeback.server.engine.answers import EngineError
from takeback.server.settings import Settings

if TYPE_CHECKING:
    from takeback.journal.events import Caller
    from takeback.server.engine.core import Core


async def of_run(core: Core, caller: Caller, run_id: str, folder: Path) -> tuple[Task, list[LeftOut], list[str]]:
    """A run of the caller's: the task, what it leaves out, and what of the beginning could not be had.

    :raises EngineError: unknown or foreign, nothing in it that could be rehearsed, or too large.
    """
    run = await core.run(caller, run_id, "look")
    actions = await core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
    builder = Builder(core, folder / "start")
    repeats, left = choose(actions, builder.shape.elsewhere)
    if not repeats:
        why = left[0].why if left else "nothing took effect in it"
        raise EngineError(
            "nothing",
            f"Nothing of run {run_id} can be rehearsed: {why}.",
            "takeback drill, without a run, drills all tools.",
        )
    chosen = {each.action_id for each in repeats}
    start = await builder.build([action for action in actions if action.id in chosen])
    return Task(builder.shape, folder / "start", tuple(repeats), start), left, builder.notes


def of_demo(folder: Path) -> Task:
    """The demo's task in the demo's world: every family, on this machine's disk."""
    from takeback.server.demo import world as demo
    from takeback.server.demo.task import TASK

    root = Path("/workspace")
    sandbox = folder / "start"
    settings = Settings.model_validate({"workspace": {"roots": [root]}, **demo.settings(sandbox.absolute())})
    shape = Shape(settings, (root,))
    (workspace,) = shape.roots_in(sandbox)
    workspace.mkdir(parents=True)
    (sandbox / "data").mkdir(mode=0o700)
    demo.build(workspace)
    demo.build_office(sandbox)
    calls = tuple(Repeat(f"call {number}", tool, dict(given), {}) for number, (_, tool, given) in enumerate(TASK, 1))
    return Task(shape, sandbox, calls, world(shape.parts(sandbox)))
