"""One acting call while it is worked on: what was asked, in which run, and what is known of it so far."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from blake3 import blake3
from pydantic import BaseModel, JsonValue, ValidationError

from takeback.journal.events import BaseEvent
from takeback.journal.ids import ActionId, ApprovalId
from takeback.journal.log import ViewKey
from takeback.journal.redaction import redact
from takeback.journal.views import ActionView, HoldsView, RunView
from takeback.server.engine.answers import CallAnswer, EngineError
from takeback.server.engine.calls import Call
from takeback.server.engine.misfits import misfits
from takeback.server.engine.outgoing import release_of
from takeback.server.engine.plan import object_key
from takeback.tools.contract import AnyTool, CallContext, ReadTool, Target

LONG_ARGUMENT = 2048


class Again(Exception):
    """Somebody wrote to the run, the key or the approval between our look and our intent: look again."""


@dataclass(slots=True)
class Work:
    """What is known of the call so far."""

    call: Call
    tool: AnyTool
    arguments: Any
    argument_digest: str
    run: RunView
    action_id: ActionId
    context: CallContext
    warnings: list[str]
    expect: dict[ViewKey, int] = field(default_factory=lambda: dict[ViewKey, int]())
    targets: tuple[Target, ...] = ()
    approval_id: ApprovalId | None = None
    intended: bool = False
    held: HoldsView | None = None
    """What was contained when it was admitted."""
    judged_at: int = -1
    """Seq of the run's newest event when triggers looked at it."""
    fired: list[BaseEvent] = field(default_factory=lambda: list[BaseEvent]())
    """Warnings of triggers, to be written down with the intent."""
    take_back: Literal["", "action", "run"] = ""
    """What has to be taken back once the call is over."""
    because: str = ""
    """Why, as a sentence."""

    def lock_names(self) -> tuple[str, ...]:
        """What the call holds from preparation to conclusion: its objects, or where it names none, itself.

        Whoever finds its intent later can tell by that whether somebody is still working on it.
        """
        objects = {object_key(target.system, target.object) for target in self.targets}
        return tuple(sorted(objects)) or (f"action:{self.action_id}",)


def parse(tool: AnyTool, arguments: dict[str, JsonValue]) -> Any:
    """The arguments as the tool's own type: strict, unknown fields refused.

    :raises EngineError: `invalid`, naming the field.
    """
    try:
        return tool.arguments.model_validate_json(json.dumps(arguments), strict=True)
    except ValidationError as error:
        besides = () if isinstance(tool, ReadTool) else ("run_id", "step", "idempotency_key", "dry_run")
        raise EngineError("invalid", *misfits(tool.name, tool.arguments, error, besides)) from None
    except (UnicodeEncodeError, ValueError) as error:
        raise EngineError(
            "invalid", "The arguments hold text that is not valid Unicode.", "Send binary content as base64."
        ) from error


def digest_of(tool: AnyTool, arguments: BaseModel) -> str:
    """What idempotency keys and approvals are bound to: the tool and its validated arguments."""
    text = f"{tool.name}\0{tool.version}\0{arguments.model_dump_json()}"
    return "blake3:" + blake3(text.encode("utf-8", "surrogatepass")).hexdigest()


def where(error: BaseException) -> str:
    """An error for the log: its type and place. Never its message, which may hold what the tool was given."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return type(error).__name__ + place


_SALT = secrets.token_bytes(16)
"""Of this process: nobody has to recognise a secret again, so nobody needs to keep it."""


def journaled(arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Arguments as the journal keeps them: secrets as digests, long texts by their beginning (the states hold them whole)."""

    def shorten(value: JsonValue) -> JsonValue:
        if isinstance(value, str) and len(value) > LONG_ARGUMENT:
            return f"{value[:200]}… ({len(value)} characters)"
        if isinstance(value, list):
            return [shorten(item) for item in value[:200]]
        if isinstance(value, dict):
            return {name: shorten(item) for name, item in value.items()}
        return value

    return without_secrets({name: shorten(value) for name, value in arguments.items()})


def without_secrets(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The same with secrets replaced by salted digests."""
    redacted = redact(values, _SALT)
    return redacted if isinstance(redacted, dict) else {}


def replayed(action: ActionView, warnings: list[str], *, status: str = "replayed") -> CallAnswer:
    """The recorded answer of an action that has been done already."""
    return CallAnswer.model_validate(
        {
            "status": status,
            "run_id": action.run_id,
            "action_id": action.id,
            "checkpoint_id": action.checkpoint_id,
            "reversibility": action.reversibility,
            "undo": {"how": action.compensation.how, "until": action.compensation.allowed_until}
            if action.compensation and action.reversibility != "irreversible"
            else None,
            "summary": action.summary,
            "result": dict(action.answer) or None,
            "digest": action.digest,
            "release_at": release_of(action.effects) if action.stands else None,
            "warnings": [*warnings, *action.warnings],
        }
    )
