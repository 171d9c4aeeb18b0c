"""A connection that breaks in the middle: either nothing happened, or nobody knows, and repeating the same act settles it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from tests.tools.email.imap.boxes import Box, message_id
from tests.tools.email.imap.proxy import Proxy
from tests.tools.email.imap.test_store import keys_of

from takeback.tools.email.imap.store import ImapStore
from takeback.tools.email.port import Change, Made, Moved
from takeback.tools.system import TargetError, Unavailable

LACKING = {
    "all": frozenset[bytes](),
    "no condstore": frozenset({b"CONDSTORE", b"QRESYNC"}),
    "no move": frozenset({b"MOVE"}),
    "no uidplus": frozenset({b"UIDPLUS"}),
    "nothing": frozenset({b"CONDSTORE", b"QRESYNC", b"MOVE", b"UIDPLUS", b"SPECIAL-USE", b"LIST-STATUS", b"NAMESPACE"}),
}


@pytest.fixture
def box(request: pytest.FixtureRequest) -> Box:
    """Dovecot, without what `proxy` hides; or pymap as it is."""
    on_pymap = request.node.callspec.params["proxy"] == "pymap"
    found = request.getfixturevalue("pymap_box" if on_pymap else "dovecot_box")
    assert isinstance(found, Box)
    return found


@pytest.fixture(params=[*LACKING])
def proxy(request: pytest.FixtureRequest, box: Box) -> Iterator[Proxy]:
    proxy = Proxy(box.server.port, hide=LACKING.get(request.param, frozenset()))
    box.port = proxy.port
    yield proxy
    proxy.close()


async def changes_of(store: ImapStore) -> list[Change]:
    """Three messages flagged and moved, and a draft."""
    keys = list((await keys_of(store)).values())[:3]
    content = b"Subject: Draft\r\nMessage-ID: <d@example.org>\r\n\r\nx\r\n"
    fresh, placement = store.fresh(content, "", "Drafts", ["draft"], "seed")
    made = [Change(fresh, None, placement, content)]
    for key, now in zip(keys, await store.look(keys), strict=True):
        assert now is not None
        made.append(Change(key, now, store.moved(store.marked(now, add=["draft"], remove=["flagged"]), "Archive")))
    return made


def lying(box: Box) -> object:
    """What lies where, but for what waits to be expunged."""
    return {each: count for each, count in box.tree().items() if "\\Deleted" not in each[1]}


@pytest.mark.parametrize(
    ("proxy", "side"),
    [("all", "before"), *((lacking, "after") for lacking in LACKING), ("pymap", "before"), ("pymap", "after")],
    indirect=["proxy"],
)
async def test_repeating_settles_what_was_cut_at_any_command(box: Box, proxy: Proxy, side: str, tmp_path: Path) -> None:
    before = lying(box)
    for at in range(1, 50):
        store = box.store(tmp_path / str(at))
        changes = await changes_of(store)
        count = 0

        def cut(command: str, at: int = at) -> str:
            nonlocal count
            count += 1
            return side if count == at else ""

        proxy.cut = cut  # type: ignore[assignment] -- its words are those of Cut
        try:
            first = await store.change(changes)
        except TargetError as error:
            assert not isinstance(error, Unavailable)
            assert error.code == "half_done"
        else:
            assert count < at, "a lost answer is never told as done"
            assert isinstance(first, Made)
        proxy.cut = lambda command: ""
        await store.close()
        # another process finds out
        store = box.store(tmp_path / str(at))
        assert isinstance(await store.change(changes), Made)
        assert await store.look([change.key for change in changes]) == [change.after for change in changes]
        assert sum(b"<d@example.org>" in each[3] for each in lying(box)) == 1  # type: ignore[attr-defined] -- a dict
        back = await store.change([Change(c.key, c.after, c.before, c.content) for c in changes])
        assert isinstance(back, Made)
        assert lying(box) == before
        await store.close()
        if count < at:
            assert at > 3
            return
    pytest.fail("it never came to its end")


async def test_a_connection_that_was_lost_while_nothing_happened_is_made_anew(
    box: Box, proxy: Proxy, tmp_path: Path
) -> None:
    store = box.store(tmp_path)
    keys = await keys_of(store)
    proxy.drop()
    assert await keys_of(store) == keys
    [now] = await store.look([keys[message_id(1)]])
    assert now is not None
    proxy.drop()
    answer = await store.change([Change(keys[message_id(1)], now, store.moved(now, "Trash"))])
    assert isinstance(answer, Made)
    lacking = {each for each in ("CONDSTORE", "MOVE", "UIDPLUS") if each.encode() in proxy.hide}
    assert any("one step" in each for each in answer.warnings) == ("MOVE" in lacking)
    assert any("expunges" in each for each in answer.warnings) == (lacking >= {"MOVE", "UIDPLUS"})
    await store.close()


@pytest.mark.parametrize("proxy", [*LACKING], indirect=True)
@pytest.mark.parametrize("act", ["flag", "move"])
async def test_somebody_who_is_faster_by_a_moment_keeps_what_they_did(
    box: Box, proxy: Proxy, act: str, tmp_path: Path
) -> None:
    """Between the look and the command: another program flags the messages."""
    store = box.store(tmp_path)
    keys = list((await keys_of(store)).values())
    now = [place for place in await store.look(keys) if place is not None]
    goals = [store.marked(p, add=["passed"]) if act == "flag" else store.moved(p, "Archive") for p in now]
    theirs: list[object] = []

    def meddle(command: str) -> Literal[""]:
        if not theirs and command in ("STORE", "MOVE", "COPY"):
            box.flag("INBOX", "", "\\Draft")
            theirs.append(lying(box))
        return ""

    proxy.cut = meddle
    changes = [Change(key, p, goal) for key, p, goal in zip(keys, now, goals, strict=True)]
    assert isinstance(await store.change(changes), Moved)
    assert lying(box) == theirs[0]
    assert {place.folder for place in await store.look(keys) if place is not None} == {"INBOX"}
    await store.close()


@pytest.mark.parametrize("proxy", ["no move"], indirect=True)
async def test_what_others_have_marked_as_deleted_stays_so_when_a_move_is_called_off(
    box: Box, proxy: Proxy, tmp_path: Path
) -> None:
    box.flag("INBOX", "", "\\Deleted")
    store = box.store(tmp_path)
    keys = list((await keys_of(store)).values())
    now = [place for place in await store.look(keys) if place is not None]
    theirs: list[object] = []

    def meddle(command: str) -> Literal[""]:
        if not theirs and command == "COPY":
            box.flag("INBOX", "", "\\Draft")
            theirs.append(box.tree())
        return ""

    proxy.cut = meddle
    changes = [Change(key, p, store.moved(p, "Archive")) for key, p in zip(keys, now, strict=True)]
    assert isinstance(await store.change(changes), Moved)
    assert box.tree() == theirs[0]
    await store.close()
