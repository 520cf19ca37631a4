"""What holds for every schedule in every zone: nothing dropped, nothing doubled, whatever the clocks do.

The oracle walks over every minute of real time and asks what the wall clock shows.
"""

import itertools
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from maint.schedule import Schedule

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "UTC",
    "Asia/Kolkata",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Africa/Casablanca",
)


def changes(zone: ZoneInfo) -> list[date]:
    """Return the local days on which a zone's clock was changed, 2011 to 2027."""
    noons = [datetime(2011, 1, 1, 12, tzinfo=UTC) + n * DAY for n in range(17 * 365)]
    offsets = [(noon.astimezone(zone).date(), noon.astimezone(zone).utcoffset()) for noon in noons]
    return [day for (_, before), (day, after) in pairwise(offsets) if before != after]


def some_days(zone: str) -> st.SearchStrategy[date]:
    """Days around the changes of a zone, more often than any others."""
    others = st.dates(date(2000, 1, 1), date(2037, 1, 1))
    if not (changed := changes(ZoneInfo(zone))):
        return others
    near = st.builds(lambda day, n: day + n * DAY, st.sampled_from(changed), st.integers(-1, 1))
    return st.one_of(st.sampled_from(changed), st.sampled_from(changed), near, others)


#: a zone and a day there
places = st.one_of([st.tuples(st.just(zone), some_days(zone)) for zone in ZONES])
seconds_of_a_day = st.integers(0, 86399)


def instant(day: date, seconds: int) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(seconds=seconds)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    lists = st.lists(number, min_size=1, max_size=4).map(lambda numbers: ",".join(map(str, numbers)))
    steps = st.integers(1, high).map(lambda step: f"*/{step}")
    return st.one_of(st.just("*"), lists, ranges, steps)


hours = field(0, 23)
texts = st.builds(
    lambda m, h, dom, dow: f"{m} {h} {dom} * {dow}",
    field(0, 59),
    st.one_of(hours, st.sampled_from(("0", "1", "2", "2-3", "0-23", "*/2", "0,1,2,3", "*"))),
    st.one_of(st.just("*"), field(1, 28)),
    st.one_of(st.just("*"), field(0, 6)),
)


def numbers(text: str, low: int, high: int) -> set[int]:
    """Read one field of those made above, independently of the module under test."""
    if text.startswith("*"):
        step = int(text.partition("/")[2] or 1)
        return set(range(low, high + 1, step))
    if "-" in text:
        first, _, last = text.partition("-")
        return set(range(int(first), int(last) + 1))
    return {int(part) for part in text.split(",")}


class Oracle:
    """Says what a cron expression means, field by field."""

    def __init__(self, text: str) -> None:
        minute, self.hour, self.dom, _, self.dow = text.split()
        self.minutes, self.hours = numbers(minute, 0, 59), numbers(self.hour, 0, 23)
        self.doms, self.dows = numbers(self.dom, 1, 31), numbers(self.dow, 0, 6)

    def day(self, day: date) -> bool:
        month, week = day.day in self.doms, day.isoweekday() % 7 in self.dows
        either = not self.dom.startswith("*") and not self.dow.startswith("*")
        return month or week if either else month and week

    def walls(self, day: date) -> list[datetime]:
        """Return the local times of a day at which the expression is due, whether they exist or not."""
        if not self.day(day):
            return []
        return [datetime.combine(day, time(h, m)) for h in sorted(self.hours) for m in sorted(self.minutes)]

    @property
    def elapsed(self) -> bool:
        return len(self.hours) == 24


def shown(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


@lru_cache(maxsize=256)
def passes(zone: ZoneInfo, day: date) -> Counter[datetime]:
    """Count how often the clock on the wall shows each minute of a day: 0, 1 or 2 times."""
    start = datetime.combine(day, time(), UTC) - 14 * 60 * MINUTE
    seen = Counter(shown(start + n * MINUTE, zone) for n in range(52 * 60))
    return Counter({wall: count for wall, count in seen.items() if wall.date() == day})


@settings(max_examples=200, deadline=None)
@given(texts, places, seconds_of_a_day)
def test_slots_only_go_forward(text: str, place: tuple[str, date], start: int) -> None:
    zone, after = place[0], instant(place[1], start)
    slots = [after, *Schedule.parse(text, zone).upcoming(after, 40)]
    assert all(slot < later for slot, later in itertools.pairwise(slots))


@settings(max_examples=200, deadline=None)
@given(texts, places, seconds_of_a_day, st.integers(0, 4 * 86400))
def test_it_does_not_matter_where_one_starts(text: str, place: tuple[str, date], start: int, seconds: int) -> None:
    schedule, after = Schedule.parse(text, place[0]), instant(place[1], start)
    until = after + timedelta(seconds=seconds)
    end = until + 2 * DAY
    assert schedule.due(after, until) + schedule.due(until, end) == schedule.due(after, end)
    slots = schedule.due(after, end)[:20]
    assert [schedule.next(before) for before in [after, *slots[:-1]]][: len(slots)] == slots


@settings(max_examples=200, deadline=None)
@given(texts, places)
def test_every_local_time_that_exists_is_due_as_often_as_it_should_be(text: str, place: tuple[str, date]) -> None:
    """None dropped, none doubled: a day's wall clock against the slots that it shows."""
    zone_name, day = place
    zone, oracle = ZoneInfo(zone_name), Oracle(text)
    start = datetime.combine(day, time(), UTC) - 2 * DAY
    slots = Schedule.parse(text, zone_name).due(start, start + 5 * DAY)
    got = Counter(wall for slot in slots if (wall := shown(slot, zone)).date() == day)
    clock = passes(zone, day)
    for wall in oracle.walls(day):
        if clock[wall]:
            assert got[wall] == (clock[wall] if oracle.elapsed else 1), wall


@settings(max_examples=200, deadline=None)
@given(texts, places)
def test_every_slot_is_a_local_time_of_the_expression_or_was_moved_out_of_a_gap(
    text: str, place: tuple[str, date]
) -> None:
    zone_name, day = place
    zone, oracle = ZoneInfo(zone_name), Oracle(text)
    start = datetime.combine(day, time(), UTC)
    for slot in Schedule.parse(text, zone_name).due(start, start + DAY):
        wall = shown(slot, zone)
        if wall in oracle.walls(wall.date()):
            continue
        # else some local time of the expression that no clock showed lies at most one gap earlier
        gap = _gap_before(slot, zone)
        assert gap, f"{wall} is not due, and no clock was put forward"
        missing = [w for d in (wall.date() - DAY, wall.date()) for w in oracle.walls(d) if gap[0] <= w < gap[1]]
        assert missing
        if "*" not in oracle.hour and not oracle.elapsed:
            assert wall == gap[1], "a fixed hour runs at the first minute that exists again"


@settings(max_examples=200, deadline=None)
@given(texts, places)
def test_what_falls_into_a_gap_still_runs(text: str, place: tuple[str, date]) -> None:
    zone_name, day = place
    zone, oracle = ZoneInfo(zone_name), Oracle(text)
    clock = passes(zone, day)
    missing = [wall for wall in oracle.walls(day) if not clock[wall]]
    if missing:
        before = missing[0].replace(tzinfo=zone, fold=1).astimezone(UTC)
        after = missing[0].replace(tzinfo=zone, fold=0).astimezone(UTC)
        assert Schedule.parse(text, zone_name).due(before, after + MINUTE)


def _gap_before(slot: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """Return the local times between which the clock jumped, at most a day before `slot`."""
    earlier = slot
    while slot - earlier <= DAY:
        before, now = shown(earlier - MINUTE, zone), shown(earlier, zone)
        if now - before > MINUTE:
            return before + MINUTE, now
        earlier -= MINUTE
    return None
