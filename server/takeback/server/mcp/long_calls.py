"""Calls that may take long: what is known of one while it is worked on, whoever still waits for it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Final

from mcp_types import CallToolRequestParams, InputRequest, InputRequiredResult, InputResponses

from takeback.journal.ids import RollbackId, new_rollback_id
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import rfc3339, utc_now
from takeback.server.mcp.task_store import Status, TaskRecord, fresh_task_id

NOT_BEGUN: Final = "It was cancelled before anything was done."


def may_take_long(params: CallToolRequestParams) -> bool:
    """The calls that may become tasks: those that take back a number of actions nobody knows beforehand."""
    arguments = params.arguments or {}
    match params.name:
        case "rollback_run" | "redo_rollback":
            return arguments.get("dry_run") is not True
        case "resume_from":
            return arguments.get("restore") is True and arguments.get("dry_run") is not True
        case _:
            return False


class LongCall:
    """A call that may become a task, and what is told of it from then on."""

    def __init__(self, tool: str, principal: str) -> None:
        now = rfc3339(utc_now())
        self.record = TaskRecord(
            id=fresh_task_id(),
            principal=principal,
            tool=tool,
            rollback_id=new_rollback_id(),
            created_at=now,
            updated_at=now,
        )
        self.is_task = False
        """The request has been answered; nothing may be sent along with it any more."""
        self.cancelling = asyncio.Event()
        self.given_up = False
        self.questions: dict[str, InputRequest] = {}
        """Not answered yet."""
        self._answers: InputResponses = {}
        self._rounds = 0
        self._begun = False
        self._news = asyncio.Event()

    def begin(self) -> RollbackId:
        """The id under which the task's file already names the rollback.

        :raises EngineError: it is not wanted any more.
        """
        self.give_up_if_cancelled()
        if self._begun:
            return new_rollback_id()
        self._begun = True
        return self.record.rollback_id

    def give_up_if_cancelled(self) -> None:
        """Before anything is done.

        :raises EngineError: it is not wanted any more.
        """
        if self.cancelling.is_set():
            self.given_up = True
            raise EngineError("cancelled", NOT_BEGUN)

    def becomes(self, status: Status, message: str = "") -> None:
        """Change what is told."""
        self.record.status, self.record.message, self.record.updated_at = status, message, rfc3339(utc_now())

    async def ask(self, asked: InputRequiredResult) -> InputResponses:
        """Put questions to the person through the task; their answers.

        :raises EngineError: it was cancelled meanwhile.
        """
        self._rounds += 1
        # no key is ever used twice in a task: answers to an earlier round must not pass for answers to this one
        keys = {f"{key}-{self._rounds}": key for key in asked.input_requests or {}}
        self._answers = {}
        self.questions = {shown: (asked.input_requests or {})[key] for shown, key in keys.items()}
        self.becomes("input_required")
        while self.questions:
            self.give_up_if_cancelled()
            self._news.clear()
            await self._news.wait()
        self.becomes("working")
        return {keys[shown]: answer for shown, answer in self._answers.items()}

    def answer(self, answers: InputResponses) -> None:
        """Take answers; those to questions that are not open are not looked at."""
        for key, answer in answers.items():
            if self.questions.pop(key, None) is not None:
                self._answers[key] = answer
        self._news.set()

    def cancel(self) -> None:
        """Note that it is not wanted any more."""
        self.cancelling.set()
        self._news.set()
        if self._begun and self.record.status == "working":
            self.becomes("working", "The rollback had begun and is finished; redo_rollback takes it back.")


CURRENT: Final[ContextVar[LongCall | None]] = ContextVar("long_call", default=None)
"""Of the call that is being worked on."""
