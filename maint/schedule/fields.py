"""The fields of a cron expression, and the dates they select."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

_DAY = timedelta(days=1)
#: a date that exists at all exists within these: 29 February on a given weekday, across the year 2100
_YEARS = 41


@dataclass(frozen=True, slots=True)
class Field:
    """One of the five fields of a cron expression."""

    what: str
    low: int
    high: int
    allowed: str
    names: tuple[str, ...] = ()

    def parse(self, text: str) -> frozenset[int]:
        """Return the numbers that `text` stands for; ValueError otherwise."""
        return frozenset(number for item in text.lower().split(",") for number in self._item(item))

    def _item(self, item: str) -> Iterator[int]:
        match = re.fullmatch(r"(?:\*|\?|([a-z]+|[0-9]+)(?:-([a-z]+|[0-9]+))?)(?:/([0-9]+))?", item)
        step = int(match[3] or 1) if match else 0
        size = self.high - self.low + 1
        if match is None or not 1 <= step <= size:
            raise ValueError(item)
        first, last = self.low, self.high
        if match[1]:
            first = self._number(match[1])
            last = self._number(match[2]) if match[2] else self.high if match[3] else first
        # 22-2 goes over the end; Sunday is 0 and 7
        for number in range(first, last + 1 if first <= last else last + size + 1, step):
            yield (number - self.low) % size + self.low

    def _number(self, text: str) -> int:
        number = self.names.index(text) + self.low if text in self.names else int(text)
        if not self.low <= number <= (7 if self is _WEEKDAY else self.high):
            raise ValueError(text)
        return number


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAY = Field("day of week", 0, 6, "0-7 or sun-sat, 5#2 for the second Friday, L5 for the last", _WEEKDAYS)
FIELDS = (
    Field("minute", 0, 59, "0-59"),
    Field("hour", 0, 23, "0-23"),
    Field("day of month", 1, 31, "1-31, L for the last"),
    Field("month", 1, 12, "1-12 or jan-dec", _MONTHS),
    _WEEKDAY,
)
LAST = -1


@dataclass(frozen=True, slots=True)
class Days:
    """The dates on which a schedule is due."""

    months: frozenset[int]
    of_month: frozenset[int]  #: -1 is the last one
    of_week: frozenset[int]  #: 0 is Sunday
    nth_of_week: frozenset[tuple[int, int]]  #: (5, 2) is the second Friday, (5, -1) the last
    either: bool  #: day of month or day of week, instead of both

    def __contains__(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        is_last = (day + _DAY).day == 1
        in_month = day.day in self.of_month or (is_last and LAST in self.of_month)
        return (in_month or self._in_week(day)) if self.either else (in_month and self._in_week(day))

    def _in_week(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        nth = LAST if (day + 7 * _DAY).month != day.month else 0
        return weekday in self.of_week or bool({(weekday, (day.day + 6) // 7), (weekday, nth)} & self.nth_of_week)

    def since(self, day: date) -> Iterator[date]:
        """Yield the dates from `day` on; ends after the years in which any date must occur."""
        end = day.year + _YEARS
        while day.year <= end:
            if day.month not in self.months:
                day = (day.replace(day=1) + 31 * _DAY).replace(day=1)
                continue
            if day in self:
                yield day
            day += _DAY


def parts(text: str, field: Field, written: str) -> tuple[frozenset[int], list[tuple[int, int]]]:
    """Return a field's numbers, and of its days those that are counted: (weekday, which)."""
    items = written.split(",")
    try:
        counted = [found for item in items if (found := _counted(field, item))]
        plain = [item for item in items if not _counted(field, item)]
        return field.parse(",".join(plain)) if plain else frozenset(), counted
    except ValueError:
        message = f"not a schedule: {text!r}: {written!r} is no {field.what} ({field.allowed})"
        raise ValueError(message) from None


def _counted(field: Field, item: str) -> tuple[int, int] | None:
    """Read L (the last day of the month), 5#2 (the second Friday) and L5 (the last Friday)."""
    if field.what == "day of month" and item.upper() == "L":
        return 0, LAST
    if field is not _WEEKDAY or not (match := re.fullmatch(r"(\w+)#([1-5])|[Ll]([0-7])", item, re.ASCII)):
        return None
    (weekday,) = field.parse(match[1] or match[3])
    return weekday, int(match[2]) if match[2] else LAST
