"""How long mail is kept: bodies and rows go with their acts, when undo is not promised any more or a person has them erased."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import cast

import pytest
from tests.server.engine.bench import ALICE, OpenBench
from tests.server.engine.postoffice import PAPER, Post

from takeback.checkpoints.retention import Collected, collect
from takeback.checkpoints.store import FileObjectStore
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView

BODY, SUBJECT = "the body that nobody keeps", "the subject that nobody keeps"


@pytest.fixture
async def post(open_bench: OpenBench) -> Post:
    return Post(await open_bench(**PAPER))


async def tidied(post: Post, *, days: float = 0) -> Collected:
    """Collect, so many days later."""
    core = post.core
    post.later(days * 86_400 + 1)
    return await collect(
        core.journal,
        cast("FileObjectStore", core.objects),
        tuple(core.systems.values()),
        now=core.now() + timedelta(days=days),
        keep_days=core.settings.limits.keep_days,
        grace_seconds=0,
    )


async def sent(post: Post, run: str, id: str) -> None:
    await post.send()


async def cancelled(post: Post, run: str, id: str) -> None:
    await post.engine.desk.cancel(ALICE, id)


async def erased(post: Post, run: str) -> None:
    """Have all be erased that the journal says of a run."""
    positions = [recorded.position for recorded in await post.core.journal.read(RunId(run))]
    await post.core.journal.erase(positions, by="alice", why="asked for", at=post.core.now())


def left_behind(post: Post) -> str:
    """What of the words can still be found in the outbox's own files."""
    files = sorted(post.core.outbox.folder.glob("outbox.db*"))
    found = b"".join(file.read_bytes() for file in files)
    return ", ".join(words for words in (BODY, SUBJECT, "bob@example.org") if words.encode() in found)


@pytest.mark.parametrize("end", [sent, cancelled])
async def test_a_message_is_kept_as_long_as_its_act_can_be_taken_back_and_then_only_the_journal_tells_of_it(
    post: Post, end: Callable[[Post, str, str], Awaitable[None]]
):
    run = await post.bench.start()
    id = await post.hold(run, subject=SUBJECT, body=BODY)
    await end(post, run, id)
    await post.engine.finish_run(ALICE, run)
    await tidied(post)
    message = (await post.row(id)).message
    if end is sent:
        assert BODY.encode() in await post.core.objects.get(message.content)
    await tidied(post, days=post.core.settings.limits.keep_days + 1)
    assert await post.core.outbox.get(id) is None
    assert not await post.core.objects.has(message.content)
    assert left_behind(post) == ""
    [action] = await post.core.journal.find(ActionView, run_id=RunId(run))
    told = str(action.effects[0].after.ref["message"])
    assert message.reference in told  # the Message-ID
    assert action.effects[0].after.content == message.content  # the digest of the bytes
    assert (await post.core.journal.verify()).sound


@pytest.mark.parametrize("end", [sent, cancelled])
async def test_what_a_person_has_erased_goes_from_the_outbox_too(
    post: Post, end: Callable[[Post, str, str], Awaitable[None]]
):
    run = await post.bench.start()
    id = await post.hold(run, subject=SUBJECT, body=BODY)
    await end(post, run, id)
    content = (await post.row(id)).message.content
    await post.engine.finish_run(ALICE, run)
    await erased(post, run)
    await tidied(post)
    assert await post.core.outbox.get(id) is None
    assert not await post.core.objects.has(content)
    assert left_behind(post) == ""
    assert (await post.core.journal.verify()).sound


async def test_what_still_waits_is_not_forgotten_whatever_was_erased(post: Post):
    run = await post.bench.start()
    id = await post.hold(run, subject=SUBJECT, body=BODY)
    await post.engine.finish_run(ALICE, run)
    await erased(post, run)
    await tidied(post, days=post.core.settings.limits.keep_days + 1)
    assert (await post.row(id)).status == "HELD"
    await post.engine.desk.cancel(ALICE, id)
    await tidied(post)
    assert await post.core.outbox.get(id) is None
