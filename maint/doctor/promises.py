"""Doctor's lines about objectives: whether the enabled schedules can keep them at all. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from maint.config.model import Config, Job, Objectives
from maint.config.values import format_duration, matches
from maint.doctor.lines import fail, ok
from maint.schedule import Schedule
from maint.task import Check

#: how far ahead schedules are looked at: at least so long, and so many slots of the most frequent one
_AHEAD = timedelta(days=8)
_SLOTS = 15


def promises(config: Config, server: str, now: datetime) -> Iterator[Check]:
    """Compare what is promised of a server, and of single databases there, with the schedules."""
    own = config.server[server].objectives
    for database in (None, *(own.database if own else ())):
        objectives = config.objectives_of(server, database)
        if database is not None and objectives == config.objectives_of(server):
            continue
        subject = f"objectives {server}" + (f"/{database}" if database is not None else "")
        broken = list(_broken(config, server, database, objectives, now, subject))
        yield from broken
        told = [f"{key} {format_duration(value)}" for key, value in objectives if value is not None]
        if told and not broken:
            yield ok(subject, f"{', '.join(told)}: the schedules can keep that")


def _broken(
    config: Config, server: str, database: str | None, objectives: Objectives, now: datetime, subject: str
) -> Iterator[Check]:
    backups = _interval(config, "backup", server, database, now)
    proofs = _interval(config, "verify", server, database, now)
    for key, limit, interval, task in (
        ("rpo", objectives.rpo, backups, "backup"),
        ("proof", objectives.proof, proofs, "verify"),
    ):
        if limit is None:
            continue
        if interval is None:
            what = {"rpo": "makes backups", "proof": "verifies them"}[key]
            yield fail(
                subject,
                f"{key} = {format_duration(limit)} cannot be kept: no enabled job {what} on a schedule",
                f"enabled = true and a schedule in jobs/{task}.toml; or remove {key} {_table(config, server, key)}",
            )
        elif limit <= interval:
            yield fail(
                subject,
                f"{key} = {format_duration(limit)} cannot be kept: "
                f"up to {_hours(interval)} lie between two runs of {task}",
                f'{key} = "{_hours(interval + _slack(interval))}"   # {_table(config, server, key)}; '
                f"or a schedule more often in jobs/{task}.toml",
            )
    if objectives.rto is not None and proofs is None:
        yield fail(
            subject,
            f"rto = {format_duration(objectives.rto)} is never measured: no enabled job restores on a schedule",
            f"enabled = true and a schedule in jobs/verify.toml; or remove rto {_table(config, server, 'rto')}",
        )


def _interval(config: Config, task: str, server: str, database: str | None, now: datetime) -> timedelta | None:
    """Return the longest time between two runs, of whichever job of the task; None if none is scheduled."""
    schedules = [
        cron
        for job in config.jobs.values()
        if job.enabled
        and job.task == task
        and job.mode == "act"
        and matches(job.servers, server)
        and (database is None or matches(getattr(job.options, "databases", ("*",)), database))
        and (cron := _schedule(config, job)) is not None
    ]
    if not schedules:
        return None
    until = max(now + _AHEAD, min(schedule.upcoming(now, _SLOTS)[-1] for schedule in schedules))
    slots = sorted({slot for schedule in schedules for slot in schedule.due(now, until)})
    return max(_gaps(slots))


def _gaps(slots: Sequence[datetime]) -> list[timedelta]:
    return [later - sooner for sooner, later in pairwise(slots)]


def _schedule(config: Config, job: Job) -> Schedule | None:
    """Return the schedule of a job, or of the one that it runs after."""
    while job.cron is None:
        before = config.jobs.get(job.after or "")
        if before is None or not before.enabled:
            return None
        job = before
    return job.cron


def _slack(interval: timedelta) -> timedelta:
    """Return what a promise should have above the interval: for the run itself, and one hour when clocks change."""
    return max(timedelta(hours=2), min(interval / 7, timedelta(days=1)))


def _hours(span: timedelta) -> str:
    if span < timedelta(hours=1):
        return format_duration(span)
    return format_duration(timedelta(hours=-(-span // timedelta(hours=1))))


def _table(config: Config, server: str, key: str) -> str:
    own = config.server[server].objectives
    return (
        f"in [server.{server}.objectives]" if own is not None and getattr(own, key) is not None else "in [objectives]"
    )
