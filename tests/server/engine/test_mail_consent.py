"""A person's consent to what is new in a mailbox or in the outbox: good for the same call, once, and for no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests import ticketing
from tests.server.engine.bench import ALICE, OpenBench

from takeback.server.engine.policy_rules import Rule, RulesPolicy
from takeback.server.settings import ToolSettings

ASK = RulesPolicy([Rule.model_validate({"id": "ask-all", "when": {}, "then": "ask"})])
LETTER = {"to": ["bob@example.org"], "subject": "Hi", "body": "Hello"}
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "send_email": (LETTER, {"to": ["eve@example.net"]}),
    "draft_email": (LETTER, {"body": "Other words"}),
    "open_ticket": ({"text": "It is cold."}, {"text": "It is warm."}),
}


@pytest.mark.parametrize("tool", CALLS)
async def test_the_same_call_is_done_once_after_a_consent_and_another_one_is_asked_for(
    open_bench: OpenBench, tool: str
):
    bench = await open_bench(
        tools=ToolSettings(modules=(Path(ticketing.__file__),), off=("files", "database", "calendar"))
    )
    bench.engine.core.policy = ASK
    run = await bench.start()
    arguments, other = CALLS[tool]
    pending = await bench.call(tool, run, **arguments)
    assert pending.status == "pending_approval"
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    assert (await bench.call(tool, run, **{**arguments, **other})).status == "pending_approval"
    assert (await bench.call(tool, run, **arguments)).status in ("held", "applied")
    assert (await bench.call(tool, run, **arguments)).status == "pending_approval"


async def test_without_a_window_a_message_is_sent_after_a_consent(open_bench: OpenBench):
    bench = await open_bench(tools=ToolSettings(off=("files", "database", "calendar")))
    run = await bench.start()
    pending = await bench.call("send_email", run, **LETTER, hold_seconds=0)
    assert pending.status == "pending_approval"
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    assert (await bench.call("send_email", run, **LETTER, hold_seconds=0)).status == "held"
