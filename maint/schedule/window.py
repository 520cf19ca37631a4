"""The hours of the day in which a job may work."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from maint.schedule.zone import check_zone

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)


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
