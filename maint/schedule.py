"""When jobs are due: cron expressions, zones, daylight saving time, windows. Pure.

A slot is an instant; a cron expression speaks of local times, of which some days lack an hour and others
have one twice (FACTS of every scheduler's bug list). Here:

- Hour field fixed (``2``, ``1-3``, ``1,13``): a local time that does not exist is due once, at the next
  valid minute; one that exists twice is due the first time only.
- Hour field ``*`` (or all 24 hours): elapsed time counts, so both passes through a repeated hour count.
- Hour field ``*/n``: a repeated hour counts once.
- In both latter cases a local time that does not exist is due as long after the slot before it as on any
  other day (02:20 becomes 03:20). Whatever falls on the same instant is one slot.

Day of month and day of week both restricted (neither contains ``*``): either is enough, as in crontab(5).
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Self
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
#: the fields, and what may stand in them
_FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31, L for the last"),
    ("month", "1-12 or jan-dec"),
    ("day of week", "0-7 or sun-sat, 5#2 for the second Friday, L5 for the last"),
)
#: a date that exists at all exists within these: 29 February on a given weekday, across the year 2100
_YEARS = 41


def check_zone(name: str) -> str:
    """Return `name` if it is a time zone; ValueError with the nearest names otherwise."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"no such time zone: {name!r}{_nearest_zone(name)}") from None
    return name


def _nearest_zone(name: str) -> str:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    near = get_close_matches(name, available_timezones(), n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ' (as in "Europe/Berlin")'


@dataclass(frozen=True, slots=True)
class _Days:
    """The dates on which a schedule is due."""

    months: frozenset[int]
    of_month: frozenset[int]
    last_of_month: bool
    of_week: frozenset[int]  #: 0 is Sunday
    nth_of_week: tuple[tuple[int, frozenset[int | str]], ...]  #: 5#2: the second Friday; "l": the last
    either: bool  #: day of month or day of week, instead of both

    def __contains__(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month = day.day in self.of_month or (self.last_of_month and (day + _DAY).day == 1)
        if self.either:
            return in_month or self._in_week(day)
        return in_month and self._in_week(day)

    def _in_week(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        nth = dict(self.nth_of_week).get(weekday)
        if nth is None or weekday not in self.of_week:
            return weekday in self.of_week
        return (day.day - 1) // 7 + 1 in nth or ("l" in nth and (day + 7 * _DAY).month != day.month)

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


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a zone."""

    text: str
    zone: ZoneInfo
    days: _Days
    minutes: tuple[int, ...]  #: of the day, ascending
    elapsed: bool  #: hour field *: both passes through a repeated hour count
    fixed: bool  #: hour field without *

    @classmethod
    def parse(cls, text: str, zone: str = "UTC") -> "Schedule":
        """Return the schedule that `text` describes; ValueError with the reason otherwise."""
        return _parse(text, zone)

    def next(self, after: datetime) -> datetime:
        """Return the first slot after the instant `after`, in UTC. Stateless."""
        return next(self._after(after))

    def due(self, after: datetime, until: datetime) -> list[datetime]:
        """Return the slots after `after`, up to and including `until`."""
        slots = []
        for slot in self._after(after):
            if slot > until:
                break
            slots.append(slot)
        return slots

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """Return the next `count` slots after `after`."""
        return list(islice(self._after(after), count))

    def _after(self, after: datetime) -> Iterator[datetime]:
        today = after.astimezone(self.zone).date()
        # a zone can skip a whole day (Pacific/Apia, 30 December 2011): then yesterday's slots are today's
        days = self.days.since(today if _plain(self.zone, today) else today - _DAY)
        held: list[datetime] = []  # slots of a day with a change: the next day's may come before them
        for day in days:
            midnight = datetime.combine(day, time(), self.zone).astimezone(UTC)
            yield from (slot for slot in held if slot < midnight)
            held = [slot for slot in held if slot >= midnight]
            if not held and _plain(self.zone, day):
                yield from self._plain_slots(day, after)
                continue
            slots = _changed_slots(self.zone, self.minutes, day, elapsed=self.elapsed, fixed=self.fixed)
            held = sorted({*held, *slots[bisect_right(slots, after) :]})

    def _plain_slots(self, day: date, after: datetime) -> Iterator[datetime]:
        """Yield the slots of a day whose clock is not changed."""
        midnight = datetime.combine(day, time(), self.zone).astimezone(UTC)
        first = bisect_right(self.minutes, (after - midnight) // _MINUTE) if after >= midnight else 0
        for minute in self.minutes[first:]:
            yield midnight + minute * _MINUTE


@lru_cache(maxsize=64)
def _changed_slots(
    zone: ZoneInfo, minutes: tuple[int, ...], day: date, *, elapsed: bool, fixed: bool
) -> tuple[datetime, ...]:
    """Return the slots of a day whose clock is changed, or near to one, ascending."""
    slots = set()
    for minute in minutes:
        local = datetime.combine(day, time(*divmod(minute, 60)), zone)
        first, second = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
        if second < first:  # does not exist; `first` reads it with the offset before the change
            slots.add(_end_of_gap(zone, second, first) if fixed else first)
        else:
            slots |= {first, second} if elapsed else {first}
    return tuple(sorted(slots))


def _end_of_gap(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first valid minute after the change that lies between two instants."""
    offset = after.astimezone(zone).utcoffset()
    minutes = range((after - before) // _MINUTE)
    return before + _MINUTE * bisect_left(
        minutes, True, key=lambda n: (before + n * _MINUTE).astimezone(zone).utcoffset() == offset
    )


@lru_cache(maxsize=4096)
def _plain(zone: ZoneInfo, day: date) -> bool:
    """Tell whether no clock is changed on `day` or around it."""
    noon = datetime.combine(day, time(12), UTC)
    return len({(noon + n * _DAY).astimezone(zone).utcoffset() for n in (-2, -1, 0, 1, 2)}) == 1


@lru_cache(maxsize=4096)
def _parse(text: str, zone: str) -> Schedule:
    fields = _ALIASES.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise ValueError(f"not a schedule: {text!r} needs five fields (minute hour day month weekday)")
    (minutes, hours, of_month, months, of_week), nth = _expand(fields)
    schedule = Schedule(
        text=text,
        zone=ZoneInfo(check_zone(zone)),
        days=_Days(
            months=_numbers(months, 1, 12),
            of_month=_numbers(of_month, 1, 31),
            last_of_month="l" in of_month,
            of_week=_numbers(of_week, 0, 6),
            nth_of_week=tuple((weekday, frozenset(which)) for weekday, which in nth.items()),
            either=not any(set("*?") & set(field) for field in (fields[2], fields[4])),
        ),
        minutes=tuple(sorted(h * 60 + m for h in _numbers(hours, 0, 23) for m in _numbers(minutes, 0, 59))),
        elapsed=len(_numbers(hours, 0, 23)) == 24,
        fixed="*" not in fields[1] and len(_numbers(hours, 0, 23)) < 24,
    )
    if next(schedule.days.since(date(2000, 1, 1)), None) is None:
        raise ValueError(f"never due: {text!r} names a date that does not exist")
    return schedule


_Columns = list[Collection[int | str]]


def _expand(fields: list[str]) -> tuple[_Columns, Mapping[Any, Any]]:
    """Let croniter read the fields, each one by itself to know which is wrong."""
    from croniter import CroniterError, croniter

    for position, (field, (what, pattern)) in enumerate(zip(fields, _FIELDS, strict=True)):
        alone = ["*"] * 5
        alone[position] = field
        try:
            # H, R and W of other crons: a minute that differs from start to start, or what croniter ignores
            if re.search(r"\b([hr]|\d*w|lw)\b", field, re.IGNORECASE):
                raise ValueError  # noqa: TRY301
            croniter.expand(" ".join(alone))
        except (CroniterError, ValueError, KeyError, IndexError):
            raise ValueError(
                f"not a schedule: {' '.join(fields)!r}: {field!r} is no {what} ({pattern})"
            ) from None
    columns, nth = croniter.expand(" ".join(fields))
    return list(columns), nth


def _numbers(field: Collection[int | str], low: int, high: int) -> frozenset[int]:
    if "*" in field:
        return frozenset(range(low, high + 1))
    return frozenset(number for number in field if isinstance(number, int))


@dataclass(frozen=True, slots=True)
class Window:
    """The hours of the day in which a job may work; may cross midnight.

    It lasts as long as on any other day when its start or end does not exist, and an end that exists
    twice is the first one.
    """

    start: int  #: minutes after midnight
    end: int  #: minutes after midnight; greater than 1440 when it crosses it
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: str = "UTC") -> Self:
        """Return the window that `"22:00-06:00"` describes; ValueError with the reason otherwise."""
        match = re.fullmatch(r"\s*(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)\s*", text)
        if match is None:
            raise ValueError(f'not a window: {text!r}: write "22:00-06:00"')
        start, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
        if int(match[2]) > 59 or int(match[4]) > 59 or start >= 1440 or end > 1440 or start == end:
            raise ValueError(f"not a window: {text!r}: no such times of the day, or the same one twice")
        return cls(start, end if end > start else end + 1440, ZoneInfo(check_zone(zone)))

    def contains(self, instant: datetime) -> bool:
        return self.remaining(instant) > timedelta(0)

    def remaining(self, instant: datetime) -> timedelta:
        """Return how long the window that contains `instant` still lasts; zero outside."""
        today = instant.astimezone(self.zone).date()
        for day in (today - _DAY, today):
            start, end = self._on(day)
            if start <= instant < end:
                return end - instant
        return timedelta(0)

    def opens(self, after: datetime) -> datetime:
        """Return when the next window begins after `after`, in UTC."""
        today = after.astimezone(self.zone).date()
        return next(start for n in (-1, 0, 1, 2) if (start := self._on(today + n * _DAY)[0]) > after)

    def _on(self, day: date) -> tuple[datetime, datetime]:
        midnight = datetime.combine(day, time())
        walls = (midnight + self.start * _MINUTE, midnight + self.end * _MINUTE)
        start, end = (wall.replace(tzinfo=self.zone).astimezone(UTC) for wall in walls)
        return start, end
