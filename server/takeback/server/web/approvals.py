"""Questions to a person: what an agent wants to do, rendered from the effect, and yes or no."""

from __future__ import annotations

from collections.abc import Sequence

from takeback.server.engine.answers import ApprovalInfo, EngineError
from takeback.server.web.exchange import Response
from takeback.server.web.frame import LANE, Visit, facts, moment, see, status
from takeback.server.web.html import Element, Node, e


async def listing(visit: Visit) -> Response:
    """All questions, the open ones first."""
    asked = await visit.engine.approvals(visit.caller, status=None)
    still = {each.approval_id for each in await visit.engine.approvals(visit.caller)}
    rest = [each for each in asked if each.approval_id not in still]
    return visit.page(
        "Questions",
        [e("h2", "Open"), cards(visit, [each for each in asked if each.approval_id in still])]
        if still
        else e("p", "Nothing is asked now."),
        [
            e("h2", "Settled"),
            e(
                "ul",
                [
                    e(
                        "li",
                        status(_standing(each)),
                        " ",
                        moment(each.requested_at),
                        " ",
                        visit.link(_first(each.question), "approvals", each.approval_id),
                        f" ({each.why})" if each.why else None,
                    )
                    for each in rest[:100]
                ],
                class_="rows",
            ),
        ]
        if rest
        else None,
        live=True,
    )


async def one(visit: Visit, approval_id: str) -> Response:
    """One question."""
    asked = await find(visit, approval_id)
    still = any(each.approval_id == approval_id for each in await visit.engine.approvals(visit.caller))
    back = (visit.link("What waits"), visit.link("Questions", "approvals"))
    if still:
        return visit.page("An agent asks", card(visit, asked, heading=None), back=back)
    words = {
        "requested": f"It is void: {asked.why}. If the agent repeats its call, you are asked anew.",
        "granted": "You agreed; the agent has not repeated its call yet.",
        "used": "You agreed, and the agent has done it. The consent is spent.",
        "denied": "You refused.",
        "expired": f"It is void: {asked.why}. What is still wanted is asked anew.",
    }
    return visit.page(
        "A question that is settled",
        e("p", status(_standing(asked)), " ", words.get(asked.status, "")),
        _body(visit, asked),
        back=back,
    )


async def approve(visit: Visit, approval_id: str) -> Response:
    """Yes."""
    await visit.engine.approve(visit.caller, approval_id, lane=LANE)
    return see(visit.at(said="approved"))


async def deny(visit: Visit, approval_id: str) -> Response:
    """No."""
    await visit.engine.deny(visit.caller, approval_id, lane=LANE)
    return see(visit.at(said="denied"))


async def find(visit: Visit, approval_id: str) -> ApprovalInfo:
    """A question, whatever became of it.

    :raises EngineError: unknown or foreign.
    """
    for each in await visit.engine.approvals(visit.caller, status=None):
        if each.approval_id == approval_id:
            return each
    raise EngineError("not_found", f"There is no question {approval_id}.", "Those that wait are on the first page.")


def cards(visit: Visit, asked: Sequence[ApprovalInfo]) -> Node:
    """Open questions, each with its buttons."""
    return [card(visit, each, heading=f"An agent asks: {each.tool}") for each in asked]


def card(visit: Visit, asked: ApprovalInfo, *, heading: str | None) -> Element:
    """One open question with its buttons."""
    name = f"q-{asked.approval_id}"
    return e(
        "article",
        e("h3", heading, id=name) if heading else None,
        _body(visit, asked),
        e(
            "div",
            visit.form(("approvals", asked.approval_id, "approve"), e("button", "Approve, once", class_="act")),
            visit.form(("approvals", asked.approval_id, "deny"), e("button", "Refuse")),
            class_="choices",
        ),
        class_="card asks",
        aria_labelledby=name if heading else None,
    )


def _body(visit: Visit, asked: ApprovalInfo) -> Node:
    return [
        e("p", asked.question, class_="words"),
        facts(
            ("Tool", e("code", asked.tool)),
            ("Why you are asked", asked.reason),
            ("Run", visit.link("what it has done so far", "runs", asked.run_id)),
            ("Asked", moment(asked.requested_at)),
            ("Can be answered until", moment(asked.expires_at)),
        ),
    ]


def _standing(asked: ApprovalInfo) -> str:
    return "expired" if asked.status == "requested" else asked.status


def _first(question: str) -> str:
    return question.split("\n", 1)[0][:160]
