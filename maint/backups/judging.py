"""The promises of the configuration against an inventory: which databases are judged, and what is told of them."""

import logging
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from maint.backups import inventory
from maint.backups.inventory import Backup, Inventory
from maint.backups.objectives import Due, Measure, Standing, State, evaluate, worst
from maint.backups.paths import server_prefix
from maint.backups.reading import Cache
from maint.config.model import Config, Objectives
from maint.config.values import format_duration, matches
from maint.errors import MaintError
from maint.format import age, duration, printable
from maint.model import Finding, Severity
from maint.repository import open_repository

#: of a server that does not say which databases it has, one without a backup for this long before the server's newest
#: is taken for gone (or for twice its rpo, if that is longer): the others were backed up, it was not
GONE_AFTER = timedelta(days=7)

_EPOCH = datetime.fromtimestamp(0, UTC)

_SEVERITIES = {
    State.BROKEN: Severity.CRITICAL,
    State.NEAR: Severity.WARNING,
    State.UNMEASURED: Severity.WARNING,
}
_WHAT = {
    "rpo": "the newest good backup of {0}",
    "proof": "the newest proven backup of {0}",
    "rto": "the newest measured restore of {0}",
}


def standings(
    backups: Iterable[Backup],
    config: Config,
    now: datetime,
    existing: Mapping[str, Collection[str]] | None = None,
) -> list[Standing]:
    """Judge every database; `existing`: server -> databases, of the servers that say which they have."""
    of: dict[tuple[str, str], list[Backup]] = {}
    for backup in backups:
        if backup.summary.kind == "database":
            of.setdefault((backup.server, backup.database), []).append(backup)
    newest: dict[str, datetime] = {}
    for (server, _), copies in of.items():
        newest[server] = max(newest.get(server, _EPOCH), *(backup.created_at for backup in copies))
    found = []
    for (server, database), copies in of.items():
        objectives = config.objectives_of(server, database)
        if _is_there(copies, newest[server], objectives, (existing or {}).get(server)):
            due = Due(_next(config, "backup", server, database, now), _next(config, "verify", server, database, now))
            found.append(evaluate(server, database, copies, objectives, now=now, due=due))
    return found


def _is_there(
    copies: Sequence[Backup], newest: datetime, objectives: Objectives, existing: Collection[str] | None
) -> bool:
    """Tell whether the database still exists, as far as that is known."""
    if existing is not None:
        return copies[0].database in existing
    own = max(backup.created_at for backup in copies)
    return newest - own <= max(GONE_AFTER, 2 * (objectives.rpo or timedelta(0)))


def _next(config: Config, task: str, server: str, database: str, now: datetime) -> datetime | None:
    """Return when the next enabled job of this task begins."""
    jobs = [job for job in config.jobs.values() if job.enabled and job.task == task and job.mode == "act"]
    slots = [
        job.cron.next(now)
        for job in jobs
        if job.cron and matches(job.servers, server) and matches(getattr(job.options, "databases", ("*",)), database)
    ]
    return min(slots, default=None)


def at_the_end(
    config: Config,
    existing: Mapping[str, Collection[str]] | None = None,
    *,
    server: str | None = None,
    cache: Cache | None,
    now: datetime,
    log: logging.Logger,
) -> Iterator[Finding]:
    """Look into all repositories when a run has done its work; nothing is read where nothing is promised.

    `existing`: the server of the run, and what it holds; else of `server`, or of all that have backups.
    """
    servers = [*(existing or {}), *([server] if server else [])]
    tables = [config.objectives, *(one.objectives for one in config.server.values() if one.objectives)]
    if not any(table.model_fields_set for table in tables) or not config.repository:
        return
    prefix = server_prefix(servers[0]) if len(servers) == 1 else ""
    try:
        stores = [open_repository(one, state_dir=config.state_dir) for one in config.repository.values()]
        found = inventory.load(stores, cache=cache, prefix=prefix)
    except MaintError as error:  # the work is done all the same
        log.warning("the objectives could not be judged: %s", error)
        return
    if len(found.unavailable) < len(stores):  # else nothing is known; that they are away is told already
        yield from findings(found, config, now, existing, with_server=not servers)


def findings(
    found: Inventory,
    config: Config,
    now: datetime,
    existing: Mapping[str, Collection[str]] | None = None,
    *,
    with_server: bool = False,
) -> Iterator[Finding]:
    """Yield what is told of promises that are not kept; `with_server`: the run is of no server of its own."""
    scope = f"without {', '.join(found.unavailable)}, which could not be read" if found.unavailable else None
    judged = standings(found.backups, config, now, existing)
    known = {(one.server, one.database) for one in judged}
    for server, databases in (existing or {}).items():
        for name in sorted(set(databases) - {database for of, database in known if of == server}):
            judged.append(evaluate(server, name, (), config.objectives_of(server, name), now=now))
    for standing in judged:
        for measure in standing.measures:
            if measure.state is not State.KEPT:
                yield _finding(standing, measure, now, scope, with_server=with_server)


def _finding(standing: Standing, measure: Measure, now: datetime, scope: str | None, *, with_server: bool) -> Finding:
    database = f"{standing.server}/{standing.database}" if with_server else standing.database
    value = _value(measure)
    if value is not None and measure.name == "rpo" and standing.longest_gap is not None:
        value += f"; longest gap in 30 d: {_span(standing.longest_gap)}"
    if value is not None and measure.name == "rto" and standing.trend is not None:
        value += f"; {standing.trend.seconds_per_month:+.1f} s a month, {duration(standing.trend.forecast)} in a month"
    return Finding(
        check=f"objective.{measure.name}",
        severity=_SEVERITIES[measure.state],
        object=database,
        message=_message(measure, database, now),
        value=value,
        threshold=format_duration(measure.limit),
        scope=scope,
        fix=_fix(standing, measure),
    )


def _message(measure: Measure, database: str, now: datetime) -> str:
    name, limit = measure.name, format_duration(measure.limit)
    if measure.value is None:
        missing = {"rpo": "good backup", "proof": "proven backup", "rto": "measured restore"}[name]
        return f"{name} of {database} ({limit}) is {measure.state}: there is no {missing}"
    verb = "took" if name == "rto" else "is"
    old = "" if name == "rto" else " old"
    text = f"{name} of {database} ({limit}) is {measure.state}: "
    return f"{text}{_WHAT[name].format(database)} {verb} {_value(measure)}{old}{_breaks(measure, now, '; it breaks')}"


def _fix(standing: Standing, measure: Measure) -> str:
    server = shlex.quote(standing.server)
    if measure.name == "rpo":
        return f"maint run backup --server {server}"
    if measure.name == "proof" or measure.state is State.UNMEASURED:
        return f"maint run verify --server {server}"
    return 'format = "directory" under [options] in jobs/backup.toml: it restores in parallel; or a longer rto'


def _breaks(measure: Measure, now: datetime, verb: str) -> str:
    """Say when, if it is about to: ``, breaks in 4 h``."""
    if measure.state is not State.NEAR or measure.breaks_at is None or measure.breaks_at <= now:
        return ""
    return f"{verb} {age(measure.breaks_at, now)}"


def _value(measure: Measure) -> str | None:
    if measure.value is None:
        return None
    return duration(measure.value.total_seconds()) if measure.name == "rto" else _span(measure.value)


def _span(span: timedelta) -> str:
    return age(_EPOCH, _EPOCH + span)


def _limit(measure: Measure) -> str:
    """Write a limit as ages are written: ``26 h``."""
    text = format_duration(measure.limit)
    return f"{text[:-1]} {text[-1]}"


def line(judged: Sequence[Standing], now: datetime) -> str:
    """Say it in one line: ``rpo 26 h: kept (9 h) · proof 8 d: broken: ledger 9.4 d``; of each the worst database."""
    several = len({standing.server for standing in judged}) > 1
    parts = []
    for standing, measure, count in worst(judged):
        head, value = f"{measure.name} {_limit(measure)}: {measure.state}", _shown(standing, measure, now)
        if measure.state is State.KEPT or len(judged) == 1:
            parts.append(f"{head} ({value})" if value else head)
        else:
            name = printable(f"{standing.server}/{standing.database}" if several else standing.database)
            more = f" and {count - 1} more" if count > 1 else ""
            parts.append(f"{head}: {name} {value}".rstrip() + more)
    return " · ".join(parts)


def _shown(standing: Standing, measure: Measure, now: datetime) -> str:
    if measure.value is None:
        return "" if measure.state is State.UNMEASURED else "no good backup"
    trend = standing.trend if measure.name == "rto" else None
    grows = f", {trend.seconds_per_month:+.0f} s a month" if trend else ""
    return f"{_value(measure)}{grows}{_breaks(measure, now, ', breaks')}"


def as_json(standing: Standing) -> dict[str, object]:
    """Return it as the rows of ``maint backups --json`` have it."""
    return {
        one.name: {
            "state": one.state,
            "seconds": one.value,
            "limit_seconds": one.limit,
            "breaks_at": one.breaks_at,
            "backup": one.backup,
        }
        for one in standing.measures
    } | {
        "longest_gap_seconds": standing.longest_gap,
        "restore_seconds_per_month": standing.trend.seconds_per_month if standing.trend else None,
        "restore_seconds_in_a_month": standing.trend.forecast if standing.trend else None,
    }
