"""The ways to the person: how a call that needs consent gets it, chosen per request from what the client can do.

- Protocol 2026-07-28: the answer is a question (`input_required`), and the client repeats the call with the person's answer.
- Protocol 2025-11-25, client with elicitation: the person is asked while the call waits, for a bounded time.
- Otherwise the call is answered at once as pending, and a person approves out of band.

Consent itself is the engine's: stored there, bound to the exact effect, used once. A lane only carries a person's answer to
it, and then the same call is simply made again. So a replayed answer opens nothing: it meets a spent approval.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    ClientCapabilities,
    ElicitRequest,
    ElicitRequestedSchema,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from takeback.journal.events import Caller
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.mcp.replies import Pending

_log = logging.getLogger(__name__)

AnyRequest = ServerRequestContext[Any, Any]
Again = Callable[[], Awaitable[Pending | None]]
"""Makes the same call again; what it still waits for."""

QUESTION: Final = "approval"
"""Key of the one question that is ever asked."""

WAIT_SECONDS: Final = 20.0
"""No call waits longer for a person: some clients give a call up after a minute."""

SCHEMA: Final[ElicitRequestedSchema] = {
    "type": "object",
    "properties": {
        "approve": {
            "type": "boolean",
            "title": "Approve",
            "description": "Yes: do exactly this, once. No: refuse it.",
        }
    },
    "required": ["approve"],
}


class ApprovalLanes:
    """Carries questions to the person and answers back to the engine."""

    def __init__(self, engine: Engine, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._engine = engine
        self._wait_seconds = wait_seconds

    async def take_answer(self, caller: Caller, params: CallToolRequestParams) -> None:
        """Hand the engine the answer that a repeated call brings along.

        Answers without the sealed state that was sent with the question are not looked at: a client could make them up.
        """
        if params.request_state is None:
            return
        answer = (params.input_responses or {}).get(QUESTION)
        if isinstance(answer, ElicitResult):
            await self._tell(caller, params.request_state, answer, "input_required")

    async def ask(
        self, caller: Caller, context: AnyRequest, pending: Pending, again: Again
    ) -> InputRequiredResult | None:
        """Ask in the way this client knows.

        :param again: makes the same call again; answers what it still waits for.
        :return: the question, as the answer of this round; `None`: whatever `again` gave last, or the pending answer, stands.
        """
        if not _can_ask(context.session.client_capabilities):
            return None
        if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return _question(pending)
        await self._ask_now(caller, context, pending, again)
        return None

    async def _ask_now(self, caller: Caller, context: AnyRequest, pending: Pending, again: Again) -> None:
        deadline = anyio.current_time() + self._wait_seconds
        asked: Pending | None = pending
        while asked is not None:
            answer: ElicitResult | None = None
            with anyio.move_on_after(deadline - anyio.current_time()):
                answer = await self._put(context, asked)
            if answer is None or not await self._tell(caller, asked.approval_id, answer, "elicitation"):
                return
            asked = await again()  # if the effects differ by now, consent is void and the person is asked anew

    async def _put(self, context: AnyRequest, asked: Pending) -> ElicitResult | None:
        try:
            return await context.session.elicit_form(asked.question, SCHEMA, related_request_id=context.request_id)
        except (MCPError, ValidationError) as error:
            _log.warning("The client could not ask the person (%s); the approval stays open.", type(error).__name__)
            return None

    async def _tell(self, caller: Caller, approval_id: str, answer: ElicitResult, lane: str) -> bool:
        """Record what the person said; false if they said neither yes nor no."""
        consent = _consent(answer)
        if consent is None:
            return False
        decide = self._engine.approve if consent else self._engine.deny
        try:
            await decide(caller, approval_id, lane=lane)
        except EngineError as error:
            # Spent, expired or answered elsewhere meanwhile. The call is made anyway, and the engine asks anew if it has to.
            _log.info("The answer to %s came to nothing: %s", approval_id, error.code)
        return True


def _question(pending: Pending) -> InputRequiredResult:
    form = ElicitRequestFormParams(message=pending.question, requested_schema=SCHEMA)
    return InputRequiredResult(input_requests={QUESTION: ElicitRequest(params=form)}, request_state=pending.approval_id)


def _can_ask(capabilities: ClientCapabilities | None) -> bool:
    if capabilities is None or capabilities.elicitation is None:
        return False
    return capabilities.elicitation.form is not None or capabilities.elicitation.url is None


def _consent(answer: ElicitResult) -> bool | None:
    """Yes, no, or neither (put aside, or accepted without saying what)."""
    match answer.action:
        case "accept":
            said = (answer.content or {}).get("approve")
            return said if isinstance(said, bool) else None
        case "decline":
            return False
        case "cancel":
            return None
