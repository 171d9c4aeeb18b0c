"""What a recurrence rule gives, within a bound of work that no rule gets around. Pure.

Days are looked at one by one in the periods of the rule, up to the last moment that is asked for: a rule that never comes to a
day costs no more than one that does. Local times without a zone throughout.
"""

from __future__ import annotations

import re
from calendar import isleap, monthrange
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, date, datetime, time, timedelta
from typing import Final

LONGEST: Final = 500
"""Characters of a rule."""
WORK: Final = 400_000
"""Days that are looked at, at most, for one question: a thousand years of them."""
GIVEN: Final = 8
"""What a time that is given costs, in days: so many more go on with it, and 50,000 are enough."""
_DAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_WITHIN_A_DAY: Final = {"HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}
_RANGES: Final = {
    "BYMONTH": (1, 12, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYSETPOS": (1, 366, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSECOND": (0, 59, False),
}
"""Lowest, highest, and whether it may be counted from the end."""


class TooMuch(ValueError):
    """The rule cannot be expanded within the bounds."""


class Work:
    """What may still be spent on one question."""

    def __init__(self, amount: int = WORK) -> None:
        self._left = amount

    def spend(self, amount: int = 1) -> None:
        """:raises TooMuch: nothing is left."""
        self._left -= amount
        if self._left < 0:
            raise TooMuch("it repeats too often, or too seldom, to be counted through")


@dataclass(frozen=True, slots=True)
class Rule:
    """An RRULE taken apart. Empty parts are given by the start."""

    frequency: str
    interval: int
    count: int | None
    until: str
    """As it is written."""
    first_day: int
    """Of a week; 0 is Monday."""
    weekdays: frozenset[tuple[int, int]]
    """(Which one, or 0 for each; weekday)."""
    numbers: dict[str, frozenset[int]]
    """BYMONTH and the like."""

    @classmethod
    def read(cls, text: str) -> Rule:
        """Taken from the text.

        :raises ValueError: it is no rule.
        """
        if len(text) > LONGEST:
            raise ValueError("the rule is too long")
        parts: dict[str, str] = {}
        for each in text.strip().strip(";").upper().split(";"):
            name, equals, value = each.partition("=")
            if not equals or name in parts:
                raise ValueError(f"the rule {text[:80]!r} cannot be read")
            parts[name] = value.strip().rstrip(",")
        try:
            read = cls(
                parts.pop("FREQ"),
                _number(parts.pop("INTERVAL", "1"), 1, 9_999_999),
                _number(found, 1, 9_999_999) if (found := parts.pop("COUNT", "")) else None,
                parts.pop("UNTIL", ""),
                _DAYS.index(parts.pop("WKST", "MO")),
                frozenset(_weekday(each) for each in _values(parts.pop("BYDAY", ""))),
                {name: _numbers(name, parts.pop(name)) for name in _RANGES if parts.get(name)},
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"the rule {text[:80]!r} cannot be read") from error
        if any(parts.values()) or read.frequency not in ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", *_WITHIN_A_DAY):
            raise ValueError(f"the rule {text[:80]!r} cannot be read")
        return read

    def by(self, name: str) -> frozenset[int]:
        """The values of one part; none if it is not there."""
        return self.numbers.get(name, frozenset())


def times(rule: Rule, start: datetime, last: datetime, work: Work) -> Iterator[datetime]:
    """What the rule gives from `start` to `last`, in order. UNTIL is the caller's to see to, by `last`.

    :raises TooMuch:
    """
    given = 0
    positions = sorted(rule.by("BYSETPOS"))
    for days, clock in _periods(_whole(rule, start), start, last, work):
        if positions:
            found: Iterator[datetime] | list[datetime] = sorted(_at_positions(days, clock, positions))
        else:
            found = (datetime.combine(day, at) for day in days for at in clock)
        for each in found:
            work.spend(GIVEN)
            if each > last or (rule.count is not None and given >= rule.count):
                return
            if each >= start:
                given += 1
                yield each


# -- inside ------------------------------------------------------------------------------------------------------------------


def _whole(rule: Rule, start: datetime) -> Rule:
    """With what the start says about days, where the rule does not."""
    numbers = dict(rule.numbers)
    weekdays = rule.weekdays
    if not weekdays and not numbers.keys() & {"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY"}:
        if rule.frequency == "YEARLY":
            numbers.setdefault("BYMONTH", frozenset({start.month}))
        if rule.frequency in ("YEARLY", "MONTHLY"):
            numbers["BYMONTHDAY"] = frozenset({start.day})
        elif rule.frequency == "WEEKLY":
            weekdays = frozenset({(0, start.weekday())})
    if rule.frequency not in _WITHIN_A_DAY:
        numbers.setdefault("BYHOUR", frozenset({start.hour}))
    if rule.frequency not in ("MINUTELY", "SECONDLY"):
        numbers.setdefault("BYMINUTE", frozenset({start.minute}))
    if rule.frequency != "SECONDLY":
        numbers.setdefault("BYSECOND", frozenset({start.second}))
    return Rule(rule.frequency, rule.interval, rule.count, rule.until, rule.first_day, weekdays, numbers)


def _periods(
    rule: Rule, start: datetime, last: datetime, work: Work
) -> Iterator[tuple[Sequence[date], Sequence[time]]]:
    """For each period its days and the times of each of them."""
    if rule.frequency in _WITHIN_A_DAY:
        yield from _short_periods(rule, start, last, work)
        return
    clock = _clock(rule.by("BYHOUR"), rule.by("BYMINUTE"), rule.by("BYSECOND"), work)
    fits = _fitting(rule)
    for days in _days(rule, start.date(), last.date()):
        work.spend()
        found: list[date] = []
        for day in days:
            work.spend()
            if fits(day):
                found.append(day)
        yield found, clock


def _days(rule: Rule, start: date, last: date) -> Iterator[Iterator[date]]:
    """The days of each period."""
    if rule.frequency == "YEARLY":
        months = sorted(rule.by("BYMONTH")) or range(1, 13)
        for year in range(start.year, min(last.year, MAXYEAR) + 1, rule.interval):
            yield (date(year, month, day) for month in months for day in range(1, monthrange(year, month)[1] + 1))
    elif rule.frequency == "MONTHLY":
        first, end = start.year * 12 + start.month - 1, last.year * 12 + last.month - 1
        for number in range(first, end + 1, rule.interval):
            year, month = divmod(number, 12)
            yield (date(year, month + 1, day) for day in range(1, monthrange(year, month + 1)[1] + 1))
    else:
        long = 7 if rule.frequency == "WEEKLY" else 1
        first = start.toordinal() - ((start.weekday() - rule.first_day) % 7 if long == 7 else 0)
        highest = date.max.toordinal()
        for number in range(first, last.toordinal() + 1, rule.interval * long):
            yield (date.fromordinal(day) for day in range(max(number, 1), min(number + long, highest + 1)))


def _short_periods(
    rule: Rule, start: datetime, last: datetime, work: Work
) -> Iterator[tuple[Sequence[date], Sequence[time]]]:
    step = timedelta(seconds=rule.interval * _WITHIN_A_DAY[rule.frequency])
    unit = rule.frequency
    fits = _fitting(rule)
    hours, minutes, seconds = rule.by("BYHOUR"), rule.by("BYMINUTE"), rule.by("BYSECOND")
    at = start
    # a period begins at the full hour or minute, so that a time of it may lie before `at`
    while at.replace(minute=0, second=0) <= last:
        work.spend()
        if not fits(at.date()):
            rest = datetime.combine(at.date(), time.max) - at
            skip = rest // step + 1
        else:
            skip = 1
            if (
                (not hours or at.hour in hours)
                and (unit == "HOURLY" or not minutes or at.minute in minutes)
                and (unit != "SECONDLY" or not seconds or at.second in seconds)
            ):
                yield (
                    [at.date()],
                    _clock(
                        frozenset({at.hour}),
                        minutes if unit == "HOURLY" else frozenset({at.minute}),
                        seconds if unit != "SECONDLY" else frozenset({at.second}),
                        work,
                    ),
                )
        try:
            at += step * skip
        except OverflowError:
            return


def _fitting(rule: Rule) -> Callable[[date], bool]:
    """Whether a day is one of the rule's."""
    months, month_days, year_days = rule.by("BYMONTH"), rule.by("BYMONTHDAY"), rule.by("BYYEARDAY")
    weeks = rule.by("BYWEEKNO")
    counted = rule.frequency in ("YEARLY", "MONTHLY")
    each = {day for which, day in rule.weekdays if not which or not counted}
    some = {(which, day) for which, day in rule.weekdays if which and counted}
    in_month = rule.frequency == "MONTHLY" or bool(months)

    def fits(day: date) -> bool:
        if months and day.month not in months:
            return False
        if month_days and day.day not in month_days:
            long = monthrange(day.year, day.month)[1]
            if day.day - long - 1 not in month_days:
                return False
        if year_days:
            number = day.timetuple().tm_yday
            if number not in year_days and number - 366 - isleap(day.year) not in year_days:
                return False
        if weeks and not _in_weeks(day, rule.first_day, weeks):
            return False
        if not each and not some:
            return True
        weekday = day.weekday()
        if weekday in each:
            return True
        return bool(some) and any((which, weekday) in some for which in _which(day, in_month))

    return fits


def _which(day: date, in_month: bool) -> tuple[int, int]:
    """Of its weekday in the month or year: the how manieth, and from the end."""
    if in_month:
        number, long = day.day, monthrange(day.year, day.month)[1]
    else:
        number, long = day.timetuple().tm_yday, 365 + isleap(day.year)
    return (number - 1) // 7 + 1, -((long - number) // 7 + 1)


def _in_weeks(day: date, first_day: int, weeks: frozenset[int]) -> bool:
    # a week belongs to the year in which its fourth day lies
    try:
        middle = day - timedelta(days=(day.weekday() - first_day) % 7 - 3)
    except OverflowError:
        return False
    number = middle.timetuple().tm_yday
    long = 365 + isleap(middle.year)
    return (number - 1) // 7 + 1 in weeks or -((long - number) // 7 + 1) in weeks


def _at_positions(days: Sequence[date], clock: Sequence[time], positions: Sequence[int]) -> set[datetime]:
    found: set[datetime] = set()
    if not clock:
        return found
    for position in positions:
        index, at = divmod(position - 1 if position > 0 else position, len(clock))
        if -len(days) <= index < len(days):
            found.add(datetime.combine(days[index], clock[at]))
    return found


def _clock(hours: frozenset[int], minutes: frozenset[int], seconds: frozenset[int], work: Work) -> list[time]:
    work.spend(len(hours) * len(minutes) * len(seconds))
    return [
        time(hour, minute, second) for hour in sorted(hours) for minute in sorted(minutes) for second in sorted(seconds)
    ]


def _values(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")] if text else []


def _number(text: str, low: int, high: int) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,7}", text) is None or not low <= int(text) <= high:
        raise ValueError(text)
    return int(text)


def _numbers(name: str, text: str) -> frozenset[int]:
    low, high, signed = _RANGES[name]
    found = {_number(each, -high if signed else low, high) for each in _values(text)}
    if signed and 0 in found:
        raise ValueError(text)
    return frozenset(found)


def _weekday(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)", text)
    if found is None or (found[1] and not 1 <= abs(int(found[1])) <= 53):
        raise ValueError(text)
    return int(found[1] or 0), _DAYS.index(found[2])
