"""Taking back and bringing back: first the plan, then the act that its digest names, then what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

from takeback.journal.ids import RollbackId
from takeback.journal.views import RollbackView
from takeback.server.engine.answers import EngineError, RollbackAnswer, StepAnswer
from takeback.server.web import approvals, open_items
from takeback.server.web.exchange import Response
from takeback.server.web.frame import LANE, Visit, as_sentence, see, status
from takeback.server.web.html import Element, Node, e

MOST_STEPS: Final = 200
"""Steps that a person still reads."""

_WOULD: Final[Mapping[str, tuple[str, str]]] = {
    "restored": ("put back", "It will be as it was."),
    "merged": ("merge", "Only the agent's change is taken out; what others changed stays."),
    "already_undone": ("nothing to do", "It is as it was already."),
    "compensated": ("follow-up act", "An act of its own takes it back."),
    "conflict": ("conflict", "It is not touched: somebody else changed the same place. You decide afterwards."),
    "failed": ("not possible", "It cannot be taken back as things stand."),
    "irreversible": ("irreversible", "It cannot be taken back, it stays."),
    "skipped": ("left", "It is left as it is."),
}
"""What a plan says of a step: in no word that could be read as done."""
Act = Callable[[bool, str | None], Awaitable[RollbackAnswer]]
Hidden = dict[str, str | list[str]]


async def plan_rollback(visit: Visit, run_id: str) -> Response:
    """What taking a run (or its tail, or chosen acts) back would do."""
    return await _show(visit, ("runs", run_id, "rollback"), _rollback(visit, run_id), back=(run_id,))


async def do_rollback(visit: Visit, run_id: str, consent: str = "") -> Response:
    """Take it back, if the plan is still the one that was seen.

    :param consent: the question that the form was made for, and that is answered by sending it.
    """
    return await _do(visit, ("runs", run_id, "rollback"), _rollback(visit, run_id), consent)


async def plan_redo(visit: Visit, rollback_id: str) -> Response:
    """What bringing it back would do."""
    return await _show(visit, ("rollbacks", rollback_id, "redo"), _redo(visit, rollback_id), redo=True)


async def do_redo(visit: Visit, rollback_id: str, consent: str = "") -> Response:
    """Bring it back, if the plan is still the one that was seen.

    :param consent: as in `do_rollback`.
    """
    return await _do(visit, ("rollbacks", rollback_id, "redo"), _redo(visit, rollback_id), consent)


def _rollback(visit: Visit, run_id: str) -> Act:
    to, actions = visit.request.one("to") or None, visit.request.all("action")
    if to and actions:
        raise EngineError("invalid", "A checkpoint and single acts exclude each other.", "Choose one of them.")
    if visit.request.one("chosen") and not actions:
        raise EngineError("invalid", "No act was chosen.", "Go back and tick those that you mean.")

    async def act(plan_only: bool, digest: str | None) -> RollbackAnswer:
        return await visit.engine.rollback(
            visit.caller,
            run_id=None if to or actions else run_id,
            to_checkpoint=to,
            actions=actions,
            cascade=visit.request.all("cascade"),
            dry_run=plan_only,
            plan_digest=digest,
        )

    return act


def _redo(visit: Visit, rollback_id: str) -> Act:
    async def act(plan_only: bool, digest: str | None) -> RollbackAnswer:
        return await visit.engine.redo(visit.caller, rollback_id, dry_run=plan_only, plan_digest=digest)

    return act


def _wish(visit: Visit) -> Hidden:
    return {name: visit.request.all(name) for name in ("to", "action", "cascade")}


async def _show(
    visit: Visit, place: tuple[str, ...], act: Act, *, redo: bool = False, back: tuple[str, ...] = ()
) -> Response:
    plan = await act(True, None)
    if plan.status == "failed" and plan.error is not None:
        raise EngineError(plan.error.code, plan.error.message, plan.error.advice)
    run_id = plan.run_id or (back[0] if back else "")
    return visit.page(
        "Bring back: the plan" if redo else "Take back: the plan",
        e("p", e("strong", "Nothing has been done yet."), " ", _count(plan.steps), class_="lead"),
        steps(visit, plan.steps, planned=True),
        _others(visit, place, plan) if plan.other_runs else None,
        _confirm(visit, place, plan, redo=redo) if plan.steps else e("p", "There is nothing to do."),
        back=(visit.link("Runs", "runs"), visit.link("The run", "runs", run_id))
        if run_id
        else (visit.link("Runs", "runs"),),
    )


def _confirm(visit: Visit, place: tuple[str, ...], plan: RollbackAnswer, *, redo: bool) -> Element:
    hidden: Hidden = {**_wish(visit), "digest": plan.plan_digest or ""}
    leave = visit.link("No, leave everything as it is", "runs", plan.run_id, class_="button") if plan.run_id else None
    return e(
        "div",
        visit.form(place, e("button", "Bring it back" if redo else "Take it back", class_="act"), hidden=hidden),
        leave,
        e(
            "p",
            "If anything changes before you press the button, nothing is done, and you are shown the new plan. ",
            "What is put back can be brought back." if not redo else "It can be taken back again.",
            class_="hint",
        ),
        class_="choices",
    )


def _others(visit: Visit, place: tuple[str, ...], plan: RollbackAnswer) -> Element:
    wish = _wish(visit)
    kept = [
        e("input", type="hidden", name=name, value=each)
        for name in ("to", "action")
        for each in cast("list[str]", wish[name])
    ]
    boxes = [
        e(
            "li",
            e("input", type="checkbox", name="cascade", value=run, id=run),
            e("label", "Take back what run ", e("code", run), " built on it too", for_=run),
            " ",
            visit.link("look at it", "runs", run),
        )
        for run in plan.other_runs
    ]
    return e(
        "section",
        e("h2", "Other runs built on the same objects"),
        e("p", "Without them, what they built on stays as it is."),
        e(
            "form",
            kept,
            e("ul", boxes),
            e("button", "Show the plan with the chosen ones"),
            method="get",
            action=visit.at(*place),
        ),
        class_="card",
    )


async def _do(visit: Visit, place: tuple[str, ...], act: Act, consent: str) -> Response:
    digest = visit.request.one("digest")
    if not digest:
        raise EngineError("invalid", "No plan was consented to.", "Look at the plan first.")
    if consent:
        await visit.engine.approve(visit.caller, consent, lane=LANE)
    try:
        answer = await act(False, digest)
    except EngineError as error:
        if error.code != "plan_changed":
            raise
        wish = {name: value for name, value in _wish(visit).items() if value}
        return see(visit.at(*place, said="changed", **wish))
    if answer.status == "pending_approval" and answer.approval_id:
        return await _consent(visit, place, answer, digest)
    if answer.rollback_id is None:
        message = answer.error.message if answer.error else "Nothing was done."
        raise EngineError("failed", message, answer.error.advice if answer.error else "")
    return see(visit.at("rollbacks", answer.rollback_id))


async def _consent(visit: Visit, place: tuple[str, ...], answer: RollbackAnswer, digest: str) -> Response:
    """The plan holds something that needs a consent of its own: it is asked for in its own words."""
    approval_id = answer.approval_id or ""
    asked = await approvals.find(visit, approval_id)
    hidden: Hidden = {**_wish(visit), "digest": digest}
    return visit.page(
        "This needs your consent",
        e("p", e("strong", "Nothing has been done yet."), class_="lead"),
        e("p", asked.question, class_="words"),
        e("p", asked.reason, class_="hint"),
        e(
            "div",
            visit.form((*place, "consent", approval_id), e("button", "Agree, and do it", class_="act"), hidden=hidden),
            visit.form(("approvals", approval_id, "deny"), e("button", "Refuse")),
            class_="choices",
        ),
    )


# --- what became of it --------------------------------------------------------------------------------------------------------


async def told(visit: Visit, rollback_id: str) -> Response:
    """What a rollback did."""
    answer = await visit.engine.rollback_told(visit.caller, RollbackId(rollback_id))
    if answer == "never begun":
        raise EngineError("not_found", f"There is no rollback {rollback_id}.", "Runs list what was taken back.")
    view = await visit.engine.core.journal.get(RollbackView, rollback_id)
    if answer == "running" or view is None:
        return visit.page("At work", e("p", "It is being done. This page shows the end of it."), live=True)
    titles = {"rollback": "Taken back", "redo": "Brought back", "restore_version": "Put back", "resolve": "Settled"}
    run_id = answer.run_id or ""
    undone = any(step.outcome in ("restored", "merged", "compensated") for step in answer.steps)
    again = undone and view.redone_by is None and answer.status != "failed"
    words = {
        "complete": "Everything was done, read back and compared.",
        "partial": "Not everything could be done; what is open stands below and waits for you.",
        "failed": "It could not be done; below is how far it came.",
    }
    return visit.page(
        titles[view.kind],
        e("p", status(answer.status), " ", words.get(answer.status, ""), class_="lead"),
        [e("h2", "Still open"), open_items.rows(visit, answer.open_items)] if answer.open_items else None,
        steps(visit, answer.steps, planned=False),
        e(
            "p",
            visit.link(
                "Bring it back …" if view.kind == "rollback" else "Undo that …",
                "rollbacks",
                rollback_id,
                "redo",
                class_="button",
            ),
            class_="choices",
        )
        if again
        else None,
        e("p", visit.link("It was brought back since", "rollbacks", view.redone_by)) if view.redone_by else None,
        back=(visit.link("Runs", "runs"), visit.link("The run", "runs", run_id))
        if run_id
        else (visit.link("Runs", "runs"),),
    )


def steps(visit: Visit, all_steps: Sequence[StepAnswer], *, planned: bool) -> Node:
    """Each act, and what becomes or became of it."""
    if not all_steps:
        return None
    rest = len(all_steps) - MOST_STEPS
    return [
        e("ol", [_step(visit, step, planned=planned) for step in all_steps[:MOST_STEPS]], class_="timeline"),
        e("p", f"and {rest:,} more") if rest > 0 else None,
    ]


def _step(visit: Visit, step: StepAnswer, *, planned: bool) -> Element:
    word = step.outcome or "skipped"
    places = step.called or step.objects or [step.object]
    more = f" and {len(places) - 3:,} more" if len(places) > 3 else ""
    where = ", ".join(visit.called(place) for place in places[:3]) + more
    label, meaning = _WOULD.get(word, (word, ""))
    return e(
        "li",
        e("p", as_sentence(step.preview) if step.preview else where, class_="what"),
        e("p", status(word, label if planned else ""), " ", meaning if planned else as_sentence(step.why)),
        e("p", as_sentence(step.why), class_="hint") if planned and step.why else None,
        e("p", where, class_="hint") if step.preview else None,
        e("p", "The agent's act: ", e("code", step.tool), class_="hint"),
    )


def _count(all_steps: Sequence[StepAnswer]) -> str:
    number = len(all_steps)
    return f"{number:,} {'act' if number == 1 else 'acts'} would be taken care of, the latest first."
