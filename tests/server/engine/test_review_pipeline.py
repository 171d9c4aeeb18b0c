"""Acts whose tools fault after they have acted: the answer says what is so, and never that nothing happened."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from tests.server.engine.bench import Bench
from tests.server.engine.many import ManyArguments, SetMany, action

from takeback.journal.log import JournalFull
from takeback.tools.contract import CallContext, Committed, Prepared


class Unsayable(BaseModel):
    """A result that cannot be put into words."""

    def model_dump(self, **options: Any) -> dict[str, Any]:  # type: ignore[override] -- it faults on purpose
        raise RuntimeError("this cannot be written down")


class SetUnsaid(SetMany):
    """Does what it should, and answers something that nobody can write down."""

    name = "set_unsaid"

    async def prepare(self, arguments: ManyArguments, context: CallContext) -> Prepared:
        prepared = await super().prepare(arguments, context)
        real = prepared.commit

        async def commit() -> Committed:
            committed = await real()
            return Committed(effects=committed.effects, result=Unsayable(), summary=committed.summary)

        prepared.commit = commit  # type: ignore[method-assign] -- the fault
        return prepared


# What follows needs the pipeline (acting.py): see the reasons.
async def test_a_fault_after_the_commit_is_not_answered_as_if_nothing_had_been_done(bench: Bench) -> None:
    core = bench.engine.core
    core.tools = {**core.tools, "set_unsaid": SetUnsaid(bench.memory)}
    run = await bench.start()
    answer = await bench.call("set_unsaid", run, values={"a": "1"})
    assert bench.memory.get("a") == "1"
    assert answer.status in ("applied", "in_doubt"), answer
    assert (await action(bench, answer.action_id)).status in ("applied", "in_doubt")


async def test_a_broken_commit_is_not_said_to_have_been_made_because_the_journal_is_full(bench: Bench) -> None:
    run = await bench.start()
    append = bench.engine.core.journal.append

    async def full(events: Any, **more: Any) -> Any:
        if any(event.type == "action.in_doubt" for event in events):
            raise JournalFull("the disk is full")
        return await append(events, **more)

    def fail(name: str) -> None:
        if name == "swap":
            raise ConnectionResetError("gone")

    bench.engine.core.journal.append = full  # type: ignore[method-assign] -- a fault, not a mock
    bench.memory.on_step = fail
    answer = await bench.call("set_value", run, key="a", value="1")
    assert bench.memory.get("a") is None and answer.status == "in_doubt" and answer.error
    assert "was made" not in answer.error.message
