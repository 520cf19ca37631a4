"""The object lock of a repository against what `keep` implies. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from maint.config.model import Job, Keep, RepositoryConfig
from maint.config.values import format_duration
from maint.doctor.lines import ok, warn
from maint.task import Check

#: how many slots ahead are looked at for the time between two
_SLOTS = 14
#: a lock may be this much longer than asked for: nobody plans to the hour
_SLACK = timedelta(days=1)


def gaps(job: Job, now: datetime) -> list[timedelta]:
    """Return the times between the next runs of a job; none if it has no schedule."""
    slots = job.cron.upcoming(now, _SLOTS + 1) if job.cron else []
    return [later - sooner for sooner, later in pairwise(slots)]


def classes(keep: Keep) -> dict[str, tuple[timedelta, timedelta]]:
    """Return each age class that is asked for: its period, and how long it keeps a backup."""
    periods = {
        "hourly": (keep.hourly, timedelta(hours=1)),
        "daily": (keep.daily, timedelta(days=1)),
        "weekly": (keep.weekly, timedelta(weeks=1)),
        "monthly": (keep.monthly, timedelta(days=31)),
        "yearly": (keep.yearly, timedelta(days=366)),
    }
    return {name: (period, count * period) for name, (count, period) in periods.items() if count}


def lives(keep: Keep, between: Sequence[timedelta]) -> tuple[timedelta, timedelta]:
    """Return how long `keep` holds every backup at least, and the longest-lived of them.

    Every backup stays while it is among the last N, or within; and of an age class every one has its turn if
    there is no more than one backup in a period.
    """
    shortest_gap = min(between, default=timedelta(days=1))
    certain = [keep.last * shortest_gap, keep.within or timedelta(0)]
    certain += [life for period, life in classes(keep).values() if period <= shortest_gap + timedelta(hours=1)]
    longest = max([*certain, *(life for _, life in classes(keep).values())])
    return max(certain), longest


def lock_against_keep(
    repository: RepositoryConfig, job: str, keep: Keep | None, between: Sequence[timedelta]
) -> Iterator[Check]:
    """Explain what the lock and `keep` do to each other."""
    if repository.lock is None or keep is None:
        return
    subject, lock = f"repository {repository.name}", format_duration(repository.lock)
    shortest, longest = lives(keep, between)
    if repository.lock < shortest:
        yield warn(
            subject,
            f"the lock ends after {lock}, but keep of {job} holds every backup for {_days(shortest)}: "
            "whoever has these credentials can delete what is older",
            f'lock = "{_days(shortest)}"   # in [repository.{repository.name}]',
        )
    elif repository.lock > longest + _SLACK:
        yield warn(
            subject,
            f"the lock of {lock} outlasts everything keep of {job} asks for ({_days(longest)}): "
            "nothing is pruned before it ends",
            f'lock = "{_days(longest)}"   # in [repository.{repository.name}], or keep more',
        )
    elif repository.lock > shortest + _SLACK:
        yield ok(
            subject,
            f"locked for {lock}; keep of {job} would let some go after {_days(shortest)}: these wait for the lock",
        )
    else:
        yield ok(subject, f"locked for {lock}, which fits keep of {job} ({_days(shortest)} at least)")


def _days(span: timedelta) -> str:
    return format_duration(timedelta(hours=round(span.total_seconds() / 3600)))
