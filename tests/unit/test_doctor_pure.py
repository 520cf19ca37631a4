"""The pure parts of doctor: next runs, the lock against keep, free space."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maint.config.model import Config, Job, Keep, RepositoryConfig, ServerConfig
from maint.doctor import agenda, retention
from maint.doctor.lines import some
from maint.doctor.repositories import space
from maint.errors import ServerError
from maint.task import Check
from maint.tasks import backup
from maint.tasks.backup import Options

NOW = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def job(name: str, schedule: str | None, zone: str = "UTC", **more: object) -> Job:
    given = {"name": name, "task": "backup", "schedule": schedule, "timezone": zone, "options": Options(), **more}
    return Job.model_validate(given)


def config(*jobs: Job) -> Config:
    return Config(state_dir=Path("/nowhere"), jobs={one.name: one for one in jobs})


def test_next_runs_of_all_jobs_in_order_with_zone_and_utc() -> None:
    line = agenda.next_runs(
        config(
            job("backup", "0 2 * * *", "Europe/Berlin"),
            job("verify", "0 4 * * 0"),
            job("late", "30 23 * * *", "America/New_York"),
            job("off", "* * * * *", enabled=False),
            job("manual", None),
        ),
        NOW,
    )
    assert line.status == "OK"
    assert line.message.split(", ") == [
        "backup tomorrow 02:00 CET (01:00 UTC)",
        "late today 23:30 EST (Sat 04:30 UTC)",
        "backup Sun 22 Nov 02:00 CET (01:00 UTC)",
        "verify Sun 22 Nov 04:00 UTC",
        "late tomorrow 23:30 EST (Sun 04:30 UTC)",
    ]


def test_no_next_run() -> None:
    assert agenda.next_runs(config(job("off", "* * * * *", enabled=False)), NOW).status == "WARN"


@pytest.mark.parametrize(
    ("keep", "between", "shortest", "longest"),
    [
        (Keep(last=3, daily=7, weekly=4, monthly=12), [DAY] * 14, 7 * DAY, 372 * DAY),
        (Keep(last=3, daily=7), [DAY / 24] * 14, DAY / 8, 7 * DAY),
        (Keep(last=10), [DAY] * 14, 10 * DAY, 10 * DAY),
        (Keep(within=timedelta(days=30)), [DAY] * 14, 30 * DAY, 30 * DAY),
        (Keep(weekly=4), [DAY] * 14, timedelta(0), 28 * DAY),
        (Keep(daily=7), [], 7 * DAY, 7 * DAY),
    ],
)
def test_lives(keep: Keep, between: list[timedelta], shortest: timedelta, longest: timedelta) -> None:
    assert retention.lives(keep, between) == (shortest, longest)


@pytest.mark.parametrize(
    ("lock", "status", "message"),
    [
        ("1d", "WARN", "ends after 1d, but keep of backup holds every backup for 1w"),
        ("1w", "OK", "which fits"),
        ("2w", "OK", "would let some go after 1w: these wait for the lock"),
        ("520d", "WARN", "outlasts everything keep of backup asks for (372d)"),
    ],
)
def test_lock_against_keep(lock: str, status: str, message: str) -> None:
    repository = RepositoryConfig.model_validate({"name": "offsite", "url": "s3://bucket/prefix", "lock": lock})
    keep = Keep(last=3, daily=7, weekly=4, monthly=12)
    [line] = retention.lock_against_keep(repository, "backup", keep, [DAY] * 14)
    assert line.status == status
    assert message in line.message
    assert (line.fix is not None) == (status == "WARN")


def test_nothing_is_said_of_a_lock_that_is_not_there() -> None:
    repository = RepositoryConfig.model_validate({"name": "offsite", "url": "s3://bucket/prefix"})
    assert not list(retention.lock_against_keep(repository, "backup", Keep(last=1), []))


@pytest.mark.parametrize(("free", "expected", "told"), [(10, 11, 1), (11, 11, 0), (None, 11, 0), (10, None, 0)])
def test_space(free: int | None, expected: int | None, told: int) -> None:
    repository = RepositoryConfig.model_validate({"name": "local", "url": "file:///nowhere/at/all"})
    assert len(list(space(repository, free, expected))) == told


def test_some() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d"]) == "a, b, c and 1 more"


def test_preflights_of_enabled_jobs_on_the_servers_asked_for() -> None:
    def preflight(_config: Config, one: Job, server: ServerConfig | None) -> Iterator[Check]:
        assert server is not None
        yield Check("OK", f"{one.name} {server.name}", "ready")
        if server.name == "b":
            raise ServerError("it broke", hint="mend it")

    task = replace(backup.TASK, preflight=preflight)
    servers = [ServerConfig(name=name) for name in ("a", "b", "c")]
    jobs = config(job("backup", "@daily", servers=("a", "b")), job("off", "@daily", enabled=False))
    assert list(agenda.preflights(jobs, {"backup": task}, servers)) == [
        Check("OK", "backup a", "ready"),
        Check("OK", "backup b", "ready"),
        Check("FAIL", "job backup", "it broke", "mend it"),
    ]
    assert list(agenda.preflights(jobs, {"backup": backup.TASK}, servers)) == []
