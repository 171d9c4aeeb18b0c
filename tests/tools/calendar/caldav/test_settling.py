"""After a crash on a server that spells events in its own way: what is there is ours, somebody's, or a person's to say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.tools.calendar.caldav.odd_server import OddServer, answer
from tests.tools.calendar.caldav.samples import event

from takeback.journal.states import Effect
from takeback.tools.calendar.caldav.store import CaldavStore
from takeback.tools.calendar.system import CalendarSystem
from takeback.tools.conformance import kit_services
from takeback.tools.system import Drifted, Swapped, TargetError

BEFORE, MEANT = event("a", "Old", "X-OURS:1"), event("a", "New", "X-OURS:1")
SPELLED = MEANT.replace(b"SUMMARY:New\r\n", b"").replace(b"UID:a", b"SUMMARY:Ne\r\n w\r\nUID:a")
"""The same in another order and folding."""


@pytest.fixture
async def system(odd: OddServer, tmp_path: Path) -> AsyncIterator[CalendarSystem]:
    def store() -> CaldavStore:
        return CaldavStore(odd.url, "anna", "secret-word")

    opened = CalendarSystem({"work": store}, kit_services(tmp_path).objects)
    yield opened
    await opened.close()


async def effect_of(system: CalendarSystem) -> Effect:
    states = []
    for data in (BEFORE, MEANT):
        state, blobs = await system.image(data)
        await system.objects.put_blobs(blobs)
        states.append(state)
    return Effect(system="calendar", object="work//a.ics", before=states[0], after=states[1])


async def settled(odd: OddServer, system: CalendarSystem, there: bytes) -> Swapped | Drifted:
    odd.says("GET", answer(200, there, ETag='"7"'))
    found = await system.swap([await effect_of(system)])
    assert "PUT" not in odd.methods(), "it was there already, or is somebody's"
    return found


async def test_what_means_the_same_is_ours_as_the_server_left_it(odd: OddServer, system: CalendarSystem) -> None:
    found = await settled(odd, system, SPELLED)
    assert isinstance(found, Swapped) and found.already
    assert await system.bytes_of(found.effects[0].after) == SPELLED


async def test_what_means_something_else_is_somebodys(odd: OddServer, system: CalendarSystem) -> None:
    found = await settled(odd, system, SPELLED.replace(b"20261201T093000Z", b"20261201T100000Z"))
    assert isinstance(found, Drifted)


@pytest.mark.parametrize(
    ("ours", "there"),
    [
        (b"X-OURS:1", b"X-OURS:1\r\nX-NEW:2"),
        (b"X-OURS:1", b"X-OURS:2"),
        (b"X-OURS:1\r\n", b""),
        (b"X-OURS:1", b"X-OURS;A=b:1"),
    ],
    ids=["one more", "another value", "one less", "another parameter"],
)
async def test_other_extensions_may_be_the_servers_or_somebodys_and_are_a_persons_to_say(
    odd: OddServer, system: CalendarSystem, ours: bytes, there: bytes
) -> None:
    with pytest.raises(TargetError, match="X- properties") as raised:
        await settled(odd, system, SPELLED.replace(ours, there))
    assert "Look at the event" in raised.value.advice
    assert "PUT" not in odd.methods()


async def test_a_step_of_a_plan_goes_on_from_how_the_server_left_the_one_before(
    odd: OddServer, system: CalendarSystem
) -> None:
    first = await effect_of(system)
    odd.says("GET", answer(200, BEFORE, ETag='"1"'), answer(200, SPELLED, ETag='"2"'))
    odd.says("PUT", answer(204, ETag='"2"'))
    made = await system.swap([first])
    assert isinstance(made, Swapped) and made.effects[0].after.digest != first.after.digest
    back = first.model_copy(
        update={"before": first.after, "after": first.before}
    )  # as planned, before anything was written
    odd.says("GET", answer(304), answer(200, BEFORE, ETag='"3"'))
    undone = await system.swap([back])
    assert isinstance(undone, Swapped) and undone.effects[0].after.same(first.before)
    assert await system.bytes_of(undone.effects[0].before) == SPELLED
