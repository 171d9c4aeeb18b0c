"""What the engine answers: plain values, the same for the MCP surface, the command line and the page.

Field names are an interface: ids are answered under the names under which they are taken.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PrivateAttr

from takeback.journal.events import UndoOutcome

CallStatus = Literal[
    "applied", "held", "staged", "shadowed", "replayed", "pending_approval", "denied", "failed", "in_doubt"
]
ERROR_STATUSES = frozenset({"pending_approval", "denied", "failed", "in_doubt"})
RollbackStatus = Literal["complete", "partial", "planned", "pending_approval", "failed"]


class EngineError(Exception):
    """A request that cannot be met as it stands: one sentence of fact, one of advice. Nothing has changed."""

    def __init__(self, code: str, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.advice = code, message, advice


class AnswerModel(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(extra="forbid")


class ErrorInfo(AnswerModel):
    """What went wrong, and what to do about it."""

    code: str = Field(description="Stable word for programs, such as stale_read or not_found.")
    message: str = Field(description="One sentence of fact.")
    advice: str = Field(default="", description="One sentence: what to do now.")


class UndoInfo(AnswerModel):
    """How an action can be taken back."""

    how: str = Field(description="What taking it back does.")
    until: str | None = Field(default=None, description="RFC 3339; null: as long as its images are kept.")


class StepTold(AnswerModel):
    """One planned step of a run, and how it stands."""

    step: str
    status: Literal["done", "partly", "failed", "in_doubt", "taken_back", "skipped", "not_begun"]


class ByHand(AnswerModel):
    """A call that failed, with what a person needs in order to do it by hand."""

    action_id: str
    tool: str
    title: str = Field(description="What the tool does, in words.")
    step: str | None = None
    arguments: dict[str, JsonValue] = Field(description="As they were asked for; secrets redacted, long texts cut.")
    why: str = Field(description="Why it failed.")


class Download(AnswerModel):
    """A result that is kept and can be fetched."""

    name: str
    what: str = Field(description="Which content of it this is.")
    uri: str = Field(description="The resource to read.")
    size: int | None = None


class FailureReport(AnswerModel):
    """What a failed, stalled or contained run looks like, for a person: the accomplished first."""

    done: list[str] = Field(default=[], description="What was accomplished.")
    preserved: list[str] = Field(default=[], description="What is kept, and where to get it.")
    failed: list[str] = Field(default=[], description="What failed, in plain words.")
    remaining: list[str] = Field(default=[], description="What is left to do.")
    first_step: str = Field(default="", description="The first thing to do now.")
    status: str = Field(default="", description="The status of the run.")
    since: str | None = Field(default=None, description="Since when it has been so; RFC 3339.")
    steps: list[StepTold] = Field(default=[], description="The planned steps, in order.")
    by_hand: list[ByHand] = Field(default=[], description="What failed, with all that is needed to do it by hand.")
    downloads: list[Download] = Field(default=[], description="Results that can be fetched.")
    timeline: list[str] = Field(default=[], description="What happened when.")
    text: str = Field(default="", description="The whole report as Markdown.")

    def short(self) -> FailureReport:
        """Without what `get_run` tells with the view `report`: for an answer that only says where the run stands."""
        return self.model_copy(update={"text": "", "timeline": [], "downloads": []})


class CallAnswer(AnswerModel):
    """The answer of a mutating tool."""

    status: CallStatus
    run_id: str
    action_id: str | None = None
    checkpoint_id: str | None = None
    reversibility: Literal["reversible", "compensable", "irreversible"] | None = None
    undo: UndoInfo | None = None
    summary: str = ""
    result: dict[str, JsonValue] | None = None
    digest: str | None = None
    warnings: list[str] = []
    release_at: str | None = None
    approval_id: str | None = Field(default=None, description="What a person has to approve, if pending.")
    question: str | None = Field(default=None, description="What the person is asked.")
    preview: list[str] | None = Field(default=None, description="What would happen (dry run, pending approval).")
    error: ErrorInfo | None = None
    report: FailureReport | None = None
    _head: str | None = PrivateAttr(default=None)

    @property
    def is_error(self) -> bool:
        """Whether the model should treat this as a failed call."""
        return self.status in ERROR_STATUSES

    @property
    def head(self) -> str | None:
        """Head of the run's chain after this call (`seq:mac`): whoever keeps it can prove later that nothing was cut off."""
        return self._head

    def anchored(self, head: str) -> CallAnswer:
        """The same answer, with the head of the chain."""
        self._head = head
        return self


class ReadAnswer(AnswerModel):
    """The answer of a reading tool: its own result, or an error."""

    result: dict[str, JsonValue] | None = None
    error: ErrorInfo | None = None


class StepAnswer(AnswerModel):
    """What became (or would become) of one action."""

    action_id: str
    run_id: str
    tool: str
    object: str
    objects: list[str] = []
    called: list[str] = Field(default=[], description="The same, as people know them, where that is not by a name.")
    outcome: UndoOutcome | None = Field(default=None, description="What happened; in a plan: what would happen.")
    why: str = ""
    preview: str = ""


class OpenItemAnswer(AnswerModel):
    """Something a person has to settle."""

    conflict_id: str
    kind: str
    run_id: str
    action_id: str
    system: str
    object: str
    called: str = Field(default="", description="What people know it by: the title of an event, the subject of a mail.")
    why: str
    next_step: str
    status: str = "open"
    opened_at: str = ""
    choice: str = ""


class OpenThing(AnswerModel):
    """Something that waits for a person, with everything they need to do it by hand."""

    item_id: str = Field(description="Hand this to takeback settle.")
    kind: Literal["conflict", "failed", "in_doubt", "irreversible", "denied", "mail", "notice"]
    run_id: str
    goal: str = ""
    action_id: str = ""
    object: str
    why: str
    next_step: str
    opened_at: str
    by_hand: list[str] = Field(default=[], description="What it was about, a sentence each.")
    settle: str = Field(description="The command that closes it.")
    details: dict[str, JsonValue] = Field(default={}, description="The same for programs.")


class RollbackAnswer(AnswerModel):
    """The answer of `rollback_run`, `redo_rollback`, `restore_version` and `resolve_conflict`."""

    status: RollbackStatus
    rollback_id: str | None = None
    plan_digest: str | None = None
    run_id: str | None = None
    run_status: str | None = None
    steps: list[StepAnswer] = []
    retracted: list[str] = Field(
        default=[], description="Actions whose earlier answers no longer hold; do not rely on them."
    )
    open_items: list[OpenItemAnswer] = []
    other_runs: list[str] = Field(default=[], description="Runs in the way; name them in `cascade`.")
    approval_id: str | None = None
    question: str | None = None
    warnings: list[str] = Field(default=[], description="What the systems could not promise while it was done.")
    report: str = ""
    error: ErrorInfo | None = None

    @property
    def is_error(self) -> bool:
        """Whether the model should treat this as a failed call."""
        return self.status in {"failed", "pending_approval"}


class RunSummary(AnswerModel):
    """A run in a list."""

    run_id: str
    goal: str
    status: str
    owner: str
    client: str
    default: bool
    started_at: str
    last_at: str
    actions: int
    standing: int = Field(description="Actions whose effects are in the world.")
    open_items: int = 0


class CheckpointInfo(AnswerModel):
    """A checkpoint in a list."""

    checkpoint_id: str
    run_id: str
    at: str
    label: str | None = None
    action_id: str | None = None
    summary: str = ""
    step: str | None = None
    next_step: str | None = None
    verified_safe: bool = Field(
        default=False, description="Everything it stands on is as it was then (or can be put back)."
    )
    recommended: bool = Field(default=False, description="The newest one that is safe to go back to.")
    drift: list[str] = Field(default=[], description="Objects that somebody else changed since.")
    pinned: bool = Field(default=False, description="What its run needs is kept whatever its age.")


class VersionInfo(AnswerModel):
    """An earlier content of an object that can be put back."""

    version: str = Field(description="Hand this to restore_version.")
    object: str
    at: str
    run_id: str
    action_id: str
    tool: str
    size: int | None = None
    digest: str | None = None
    what: str = ""
    available: bool = True


class Page(AnswerModel):
    """Part of a list."""

    cursor: str | None = Field(default=None, description="Pass it on to get more; null at the end.")


class RunPage(Page):
    """Runs, newest first."""

    runs: list[RunSummary]


class CheckpointPage(Page):
    """Checkpoints, newest first."""

    checkpoints: list[CheckpointInfo]


class VersionPage(Page):
    """Versions, newest first."""

    versions: list[VersionInfo]


class DoneStep(AnswerModel):
    """A step that an agent must not repeat."""

    action_id: str
    step: str | None
    tool: str
    summary: str
    output: JsonValue = None
    idempotency_key: str | None = None


class Brief(AnswerModel):
    """What an agent continues from after `resume_from`."""

    run_id: str | None = Field(description="The new run; pass it on with every call. Null for a plan only.")
    forked_from: str
    goal: str
    done: list[DoneStep] = []
    remaining: list[str] = []
    next_step: str | None = None
    notes: JsonValue = None
    do_not_repeat: list[str] = []
    drift: list[str] = []
    receipts: list[str] = Field(default=[], description="Acts that cannot be taken back and have happened.")
    pending_approvals: list[str] = []
    rollback: RollbackAnswer | None = None
    text: str = ""


class ShadowedCall(AnswerModel):
    """A call that was shown and not made."""

    action_id: str
    run_id: str
    at: str
    tool: str
    step: str | None = None
    status: str = Field(description="shadowed; of a planned or staged call: collected, begun, stopped, thrown_away.")
    summary: str = Field(description="What would have happened.")
    objects: list[str] = []
    reversibility: str
    reason: str = ""
    would: str = Field(default="", description="What the policy would have decided: allow, ask, deny.")
    rule: str = ""
    how: str = Field(default="", description="How it would have been taken back.")
    unseen: bool = Field(default=False, description="It could not be shown, because it builds on what was not done.")


class ShadowLog(AnswerModel):
    """What would have happened, oldest first."""

    calls: list[ShadowedCall]
    rollback: str = Field(default="", description="What taking all of it back would have come to.")


class RunDetail(AnswerModel):
    """`get_run`: the run, and one view of it."""

    progress: str = Field(default="", description="How far it has come in its plan.")
    run: RunSummary
    steps: list[str] = []
    summary: str = ""
    why: str = ""
    report: FailureReport | None = None
    actions: list[dict[str, Any]] = []
    diff: str | None = None
    journal: list[dict[str, Any]] | None = None
    shadow: ShadowLog | None = None
    rollbacks: list[str] = []
    open_items: list[OpenItemAnswer] = []
    pending_approvals: list[str] = []


class StartedRun(AnswerModel):
    """`start_run` and `finish_run`."""

    run_id: str
    status: str
    checkpoint_id: str | None = None
    report: FailureReport | None = None
    text: str = ""
    made: list[str] = Field(default=[], description="What a planned or staged run has carried out by this.")
    approval_id: str | None = Field(default=None, description="What a person has to approve before it is carried out.")
    question: str | None = Field(default=None, description="What the person is asked.")
    error: ErrorInfo | None = None


class NamedCheckpoint(AnswerModel):
    """`create_checkpoint`."""

    checkpoint_id: str
    run_id: str
    label: str


class ApprovalInfo(AnswerModel):
    """A question to a person."""

    approval_id: str
    run_id: str
    status: str
    tool: str
    question: str
    reason: str
    requested_at: str
    expires_at: str
    by: str = ""
    why: str = Field(default="", description="Why it is void, if it is.")
