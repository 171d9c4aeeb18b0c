"""Random calendars, random acts of an agent on them, and what somebody else does meanwhile with another program."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote

import httpx2
from tests.server.engine.bench import ALICE, Bench
from tests.tools.calendar.caldav.conftest import Radicale

from takeback.journal.events import Caller
from takeback.server.engine.calls import Call

BEGIN, END = "2026-01-01", "2027-06-01"

WEEKLY = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Somebody//Else//EN
X-WR-CALNAME:Work
BEGIN:VEVENT
UID:weekly
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:20260302T100000
DURATION:PT30M
RRULE:FREQ=WEEKLY;COUNT=12
EXDATE;TZID=Europe/Berlin:20260316T100000
SUMMARY:Stand-up with a line that is long enough to have been folded by whoever
  wrote it
X-Unknown;X-PARAM="a;b":kept
ORGANIZER;CN=Ada:mailto:ada@example.com
ATTENDEE;PARTSTAT=ACCEPTED;CN="Byron, Ada":mailto:ada@example.com
ATTENDEE;PARTSTAT=NEEDS-ACTION:mailto:guest@example.com
BEGIN:VALARM
ACTION:DISPLAY
TRIGGER:-PT10M
DESCRIPTION:soon
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:weekly
DTSTAMP:20260101T000000Z
RECURRENCE-ID;TZID=Europe/Berlin:20260406T100000
DTSTART;TZID=Europe/Berlin:20260406T140000
DTEND;TZID=Europe/Berlin:20260406T143000
SUMMARY:Afternoon
END:VEVENT
END:VCALENDAR
"""
YEARLY = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Somebody//Else//EN
BEGIN:VEVENT
UID:yearly
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20260305
RRULE:FREQ=MONTHLY;BYMONTHDAY=5;UNTIL=20261231
RDATE;VALUE=DATE:20260520,20260920
SUMMARY:Rent
ATTENDEE:mailto:guest@example.com
CATEGORIES:HOME,MONEY
END:VEVENT
END:VCALENDAR
"""
FLOATING = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Somebody//Else//EN
BEGIN:VEVENT
UID:floating
DTSTAMP:20260101T000000Z
DTSTART:20260401T070000
DTEND:20260401T073000
RRULE:FREQ=DAILY;INTERVAL=3
SUMMARY:Pills\\, two
ATTENDEE:mailto:guest@example.com
END:VEVENT
END:VCALENDAR
"""
SINGLE = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Somebody//Else//EN
BEGIN:VTIMEZONE
TZID:Office
BEGIN:STANDARD
DTSTART:19700101T000000
TZOFFSETFROM:+0100
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:single
DTSTAMP:20260101T000000Z
DTSTART;TZID=Office:20260410T120000
DTEND;TZID=Office:20260410T130000
SUMMARY:Lunch
LOCATION:There
ATTENDEE;PARTSTAT=TENTATIVE:mailto:guest@example.com
END:VEVENT
END:VCALENDAR
"""


class World(Protocol):
    """A calendar, looked at and changed past takeback."""

    def whole(self) -> dict[str, tuple[bytes, str]]:
        """Names, bytes, and ETags if there are any."""
        ...

    def put(self, name: str, data: bytes) -> None: ...

    def remove(self, name: str) -> None: ...


class Folder:
    """A vdir."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def whole(self) -> dict[str, tuple[bytes, str]]:
        return {each.name: (each.read_bytes(), "") for each in sorted(self.path.iterdir())}

    def put(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)

    def remove(self, name: str) -> None:
        (self.path / name).unlink()


class Collection:
    """A calendar on a server."""

    def __init__(self, there: Radicale) -> None:
        self._url = there.url
        self._client = httpx2.Client(auth=(there.user.encode(), there.password.encode()), trust_env=False)

    def whole(self) -> dict[str, tuple[bytes, str]]:
        listed = self._client.request("PROPFIND", self._url, headers={"Depth": "1"})
        hrefs = re.findall(r"<href>([^<]*)</href>", listed.text)
        names = sorted({unquote(each.rpartition("/")[2]) for each in hrefs} - {""})
        answers = {name: self._client.get(self._url + quote(name)) for name in names}
        assert all(each.status_code == 200 for each in answers.values())
        return {name: (each.content, each.headers["etag"]) for name, each in answers.items()}

    def put(self, name: str, data: bytes) -> None:
        answer = self._client.put(self._url + quote(name), content=data)
        assert answer.status_code in (201, 204), (answer.status_code, answer.text, data)

    def remove(self, name: str) -> None:
        assert self._client.delete(self._url + quote(name)).status_code in (200, 204)

    def close(self) -> None:
        self._client.close()


def plant(world: World, chance: random.Random) -> None:
    """Other events than before."""
    for name in world.whole():
        world.remove(name)
    for name, text in (("weekly", WEEKLY), ("yearly", YEARLY), ("floating", FLOATING), ("single", SINGLE)):
        if chance.random() < 0.7 or name == "weekly":
            world.put(f"{name}.ics", text.replace("\n", chance.choice(("\n", "\r\n"))).encode())


async def act(bench: Bench, run: str, chance: random.Random) -> Any:
    """One random call; refusals are fine, lies are not."""
    # a caller who has not seen anything yet is not refused for having seen something else
    caller = Caller(principal=ALICE.principal, client=str(chance.random()))
    answer = await bench.engine.read(
        Call(
            tool="list_events",
            arguments={"calendar": "work", "start": BEGIN, "end": END, "limit": 500},
            caller=caller,
            run_id=None,
        )
    )
    assert answer.result, answer
    listed: Any = answer.result["events"]
    if chance.random() < 0.25 or not listed:
        return await bench.call("create_event", run, caller=caller, calendar="work", **_new(chance))
    event = chance.choice(listed)
    if chance.random() < 0.6:  # the earlier ones, so that acts meet
        event = next(each for each in listed if each["event_id"] == event["event_id"])
    span = chance.choice(("this", "this", "following", "all")) if event["occurrence"] else "all"
    more = {} if span == "all" else {"occurrence": event["occurrence"], "range": span}
    named = {"calendar": "work", "event_id": event["event_id"], **more}
    if chance.random() < 0.3:
        return await bench.call("delete_event", run, caller=caller, **named)
    return await bench.call("update_event", run, caller=caller, **named, **_changed(chance, event, span))


def _new(chance: random.Random) -> dict[str, Any]:
    day = f"2026-0{chance.randrange(3, 9)}-{chance.randrange(1, 28):02}"
    made: dict[str, Any] = {"summary": f"New {chance.randrange(10**6)}", "start": day, "end": "2026-09-01"}
    if chance.random() < 0.7:
        zone = chance.choice(("Europe/Berlin", "America/New_York", "floating"))
        made |= {"start": f"{day}T10:00", "end": f"{day}T11:00", "timezone": zone}
    if chance.random() < 0.6:
        made |= {"recurrence": chance.choice(("FREQ=DAILY;COUNT=5", "FREQ=WEEKLY", "FREQ=MONTHLY;UNTIL=20261101"))}
        made["end"] = made["end"] if "T" in day or "T" in made["start"] else f"{day[:8]}28"
    if chance.random() < 0.3:
        made |= {"attendees": ["guest@example.com", "eve@example.com"], "location": "Room, 2; left"}
    return made


def _changed(chance: random.Random, event: dict[str, Any], span: str) -> dict[str, Any]:
    day, time = event["start"][:10], event["start"][10:]
    number = chance.randrange(10**6)
    later = f"{day}T{chance.randrange(10, 20)}:15:00" if time else day
    changes: list[dict[str, Any]] = [
        {"summary": f"Ours {number}"},
        {"location": chance.choice((f"Room {number}", ""))},
        {"description": f"a,b;c\nd\\ {number}" * chance.choice((1, 30))},
        {"attendees": chance.choice((["guest@example.com"], ["eve@example.com", "ada@example.com"], []))},
        {"start": later + ("Z" if time.endswith("Z") else "")},
        {"summary": f"Both {number}", "start": later + ("Z" if time.endswith("Z") else "")},
    ]
    if span != "this":
        changes.append({"recurrence": chance.choice(("FREQ=WEEKLY;COUNT=4", "FREQ=DAILY;INTERVAL=2", ""))})
    return chance.choice(changes)


# -- somebody else -----------------------------------------------------------------------------------------------------------


@dataclass
class Foreign:
    """What somebody else did, to be looked for afterwards."""

    touched: set[str] = field(default_factory=set[str])
    """Names of resources."""
    marks: set[bytes] = field(default_factory=set[bytes])
    """Stand in what they wrote."""
    removed: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Resource, and RECURRENCE-ID of what they took away; an empty one is the whole resource."""

    def lost(self, there: dict[str, tuple[bytes, str]], now: dict[str, tuple[bytes, str]]) -> list[str]:
        """What was there of it, and is not any more."""
        before, after = (b"".join(_unfolded(data) for data, _ in side.values()) for side in (there, now))
        gone = [mark.decode() for mark in sorted(self.marks) if mark in before and mark not in after]
        back = [f"{each} is back" for each in sorted(self.removed) if not _holds(there, each) and _holds(now, each)]
        return gone + back


def _unfolded(data: bytes) -> bytes:
    return re.sub(rb"\r?\n[ \t]", b"", data)


def _holds(side: dict[str, tuple[bytes, str]], removed: tuple[str, str]) -> bool:
    name, original = removed
    return name in side and (not original or any(original == _original(each) for each in _events(side[name][0])))


def _events(data: bytes) -> list[str]:
    return re.findall(r"BEGIN:VEVENT\r?\n.*?END:VEVENT\r?\n", _unfolded(data).decode(), re.DOTALL)


def _original(event: str) -> str:
    found = re.search(r"^RECURRENCE-ID[^:]*:(\S+)", event, re.MULTILINE)
    return found[1] if found else ""


def somebody_else(world: World, chance: random.Random, foreign: Foreign) -> None:
    """One edit with another program, which reads the file, changes what it means to, and writes it whole."""
    there = world.whole()
    if not there or chance.random() < 0.1:
        mark = f"theirs{chance.randrange(10**9)}"
        world.put(f"{mark}.ics", SINGLE.replace("UID:single", f"UID:{mark}").encode())
        foreign.touched.add(f"{mark}.ics")
        foreign.marks.add(mark.encode())
        return
    name = chance.choice(sorted(there))
    foreign.touched.add(name)
    if chance.random() < 0.1:
        world.remove(name)
        foreign.removed.add((name, ""))
        return
    text = _unfolded(there[name][0]).decode()
    edits: list[Callable[[str, str], str | None]] = [_another, _same, _answered, _override, _alarm, _left_out]
    mark = f"theirs{chance.randrange(10**9)}"
    if chance.random() < 0.15 and (removed := [_original(each) for each in _events(text.encode()) if _original(each)]):
        original = chance.choice(removed)
        event = next(each for each in _events(text.encode()) if _original(each) == original)
        text = text.replace(event, "")
        if "BEGIN:VEVENT" in text:
            world.put(name, text.encode())
            foreign.removed.add((name, original))
        return
    edited = chance.choice(edits)(text, mark)
    if edited is not None and edited != text:
        world.put(name, edited.encode())
        # what they wrote over themselves is theirs no more, though we may have copied it into an occurrence
        foreign.marks = {each for each in foreign.marks if text.count(each.decode()) <= edited.count(each.decode())}
        foreign.marks.add(mark.encode())


def _another(text: str, mark: str) -> str:
    return text.replace("END:VEVENT", f'X-THEIRS;X-P="a;b":{mark}\nEND:VEVENT', 1)


def _same(text: str, mark: str) -> str:
    return re.sub(r"^SUMMARY[^\r\n]*", f"SUMMARY:{mark}", text, count=1, flags=re.MULTILINE)


def _answered(text: str, mark: str) -> str:
    return re.sub(
        r"^ATTENDEE[^\r\n]*guest@example\.com",
        f"ATTENDEE;PARTSTAT=DECLINED;X-COMMENT={mark}:mailto:guest@example.com",
        text,
        count=1,
        flags=re.MULTILINE,
    )


def _override(text: str, mark: str) -> str | None:
    """The second occurrence by the rule, moved by hand, if it is not yet."""
    start = re.search(r"BEGIN:VEVENT\r?\n(?:(?!RECURRENCE-ID|END:VEVENT).)*?^(DTSTART([^:]*):(\S+))", text, re.M | re.S)
    uid = re.search(r"^UID:(\S+)", text, re.MULTILINE)
    if start is None or uid is None or "RRULE" not in text:
        return None
    day = f"{start[3][:6]}{int(start[3][6:8]) % 28 + 1:02}{start[3][8:]}"
    if f"RECURRENCE-ID{start[2]}:{day}" in text:
        return None
    more = f"BEGIN:VEVENT\nUID:{uid[1]}\nRECURRENCE-ID{start[2]}:{day}\nDTSTART{start[2]}:{day}\nSUMMARY:{mark}\nEND:VEVENT\n"
    return text.replace("END:VCALENDAR", f"{more}END:VCALENDAR")


def _alarm(text: str, mark: str) -> str:
    more = f"BEGIN:VALARM\nACTION:DISPLAY\nTRIGGER:-PT5M\nDESCRIPTION:{mark}\nEND:VALARM\nEND:VEVENT"
    return text.replace("END:VEVENT", more, 1)


def _left_out(text: str, mark: str) -> str:
    """Only counters, and a line of the calendar itself."""
    return text.replace("BEGIN:VEVENT", f"X-WR-CALDESC:{mark}\nBEGIN:VEVENT", 1)
