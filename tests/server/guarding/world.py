"""Events as a run writes them, for telling triggers what has happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from takeback.journal import events as e
from takeback.journal.events import BaseEvent, Caller, Recorded
from takeback.journal.ids import ActionId, ApprovalId, CheckpointId, RunId
from takeback.journal.states import ABSENT, Compensation, Effect, State
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.engine.triggers.tally import Tally
from takeback.server.engine.triggers.values import Attempt, Firing, size_of

RUN = RunId("run_a")
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
CALLER = Caller(principal="local:alice", client="test")


def state(text: str) -> State:
    return State(digest=text, kind="file", content=text)


def change(object: str, *, system: str = "files") -> Effect:
    return Effect(system=system, object=object, before=state("old"), after=state("new"))


def removal(object: str) -> Effect:
    return Effect(system="files", object=object, before=state("old"), after=ABSENT)


def moved(source: str, destination: str) -> tuple[Effect, Effect]:
    content = state(f"content of {source}")
    return (
        Effect(system="files", object=source, before=content, after=ABSENT),
        Effect(system="files", object=destination, before=ABSENT, after=content),
    )


def message(*people: str, id: str = "msg_1") -> Effect:
    ref: dict[str, Any] = {"message": {"recipients": list(people), "carrier": "mail:work"}}
    return Effect(system="outbox", object=id, before=ABSENT, after=State(digest=id, kind="held", ref=ref))


class History:
    """What a run has done, second by second; and what triggers make of it."""

    def __init__(self, **settings: Any) -> None:
        self.settings = TriggerSettings.model_validate(settings)
        self.tally = Tally(self.settings)
        self.now, self._seq = NOON, 0

    def tell(self, event: BaseEvent) -> None:
        self._seq += 1
        self.tally.take(
            [
                Recorded.model_construct(
                    position=self._seq, seq=self._seq, mac="", key_id="", event=event, type="", run_id=RUN
                )
            ]
        )

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def intend(
        self,
        *effects: Effect,
        tool: str = "write_file",
        arguments: str = "",
        version: str = "1",
        schema: str = "s",
        counts: dict[str, int] | None = None,
        consented: bool = False,
    ) -> ActionId:
        action = ActionId(f"act_{self._seq}")
        self.tell(
            e.ActionIntended(
                run_id=RUN,
                at=self.now,
                action_id=action,
                tool=tool,
                tool_version=version,
                caller=CALLER,
                requested={},
                argument_digest=arguments or action,
                effects=effects,
                reversibility="reversible",
                compensation=Compensation(strategy="restore", how=""),
                policy_rule="default.reversible",
                counts=counts or {},
                tool_schema=schema,
                approval_id=ApprovalId("apr_1") if consented else None,
            )
        )
        return action

    def act(self, *effects: Effect, **more: Any) -> None:
        action = self.intend(*effects, **more)
        self.tell(
            e.ActionApplied(run_id=RUN, at=self.now, action_id=action, checkpoint_id=CheckpointId("c"), effects=effects)
        )

    def fail(self, action: ActionId | None = None, *, tool: str = "write_file", code: str = "invalid") -> None:
        intended = action is not None
        self.tell(
            e.ActionFailed(
                run_id=RUN,
                at=self.now,
                action_id=action or ActionId(f"act_{self._seq}"),
                tool=tool,
                code=code,
                message="no",
                intended=intended,
            )
        )

    def deny(self, rule: str = "no-finance") -> None:
        action = ActionId(f"act_{self._seq}")
        self.tell(
            e.ActionDenied(
                run_id=RUN, at=self.now, action_id=action, tool="write_file", requested={}, policy_rule=rule, reason=""
            )
        )

    def attempt(
        self,
        *effects: Effect,
        tool: str = "write_file",
        arguments: str = "new",
        version: str = "1",
        schema: str = "s",
        counts: dict[str, int] | None = None,
    ) -> Attempt:
        return Attempt(tool, version, schema, arguments, size_of(effects, counts or {}), self.now)


def named(found: list[Firing]) -> list[str]:
    return [firing.trigger for firing in found]
