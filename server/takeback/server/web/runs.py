"""Runs: the list, one run with its timeline, what it changed, its report; stop it and let it go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from takeback.journal.views import RollbackView
from takeback.server.engine.answers import CheckpointInfo, EngineError, FailureReport, RunDetail, RunSummary
from takeback.server.engine.takeover import TAKEN
from takeback.server.web import open_items
from takeback.server.web.exchange import Response
from takeback.server.web.frame import Visit, facts, field, moment, see, sentences, status, text_box
from takeback.server.web.html import Element, Node, e

UNWELL: Final = frozenset({"failed", "stalled", "contained", "quarantined"})
"""Statuses of which a person wants to know why, and what to do."""
STOPPED: Final = frozenset({"contained", "quarantined"})
OBJECTS: Final = 3
"""Objects of one act that are named."""


async def listing(visit: Visit) -> Response:
    """Runs, newest first."""
    cursor, touched = visit.request.one("cursor") or None, visit.request.one("touched") or None
    page = await visit.engine.list_runs(visit.caller, cursor=cursor, touched=touched)
    search = e(
        "form",
        e("label", "Only runs that changed this file or object: ", for_="touched"),
        e("input", type="text", name="touched", id="touched", value=touched or "", maxlength="1000"),
        " ",
        e("button", "Search"),
        method="get",
        action=visit.at("runs"),
        role="search",
        class_="search",
    )
    return visit.page(
        "Runs",
        search,
        rows(visit, page.runs) or e("p", "There are none."),
        e("p", visit.link("Earlier ones", "runs", cursor=page.cursor, touched=touched)) if page.cursor else None,
        live=not touched,
    )


def rows(visit: Visit, found: Sequence[RunSummary]) -> Node:
    """Runs in a list."""
    if not found:
        return None
    return e(
        "ul",
        [
            e(
                "li",
                status(run.status),
                " ",
                visit.link(goal(run), "runs", run.run_id),
                e("span", run.client, ", ", moment(run.last_at), ", ", _standing(run), class_="why"),
            )
            for run in found
        ],
        class_="rows",
    )


def goal(run: RunSummary) -> str:
    """What a run is called."""
    return run.goal or ("Without a goal of its own (default run)" if run.default else "Without a goal")


def _standing(run: RunSummary) -> str:
    if not run.actions:
        return "no acts"
    stands = "all stand" if run.standing == run.actions else f"{run.standing} stand"
    waits = f", {run.open_items} open" if run.open_items else ""
    return f"{run.actions} {'act' if run.actions == 1 else 'acts'}, {stands}{waits}"


async def one(visit: Visit, run_id: str) -> Response:
    """One run."""
    detail = await visit.engine.get_run(visit.caller, run_id)
    told = (await visit.engine.get_run(visit.caller, run_id, view="report")).report
    marks = await visit.engine.list_checkpoints(visit.caller, run_id=run_id, limit=200)
    run = detail.run
    return visit.page(
        goal(run),
        e("p", status(run.status), " ", detail.why or detail.summary, class_="lead"),
        report(told) if told is not None and run.status in UNWELL else None,
        facts(
            ("Of", run.owner if run.owner != visit.caller.principal else None),
            ("Agent", run.client),
            ("Began", moment(run.started_at)),
            ("Last act", moment(run.last_at)),
            ("Acts", _standing(run)),
            ("Id", e("code", run.run_id)),
        ),
        _doors(visit, run),
        [e("h2", "What it left open"), open_items.rows(visit, detail.open_items)] if detail.open_items else None,
        [
            e("h2", "What it asks"),
            e(
                "ul",
                [
                    e("li", visit.link("A question that waits for you", "approvals", each))
                    for each in detail.pending_approvals
                ],
            ),
        ]
        if detail.pending_approvals
        else None,
        [e("h2", "Planned steps"), e("ol", [e("li", each.step, " ", status(each.status)) for each in told.steps])]
        if told is not None and told.steps
        else None,
        e("h2", "What happened when"),
        _timeline(visit, detail, marks.checkpoints),
        await _rollbacks(visit, detail.rollbacks),
        _hands(visit, detail),
        back=(visit.link("Runs", "runs"),),
    )


def report(told: FailureReport) -> Element:
    """What became of a run that did not go well: what is done and kept comes first."""
    return e(
        "section",
        e("h2", "How it stands"),
        e("p", e("strong", "First: "), told.first_step, class_="first") if told.first_step else None,
        sentences("Done", told.done),
        sentences("Kept", told.preserved),
        sentences("Failed", told.failed),
        sentences("Left to do", told.remaining),
        class_="card report",
    )


async def whole_report(visit: Visit, run_id: str) -> Response:
    """The failure report of any run, on a page of its own, to be read or printed."""
    detail = await visit.engine.get_run(visit.caller, run_id, view="report")
    return visit.page(
        f"Report: {goal(detail.run)}",
        e("p", status(detail.run.status), class_="lead"),
        report(detail.report) if detail.report is not None else None,
        [e("h2", "As text"), text_box(detail.report.text, "The report as Markdown")]
        if detail.report is not None
        else None,
        back=(visit.link("Runs", "runs"), visit.link("The run", "runs", run_id)),
    )


async def changes(visit: Visit, run_id: str) -> Response:
    """What the run changed, as a diff."""
    detail = await visit.engine.get_run(visit.caller, run_id, view="diff")
    return visit.page(
        f"What changed: {goal(detail.run)}",
        [text_box(part, "A change", diff=True) for part in (detail.diff or "").split("\n\n") if part]
        if detail.diff
        else e("p", "The run has changed nothing that still stands."),
        back=(visit.link("Runs", "runs"), visit.link("The run", "runs", run_id)),
    )


def _doors(visit: Visit, run: RunSummary) -> Element:
    take_back = visit.link("Take all of it back …", "runs", run.run_id, "rollback", class_="button act")
    return e(
        "p",
        take_back if run.standing else None,
        " ",
        visit.link("See what it changed", "runs", run.run_id, "changes", class_="button"),
        " ",
        visit.link("Report", "runs", run.run_id, "report", class_="button"),
        class_="choices",
    )


def _timeline(visit: Visit, detail: RunDetail, marks: Sequence[CheckpointInfo]) -> Node:
    if not detail.actions:
        return e("p", "Nothing yet.")
    known = {mark.checkpoint_id: mark for mark in marks}
    last = next((action["action_id"] for action in reversed(detail.actions) if action["stands"]), "")
    acts = [_act(visit, action, known, last=action["action_id"] == last) for action in detail.actions]
    named = [mark for mark in marks if mark.label and mark.action_id is None]
    several = e("button", "Take the chosen ones back …") if any(action["stands"] for action in detail.actions) else None
    return [
        e(
            "form",
            e("input", type="hidden", name="chosen", value="yes"),
            e("ol", acts, class_="timeline"),
            e("p", several, class_="choices") if several else None,
            method="get",
            action=visit.at("runs", detail.run.run_id, "rollback"),
        ),
        [
            e("h3", "Named checkpoints"),
            e(
                "ul",
                [
                    e(
                        "li",
                        e("strong", mark.label or ""),
                        " ",
                        moment(mark.at),
                        " ",
                        visit.link("Back to there …", "runs", mark.run_id, "rollback", to=mark.checkpoint_id),
                    )
                    for mark in named
                ],
                class_="rows",
            ),
        ]
        if named
        else None,
    ]


def _act(visit: Visit, action: Mapping[str, Any], marks: Mapping[str, CheckpointInfo], *, last: bool) -> Element:
    number = str(action["action_id"])
    what = str(action.get("summary") or action.get("error") or ", ".join(action["objects"]) or action["tool"])
    word = str(action["status"] if action["stands"] else action.get("undo_outcome") or action["status"])
    mark = marks.get(str(action.get("checkpoint_id", "")))
    box = e("input", type="checkbox", name="action", value=number, id=number) if action["stands"] else None
    objects = [visit.called(str(each)) for each in action["objects"]]
    more = f" and {len(objects) - OBJECTS:,} more" if len(objects) > OBJECTS else ""
    return e(
        "li",
        e("p", box, e("label", what, for_=number) if box else what, class_="what"),
        e(
            "p",
            moment(str(action["at"])),
            " ",
            e("code", str(action["tool"])),
            " ",
            status(word),
            e("span", " · step: ", str(action["step"])) if action.get("step") else None,
            class_="hint",
        ),
        e("p", ", ".join(objects[:OBJECTS]), more, class_="hint objects") if objects else None,
        e("p", str(action["advice"]), class_="hint") if action.get("advice") and not action["stands"] else None,
        # behind the last act there is nothing to take back
        _mark(visit, mark, what) if mark is not None and action["stands"] and not last else None,
    )


def _mark(visit: Visit, mark: CheckpointInfo, what: str) -> Element:
    drift = (
        f"Changed by others since: {', '.join(visit.called(each) for each in mark.drift[:OBJECTS])}"
        if mark.drift
        else ""
    )
    return e(
        "p",
        e(
            "a",
            "Back to here …",
            href=visit.at("runs", mark.run_id, "rollback", to=mark.checkpoint_id),
            aria_label=f"Back to here, after: {what}",
        ),
        [" ", status("recommended")] if mark.recommended else None,
        e("span", f" {drift}", class_="hint") if drift else None,
    )


async def _rollbacks(visit: Visit, ids: Sequence[str]) -> Node:
    found = [await visit.engine.core.journal.get(RollbackView, each) for each in ids]
    views = [view for view in found if view is not None]
    if not views:
        return None
    words = {
        "rollback": "Taken back",
        "redo": "Brought back",
        "restore_version": "A version put back",
        "resolve": "Settled",
    }
    return [
        e("h2", "What was taken back"),
        e(
            "ul",
            [
                e(
                    "li",
                    status(view.status),
                    " ",
                    visit.link(words[view.kind], "rollbacks", view.id),
                    " ",
                    moment(view.started_at.isoformat()),
                )
                for view in views
            ],
            class_="rows",
        ),
    ]


def _hands(visit: Visit, detail: RunDetail) -> Node:
    """What a person does to the run itself."""
    run = detail.run
    if run.status in STOPPED and detail.why.startswith(TAKEN):
        return [
            e("h2", "Return it"),
            e(
                "p",
                "You have this run: its agent only reads. What you change meanwhile is yours, and the agent is told of it.",
            ),
            visit.form(
                ("runs", run.run_id, "return"),
                field("note", "What its agent should know (may be empty)", id="note"),
                e("button", "Return it to its agent", class_="act"),
            ),
        ]
    if run.status in STOPPED:
        return [
            e("h2", "Let it go on"),
            visit.form(
                ("runs", run.run_id, "release"),
                field("reason", "Why (stands in the journal; may be empty)", id="reason"),
                e("button", "Let it go on"),
            ),
        ]
    if run.status not in ("open", "stalled"):
        return None
    return [
        e("h2", "Stop it"),
        visit.form(
            ("runs", run.run_id, "contain"),
            field("reason", "Why (stands in the journal)", id="reason", required=True),
            e(
                "p",
                e("input", type="checkbox", name="level", value="quarantined", id="level"),
                e("label", "It must not even look at anything", for_="level"),
            ),
            e("button", "Stop this run", class_="danger"),
            e(
                "p",
                "It changes nothing more until you let it go on. What it did stays, and can be taken back.",
                class_="hint",
            ),
        ),
        e("h2", "Take it over"),
        visit.form(
            ("runs", run.run_id, "take"),
            e("button", "Take this run over"),
            e(
                "p",
                "Its agent only reads while you do something yourself, and is told what you changed when you return it.",
                class_="hint",
            ),
        ),
    ]


async def take(visit: Visit, run_id: str) -> Response:
    """A person takes a run over."""
    answer = await visit.engine.takeover.take(visit.caller, run_id)
    return see(visit.at("runs", answer.run_id, said="taken"))


async def give_back(visit: Visit, run_id: str) -> Response:
    """A person returns a run; what they changed is what its agent is told."""
    answer = await visit.engine.takeover.give_back(visit.caller, run_id, visit.request.one("note").strip())
    return visit.page(
        "Returned",
        e("p", status(answer.status), " Its agent may go on, and is told what you changed.", class_="lead"),
        e("ul", [e("li", status(each.change), " ", each.shown) for each in answer.changes], class_="rows")
        if answer.changes
        else e("p", "None of its objects was changed while you had it."),
        back=(visit.link("Runs", "runs"), visit.link("The run", "runs", run_id)),
    )


async def contain(visit: Visit, run_id: str) -> Response:
    """Stop a run."""
    reason = visit.request.one("reason").strip()
    if not reason:
        raise EngineError("invalid", "No reason was given.", "Go back and write one; it stands in the journal.")
    level: Literal["contained", "quarantined"] = (
        "quarantined" if visit.request.one("level") == "quarantined" else "contained"
    )
    answer = await visit.engine.contain_run(visit.caller, run_id, reason, level=level)
    return see(visit.at("runs", answer.run_id, said="contained"))


async def release(visit: Visit, run_id: str) -> Response:
    """Let a stopped run go on."""
    answer = await visit.engine.release_run(visit.caller, run_id, visit.request.one("reason").strip())
    return see(visit.at("runs", answer.run_id, said="released"))
