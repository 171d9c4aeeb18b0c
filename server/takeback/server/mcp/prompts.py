"""Prompts: what a person picks from a menu instead of explaining it; and completions for ids."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import PromptArgument
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CompleteRequestParams, CompleteResult, Completion

from takeback.journal.events import Caller
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.mcp.approval_lanes import AnyRequest
from takeback.server.mcp.identity import caller_of
from takeback.server.mcp.resources import VERSIONS

ID = re.compile(r"(run|chk)_[a-z2-7]{26}")
Completer = Callable[[AnyRequest, CompleteRequestParams], Awaitable[CompleteResult]]
OFFERED = 50
"""Completions offered at most; the protocol allows a hundred."""


def add_prompts(server: MCPServer[Any]) -> None:
    """Register the prompts."""
    server.add_prompt(
        Prompt(
            name="resume",
            title="Resume an interrupted task",
            description="Continue from the last safe checkpoint without repeating what is done.",
            arguments=[
                PromptArgument(
                    name="run_id", description="The run; left out: the latest unfinished one.", required=False
                ),
                PromptArgument(
                    name="checkpoint_id", description="The checkpoint; left out: the recommended one.", required=False
                ),
            ],
            fn=_resume,
            context_kwarg=None,
        )
    )
    server.add_prompt(
        Prompt(
            name="undo_last",
            title="Take the last thing back",
            description="Show what taking the latest actions back would do, then do it.",
            arguments=[
                PromptArgument(
                    name="actions", description="How many of the latest actions; 1 if left out.", required=False
                )
            ],
            fn=_undo_last,
            context_kwarg=None,
        )
    )
    server.add_prompt(
        Prompt(
            name="plan_before_acting",
            title="Plan before acting",
            description="Have a task planned as a run with steps, and every change shown before it is made.",
            arguments=[PromptArgument(name="task", description="What is to be done.", required=True)],
            fn=_plan_before_acting,
            context_kwarg=None,
        )
    )


def completer(engine: Engine) -> Completer:
    """The handler of `completion/complete`: ids of the caller's own runs, checkpoints, rollbacks and conflicts."""

    async def complete(context: AnyRequest, params: CompleteRequestParams) -> CompleteResult:
        given = (params.context.arguments if params.context is not None else None) or {}
        find = _COMPLETIONS.get(params.argument.name)
        try:
            values = await find(engine, caller_of(context.session), given) if find is not None else []
        except EngineError:
            values = []  # an unknown run in the context: nothing to offer
        fitting = [value for value in values if value.startswith(params.argument.value)]
        return CompleteResult(
            completion=Completion(values=fitting[:OFFERED], total=len(fitting), has_more=len(fitting) > OFFERED)
        )

    return complete


def _resume(run_id: str = "", checkpoint_id: str = "") -> str:
    run, checkpoint = _id(run_id, "run_id"), _id(checkpoint_id, "checkpoint_id")
    where = f"run {run}" if run else "my latest run that is not finished (find it with list_runs)"
    which = f"checkpoint {checkpoint}" if checkpoint else "the checkpoint that list_checkpoints recommends for it"
    return (
        f"Resume the task of {where} from {which}. Call resume_from, tell me in two sentences what is done and what remains, "
        "and name any drift. Then continue with the remaining steps under the new run_id. Do not repeat a step that is done, "
        "and do not ask for what the brief already answers."
    )


def _undo_last(actions: str = "1") -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", actions.strip()):
        raise MCPError(code=INVALID_PARAMS, message="actions must be a number from 1 to 9999")
    count = int(actions)
    what = "the latest action" if count == 1 else f"the latest {count} actions"
    return (
        f"Take back {what}. Call rollback_run with last={count} and dry_run=true, show me the plan in plain words, and say "
        "what cannot be restored exactly. When I agree, call it again with the plan_digest. Then tell me which of your earlier "
        "answers no longer hold, and what is left open."
    )


def _plan_before_acting(task: str) -> str:
    return (
        f"Task: {task}\n\nBefore you change anything: read what you need, then call start_run with the goal and the steps you "
        "plan. Show me each change with dry_run=true first and say how it can be taken back; make it only when I agree. Pass "
        "run_id and step with every call. Name a checkpoint after each step. If a step fails, stop, and show me what "
        "rollback_run would do."
    )


def _id(value: str, name: str) -> str:
    """An id, or nothing: no other text gets into a prompt through it."""
    if value and ID.fullmatch(value) is None:
        raise MCPError(code=INVALID_PARAMS, message=f"{name} is not an id of that kind")
    return value


Given = dict[str, str]


async def _runs(engine: Engine, caller: Caller, given: Given) -> list[str]:
    return [run.run_id for run in (await engine.list_runs(caller, limit=200)).runs]


async def _checkpoints(engine: Engine, caller: Caller, given: Given) -> list[str]:
    page = await engine.list_checkpoints(caller, run_id=given.get("run_id") or None, limit=200)
    return [checkpoint.checkpoint_id for checkpoint in page.checkpoints]


async def _rollbacks(engine: Engine, caller: Caller, given: Given) -> list[str]:
    runs = [given["run_id"]] if given.get("run_id") else (await _runs(engine, caller, given))[:20]
    return [rollback for run in runs for rollback in (await engine.get_run(caller, run)).rollbacks]


async def _conflicts(engine: Engine, caller: Caller, given: Given) -> list[str]:
    return [item.conflict_id for item in await engine.open_items(caller, run_id=given.get("run_id") or None)]


async def _which(engine: Engine, caller: Caller, given: Given) -> list[str]:
    return list(VERSIONS)


_COMPLETIONS: dict[str, Callable[[Engine, Caller, Given], Awaitable[list[str]]]] = {
    "run_id": _runs,
    "checkpoint_id": _checkpoints,
    "rollback_id": _rollbacks,
    "conflict_id": _conflicts,
    "which": _which,
}
