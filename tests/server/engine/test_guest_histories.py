"""Random acts on an event with guests, taken back: each guest's calendar follows the organizer's by messages alone.

It says what the organizer's says, and what it said before once all is taken back and the corrections have gone out.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import SMTP as SMTP_POLICY
from typing import Any

import pytest
from tests.server.engine.guest_house import House, house

from takeback.tools.calendar.lines import Component, parse

__all__ = ["house"]

HISTORIES = int(os.environ.get("TAKEBACK_GUEST_HISTORIES", "3"))
PEOPLE = ["ada@example.org", "bob@example.com", "cy@example.net"]
STARTS = [f"2027-03-{day:02}T10:00" for day in (1, 8, 15, 22, 29)]
View = dict[str, tuple[Any, ...]]


def value(event: Component, name: str) -> str:
    found = event.line(name)
    return "" if found is None else found.value


def invited(event: Component, guest: str) -> bool:
    return any(each.value == f"mailto:{guest}" for each in event.lines("ATTENDEE"))


def said(event: Component) -> tuple[str, ...]:
    return tuple(value(event, name) for name in ("SUMMARY", "LOCATION", "DTSTART", "RRULE"))


@dataclass
class Kept:
    """One event in somebody's calendar."""

    master: Component | None = None
    overrides: dict[str, Component] = field(default_factory=dict[str, Component])
    gone: set[str] = field(default_factory=set[str])
    sequence: int = -1

    def view(self) -> tuple[Any, ...]:
        left_out = {
            each for line in (self.master.lines("EXDATE") if self.master else ()) for each in line.value.split(",")
        }
        return (
            None if self.master is None else said(self.master),
            frozenset(left_out | self.gone if self.master else ()),
            frozenset((key, *said(event)) for key, event in self.overrides.items()),
        )


class Guest:
    """A guest's calendar program."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.kept: dict[str, Kept] = {}

    def hear(self, content: bytes) -> None:
        part = list(message_from_bytes(content, policy=SMTP_POLICY).iter_parts())[1]
        calendar = parse(part.get_payload(decode=True))
        events = calendar.parts("VEVENT")
        kept = self.kept.setdefault(value(events[0], "UID"), Kept())
        number = max(int(value(event, "SEQUENCE")) for event in events)
        whole = next((event for event in events if not value(event, "RECURRENCE-ID")), None)
        if whole is not None:
            assert number > kept.sequence, "or it would be taken for old"
            kept.sequence = number
        if value(calendar, "METHOD") == "CANCEL":
            if whole is not None:
                kept.master, kept.overrides, kept.gone = None, {}, set()
            for event in events:
                if key := value(event, "RECURRENCE-ID"):
                    kept.overrides.pop(key, None)
                    kept.gone.add(key)
            return
        if whole is not None:
            kept.master, kept.overrides, kept.gone = whole, {}, set()
        for event in events:
            if key := value(event, "RECURRENCE-ID"):
                if invited(event, self.address):
                    kept.overrides[key] = event
                    kept.gone.discard(key)
                else:
                    kept.gone.add(key)

    def view(self) -> View:
        return {uid: kept.view() for uid, kept in self.kept.items() if kept.master is not None or kept.overrides}


def organizers_view(house: House, guest: str) -> View:
    """What the guest's calendar has to say."""
    found: View = {}
    for data in house.contents().values():
        events = parse(data).parts("VEVENT")
        master = next((event for event in events if not value(event, "RECURRENCE-ID") and invited(event, guest)), None)
        kept = Kept(master)
        for event in events:
            if key := value(event, "RECURRENCE-ID"):
                if invited(event, guest):
                    kept.overrides[key] = event
                elif master is not None:
                    kept.gone.add(key)
        if master is not None or kept.overrides:
            found[value(events[0], "UID")] = kept.view()
    return found


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_guests_calendars_follow_the_organizers_there_and_back(house: House, seed: int):
    rng = random.Random(seed)
    guests = [Guest(each) for each in PEOPLE]

    async def deliver(*, corrections: bool = False) -> None:
        known = len(house.sink.taken)
        await (house.agree() if corrections else house.send())
        # what is agreed to may arrive in any order; a guest's program goes by the numbers
        arrived = house.sink.taken[known:]
        for recipients, content in sorted(arrived, key=lambda each: _number(each[1])) if corrections else arrived:
            for guest in guests:
                if guest.address in recipients:
                    guest.hear(content)

    def compare(why: str) -> None:
        for guest in guests:
            assert guest.view() == organizers_view(house, guest.address), (seed, why, guest.address)

    first = await house.bench.start()
    made = await house.act(
        "create", first, summary="Review", start="2027-03-01T10:00", end="2027-03-01T11:00",
        recurrence="FREQ=WEEKLY;COUNT=5", attendees=PEOPLE[:2],
    )  # fmt: skip
    await deliver()
    compare("invited")
    before = house.contents()
    views = [guest.view() for guest in guests]
    run = await house.bench.start()
    told = False
    for count in range(rng.randint(1, 4)):
        tool, arguments = _act(rng, count)
        answer = await house.bench.call(f"{tool}_event", run, calendar="work", event_id=made["event_id"], **arguments)
        assert answer.status in ("held", "applied", "failed"), answer
        house.wall += 0.001  # no two acts are of the same instant
        if answer.status == "failed":
            assert answer.error is not None
            assert answer.error.code in ("invalid", "not_found"), answer.error
        if rng.random() < 0.6:
            known = len(house.sink.taken)
            await deliver()
            told = told or len(house.sink.taken) > known
            compare(f"after {tool} {arguments}")
    back = await house.bench.back(run_id=run)
    assert {step.outcome for step in back.steps} <= {"restored", "irreversible", "merged"}, back.report
    if not told:
        assert house.contents() == before
    plain = [
        {name: re.sub(rb"SEQUENCE:\d+", b"", data) for name, data in each.items()}
        for each in (house.contents(), before)
    ]
    assert plain[0] == plain[1]
    await deliver(corrections=True)
    compare("put right")
    assert [guest.view() for guest in guests] == views
    assert await house.items() == []


def _number(content: bytes) -> int:
    part = list(message_from_bytes(content, policy=SMTP_POLICY).iter_parts())[1]
    return max(int(value(event, "SEQUENCE")) for event in parse(part.get_payload(decode=True)).parts("VEVENT"))


def _act(rng: random.Random, count: int) -> tuple[str, dict[str, Any]]:
    where: dict[str, Any] = rng.choice(
        [{}, {"occurrence": rng.choice(STARTS)}, {"occurrence": rng.choice(STARTS[1:]), "range": "following"}]
    )
    if rng.random() < 0.3:
        return "delete", where
    change: dict[str, Any] = rng.choice(
        [
            {"summary": f"Summary {count}"},
            {"location": f"Room {count}"},
            {"attendees": rng.sample(PEOPLE, rng.randint(1, 3))},
            {"summary": f"Both {count}", "attendees": rng.sample(PEOPLE, rng.randint(1, 3))},
        ]
    )
    return "update", {**where, **change}
