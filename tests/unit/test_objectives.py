"""Promises, judged by the backups there are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maint.backups import judging
from maint.backups.inventory import Backup, Inventory
from maint.backups.objectives import Due, Measure, State, evaluate, worst
from maint.backups.paths import Place
from maint.backups.summary import Summary
from maint.config.model import Config, Job, Objectives, ServerConfig, ServerObjectives
from maint.doctor.promises import promises
from maint.errors import RepositoryError
from maint.model import Severity, Trust

NOW = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL = Objectives(rpo=26 * HOUR, proof=8 * DAY, rto=HOUR)


def backup(
    age: timedelta,
    trust: Trust = Trust.STORED,
    seconds: float | None = None,
    *,
    database: str = "shop",
    repository: str = "local",
) -> Backup:
    at = NOW - age
    place = Place("main", database, f"{at:%Y%m%dT%H%M%SZ}-0000")
    summary = Summary(
        kind="database",
        id=place.id,
        installation="test",
        host="here",
        job="backup",
        run_id=7,
        slot="manual:7",
        server="main",
        database=database,
        created_at=at,
        finished_at=at,
        format="custom",
        encrypted=False,
        size_bytes=1,
        raw_bytes=1,
        tables=1,
        rows=1,
        server_version="15.4",
        file_count=None,
        files=(),
    )
    seen = at if trust > Trust.STORED else None
    return Backup(repository, place, summary, trust, seen, seconds)


def judged(*backups: Backup, objectives: Objectives = ALL, due: Due | None = None) -> dict[str, Measure]:
    found = evaluate("main", "shop", backups, objectives, now=NOW, due=due or Due())
    return {one.name: one for one in found.measures}


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (HOUR, State.KEPT),
        (20 * HOUR, State.KEPT),
        (21 * HOUR, State.NEAR),
        (26 * HOUR, State.NEAR),
        (27 * HOUR, State.BROKEN),
        (-HOUR, State.KEPT),  # a clock that is ahead
    ],
)
def test_age_of_the_newest_good_backup(age: timedelta, state: State) -> None:
    rpo = judged(backup(90 * HOUR), backup(age))["rpo"]
    assert (rpo.state, rpo.breaks_at) == (state, NOW - age + 26 * HOUR)


def test_what_is_due_before_the_limit_is_not_about_to_break() -> None:
    old = backup(22 * HOUR)
    assert judged(old, due=Due(backup=NOW + 3 * HOUR))["rpo"].state is State.KEPT
    assert judged(old, due=Due(backup=NOW + 5 * HOUR))["rpo"].state is State.NEAR
    assert judged(backup(27 * HOUR), due=Due(backup=NOW + HOUR))["rpo"].state is State.BROKEN


def test_damaged_and_hidden_ones_do_not_count() -> None:
    ones = (backup(27 * HOUR), backup(HOUR, Trust.DAMAGED), replace(backup(2 * HOUR), hidden=True))
    assert judged(*ones)["rpo"].state is State.BROKEN


def test_a_copy_that_is_damaged_in_one_repository_is_good_in_another() -> None:
    assert judged(backup(HOUR, Trust.DAMAGED), backup(HOUR, repository="offsite"))["rpo"].state is State.KEPT


def test_nothing_at_all() -> None:
    assert {name: one.state for name, one in judged().items()} == {
        "rpo": State.BROKEN,
        "proof": State.UNMEASURED,
        "rto": State.UNMEASURED,
    }
    assert judged(objectives=Objectives()) == {}


def test_proof_counts_only_what_is_proven() -> None:
    assert judged(backup(HOUR, Trust.RESTORED, 9.0))["proof"].state is State.UNMEASURED
    assert judged(backup(9 * DAY, Trust.PROVEN, 9.0))["proof"].state is State.BROKEN


def test_the_restore_of_the_newest_snapshot_counts_and_its_trend_is_told() -> None:
    ones = [backup(n * 30 * DAY, Trust.PROVEN, 3000.0 - n * 100) for n in (0, 1, 2, 3)]
    found = evaluate("main", "shop", ones, ALL, now=NOW)
    rto = next(one for one in found.measures if one.name == "rto")
    assert (rto.state, rto.value) == (State.NEAR, timedelta(seconds=3000))
    assert found.trend is not None
    assert found.trend.seconds_per_month == pytest.approx(100)
    assert found.trend.forecast == pytest.approx(3100)
    assert rto.breaks_at is not None
    assert (rto.breaks_at - NOW) / DAY == pytest.approx(180)


def test_no_trend_of_one_day_and_no_forecast_of_one_that_falls() -> None:
    assert evaluate("main", "shop", [backup(HOUR, Trust.PROVEN, 9.0)] * 2, ALL, now=NOW).trend is None
    falls = judged(backup(60 * DAY, Trust.PROVEN, 3500.0), backup(HOUR, Trust.PROVEN, 3400.0))["rto"]
    assert (falls.state, falls.breaks_at) == (State.NEAR, None)


def test_the_longest_gap_ends_within_the_window_and_reaches_up_to_now() -> None:
    def gap(*days: float) -> timedelta | None:
        return evaluate("main", "shop", [backup(n * DAY) for n in days], ALL, now=NOW).longest_gap

    assert gap(1, 2, 5, 7) == 3 * DAY
    assert gap(4, 5) == 4 * DAY
    assert gap(20, 35) == 20 * DAY
    assert gap(1, 29, 100) == 71 * DAY
    assert gap(1, 2, 31, 100) == 29 * DAY
    assert gap() is None


_BACKUPS = st.lists(
    st.builds(
        lambda hours, trust, seconds: backup(
            timedelta(hours=hours), trust, seconds if trust >= Trust.RESTORED else None
        ),
        st.floats(0, 10_000),
        st.sampled_from(list(Trust)),
        st.floats(0, 1e6),
    ),
    max_size=12,
)


@given(_BACKUPS, st.integers(1, 10_000), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_a_state_is_what_its_number_says(backups, hours, random) -> None:  # type: ignore[no-untyped-def]
    limit = timedelta(hours=hours)
    objectives = Objectives(rpo=limit, proof=limit, rto=limit)
    found = evaluate("main", "shop", backups, objectives, now=NOW)
    for one in found.measures:
        assert (one.state is State.BROKEN) == (one.value > limit if one.value is not None else one.name == "rpo")
        assert one.state is not State.KEPT or one.share <= 0.8
    shuffled = random.sample(backups, len(backups))
    again = evaluate("main", "shop", shuffled, objectives, now=NOW)
    assert [(m.name, m.state) for m in again.measures] == [(m.name, m.state) for m in found.measures] or len(
        {b.created_at for b in backups}
    ) < len(backups)


@given(_BACKUPS, st.floats(0, 100))
def test_a_further_good_backup_never_makes_it_worse(backups, hours) -> None:  # type: ignore[no-untyped-def]
    def shares(of: list[Backup]) -> list[float]:
        found = evaluate("main", "shop", of, Objectives(rpo=DAY, proof=DAY), now=NOW)
        return [one.share for one in found.measures]

    before, after = shares(backups), shares([*backups, backup(timedelta(hours=hours), Trust.PROVEN, 1.0)])
    assert all(new <= old for new, old in zip(after, before, strict=True))


# -- of a configuration --


def config(objectives: Objectives = ALL, own: ServerObjectives | None = None, **schedules: str | None) -> Config:
    jobs = {
        task: Job.model_validate({"name": task, "task": task, "schedule": schedule})
        for task, schedule in ({"backup": "0 2 * * *", "verify": "0 4 * * sun"} | schedules).items()
    }
    server = ServerConfig(name="main", objectives=own)
    return Config(state_dir=Path("/nowhere"), objectives=objectives, server={"main": server}, jobs=jobs)


def test_overrides_go_key_by_key() -> None:
    own = ServerObjectives(rpo=2 * HOUR, database={"shop": Objectives(proof=DAY)})
    found = config(own=own)
    assert found.objectives_of("main", "ledger") == Objectives(rpo=2 * HOUR, proof=8 * DAY, rto=HOUR)
    assert found.objectives_of("main", "shop") == Objectives(rpo=2 * HOUR, proof=DAY, rto=HOUR)
    assert found.objectives_of("elsewhere", "shop") == ALL


def test_findings_name_value_limit_and_fix() -> None:
    stock = Inventory((backup(27 * HOUR, Trust.PROVEN, 4000.0), backup(40 * HOUR, database="ledger")))
    found = {(one.check, one.object): one for one in judging.findings(stock, config(), NOW)}
    rpo = found["objective.rpo", "shop"]
    assert (rpo.severity, rpo.threshold, rpo.value) == (Severity.CRITICAL, "26h", "1.1 d; longest gap in 30 d: 1.1 d")
    assert rpo.fix == "maint run backup --server main"
    rto = found["objective.rto", "shop"]
    assert rto.message == "rto of shop (1h) is broken: the newest measured restore of shop took 1:06:40"
    unproven = found["objective.proof", "ledger"]
    assert (unproven.severity, unproven.fix) == (Severity.WARNING, "maint run verify --server main")
    assert ("objective.proof", "shop") not in found


def test_a_repository_that_could_not_be_read_is_named() -> None:
    stock = Inventory((backup(27 * HOUR),), unavailable={"offsite": RepositoryError("away")})
    assert {one.scope for one in judging.findings(stock, config(), NOW)} == {"without offsite, which could not be read"}


def test_which_databases_are_judged() -> None:
    backups = [backup(HOUR), backup(3 * DAY, database="late"), backup(9 * DAY, database="gone")]
    stock = Inventory(tuple(backups))
    assert {one.database for one in judging.standings(backups, config(), NOW)} == {"shop", "late"}
    said = {"main": {"shop", "gone", "new"}}
    assert {one.object for one in judging.findings(stock, config(), NOW, said) if one.check == "objective.rpo"} == {
        "gone",
        "new",
    }


def test_the_worst_database_is_named() -> None:
    backups = [backup(HOUR), backup(40 * HOUR, database="late"), backup(30 * HOUR, database="later")]
    found = judging.standings(backups, config(Objectives(rpo=26 * HOUR)), NOW)
    assert [(of.database, count) for of, _, count in worst(found)] == [("late", 2)]
    assert judging.line(found, NOW) == "rpo 26 h: broken: late 1.7 d and 1 more"


@pytest.mark.parametrize(
    ("objectives", "schedules", "says"),
    [
        ({"rpo": 26 * HOUR, "proof": 8 * DAY, "rto": HOUR}, {}, []),
        ({"rpo": 24 * HOUR}, {}, ["rpo = 1d cannot be kept: up to 1d lie between two runs of backup"]),
        ({"rpo": 7 * HOUR}, {"backup": "0 */6 * * *"}, []),
        ({"rpo": 13 * HOUR}, {"backup": "0 8,22 * * *"}, ["rpo = 13h cannot be kept: up to 14h lie"]),
        ({"rpo": DAY}, {"backup": None}, ["rpo = 1d cannot be kept: no enabled job makes backups on a schedule"]),
        ({"proof": 2 * DAY}, {}, ["proof = 2d cannot be kept: up to 1w lie between two runs of verify"]),
        (
            {"proof": 2 * DAY, "rto": HOUR},
            {"verify": None},
            ["proof = 2d cannot", "rto = 1h is never measured"],
        ),
        ({}, {}, []),
    ],
)
def test_doctor_refuses_what_the_schedules_cannot_keep(objectives, schedules, says) -> None:  # type: ignore[no-untyped-def]
    lines = list(promises(config(Objectives(**objectives), **schedules), "main", NOW))
    failed = [line for line in lines if line.status == "FAIL"]
    assert len(failed) == len(says)
    assert all(text in line.message and line.fix for text, line in zip(says, failed, strict=True))
    assert bool(lines) == bool(objectives)


def test_doctor_looks_at_single_databases_and_proposes_what_can_be_kept() -> None:
    own = ServerObjectives(database={"shop": Objectives(proof=2 * DAY)})
    line = next(line for line in promises(config(own=own), "main", NOW) if line.status == "FAIL")
    assert line.subject == "objectives main/shop"
    assert line.fix is not None
    assert line.fix.startswith('proof = "8d"')
