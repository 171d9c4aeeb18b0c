"""The store on real servers: what it sees, what it changes, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

from tests.tools.email.imap.boxes import ODD, Box, message_id

from takeback.tools.email.imap.store import ImapStore
from takeback.tools.email.port import Change, Made, Moved, Wanted


async def keys_of(store: ImapStore, folder: str = "INBOX") -> dict[str, str]:
    """Keys by Message-ID."""
    from takeback.tools.email.reading import head_of

    found = await store.listed(folder)
    heads = await store.head([each.key for each in found], 4096)
    return {head_of(head or b"").message_id: each.key for each, head in zip(found, heads, strict=True)}


async def test_looking_marks_nothing_as_seen_and_finds_folders_of_any_name(store: ImapStore, box: Box) -> None:
    before = box.tree()
    assert {each.name for each in await store.folders()} == {"INBOX", "Sent", "Trash", "Drafts", "Archive", ODD}
    keys = await keys_of(store)
    assert await store.raw(keys[message_id(1)], 10_000) is not None
    found = await store.search(None, Wanted(sender="anna", query="hello number 3"))
    assert [each.folder for each in found.found] == ["Archive"]
    assert [p.folder if p else None for p in await store.look([*keys.values()])] == ["INBOX"] * len(keys)
    assert box.tree() == before


async def test_moves_flags_and_back_are_exact_under_the_same_key(store: ImapStore, box: Box) -> None:
    before = box.tree()
    keys = [*(await keys_of(store)).values()]
    now = [p for p in await store.look(keys) if p is not None]
    goals = [
        store.marked(store.moved(p, ODD if n % 2 else "Trash"), add=["flagged"], remove=["seen"])
        for n, p in enumerate(now)
    ]
    there = [Change(key, p, goal) for key, p, goal in zip(keys, now, goals, strict=True)]
    made = await store.change(there)
    assert isinstance(made, Made)
    assert made.keys != tuple(keys), "the server numbers them anew"
    assert await store.look(keys) == goals
    acted = box.tree()
    assert acted != before
    assert sorted((await keys_of(store, ODD)).values()) == sorted(keys[1::2]), (
        "and they are listed under their old keys"
    )
    again = await store.change(there)
    assert isinstance(again, Made)
    assert again.already
    back = await store.change([Change(change.key, change.after, change.before) for change in there])
    assert isinstance(back, Made)
    assert box.tree() == before
    assert (box.server.kind == "dovecot") != any("on condition" in each for each in made.warnings)


async def test_a_draft_comes_goes_and_comes_again(store: ImapStore, box: Box, tmp_path: Path) -> None:
    before = box.tree()
    content = b"Subject: Draft\r\nMessage-ID: <d@example.org>\r\n\r\nx\r\n"
    key, placement = store.fresh(content, "", "Drafts", ["draft", "seen"], "seed")
    for _ in range(2):
        assert isinstance(await store.change([Change(key, None, placement, content)]), Made)
        assert await store.look([key]) == [placement]
        assert isinstance(await store.change([Change(key, placement, None)]), Made)
        assert await store.look([key]) == [None]
        assert box.tree() == before


async def test_what_the_person_did_first_wins_and_all_of_it_stays(store: ImapStore, box: Box) -> None:
    keys = await keys_of(store)
    changes = []
    for key in keys.values():
        [now] = await store.look([key])
        assert now is not None
        changes.append(Change(key, now, store.moved(store.marked(now, add=["draft"]), "Trash")))
    box.flag("INBOX", message_id(2), "\\Flagged", "-")
    box.flag("INBOX", message_id(2), "\\Answered")
    theirs = box.tree()
    answer = await store.change(changes)
    assert isinstance(answer, Moved)
    assert box.tree() == theirs


async def test_what_the_person_moved_is_found_where_they_put_it(store: ImapStore, box: Box) -> None:
    key = (await keys_of(store))[message_id(1)]
    [before] = await store.look([key])
    assert before is not None
    flagged = store.marked(before, add=["flagged"])
    assert isinstance(await store.change([Change(key, before, flagged)]), Made)
    box.move("INBOX", message_id(1), ODD)
    box.flag(ODD, message_id(1), "\\Draft")
    [now] = await store.look([key])
    assert now is not None
    assert now.folder == ODD
    goal = store.merged(flagged, before, now)
    assert not isinstance(goal, str)
    assert isinstance(await store.change([Change(key, now, goal)]), Made)
    [(folder, flags, _, _)] = [each for each in box.tree() if b"<m1@example.org>" in each[3]]
    assert folder == ODD
    assert set(flags) == {"\\Seen", "\\Draft"}
    box.destroy(ODD, message_id(1))
    assert await store.look([key]) == [None]


async def test_a_copy_that_was_there_before_is_never_taken_for_the_message(store: ImapStore, box: Box) -> None:
    box.copy("INBOX", message_id(1), "Archive")
    key = (await keys_of(store))[message_id(1)]
    [before] = await store.look([key])
    assert before is not None
    assert isinstance(await store.change([Change(key, before, store.marked(before, add=["flagged"]))]), Made)
    box.destroy("INBOX", message_id(1))
    box.put(9, "Archive")
    assert await store.look([key]) == [None]


async def test_a_folder_that_was_made_anew_keeps_its_messages_known(store: ImapStore, box: Box) -> None:
    before = box.tree()
    key = (await keys_of(store, "Archive"))[message_id(3)]
    [now] = await store.look([key])
    assert now is not None
    moved = store.moved(now, ODD)
    assert isinstance(await store.change([Change(key, now, moved)]), Made)
    box.made_anew(ODD)
    assert await store.look([key]) == [moved]
    assert isinstance(await store.change([Change(key, moved, now)]), Made)
    assert box.tree() == before
