"""Slots of a cron expression in a zone."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from maint.schedule.fields import FIELDS, LAST, Days, parts
from maint.schedule.zone import check_zone

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


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a zone."""

    text: str
    zone: ZoneInfo
    days: Days
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
    minutes, hours, of_month, months, of_week = (parts(text, *pair) for pair in zip(FIELDS, fields, strict=True))
    schedule = Schedule(
        text=text,
        zone=ZoneInfo(check_zone(zone)),
        days=Days(
            months=months[0],
            of_month=of_month[0] | {LAST for _ in of_month[1]},
            of_week=of_week[0],
            nth_of_week=frozenset(of_week[1]),
            either=not any(set("*?") & set(field) for field in (fields[2], fields[4])),
        ),
        minutes=tuple(sorted(h * 60 + m for h in hours[0] for m in minutes[0])),
        elapsed=len(hours[0]) == 24,
        fixed="*" not in fields[1] and len(hours[0]) < 24,
    )
    if next(schedule.days.since(date(2000, 1, 1)), None) is None:
        raise ValueError(f"never due: {text!r} names a date that does not exist")
    return schedule
