"""Commands for the policy: policy check, policy explain, policy test. They change nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import JsonValue

from takeback.journal.states import ABSENT, Effect, State
from takeback.journal.views import ActionView, RunView
from takeback.server.cli.blocks import Block, Cell, Id, Table, Tone, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.cli.times import moment

if TYPE_CHECKING:
    from takeback.server.engine.policy import Judged, Verdict
    from takeback.server.engine.policy_rules import Rule, RulesPolicy

File = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="Another policy file than the one of the configuration.")
]
OTHERWISE = (
    "What no rule is about is judged by the default policy: reversible is allowed, anything else is asked about."
)
_TONES: dict[str, Tone] = {"allow": "good", "ask": "warn", "shadow": "warn", "deny": "bad"}


async def check(session: Session, *, file: File = None) -> ExitCode:
    """Check the policy file, and list its rules in their order."""
    policy = _policy(session, file)
    rows = tuple((rule.id, _when(rule), Cell(rule.then, _TONES[rule.then]), rule.reason) for rule in policy.rules)
    blocks: list[Block] = [Table(("rule", "when", "then", "reason"), rows)] if rows else []
    session.terminal.show(
        [*blocks, said(OTHERWISE)],
        {"rules": [rule.model_dump(mode="json", by_alias=True, exclude_defaults=True) for rule in policy.rules]},
    )
    return ExitCode.OK


async def explain(
    session: Session,
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool that would be called.")],
    *,
    system: Annotated[str, typer.Option("--system", help="Where its objects are: files, database …")] = "files",
    object: Annotated[list[str] | None, typer.Option("--object", help="An object that it changes; repeatable.")] = None,
    verb: Annotated[
        Literal["created", "changed", "deleted"], typer.Option("--verb", help="What it does to them.")
    ] = "changed",
    reversibility: Annotated[
        Literal["reversible", "compensable", "irreversible"],
        typer.Option("--reversibility", help="How well it can be taken back."),
    ] = "reversible",
    held: Annotated[bool, typer.Option("--held", help="It waits in the outbox first.")] = False,
    rows: Annotated[int | None, typer.Option("--rows", min=0, help="Rows that it changes.")] = None,
    recipients: Annotated[int | None, typer.Option("--recipients", min=0, help="People that it writes to.")] = None,
    to: Annotated[list[str] | None, typer.Option("--to", help="Address of one of them; repeatable.")] = None,
    size: Annotated[int, typer.Option("--bytes", min=0, help="Size of each object.")] = 0,
    deleted: Annotated[int | None, typer.Option("--deleted", min=0, help="Rows that it deletes.")] = None,
    schema: Annotated[
        int | None, typer.Option("--schema-changes", min=0, help="Tables, views … that it makes, alters or drops.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="When; by default now.")] = None,
    mode: Annotated[
        Literal["act", "shadow", "plan", "staged"], typer.Option("--mode", help="Mode of the run.")
    ] = "act",
    principal: Annotated[str | None, typer.Option("--principal", help="Who asks.")] = None,
    client: Annotated[str | None, typer.Option("--client", help="Through which program.")] = None,
    scope: Annotated[list[str] | None, typer.Option("--scope", help="Scope of the run; repeatable.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Label of where that is, such as env=production; repeatable.")
    ] = None,
    compensation: Annotated[bool, typer.Option("--compensation", help="It takes an earlier act back.")] = False,
    file: File = None,
) -> ExitCode:
    """Say which rule meets a call, and what it decides."""
    from takeback.server.engine.core import utc_now
    from takeback.server.engine.policy import Judged

    policy = _policy(session, file)
    caller = session.caller.model_copy(
        update={key: value for key, value in (("principal", principal), ("client", client)) if value is not None}
    )
    given = {"rows": rows, "recipients": recipients, "deleted_rows": deleted, "schema": schema}
    counts = {key: value for key, value in given.items() if value is not None}
    effects = [_effect(system, each, verb, size) for each in object or ()]
    effects += [_message(to)] if to else []
    labels = {name: value for name, _, value in (each.partition("=") for each in label or ())}
    call = Judged(
        tool=tool,
        known=True,
        caller=caller,
        mode=mode,
        scope=tuple(scope or ()),
        effects=tuple(effects),
        labels=(labels,) * len(effects),
        reversibility=reversibility,
        reason="",
        counts=counts,
        held=held,
        at=utc_now() if at is None else datetime.fromisoformat(moment(at)),
        compensation=compensation,
    )
    verdict = policy.judge(call)
    passed = _passed(policy, call, verdict)
    session.terminal.show(
        [
            *(line(rule.id, Cell("is not about it", "faint")) for rule in passed),
            line(verdict.rule, Cell(verdict.decision, _TONES[verdict.decision]), verdict.reason),
        ],
        {"decision": verdict.decision, "rule": verdict.rule, "reason": verdict.reason},
    )
    return ExitCode.OK


async def test(
    session: Session,
    *,
    file: File = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run's calls.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10000, help="How many of the latest calls.")] = 1000,
) -> ExitCode:
    """Judge past calls again: what would this policy have decided otherwise?"""
    from takeback.journal.ids import RunId
    from takeback.server.engine.labels import labels_of
    from takeback.server.engine.replaying import counted, replay

    policy = _policy(session, file)
    async with session.engine() as engine:
        core = engine.core
        chosen = None if run is None else RunId(await session.id(engine, RunView, run))
        mine = {
            view.id: view
            for view in await core.journal.find(RunView, run_id=chosen)
            if core.may_see(session.caller, view)
        }
        latest = await core.journal.find(ActionView, run_id=chosen, limit=limit)
        actions = [action for action in reversed(latest) if action.run_id in mine]
        counts = await counted(core.journal, actions)
        least = core.settings.outbox.hold_seconds
        judged = replay(policy, actions, mine, lambda effect: labels_of(core.settings, effect), counts, least=least)
        differing = [each for each in judged if each.differs]
        rows = tuple(
            (
                Id(each.action.id),
                each.action.tool,
                each.then,
                Cell(each.now.decision, _TONES[each.now.decision]),
                each.now.rule,
            )
            for each in differing
        )
    blocks: list[Block] = [Table(("action", "tool", "was", "would be", "rule"), rows)] if rows else []
    left = len(actions) - len(judged)
    words = [f"{len(differing)} of {len(judged)} calls would be decided otherwise."]
    if left:
        words.append(
            f"{left} more cannot be judged again: they were refused or failed before their effects were known."
        )
    told = [
        {
            "action_id": each.action.id,
            "tool": each.action.tool,
            "was": each.then,
            "would_be": each.now.decision,
            "rule": each.now.rule,
        }
        for each in differing
    ]
    session.terminal.show([*blocks, *map(said, words)], {"judged": len(judged), "not_judged": left, "differing": told})
    return ExitCode.OK


def _policy(session: Session, file: Path | None) -> RulesPolicy:
    """
    :raises SettingsError:
    """
    from takeback.server.engine.policy_rules import RulesPolicy
    from takeback.server.policy_file import read_policy

    named = file or session.settings().policy.file
    return RulesPolicy(()) if named is None else read_policy(named)


def _passed(policy: RulesPolicy, call: Judged, verdict: Verdict) -> list[Rule]:
    """The rules before the one that decided."""
    passed: list[Rule] = []
    for rule in policy.rules:
        if rule.id == verdict.rule:
            break
        passed.append(rule)
    return passed


def _effect(system: str, object: str, verb: str, size: int) -> Effect:
    before = ABSENT if verb == "created" else State(digest="before", kind="object", size=size)
    after = ABSENT if verb == "deleted" else State(digest="after", kind="object", size=size)
    return Effect(system=system, object=object, before=before, after=after)


def _message(to: list[str]) -> Effect:
    held = State(digest="held", kind="held", ref={"message": {"recipients": list[JsonValue](to)}})
    return Effect(system="outbox", object="message", before=ABSENT, after=held)


def _when(rule: Rule) -> str:
    """The conditions in one line, as they are written."""
    told = rule.when.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return "; ".join(f"{name}: {_words(value)}" for name, value in told.items()) or "always"


def _words(value: object) -> str:
    if isinstance(value, dict):
        parts: list[str] = [f"{key} {_words(inner)}" for key, inner in value.items()]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- JSON
        return ", ".join(parts)
    if isinstance(value, list):
        return ", ".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] -- JSON
    return {True: "yes", False: "no"}.get(value, "") if isinstance(value, bool) else str(value)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    policy = typer.Typer(help="Which calls are allowed, asked about, refused.", no_args_is_help=True)
    command(policy, "check")(check)
    command(policy, "explain")(explain)
    command(policy, "test")(test)
    app.add_typer(policy, name="policy")
