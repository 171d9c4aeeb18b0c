"""What an undo left open: the versions side by side, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

from takeback.journal.views import ActionView
from takeback.server.engine.answers import EngineError, OpenItemAnswer
from takeback.server.engine.conflicts import Choice
from takeback.server.web import texts
from takeback.server.web.exchange import Response
from takeback.server.web.frame import Visit, as_sentence, facts, moment, see, status
from takeback.server.web.html import Element, Exact, Node, e

Which = Literal["base", "ours", "theirs"]

VERSIONS: Final[Mapping[Which, tuple[str, str]]] = {
    "ours": ("Before", "as it was before the agent; what an undo would put back"),
    "base": ("Agent's", "as the agent left it"),
    "theirs": ("Now", "what is there now, with what somebody else changed"),
}

KINDS: Final[Mapping[str, str]] = {
    "conflict": "Somebody else changed the same place since, so it was not taken back. Nothing was overwritten.",
    "failed": "It could not be taken back.",
    "in_doubt": "Nobody knows whether this act took effect.",
    "irreversible": "It cannot be taken back by anything that the server can do.",
    "denied": "The policy does not allow it to be taken back.",
}


async def listing(visit: Visit) -> Response:
    """All that is open."""
    items = [item for item in await visit.engine.open_items(visit.caller) if item.status == "open"]
    return visit.page(
        "Open",
        rows(visit, items) or e("p", "Nothing is open."),
        live=True,
        back=(visit.link("What waits"),),
    )


def rows(visit: Visit, items: Sequence[OpenItemAnswer]) -> Node:
    """Open items in a list."""
    if not items:
        return None
    return e(
        "ul",
        [
            e(
                "li",
                status(item.kind),
                " ",
                visit.link(item.called or visit.called(item.object), "open", item.conflict_id),
                e("span", as_sentence(item.why), class_="why"),
            )
            for item in items
        ],
        class_="rows",
    )


async def one(visit: Visit, conflict_id: str) -> Response:
    """One open item, with its versions."""
    item = await _item(visit, conflict_id)
    versions = await visit.engine.conflict_versions(visit.caller, conflict_id)
    shown = item.kind != "in_doubt" and any(content is not None for content in versions.values())
    return visit.page(
        "Decide",
        e("p", status(item.kind), " ", e("strong", item.called or visit.called(item.object)), class_="lead"),
        e("p", KINDS.get(item.kind, ""), " ", as_sentence(item.why)),
        facts(
            # that of a conflict is what stands below, in the words of the tools
            ("Next step", as_sentence(item.next_step) if item.kind != "conflict" else None),
            ("Run", visit.link("what it has done", "runs", item.run_id)),
            ("Open since", moment(item.opened_at)),
        ),
        _side_by_side(visit, item, versions) if shown else None,
        e("h2", "What is to happen?"),
        await _doubt(visit, item) if item.kind == "in_doubt" else _choices(visit, item, versions),
        back=(visit.link("What waits"), visit.link("Open", "open")),
    )


async def resolve(visit: Visit, conflict_id: str) -> Response:
    """Settle it."""
    choice = visit.request.one("choice")
    if choice not in get_args(Choice):
        raise EngineError("invalid", "Nothing was chosen.", "Go back and choose.")
    content: str | None = None
    if choice == "content":
        versions = await visit.engine.conflict_versions(visit.caller, conflict_id)
        text = _to_edit(versions)
        if text is None:
            raise EngineError("not_possible", "This content cannot be written in a browser.", "Choose another way.")
        content = text.encoded(visit.request.one("content"))
    wanted: Choice = choice  # type: ignore[assignment]  # it is one of them
    answer = await visit.engine.resolve_conflict(visit.caller, conflict_id, wanted, content=content)
    if answer.rollback_id is None:
        return see(visit.at("runs", answer.run_id or "", said="settled"))
    return see(visit.at("rollbacks", answer.rollback_id, said="settled"))


async def download(visit: Visit, conflict_id: str, which: str) -> Response:
    """One version, byte for byte."""
    await _item(visit, conflict_id)
    content = (await visit.engine.conflict_versions(visit.caller, conflict_id)).get(which)
    if content is None:
        raise EngineError("not_found", "This version is not kept, or there was nothing.", "Look at the other versions.")
    return Response(
        content, kind="application/octet-stream", headers=(("content-disposition", f'attachment; filename="{which}"'),)
    )


async def _item(visit: Visit, conflict_id: str) -> OpenItemAnswer:
    for item in await visit.engine.open_items(visit.caller):
        if item.conflict_id == conflict_id and item.status == "open":
            return item
    raise EngineError("not_found", f"Nothing is open under {conflict_id}.", "It is settled, or was never there.")


def _to_edit(versions: Mapping[str, bytes | None]) -> texts.Written | None:
    """What a resolution starts from: what is there now."""
    return texts.editable(versions.get("theirs"))


def _side_by_side(visit: Visit, item: OpenItemAnswer, versions: Mapping[str, bytes | None]) -> Element:
    base = texts.described(versions.get("base"))
    return e(
        "div",
        [
            e(
                "section",
                e("h2", name),
                e("p", meaning, class_="hint"),
                _version(versions.get(which), None if which == "base" else base, f"{name}: {meaning}"),
                e("p", visit.link(f"Download this version ({which})", "open", item.conflict_id, "version", which))
                if versions.get(which) is not None
                else None,
            )
            for which, (name, meaning) in VERSIONS.items()
        ],
        class_="versions",
    )


def _version(content: bytes | None, base: str | None, label: str) -> Element:
    if content is None:
        return e("p", "There was nothing, or it is not kept.", class_="nothing")
    text = texts.described(content)
    changed = frozenset[int]() if base is None else texts.changed_lines(base, text)
    lines = [
        e("span", ("≠ " if number in changed else "  ") + line, class_="changed" if number in changed else None)
        for number, line in enumerate(text.split("\n"))
    ]
    return e("pre", lines, tabindex="0", role="region", aria_label=f"{label}; lines marked ≠ differ from the agent's")


def _choices(visit: Visit, item: OpenItemAnswer, versions: Mapping[str, bytes | None]) -> Node:
    place = ("open", item.conflict_id, "resolve")

    def choice(value: str, words: str, meaning: str) -> Element:
        return e("li", visit.form(place, e("button", words), e("p", meaning), hidden={"choice": value}))

    found = [choice("theirs", "Leave it as it is now", "Nothing is changed, and this is settled.")]
    if item.kind in ("conflict", "failed"):
        found += [
            choice(
                "ours",
                "Put the earlier version back",
                "What is there now is kept as a version first, so that this can be taken back too.",
            ),
            choice("beside", "Save the earlier version beside it", "Both are then there, under two names."),
        ]
    text = _to_edit(versions) if item.kind == "conflict" else None
    if text is not None:
        found.append(
            e(
                "li",
                visit.form(
                    place,
                    e("label", "Or write what shall stand there:", for_="content"),
                    # a browser drops the first line break after the tag
                    e("textarea", Exact("\n" + text.text), name="content", id="content", rows="12", spellcheck="false"),
                    e("button", "Write this"),
                    hidden={"choice": "content"},
                ),
            )
        )
    return e("ul", found, class_="options")


async def _doubt(visit: Visit, item: OpenItemAnswer) -> Node:
    """A doubt is settled by a look or, where nobody can look, by what a person knows."""
    place = ("open", item.conflict_id, "resolve")
    action = await visit.engine.core.journal.get(ActionView, item.action_id)
    if action is not None and all(effect.after.kind == "opaque" for effect in action.effects):
        return e(
            "ul",
            e("li", visit.form(place, e("button", "It happened"), hidden={"choice": "theirs"})),
            e("li", visit.form(place, e("button", "It did not happen"), hidden={"choice": "ours"})),
            class_="options",
        )
    words = "The server looks at what is there and notes it. If the act took effect, it can then be taken back like any other."
    return e(
        "ul",
        e("li", visit.form(place, e("button", "Settle by what is there"), e("p", words), hidden={"choice": "theirs"})),
        class_="options",
    )
