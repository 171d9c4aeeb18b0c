"""Running statements until they stand: which way they are watched, and what is tried again.

Blocking: runs in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from takeback.tools.contract import ToolError
from takeback.tools.database.port import Bounds, Statement
from takeback.tools.database.postgres import guard, triggers
from takeback.tools.database.postgres.capture import Attempt, Opened, Rehearse
from takeback.tools.database.postgres.connecting import Connections
from takeback.tools.database.postgres.failures import Lost, ServerFailure, told
from takeback.tools.database.postgres.graveyard import Yard
from takeback.tools.database.postgres.rehearsal import SCHEMA_KINDS, Plan, rehearse
from takeback.tools.database.postgres.threads import Watch
from takeback.tools.database.postgres.triggers import Unseen

RETRIES: Final = 5
"""How often statements are run again that collided with somebody else's."""


def run(connections: Connections, yard: Yard, statements: Sequence[Statement], bounds: Bounds, watch: Watch) -> Opened:
    """Run statements until they stand, or are refused.

    :param yard: where tables wait that they drop.
    :raises ToolError: refused, failed or too slow; nothing has changed.
    """
    kinds: list[guard.Kind] = [guard.kind_of(statement.sql) for statement in statements]
    plan = Plan(statements, kinds, by_triggers=False)
    method = connections.settings.capture
    if method != "snapshot" and not SCHEMA_KINDS.intersection(kinds):
        with connections.use(watch) as connection:
            plan.by_triggers = triggers.prepared(connection)
        if method == "triggers" and not plan.by_triggers:
            raise ToolError(
                f"Database {connections.name} is configured to be watched by triggers, which are not there.",
                advice=f'Run takeback db prepare {connections.name}, or set capture = "auto".',
            )
    left = RETRIES
    while True:
        try:
            if not plan.rehearsed and SCHEMA_KINDS.intersection(kinds):
                rehearse(connections, plan, bounds, watch)
            return Attempt(connections, yard, plan, bounds, watch).run()
        except Rehearse:
            plan.by_triggers = False
            with suppress(Rehearse):
                rehearse(connections, plan, bounds, watch)
        except Unseen as error:
            if method == "triggers":
                raise ToolError(
                    f"It changes {error}, which has no trigger that would see it.",
                    advice=f"Run takeback db prepare {connections.name} again.",
                ) from error
            plan.by_triggers = False
        except ServerFailure as error:
            if error.code not in ("40001", "40P01") or left == 0 or watch.stopped:
                raise told(error) from error
            left -= 1
        except Lost as error:
            raise ToolError(
                f"The connection to database {connections.name} was lost; nothing has changed.",
                advice="Try again.",
                code="unavailable",
            ) from error
