"""What a trigger demanded and nobody came to do: whoever contained a run to take it back died in between.

The journal tells it: the trigger fired with the answer `rollback`, contained the run, and no rollback of it has begun since. As
soon as a person has decided something about the run (released it, tightened it, rolled it back) it is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from takeback.journal.events import RunContained, RunReleased, RunSealed, TriggerFired
from takeback.journal.views import ActionView, RunView
from takeback.server.engine.containment import HELD
from takeback.server.engine.core import Core
from takeback.server.engine.holds import BY_TRIGGER
from takeback.server.engine.triggers.settings import TriggerSettings

PAGE: Final = 1000


async def unanswered(core: Core) -> Sequence[RunView]:
    """Runs that a trigger wanted taken back, of which something still stands."""
    found: list[RunView] = []
    for run in await core.journal.find(RunView, status=HELD, oldest_first=True):
        # whoever contained it says so; what a person wrote there names no trigger
        if run.why.partition(":")[0] in TriggerSettings.model_fields and await _owed(core, run):
            actions = await core.journal.find(ActionView, run_id=run.run_id)
            found += [run] if any(action.stands for action in actions) else []
    return found


async def _owed(core: Core, run: RunView) -> bool:
    demanded, owed, after = "", False, 0
    while page := await core.journal.read(run.run_id, after=after, limit=PAGE):
        for recorded in page:
            match recorded.event:
                case TriggerFired(answer="rollback"):
                    demanded = BY_TRIGGER + recorded.event.trigger
                case RunContained():
                    owed = recorded.event.by == demanded or (owed and recorded.event.by.startswith(BY_TRIGGER))
                case RunSealed() | RunReleased():
                    demanded, owed = "", False
                case _:
                    pass
        after = page[-1].position
    return owed
