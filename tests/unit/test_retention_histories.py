"""Retention against thousands of histories: outages, failed runs, wrong clocks, zones, pins, locks."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from maint.backups.retention import Candidate, Decision, Group, decide
from maint.config.model import Keep
from maint.model import Trust

START = datetime(2024, 1, 1, 2, tzinfo=UTC)
#: with summer time, without, half hours, half an hour of summer time, a day that did not exist, beyond +12
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu")
GROUPS = [
    Group(installation, job, "main", database, repository)
    for installation in ("here", "there")
    for job in ("backup", "hourly")
    for database in ("shop", "shop2", "sho")  # prefixes of each other
    for repository in ("local", "offsite")
]
THOUSANDS = settings(max_examples=400, deadline=None)

zones = st.sampled_from(ZONES).map(ZoneInfo)
counts = st.sampled_from([0, 0, 1, 2, 3, 7, 12])
withins = st.none() | st.integers(1, 60).map(lambda days: timedelta(days=days))


@st.composite
def keeps(draw: st.DrawFn) -> Keep:
    names = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    numbers = {name: draw(counts) for name in names}
    within = draw(withins)
    if not any(numbers.values()) and within is None:
        numbers["last"] = 1
    return Keep(**numbers, within=within)


@st.composite
def histories(draw: st.DrawFn, group: Group = GROUPS[0]) -> tuple[list[Candidate], datetime]:
    """Backups in any order, and the present: some before it, some after."""
    gaps = st.one_of(
        st.integers(0, 3),  # hours: several a day
        st.sampled_from([23, 24, 24, 24, 25]),  # daily
        st.integers(24 * 2, 24 * 90),  # an outage
        st.integers(-24 * 40, -1),  # the clock was set back
    )
    at = START
    found = []
    for n, gap in enumerate(draw(st.lists(gaps, max_size=25))):
        at += timedelta(hours=gap)
        pinned = draw(st.sampled_from([None, None, None, None, "", "before 4.2"]))
        lock = draw(st.sampled_from([None, None, None, 1, 400]))
        found.append(
            Candidate(
                id=f"{at:%Y%m%dT%H%M%SZ}-{n:04x}",
                group=group,
                created_at=at,
                trust=draw(st.sampled_from([*Trust, Trust.STORED, Trust.STORED, Trust.STORED])),
                hidden=draw(st.sampled_from([False] * 9 + [True])),
                pinned=pinned,
                locked_until=at + timedelta(days=lock) if lock else None,
            )
        )
    now = at + timedelta(hours=draw(st.sampled_from([0, 1, 24, 24 * 500, -24 * 3, -24 * 800])))
    return draw(st.permutations(found)), now


def good(backups: Iterable[Candidate], now: datetime) -> list[Candidate]:
    counted = [b for b in backups if b.trust > Trust.DAMAGED and not b.hidden and b.created_at <= now]
    return sorted(counted, key=lambda b: (b.created_at, b.id), reverse=True)


def kept(decision: Decision) -> list[Candidate]:
    return [verdict.backup for verdict in decision.kept]


@THOUSANDS
@given(histories(), keeps(), zones)
def test_what_must_never_be_removed_is_not(
    history: tuple[list[Candidate], datetime], keep: Keep, zone: ZoneInfo
) -> None:
    backups, now = history
    decision = decide(backups, keep, zone=zone, now=now)
    assert sorted(v.backup.id for v in decision.verdicts) == sorted(b.id for b in backups)
    assert all(verdict.reason for verdict in decision.verdicts)
    counted = good(backups, now)
    removed = {verdict.backup.id for verdict in decision.removed}
    proven = [b for b in counted if b.trust is Trust.PROVEN]
    assert not removed & {b.id for b in [*counted[: max(1, keep.last)], *proven[:1]]}
    for verdict in decision.removed:
        backup = verdict.backup
        assert backup.pinned is None
        assert not backup.hidden
        assert backup.created_at <= now
        assert backup.locked_until is None or backup.locked_until <= now
        if keep.within and backup in counted:
            assert counted[0].created_at - backup.created_at > keep.within
    if not counted:
        assert not removed


@THOUSANDS
@given(histories(), keeps(), zones)
def test_each_class_keeps_the_newest_of_as_many_periods_as_there_are(
    history: tuple[list[Candidate], datetime], keep: Keep, zone: ZoneInfo
) -> None:
    backups, now = history
    formats = {"daily": "%Y-%m-%d", "weekly": "%G-%V", "monthly": "%Y-%m", "yearly": "%Y"}
    staying = {b.id for b in kept(decide(backups, keep, zone=zone, now=now))}
    for name, form in formats.items():
        periods: dict[str, Candidate] = {}
        for backup in good(backups, now):
            periods.setdefault(backup.created_at.astimezone(zone).strftime(form), backup)
        newest = list(periods.values())[: getattr(keep, name)]
        assert {b.id for b in newest} <= staying


@THOUSANDS
@given(histories(), keeps(), zones)
def test_a_second_time_removes_nothing_more(
    history: tuple[list[Candidate], datetime], keep: Keep, zone: ZoneInfo
) -> None:
    backups, now = history
    left = kept(decide(backups, keep, zone=zone, now=now))
    assert decide(left, keep, zone=zone, now=now).removed == ()


@THOUSANDS
@given(histories(), keeps(), zones)
def test_what_does_not_count_pushes_nothing_out(
    history: tuple[list[Candidate], datetime], keep: Keep, zone: ZoneInfo
) -> None:
    """Without damaged, hidden and future ones the same good ones stay."""
    backups, now = history
    counted = good(backups, now)
    decision = decide(backups, keep, zone=zone, now=now)
    alone = decide(counted, keep, zone=zone, now=now)
    assert [b for b in kept(decision) if b in counted] == kept(alone)


@THOUSANDS
@given(histories(), keeps(), zones, st.integers(1, 5))
def test_max_delete(history: tuple[list[Candidate], datetime], keep: Keep, zone: ZoneInfo, max_delete: int) -> None:
    backups, now = history
    free = decide(backups, keep, zone=zone, now=now)
    limited = decide(backups, keep, zone=zone, now=now, max_delete=max_delete)
    if len(free.removed) > max_delete:
        assert limited.removed == ()
        assert limited.finding is not None
    else:
        assert limited == free


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(GROUPS).flatmap(lambda g: histories(group=g)), max_size=4), keeps(), zones)
def test_groups_do_not_see_each_other(
    parts: list[tuple[list[Candidate], datetime]], keep: Keep, zone: ZoneInfo
) -> None:
    """Deciding over each group of a crowded repository is the same as deciding over it alone."""
    groups: dict[Group, dict[str, Candidate]] = defaultdict(dict)
    for backups, _ in parts:
        for backup in backups:
            groups[backup.group][backup.id] = backup
    now = START + timedelta(days=5000)
    for group, members in groups.items():
        decision = decide(list(members.values()), keep, zone=zone, now=now)
        assert {v.backup.group for v in decision.verdicts} <= {group}
        assert kept(decision)
        assert kept(decision) == kept(decide(list(members.values())[::-1], keep, zone=zone, now=now))


@settings(max_examples=150, deadline=None)
@given(
    nights=st.lists(st.sampled_from(["good", "good", "good", "good", "damaged", "nothing"]), min_size=1, max_size=90),
    outage=st.integers(0, 120),
    zone=zones,
)
def test_years_of_nights_with_an_outage(nights: list[str], outage: int, zone: ZoneInfo) -> None:
    """Running every night, through failures and an outage, never leaves less than was promised."""
    keep = Keep(last=3, daily=7, weekly=4, monthly=12)
    at, left, ever = START, list[Candidate](), 0
    for n, night in enumerate([*nights, *["nothing"] * outage, "good", "good"]):
        at += timedelta(days=1)
        if night != "nothing":
            trust = Trust.STORED if night == "good" else Trust.DAMAGED
            left.append(Candidate(f"{at:%Y%m%dT%H%M%SZ}-{n:04x}", GROUPS[0], at, trust))
            ever += night == "good"
        left = kept(decide(left, keep, zone=zone, now=at, max_delete=3))
        assert len(good(left, at)) >= min(ever, 7)
    assert len(left) <= 7 + 4 + 12 + 12 + 4 + 1


@THOUSANDS
@given(histories(), keeps(), zones, st.integers(0, 10_000))
def test_time_alone_removes_nothing(
    history: tuple[list[Candidate], datetime], keep: Keep, zone: ZoneInfo, days: int
) -> None:
    """However long nothing new arrives, what was kept of the past stays (locks apart)."""
    backups, now = history
    past = [replace(b, locked_until=None) for b in backups if b.created_at <= now]
    left = kept(decide(past, keep, zone=zone, now=now))
    assert decide(left, keep, zone=zone, now=now + timedelta(days=days)).removed == ()
