"""Series of all kinds are counted as others count them, changed and deleted in each span, and taken back to the byte."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import pytest
import recurring_ical_events
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.calendar.other_peoples import Taken, events
from tests.tools.calendar.rfc5545 import EXAMPLES
from tests.tools.calendar.series import SERIES

from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings
from takeback.tools.calendar.lines import Component, Line, parse
from takeback.tools.calendar.repeating import Occurrence, Series, occurrences
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.calendar.when import start_of

BERLIN = ZoneInfo("Europe/Berlin")
EVERY = 1 if int(os.environ.get("TAKEBACK_CALENDAR_HISTORIES", "0")) >= 100 else 6
"""Of other people's events every so manieth goes through the tools (`make calendar-histories`: each)."""
EDGE = timedelta(days=2)
"""At the end of a span the two libraries cut differently."""
NOT_ALIKE = {
    "RSCALE=": "another calendar than ours, which neither counts",
    "UNTL=": "no rule",
    "INVALID": "no rule, or no date",
    "P999999999999999999W": "no duration",
    "DTSTART:083000": "no date",
    "DTSTART:133000Z": "no date",
    "DTSTART;TZID=America/New_York:083000": "no date",
    "RANGE=THISANDFUTURE": "they let an UNTIL that is a day end before that day",
    "DTEND;TZID=Europe/Berlin:20190304T080000": "it ends before it starts, and they turn it round",
    "DTEND;TZID=Europe/Paris:20231218T233000": "the same",
    "DTEND:20230817T000000Z": "it is a day, and ends at a time",
}
"""What stands in events on which we and the other library differ, and why."""


THEY_FAIL = {
    "windows": "a zone of Windows that the calendar does not define they take for UTC",
    "spring": "an occurrence left out at a time that no clock shows is counted by them",
    "rfc5545-37": "they leave out the one at that hour of UTC too",
    "rfc5545-38": "the same",
}


def span_of(data: bytes) -> tuple[datetime, datetime]:
    starts = [start_of(event).local.replace(tzinfo=UTC) for event in parse(data).parts("VEVENT")]
    rule = data.upper()
    days = 5 if b"BYHOUR" in rule or b"MINUTELY" in rule else 1600 if b"FREQ=YEARLY" in rule else 500
    return min(starts) - EDGE, max(starts) + timedelta(days=days)


def ours(data: bytes, begin: datetime, end: datetime) -> list[Occurrence]:
    found = occurrences(parse(data), begin, end, BERLIN, deadline=float("inf"))
    return sorted(found, key=lambda each: instant_of(data, each))


def instant_of(data: bytes, each: Occurrence) -> datetime:
    return each.start.instant(BERLIN, Series.of(parse(data)).zones)


def instants(data: bytes, begin: datetime, end: datetime) -> list[datetime]:
    zones = Series.of(parse(data)).zones
    found = [each.start.instant(BERLIN, zones) for each in occurrences(parse(data), begin, end, BERLIN, deadline=1e99)]
    return sorted(each for each in found if begin <= each < end - EDGE)


def theirs(data: bytes, begin: datetime, end: datetime) -> list[datetime]:
    """What an independent library counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = recurring_ical_events.of(icalendar.Calendar.from_ical(data)).between(begin, end)
    times: list[datetime] = []
    for each in found:
        start = each.start if isinstance(each.start, datetime) else datetime.combine(each.start, time())
        times.append((start if start.tzinfo else start.replace(tzinfo=BERLIN)).astimezone(UTC))
    return sorted(each for each in times if begin <= each < end - EDGE)


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=lambda number: EXAMPLES[number].rule)
def test_examples_of_the_rfc_give_the_times_of_the_rfc(number: int) -> None:
    example, data = EXAMPLES[number], SERIES[f"rfc5545-{number:02}"]
    end = example.times[-1] + (timedelta(days=4000) if example.ends else timedelta(minutes=1))
    found = [each.start.local for each in ours(data, datetime(1990, 1, 1, tzinfo=UTC), end.replace(tzinfo=UTC) + EDGE)]
    assert found[: len(example.times)] == list(example.times)
    assert not example.ends or len(found) == len(example.times)


@pytest.mark.parametrize("name", SERIES)
def test_an_independent_library_counts_the_same(name: str) -> None:
    begin, end = span_of(SERIES[name])
    assert len(instants(SERIES[name], begin, end)) >= 1
    if name != "windows":  # a zone of Windows that the calendar does not define: they take it for UTC
        assert instants(SERIES[name], begin, end) == theirs(SERIES[name], begin, end)


@pytest.fixture(scope="module")
def others() -> list[Taken]:
    taken, _ = events()
    return taken


def test_other_peoples_events_are_counted_as_another_library_counts_them(others: list[Taken]) -> None:
    assert len(others) > 900
    alike = 0
    chosen = others[:: 1 if EVERY == 1 else 4]
    for each in chosen:
        if any(mark.encode() in each.data for mark in NOT_ALIKE):
            continue
        begin, end = span_of(each.data)
        try:
            expected = theirs(each.data, begin, end)
        except (AttributeError, TypeError):
            continue  # on which they fail
        assert instants(each.data, begin, end) == expected, each
        alike += 1
    assert alike > 0.95 * len(chosen)


# -- through the tools -------------------------------------------------------------------------------------------------------


class Folder:
    """An engine on a folder of events."""

    def __init__(self, bench: Bench, path: Path) -> None:
        self.bench, self.path = bench, path

    def whole(self) -> dict[str, bytes]:
        return {each.name: each.read_bytes() for each in self.path.iterdir()}

    async def act(self, run: str, tool: str, name: str, **more: Any) -> Any:
        return await self.bench.call(tool, run, calendar="work", event_id=name, **more)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    # memory-backed where there is such a place: these tests are about what happens, not about the disk
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="takeback-", dir=base))
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def opened(folder: Path, those: Mapping[str, bytes]) -> Folder:
    path = folder / "events"
    path.mkdir()
    for name, data in those.items():
        (path / f"{name}.ics").write_bytes(data)
    engine = await Engine.open(
        settings_for(
            folder,
            tools=ToolSettings(off=("files", "database", "email")),
            calendars={"work": CalendarSettings(path=path, timezone="Europe/Berlin")},
        )
    )
    return Folder(Bench(engine, folder), path)


def kept_lines(data: bytes) -> Iterator[bytes]:
    """What no change of a title may touch, as it is written."""

    def inside(part: Component) -> Iterator[bytes]:
        for item in part.items:
            if isinstance(item, Line):
                if item.name not in ("SUMMARY", "DTSTAMP", "SEQUENCE", "LAST-MODIFIED"):
                    yield item.raw
            else:
                yield from inside(item)

    yield from inside(parse(data))


SPANS = ("this", "following", "all")


@pytest.mark.parametrize(
    ("tool", "span"),
    [*(("update_event", span) for span in SPANS), ("delete_event", "this"), ("delete_event", "following")],
)
async def test_each_span_of_each_series_is_changed_and_taken_back(in_memory: Path, tool: str, span: str) -> None:
    folder = await opened(in_memory, SERIES)
    try:
        before = folder.whole()
        run = await folder.bench.start(f"{tool} {span}")
        for name, data in SERIES.items():
            begin, end = span_of(data)
            found = ours(data, begin, end - EDGE)
            at = found[min(2, len(found) - 1)]
            assert at.original is not None
            named = {} if span == "all" else {"occurrence": at.original.said(), "range": span}
            answer = await folder.act(
                run, tool, name, **named, **({"summary": "Ours"} if tool == "update_event" else {})
            )
            if span == "following" and name == "only-added":
                assert answer.status == "failed" and "added to the series by hand" in answer.error.message, answer
                continue
            assert answer.status == "applied", (name, answer)
            _is_as_meant(folder, name, data, tool, span, at, answer.result)
        after = folder.whole()
        back = await folder.bench.back(run_id=run)
        assert back.status == "complete", back.report
        assert folder.whole() == before
        redone = await folder.bench.engine.redo(ALICE, str(back.rollback_id))
        assert redone.status == "complete" and folder.whole() == after
    finally:
        await folder.bench.engine.close()


def _is_as_meant(
    folder: Folder, name: str, data: bytes, tool: str, span: str, at: Occurrence, result: dict[str, Any]
) -> None:
    begin, end = span_of(data)
    whole, moment = instants(data, begin, end), instant_of(data, at)
    names = [name, *([result["new_event_id"]] if result["new_event_id"] else [])]
    now = [(folder.path / f"{each}.ics").read_bytes() for each in names if (folder.path / f"{each}.ics").exists()]
    expected = whole
    if tool == "delete_event":
        expected = {
            "this": [each for each in whole if each != moment],
            "following": [each for each in whole if each < moment],
            "all": [],
        }[span]
    assert sorted(one for each in now for one in instants(each, begin, end)) == expected, (name, now)
    if name not in THEY_FAIL:
        assert sorted(one for each in now for one in theirs(each, begin, end)) == expected, (name, now)
    if tool == "update_event" and span == "all":
        assert list(kept_lines(now[0])) == list(kept_lines(data)), name
    if tool == "update_event" and span == "this" and b"RECURRENCE-ID" not in data:
        assert now[0].startswith(data.removesuffix(b"END:VCALENDAR\n")), name
    for each in now:
        assert b'X-Odd;X-P="a;b:c":a long line that they have folded wh\n ere they liked\n' in each, name


@pytest.mark.parametrize("span", SPANS)
async def test_other_peoples_events_are_changed_and_taken_back(in_memory: Path, others: list[Taken], span: str) -> None:
    series = [each for each in others if span == "all" or Series.of(parse(each.data)).repeats]
    chosen = series[:: EVERY if span != "all" else EVERY * 3]
    folder = await opened(in_memory, {f"e{number}": each.data for number, each in enumerate(chosen)})
    try:
        before = folder.whole()
        run = await folder.bench.start(span)
        changed = 0
        for number, each in enumerate(chosen):
            named: dict[str, Any] = {}
            if span != "all":
                found = _second(each.data)
                if found is None:
                    continue
                named = {"occurrence": found, "range": span}
            answer = await folder.act(run, "update_event", f"e{number}", summary="Ours", **named)
            if answer.status == "applied":
                changed += 1
                now = (folder.path / f"e{number}.ics").read_bytes()
                if span == "all":
                    assert list(kept_lines(now)) == list(kept_lines(each.data)), each
            else:
                assert answer.status == "failed" and answer.error.code not in ("internal", "storage"), (each, answer)
                assert (folder.path / f"e{number}.ics").read_bytes() == each.data
        assert changed > len(chosen) * (0.95 if span == "all" else 0.8), (changed, len(chosen))
        back = await folder.bench.back(run_id=run)
        assert back.status == "complete", back.report
        assert folder.whole() == before
    finally:
        await folder.bench.engine.close()


def _second(data: bytes) -> str | None:
    """The name of an occurrence that is not the first."""
    try:
        begin, end = span_of(data)
        found = [each for each in ours(data, begin, end) if each.original is not None]
    except ValueError:
        return None
    original = found[min(1, len(found) - 1)].original if found else None
    return None if original is None else original.said()
