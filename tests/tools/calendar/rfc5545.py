"""The examples of RFC 5545, part 3.8.5.3: rules, their starts, and the times that the RFC gives for them, in New York.

A rule that goes on for ever is held to the times that are given. The one of every three hours has its UNTIL from the errata.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Example:
    start: str
    rule: str
    times: tuple[datetime, ...]
    """In order, from the first on."""
    more: tuple[str, ...] = ()
    """Other lines of the event."""

    @property
    def ends(self) -> bool:
        return "COUNT" in self.rule or "UNTIL" in self.rule


def _days(text: str, clock: str = "9:00") -> tuple[datetime, ...]:
    """From "1997-09: 2 4-6; 1997-10: 1"."""
    found: list[datetime] = []
    for part in text.split(";"):
        month, _, days = part.partition(":")
        for day in days.split():
            first, _, last = day.partition("-")
            for number in range(int(first), int(last or first) + 1):
                for each in clock.split():
                    hour, _, minute = each.partition(":")
                    year, _, which = month.strip().partition("-")
                    found.append(datetime(int(year), int(which), number, int(hour), int(minute)))
    return tuple(found)


def _example(rule: str, days: str, start: str = "19970902T090000", clock: str = "9:00", *more: str) -> Example:
    return Example(start, rule, _days(days, clock), more)


_JANUARIES = "1998-01: 1-31; 1999-01: 1-31; 2000-01: 1-31"
_EACH_TWENTY = " ".join(f"{hour}:{minute:02}" for hour in range(9, 17) for minute in (0, 20, 40))

EXAMPLES = (
    _example("FREQ=DAILY;COUNT=10", "1997-09: 2-11"),
    _example("FREQ=DAILY;UNTIL=19971224T000000Z", "1997-09: 2-30; 1997-10: 1-31; 1997-11: 1-30; 1997-12: 1-23"),
    _example(
        "FREQ=DAILY;INTERVAL=2",
        "1997-09: 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30;"
        "1997-10: 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30; 1997-11: 1 3 5 7 9 11 13 15 17 19 21 23 25 27 29; 1997-12: 1 3",
    ),
    _example("FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09: 2 12 22; 1997-10: 2 12"),
    _example("FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA", _JANUARIES, "19980101T090000"),
    _example("FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1", _JANUARIES, "19980101T090000"),
    _example("FREQ=WEEKLY;COUNT=10", "1997-09: 2 9 16 23 30; 1997-10: 7 14 21 28; 1997-11: 4"),
    _example(
        "FREQ=WEEKLY;UNTIL=19971224T000000Z",
        "1997-09: 2 9 16 23 30; 1997-10: 7 14 21 28; 1997-11: 4 11 18 25; 1997-12: 2 9 16 23",
    ),
    _example(
        "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
        "1997-09: 2 16 30; 1997-10: 14 28; 1997-11: 11 25; 1997-12: 9 23; 1998-01: 6 20; 1998-02: 3 17",
    ),
    _example("FREQ=WEEKLY;UNTIL=19971007T000000Z;WKST=SU;BYDAY=TU,TH", "1997-09: 2 4 9 11 16 18 23 25 30; 1997-10: 2"),
    _example("FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH", "1997-09: 2 4 9 11 16 18 23 25 30; 1997-10: 2"),
    _example(
        "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR",
        "1997-09: 1 3 5 15 17 19 29; 1997-10: 1 3 13 15 17 27 29 31; 1997-11: 10 12 14 24 26 28; 1997-12: 8 10 12 22",
        "19970901T090000",
    ),
    _example("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", "1997-09: 2 4 16 18 30; 1997-10: 2 14 16"),
    _example(
        "FREQ=MONTHLY;COUNT=10;BYDAY=1FR",
        "1997-09: 5; 1997-10: 3; 1997-11: 7; 1997-12: 5; 1998-01: 2; 1998-02: 6; 1998-03: 6; 1998-04: 3; 1998-05: 1;"
        "1998-06: 5",
        "19970905T090000",
    ),
    _example(
        "FREQ=MONTHLY;UNTIL=19971224T000000Z;BYDAY=1FR",
        "1997-09: 5; 1997-10: 3; 1997-11: 7; 1997-12: 5",
        "19970905T090000",
    ),
    _example(
        "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
        "1997-09: 7 28; 1997-11: 2 30; 1998-01: 4 25; 1998-03: 1 29; 1998-05: 3 31",
        "19970907T090000",
    ),
    _example(
        "FREQ=MONTHLY;COUNT=6;BYDAY=-2MO",
        "1997-09: 22; 1997-10: 20; 1997-11: 17; 1997-12: 22; 1998-01: 19; 1998-02: 16",
        "19970922T090000",
    ),
    _example(
        "FREQ=MONTHLY;BYMONTHDAY=-3",
        "1997-09: 28; 1997-10: 29; 1997-11: 28; 1997-12: 29; 1998-01: 29; 1998-02: 26",
        "19970928T090000",
    ),
    _example(
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15",
        "1997-09: 2 15; 1997-10: 2 15; 1997-11: 2 15; 1997-12: 2 15; 1998-01: 2 15",
    ),
    _example(
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1",
        "1997-09: 30; 1997-10: 1 31; 1997-11: 1 30; 1997-12: 1 31; 1998-01: 1 31; 1998-02: 1",
        "19970930T090000",
    ),
    _example(
        "FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15",
        "1997-09: 10-15; 1999-03: 10-13",
        "19970910T090000",
    ),
    _example(
        "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
        "1997-09: 2 9 16 23 30; 1997-11: 4 11 18 25; 1998-01: 6 13 20 27; 1998-03: 3 10 17 24 31",
    ),
    _example(
        "FREQ=YEARLY;COUNT=10;BYMONTH=6,7",
        "; ".join(f"{year}-{month:02}: 10" for year in range(1997, 2002) for month in (6, 7)),
        "19970610T090000",
    ),
    _example(
        "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
        "1997-03: 10; " + "; ".join(f"{year}-{month:02}: 10" for year in (1999, 2001, 2003) for month in (1, 2, 3)),
        "19970310T090000",
    ),
    _example(
        "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
        "1997-01: 1; 1997-04: 10; 1997-07: 19; 2000-01: 1; 2000-04: 9; 2000-07: 18; 2003-01: 1; 2003-04: 10; 2003-07: 19;"
        "2006-01: 1",
        "19970101T090000",
    ),
    _example("FREQ=YEARLY;BYDAY=20MO", "1997-05: 19; 1998-05: 18; 1999-05: 17", "19970519T090000"),
    _example("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1997-05: 12; 1998-05: 11; 1999-05: 17", "19970512T090000"),
    _example(
        "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
        "1997-03: 13 20 27; 1998-03: 5 12 19 26; 1999-03: 4 11 18 25",
        "19970313T090000",
    ),
    _example(
        "FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8",
        "1997-06: 5 12 19 26; 1997-07: 3 10 17 24 31; 1997-08: 7 14 21 28;"
        "1998-06: 4 11 18 25; 1998-07: 2 9 16 23 30; 1998-08: 6 13 20 27;"
        "1999-06: 3 10 17 24; 1999-07: 1 8 15 22 29; 1999-08: 5 12 19 26",
        "19970605T090000",
    ),
    _example(
        "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        "1998-02: 13; 1998-03: 13; 1998-11: 13; 1999-08: 13; 2000-10: 13",
        "19970902T090000",
        "9:00",
        "EXDATE;TZID=America/New_York:19970902T090000",
    ),
    _example(
        "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
        "1997-09: 13; 1997-10: 11; 1997-11: 8; 1997-12: 13; 1998-01: 10; 1998-02: 7; 1998-03: 7; 1998-04: 11; 1998-05: 9;"
        "1998-06: 13",
        "19970913T090000",
    ),
    _example(
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        "1996-11: 5; 2000-11: 7; 2004-11: 2",
        "19961105T090000",
    ),
    _example("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09: 4; 1997-10: 7; 1997-11: 6", "19970904T090000"),
    _example(
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        "1997-09: 29; 1997-10: 30; 1997-11: 27; 1997-12: 30; 1998-01: 29; 1998-02: 26; 1998-03: 30",
        "19970929T090000",
    ),
    _example("FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T210000Z", "1997-09: 2", clock="9:00 12:00 15:00"),
    _example("FREQ=MINUTELY;INTERVAL=15;COUNT=6", "1997-09: 2", clock="9:00 9:15 9:30 9:45 10:00 10:15"),
    _example("FREQ=MINUTELY;INTERVAL=90;COUNT=4", "1997-09: 2", clock="9:00 10:30 12:00 13:30"),
    _example("FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40", "1997-09: 2 3", clock=_EACH_TWENTY),
    _example("FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16", "1997-09: 2 3", clock=_EACH_TWENTY),
    _example("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-08: 5 10 19 24", "19970805T090000"),
    _example("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-08: 5 17 19 31", "19970805T090000"),
    _example("FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007-01: 15 30; 2007-02: 15; 2007-03: 15 30", "20070115T090000"),
)
