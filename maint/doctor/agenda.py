"""Doctor's lines about jobs: which write where, what they need, and the next runs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import merge
from itertools import islice
from typing import Any, cast
from zoneinfo import ZoneInfo

from maint.config.model import Config, Job, Keep, RepositoryConfig, ServerConfig
from maint.config.values import matches
from maint.doctor.lines import fail, guarded, ok, warn
from maint.doctor.retention import gaps
from maint.task import Check, Scope, Task
from maint.tasks import backup

#: next runs that are shown
_NEXT = 5


def backup_jobs(config: Config, server: ServerConfig | None = None) -> list[tuple[Job, backup.Options]]:
    """Return the enabled jobs that make backups (of this server), with their options."""
    found = [job for job in config.jobs.values() if job.enabled and job.task == backup.TASK.name]
    if server is not None:
        found = [job for job in found if matches(job.servers, server.name)]
    return [(job, cast("backup.Options", job.options)) for job in found]


def repositories_of(config: Config, server: ServerConfig) -> list[RepositoryConfig]:
    """Return where backups of this server go, in the order of the file."""
    patterns = [options.repositories for _, options in backup_jobs(config, server)]
    return [r for name, r in config.repository.items() if any(matches(each, name) for each in patterns)]


def writers(
    config: Config, repository: RepositoryConfig, now: datetime
) -> Mapping[str, tuple[Keep | None, Sequence[timedelta]]]:
    """Return the jobs that write to this repository: their `keep`, and the times between their runs."""
    return {
        job.name: (options.keep, gaps(job, now))
        for job, options in backup_jobs(config)
        if matches(options.repositories, repository.name)
    }


def longest_gap(config: Config, server: ServerConfig, now: datetime) -> timedelta | None:
    """Return the longest time between two backups of this server; None if none is scheduled."""
    found = [max(between) for job, _ in backup_jobs(config, server) if (between := gaps(job, now))]
    return min(found, default=None)


def coverage(config: Config) -> Iterator[Check]:
    """Say what is configured, but by no backup reached."""
    if not config.server:  # fine on a machine that only verifies
        line = warn if config.repository else fail
        yield line("servers", "none is configured: nothing is backed up from here", "maint init")
    if not config.repository:
        fix = '[repository.local] with url = "file:///var/backups/maint" in maint.toml'
        yield fail("repositories", "none is configured: there is nowhere to put a backup", fix)
    for server in config.server.values():
        jobs = backup_jobs(config, server)
        if not jobs:
            yield fail(f"server {server.name}", "no enabled job makes backups of it", "maint jobs")
        elif all(job.cron is None and job.after is None for job, _ in jobs):
            names = ", ".join(job.name for job, _ in jobs)
            yield warn(f"server {server.name}", f"backups only by hand: {names} has no schedule", "maint jobs")
        for job, options in jobs:
            if config.repository and not config.repositories_of(options.repositories):
                patterns = ", ".join(options.repositories)
                yield fail(
                    f"job {job.name}", f"repositories = {patterns} selects none: it has nowhere to write", "maint jobs"
                )


def preflights(config: Config, tasks: Mapping[str, Task[Any]], servers: Sequence[ServerConfig]) -> Iterator[Check]:
    """Ask every task that has something to say about its jobs."""
    for job in config.jobs.values():
        task = tasks[job.task]
        if job.enabled and task.preflight is not None:
            chosen = [server for server in servers if matches(job.servers, server.name)]
            for server in [None] if task.scope is Scope.INSTALLATION else chosen:
                yield from guarded(f"job {job.name}", partial(task.preflight, config, job, server))


def zones(config: Config) -> list[str]:
    """Return the zones of the enabled jobs, each once."""
    return list(dict.fromkeys(job.timezone for job in config.jobs.values() if job.enabled and job.cron))


def next_runs(config: Config, now: datetime) -> Check:
    """Tell the next runs of all jobs."""
    found = list(islice(_upcoming(config, now), _NEXT))
    if not found:
        return warn("next runs", "none: no enabled job has a schedule", "maint jobs")
    return ok("next runs", ", ".join(f"{job.name} {when(slot, job.timezone, now)}" for slot, job in found))


def _upcoming(config: Config, now: datetime) -> Iterator[tuple[datetime, Job]]:
    jobs = [job for job in config.jobs.values() if job.enabled and job.cron]
    slots = [[(slot, job) for slot in job.cron.upcoming(now, _NEXT)] for job in jobs if job.cron]
    return merge(*slots, key=lambda found: found[0])


def when(instant: datetime, zone: str, now: datetime) -> str:
    """Write an instant in its zone and in UTC: ``today 02:00 CET (01:00 UTC)``, ``Sun 22 Nov 04:00 CET (…)``."""
    local = instant.astimezone(ZoneInfo(zone))
    days = (local.date() - now.astimezone(ZoneInfo(zone)).date()).days
    day = {0: "today", 1: "tomorrow"}.get(days, f"{local:%a %d %b}")
    shown = f"{day} {local:%H:%M %Z}"
    if local.utcoffset() == timedelta(0):
        return shown
    utc = instant.astimezone(UTC)
    other_day = "" if utc.date() == local.date() else f"{utc:%a} "
    return f"{shown} ({other_day}{utc:%H:%M} UTC)"
