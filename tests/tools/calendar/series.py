"""Series that are hard to take apart, in the spellings that programs use."""

from __future__ import annotations

from tests.tools.calendar.rfc5545 import EXAMPLES

OWN_ZONE = """BEGIN:VTIMEZONE
TZID:Amt
BEGIN:STANDARD
DTSTART:16011028T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010325T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:-0500
TZOFFSETTO:-0400
END:DAYLIGHT
END:VTIMEZONE
"""


def calendar(uid: str, lines: str, *, zone: str = "", more: str = "") -> bytes:
    """One event of somebody, with what only they know of."""
    text = (
        f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//Somebody//Else//EN\nX-WR-CALNAME:Theirs\n{zone}BEGIN:VEVENT\nUID:{uid}\n"
        f"DTSTAMP:20260101T000000Z\n{lines}\nSUMMARY:Theirs\\, of old\n"
        'X-Odd;X-P="a;b:c":a long line that they have folded wh\n'
        " ere they liked\nBEGIN:VALARM\nACTION:DISPLAY\nTRIGGER:-PT5M\nDESCRIPTION:soon\nEND:VALARM\nEND:VEVENT\n"
        f"{more}END:VCALENDAR\n"
    )
    return text.encode()


def override(uid: str, original: str, lines: str) -> str:
    return f"BEGIN:VEVENT\nUID:{uid}\nDTSTAMP:20260101T000000Z\n{original}\n{lines}\nSUMMARY:Moved\nEND:VEVENT\n"


HARD: dict[str, bytes] = {
    "left-out": calendar(
        "left-out",
        "DTSTART;TZID=Europe/Berlin:20260302T100000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=8\n"
        "EXDATE;TZID=Europe/Berlin:20260309T100000,20260316T100000\nEXDATE:20260330T080000Z",
    ),
    "added": calendar(
        "added",
        "DTSTART;TZID=Europe/Berlin:20260302T100000\nDTEND;TZID=Europe/Berlin:20260302T113000\nRRULE:FREQ=MONTHLY;COUNT=5\n"
        "RDATE;TZID=Europe/Berlin:20260311T100000,20260420T090000\nRDATE:20260515T120000Z",
    ),
    "only-added": calendar("only-added", "DTSTART:20260302T100000Z\nRDATE:20260303T110000Z,20260305T120000Z"),
    "overridden": calendar(
        "overridden",
        "DTSTART;TZID=America/New_York:20260302T100000\nDTEND;TZID=America/New_York:20260302T110000\n"
        "RRULE:FREQ=WEEKLY;UNTIL=20260601T140000Z;BYDAY=MO,WE",
        more=override(
            "overridden",
            "RECURRENCE-ID;TZID=America/New_York:20260309T100000",
            "DTSTART;TZID=Europe/Berlin:20260310T170000\nDTEND;TZID=Europe/Berlin:20260310T180000",
        )
        + override("overridden", "RECURRENCE-ID:20260401T140000Z", "DTSTART:20260401T180000Z\nDTEND:20260401T190000Z"),
    ),
    "floating": calendar("floating", "DTSTART:20260327T023000\nDURATION:PT45M\nRRULE:FREQ=DAILY;COUNT=9"),
    "all-day": calendar(
        "all-day",
        "DTSTART;VALUE=DATE:20260131\nDTEND;VALUE=DATE:20260202\nRRULE:FREQ=MONTHLY;UNTIL=20261231;BYMONTHDAY=-1",
    ),
    "leap-day": calendar("leap-day", "DTSTART;VALUE=DATE:20240229\nRRULE:FREQ=YEARLY"),
    "spring": calendar(
        "spring", "DTSTART;TZID=Europe/Berlin:20260327T023000\nDURATION:PT30M\nRRULE:FREQ=DAILY;UNTIL=20260402T003000Z"
    ),
    "autumn": calendar(
        "autumn", "DTSTART;TZID=Europe/Berlin:20261023T023000\nDURATION:PT30M\nRRULE:FREQ=DAILY;UNTIL=20261028T013000Z"
    ),
    "own-zone": calendar(
        "own-zone",
        "DTSTART;TZID=Amt:20260302T220000\nDTEND;TZID=Amt:20260302T230000\nRRULE:FREQ=WEEKLY;UNTIL=20260602T020000Z",
        zone=OWN_ZONE,
    ),
    "own-zone-counted": calendar(
        "own-zone-counted",
        "DTSTART;TZID=Amt:20260302T010000\nDTEND;TZID=Amt:20260302T020000\nRRULE:FREQ=DAILY;COUNT=40",
        zone=OWN_ZONE,
    ),
    "windows": calendar(
        "windows",
        "DTSTART;TZID=W. Europe Standard Time:20260302T000000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;UNTIL=20260601T220000Z",
    ),
    "utc": calendar("utc", "DTSTART:20260302T233000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;INTERVAL=3;COUNT=12"),
    "lower-case": calendar("lower-case", "dtstart:20260302T233000Z\nrrule:freq=weekly;count=4;byday=mo,tu"),
}
"""By name; each has at least three occurrences."""

SERIES: dict[str, bytes] = HARD | {
    f"rfc5545-{number:02}": calendar(
        f"rfc5545-{number:02}",
        "\n".join(
            (
                f"DTSTART;TZID=America/New_York:{each.start}",
                "DURATION:PT5M",
                f"RRULE:{each.rule}",
                *each.more,
            )
        ),
    )
    for number, each in enumerate(EXAMPLES)
}
