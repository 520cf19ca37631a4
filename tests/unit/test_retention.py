"""Retention in words: each rule with a small example."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from maint.backups.retention import Candidate, Decision, Group, decide
from maint.config.model import Keep
from maint.model import Trust

GROUP = Group("here", "backup", "main", "shop", "local")
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(text: str, **more: object) -> Candidate:
    """Make a backup of an instant, as in "1120" or "1120T0200"."""
    day, _, time = text.partition("T")
    instant = datetime.strptime(f"2026{day}T{time or '0200'}+0000", "%Y%m%dT%H%M%z")
    return Candidate(f"{instant:%Y%m%dT%H%M%SZ}-{text[:4]}", GROUP, instant, **more)  # type: ignore[arg-type]


def ids(decision: Decision) -> list[str]:
    return [verdict.backup.id[4:8] for verdict in decision.kept]


def reasons(decision: Decision) -> dict[str, str]:
    return {verdict.backup.id[4:8]: verdict.reason for verdict in decision.verdicts}


def choose(*backups: Candidate, zone: ZoneInfo = BERLIN, now: datetime = NOW, **keep: object) -> Decision:
    return decide(backups, Keep.model_validate(keep), zone=zone, now=now)


def test_classes_and_reasons_in_words() -> None:
    days = [at(f"11{day:02}") for day in range(1, 21)]
    decision = choose(*days, last=2, daily=3, weekly=3, monthly=2)
    assert ids(decision) == ["1120", "1119", "1118", "1115", "1108"]
    words = reasons(decision)
    assert words["1120"] == "newest good; last 1 of 2; daily 1 of 3; weekly 1 of 3; monthly 1 of 2"
    assert words["1115"] == "weekly 2 of 3"
    assert words["1117"] == "beyond last 2, daily 3; its week is kept by 20261120"
    assert words["1101"] == "beyond last 2, daily 3, weekly 3; its month is kept by 20261120"


def test_what_is_beyond_every_class_says_so() -> None:
    assert reasons(choose(at("1120"), at("1001"), last=1, weekly=1))["1001"] == "beyond last 1, weekly 1"


def test_two_of_one_day_are_told_apart_by_their_whole_id() -> None:
    words = reasons(choose(at("1120T0200"), at("1120T0100"), at("1119"), daily=1))
    assert words["1119"] == "beyond daily 1"
    decision = choose(at("1120T0200"), at("1120T0100"), daily=1)
    assert decision.removed[0].reason == "its day is kept by 20261120T020000Z-1120"


def test_days_are_those_of_the_zone() -> None:
    late, early = at("1119T2330"), at("1119T2230")  # 00:30 on the 20th and 23:30 on the 19th in Berlin
    assert len(choose(late, early, daily=2).kept) == 2
    assert len(choose(late, early, daily=2, zone=ZoneInfo("UTC")).kept) == 1


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    first, second = at("1025T0010"), at("1025T0110")  # both 02:10 in Berlin
    assert len(choose(first, second, hourly=2).kept) == 2


def test_weeks_are_iso_weeks_across_the_year() -> None:
    monday, sunday = at("1230"), at("1227")
    after = [at("1231"), monday, sunday]
    later = datetime(2027, 1, 5, tzinfo=UTC)
    assert ids(choose(*after, weekly=2, now=later)) == ["1231", "1227"]


def test_within_counts_from_the_newest_backup() -> None:
    after_an_outage = [at("0901"), at("0830"), at("0801")]
    assert ids(choose(*after_an_outage, within="7d")) == ["0901", "0830"]
    assert ids(choose(*after_an_outage, within="2d")) == ["0901", "0830"]
    assert ids(choose(*after_an_outage, within="47h")) == ["0901"]


def test_age_alone_never_leaves_nothing() -> None:
    decision = choose(at("0901"), within="1d", now=NOW + timedelta(days=900))
    assert ids(decision) == ["0901"]


def test_damaged_ones_count_for_nothing_and_the_newest_good_stays() -> None:
    bad = [at(f"11{day}", trust=Trust.DAMAGED) for day in (18, 19, 20)]
    decision = choose(*bad, at("1101"), at("1030"), last=1)
    assert ids(decision) == ["1120", "1119", "1118", "1101"]
    assert reasons(decision)["1120"] == "damaged, but nothing newer is good"
    assert reasons(decision)["1101"] == "newest good; last 1 of 1"


def test_a_damaged_one_goes_once_a_newer_one_is_good() -> None:
    words = reasons(choose(at("1120"), at("1119", trust=Trust.DAMAGED), last=3))
    assert words["1119"] == "damaged, and a newer one is good"


def test_a_damaged_one_stays_while_it_is_all_there_is_of_its_month() -> None:
    damaged = [at(day, trust=Trust.DAMAGED) for day in ("1015", "1010", "1119")]
    decision = choose(at("1120"), *damaged, last=1, monthly=3)
    assert ids(decision) == ["1120", "1015"]
    assert reasons(decision)["1015"] == "damaged, but all there is of its month"


def test_pinned_and_proven_stay() -> None:
    words = reasons(
        choose(at("1120"), at("1101", pinned="before 4.2", trust=Trust.PROVEN), at("1001", pinned=""), last=1)
    )
    assert words["1101"] == "newest proven; pinned: before 4.2"
    assert words["1001"] == "pinned"


def test_locked_is_no_error() -> None:
    until = NOW + timedelta(days=3)
    decision = choose(at("1120"), at("1001", locked_until=until), at("0901", locked_until=NOW), last=1)
    assert reasons(decision)["1001"] == "locked until 2026-11-23 12:00 UTC"
    assert ids(decision) == ["1120", "1001"]


def test_hidden_ones_are_neither_counted_nor_touched() -> None:
    decision = choose(at("1120", hidden=True), at("1119"), at("1118"), last=1)
    assert ids(decision) == ["1120", "1119"]
    assert reasons(decision)["1120"] == "hidden by a delete marker"


def test_backups_from_the_future_push_nothing_out() -> None:
    future = [at("1221"), at("1222"), at("1223")]
    decision = choose(*future, at("1120"), at("1119"), last=2)
    assert len(decision.kept) == 5
    assert reasons(decision)["1221"] == "from the future: a clock was wrong"


def test_more_than_max_delete_removes_none() -> None:
    days = [at(f"11{day:02}") for day in range(10, 21)]
    keep = Keep(last=7)
    decision = decide(days, keep, zone=BERLIN, now=NOW, max_delete=3)
    assert decision.removed == ()
    assert decision.finding is not None
    assert decision.finding.value == "4"
    assert reasons(decision)["1110"] == "4 at once are too many; beyond last 7"
    assert len(decide(days, keep, zone=BERLIN, now=NOW, max_delete=4).removed) == 4


@pytest.mark.parametrize("field", ["installation", "job", "server", "database", "repository"])
def test_mixed_input_is_refused(field: str) -> None:
    from dataclasses import replace

    other = Candidate("x", replace(GROUP, **{field: "other"}), NOW)
    with pytest.raises(ValueError, match="at a time"):
        choose(at("1120"), other, last=1)


def test_the_same_backup_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        choose(at("1120"), at("1120"), last=1)


def test_nothing_is_decided_over_nothing() -> None:
    assert choose(last=1) == Decision(())
