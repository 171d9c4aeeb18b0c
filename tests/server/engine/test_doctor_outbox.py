"""What the doctor says of the outbox."""

from __future__ import annotations

import os

import pytest
from tests.server.engine.bench import ALICE, OpenBench
from tests.server.engine.postoffice import PAPER, Post

from takeback.checkpoints.oslock import held
from takeback.server.cli.doctor import Report
from takeback.server.cli.doctor_outbox import examine_outbox
from takeback.server.engine.detached import lock_file


class Session:
    """As much of a session as the doctor's part asks for."""

    caller, config = ALICE, None

    def __init__(self, post: Post) -> None:
        self.settings = lambda: post.core.settings


@pytest.fixture
async def post(open_bench: OpenBench) -> Post:
    return Post(await open_bench(**PAPER))


async def examined(post: Post) -> tuple[dict[str, str], list[str]]:
    report = Report()
    await examine_outbox(Session(post), report, post.engine)  # type: ignore[arg-type]  # it has what is asked for
    return dict(report.facts["Outbox"]), [finding.fact for finding in report.findings]


async def test_it_tells_what_is_held_late_and_dead_and_whether_somebody_sends(post: Post):
    facts, findings = await examined(post)
    assert (facts["held"], facts["sender"], findings) == ("0", "not at work, and nothing to do", [])
    run = await post.bench.start()
    await post.hold(run)
    facts, findings = await examined(post)
    assert (facts["held"], findings) == ("1, the next until 2027-01-15T08:02:00.000Z", [])
    post.later(200)
    facts, [finding] = await examined(post)
    assert "1 held since 2027-01-15T08:02:00.000Z should have left, and no sender is at work" in finding
    file = lock_file(post.core.settings.data)
    file.parent.mkdir(exist_ok=True)
    with held(os.fspath(file), wait=False):
        facts, findings = await examined(post)
    assert (facts["sender"], findings) == ("at work", [])
    post.later(3700)
    await post.sender.round()
    post.carrier.mode = "refused"
    await post.hold(run)
    await post.send()
    facts, [late] = await examined(post)
    assert (facts["late"], facts["dead"], facts["held"]) == ("1", "1", "0")
    assert "the message to bob@example.org waits for you: it was due at" in late
    [item] = await post.open_items()  # and of the dead one the journal tells
    assert "could not be sent" in item.why
