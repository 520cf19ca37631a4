"""Schedules and windows, by example."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from maint.schedule import Schedule, Window, check_zone

BERLIN = "Europe/Berlin"


def upcoming(text: str, zone: str, after: str, count: int) -> list[str]:
    """Return the next slots in local time, with their offset."""
    schedule = Schedule.parse(text, zone)
    slots = schedule.upcoming(datetime.fromisoformat(after), count)
    assert all(slot.tzinfo is UTC for slot in slots)
    return [f"{slot.astimezone(schedule.zone):%d %H:%M %z}" for slot in slots]


def test_a_plain_night() -> None:
    assert upcoming("0 2 * * *", BERLIN, "2026-11-20T22:00Z", 2) == ["21 02:00 +0100", "22 02:00 +0100"]


def test_next_is_after_and_never_at() -> None:
    schedule = Schedule.parse("0 2 * * *")
    slot = datetime(2026, 11, 20, 2, tzinfo=UTC)
    assert schedule.next(slot - timedelta(microseconds=1)) == slot
    assert schedule.next(slot) == slot + timedelta(days=1)


def test_a_local_time_that_does_not_exist_is_due_once_at_the_next_valid_minute() -> None:
    found = upcoming("30 2 * * *", BERLIN, "2026-03-28T00:00Z", 3)
    assert found == ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]


def test_several_in_the_gap_are_one_slot() -> None:
    found = upcoming("*/10 2 * * *", BERLIN, "2026-03-29T00:00Z", 2)
    assert found == ["29 03:00 +0200", "30 02:00 +0200"]


def test_a_local_time_that_exists_twice_is_due_the_first_time_only() -> None:
    found = upcoming("30 2 * * *", BERLIN, "2026-10-24T00:00Z", 3)
    assert found == ["24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100"]


def test_every_hour_keeps_its_pace_through_the_hour_that_exists_twice() -> None:
    schedule = Schedule.parse("*/20 * * * *", BERLIN)
    slots = schedule.upcoming(datetime(2026, 10, 24, 23, tzinfo=UTC), 12)
    assert {later - slot for slot, later in itertools.pairwise(slots)} == {timedelta(minutes=20)}


def test_every_hour_keeps_its_pace_over_the_hour_that_does_not_exist() -> None:
    schedule = Schedule.parse("*/20 * * * *", BERLIN)
    slots = schedule.upcoming(datetime(2026, 3, 28, 23, tzinfo=UTC), 12)
    assert {later - slot for slot, later in itertools.pairwise(slots)} == {timedelta(minutes=20)}


def test_every_second_hour_loses_none_and_doubles_none() -> None:
    spring = upcoming("*/30 */2 * * *", BERLIN, "2026-03-28T23:00Z", 4)
    assert spring == ["29 00:30 +0100", "29 03:00 +0200", "29 03:30 +0200", "29 04:00 +0200"]
    autumn = upcoming("*/30 */2 * * *", BERLIN, "2026-10-24T22:00Z", 4)
    assert autumn == ["25 00:30 +0200", "25 02:00 +0200", "25 02:30 +0200", "25 04:00 +0100"]


def test_a_gap_of_half_an_hour() -> None:
    assert upcoming("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T14:00Z", 1) == ["04 02:30 +1100"]


def test_a_gap_at_midnight() -> None:
    assert upcoming("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00Z", 1) == ["04 01:00 -0200"]


def test_a_day_that_a_zone_skipped() -> None:
    found = upcoming("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00Z", 4)
    assert found == ["29 12:00 -1000", "31 00:00 +1400", "31 12:00 +1400", "01 12:00 +1400"]


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("0 0 13 * 5", ["11-13", "11-20", "11-27", "12-04", "12-11", "12-13"]),  # both restricted: either
        ("0 0 13 * *", ["11-13", "12-13", "01-13"]),
        ("0 0 * * fri", ["11-13", "11-20", "11-27"]),
        ("0 0 1-7 * */7", ["12-06", "01-03", "02-07"]),  # a field with * restricts nothing away: both
        ("0 0 L * *", ["11-30", "12-31", "01-31", "02-28"]),
        ("0 0 * * 5#2", ["11-13", "12-11", "01-08"]),
        ("0 0 * * L5", ["11-27", "12-25", "01-29"]),
        ("0 0 * jan,mar mon-tue", ["01-04", "01-05", "01-11"]),
        ("0 0 29 2 *", ["02-29", "02-29"]),
        ("0 0 * * 5-5", ["11-13", "11-20"]),
        ("0 0 * * sat-mon", ["11-14", "11-15", "11-16", "11-21"]),
        ("0 0 1,L * *", ["11-30", "12-01", "12-31"]),
        ("0 0 * * 1,5#2", ["11-13", "11-16", "11-23"]),
        ("@weekly", ["11-15", "11-22"]),
        ("@monthly", ["12-01", "01-01"]),
        ("0 0 * * 7", ["11-15", "11-22"]),
    ],
)
def test_days(text: str, dates: list[str]) -> None:
    slots = Schedule.parse(text).upcoming(datetime(2026, 11, 12, 12, tzinfo=UTC), len(dates))
    assert [f"{slot:%m-%d}" for slot in slots] == dates


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("3-3 * * * *", [3]),
        ("10-10/5 * * * *", [10]),
        ("5/20 * * * *", [5, 25, 45]),
        ("58-1 * * * *", [0, 1, 58, 59]),
        ("1-7/3,30 * * * *", [1, 4, 7, 30]),
        ("*/25 * * * *", [0, 25, 50]),
    ],
)
def test_minutes(text: str, minutes: list[int]) -> None:
    day = datetime(2026, 11, 12, tzinfo=UTC)
    slots = Schedule.parse(text).due(day - timedelta(seconds=1), day + timedelta(minutes=59))
    assert [slot.minute for slot in slots] == minutes


def test_leap_days_across_a_century() -> None:
    slots = Schedule.parse("0 0 29 2 *").upcoming(datetime(2093, 1, 1, tzinfo=UTC), 3)
    assert [slot.year for slot in slots] == [2096, 2104, 2108]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("61 * * * *", "'61' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 0 32 * *", "'32' is no day of month"),
        ("0 0 1 13 *", "'13' is no month"),
        ("0 0 * * 8", "'8' is no day of week"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("*/90 * * * *", "'*/90' is no minute"),
        ("5-61 * * * *", "'5-61' is no minute"),
        ("1,,2 * * * *", "'1,,2' is no minute"),
        ("0 0 * foo *", "'foo' is no month"),
        ("-1 * * * *", "'-1' is no minute"),
        ("h * * * *", "'h' is no minute"),
        ("r 0 * * *", "'r' is no minute"),
        ("0 0 15W * *", "'15W' is no day of month"),
        ("0 0 * * 5#9", "'5#9' is no day of week"),
        ("٣ * * * *", "'٣' is no minute"),
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("@reboot", "five fields"),
        ("", "five fields"),
        ("0 0 30 2 *", "never due"),
        ("0 0 31 4,6,9,11 *", "never due"),
    ],
)
def test_what_is_no_schedule(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        Schedule.parse(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize("zone", ["Europe/Berln", "", "/etc/passwd", "../UTC", "Europe", "UTC\0"])
def test_what_is_no_zone(zone: str) -> None:
    with pytest.raises(ValueError, match="no such time zone"):
        check_zone(zone)


def test_a_zone_that_was_mistyped_gets_a_proposal() -> None:
    with pytest.raises(ValueError, match="did you mean Europe/Berlin"):
        check_zone("Europe/Berln")


def test_due_begins_after_and_ends_at() -> None:
    schedule = Schedule.parse("0 * * * *")
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert schedule.due(noon, noon + timedelta(hours=2)) == [noon + timedelta(hours=1), noon + timedelta(hours=2)]
    assert schedule.due(noon, noon + timedelta(minutes=59)) == []


@pytest.mark.parametrize(
    ("local", "remaining"),
    [
        ("2026-06-01T21:59+02:00", 0),
        ("2026-06-01T22:00+02:00", 8 * 60),
        ("2026-06-02T05:59+02:00", 1),
        ("2026-06-02T06:00+02:00", 0),
        ("2026-03-29T01:00+01:00", 4 * 60),  # the night of seven hours
        ("2026-10-25T01:00+02:00", 6 * 60),  # the night of nine
    ],
)
def test_a_window_over_midnight(local: str, remaining: int) -> None:
    window = Window.parse("22:00-06:00", BERLIN)
    instant = datetime.fromisoformat(local)
    assert window.remaining(instant) == timedelta(minutes=remaining)
    assert window.contains(instant) == (remaining > 0)


def test_a_window_within_a_day() -> None:
    window = Window.parse("08:00-24:00")
    assert window.remaining(datetime(2026, 1, 1, 23, tzinfo=UTC)) == timedelta(hours=1)
    assert not window.contains(datetime(2026, 1, 1, 7, 59, tzinfo=UTC))


def test_a_window_in_the_gap_keeps_its_length() -> None:
    window = Window.parse("02:00-02:30", BERLIN)
    assert window.remaining(datetime(2026, 3, 29, 1, tzinfo=UTC)) == timedelta(minutes=30)


def test_when_a_window_opens() -> None:
    window = Window.parse("22:00-06:00", BERLIN)
    assert window.opens(datetime(2026, 6, 1, 20, tzinfo=UTC)) == datetime(2026, 6, 2, 20, tzinfo=UTC)
    assert window.opens(datetime(2026, 6, 1, 19, 59, tzinfo=UTC)) == datetime(2026, 6, 1, 20, tzinfo=UTC)


@pytest.mark.parametrize("text", ["22-6", "25:00-06:00", "22:00-22:00", "22:60-23:00", "22:00", "a:b-c:d", ""])
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match="not a window"):
        Window.parse(text)
