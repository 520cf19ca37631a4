"""``maint backups prune``: what retention would keep and delete, and why; with --confirm it deletes."""

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from maint.cli.app import App
from maint.cli.output import echo_json, printable, size, table
from maint.cli.stock import Stock, complain, open_stock
from maint.errors import Locked, RepositoryError, UsageError

if TYPE_CHECKING:
    from maint.backups.inventory import Backup
    from maint.backups.retention import Decision, Group, Verdict
    from maint.config.model import Job, Keep


@dataclass(frozen=True)
class _Case:
    """One group and what was decided over it."""

    group: "Group"
    keep: "Keep"
    backups: "dict[str, Backup]"
    decision: "Decision"


@click.command()
@click.option("--job", help="Only backups made by this job.")
@click.option("--server", help="Only of this server.")
@click.option("--database", help="Only of this database.")
@click.option("--repository", help="Only in this repository.")
@click.option("--what-if", "what_if", metavar="KEEP", help='Decide by another keep, as in "last=3,daily=7".')
@click.option("--confirm", is_flag=True, help="Delete what is shown as such.")
@click.option("--json", "as_json", is_flag=True, help="One array: one object per backup and repository.")
@click.pass_obj
def prune(
    app: App,
    job: str | None,
    server: str | None,
    database: str | None,
    repository: str | None,
    what_if: str | None,
    confirm: bool,
    as_json: bool,
) -> int:
    """Show what the jobs' `keep` keeps and deletes, and why. Deletes only with --confirm.

    Only backups of this installation, by the job that made them. The newest good one, the newest proven, pinned
    and locked ones always stay.

    Exit codes: 0 done, 1 something could not be deleted or read, 2 usage or configuration.
    """
    if what_if and confirm:
        raise UsageError("--what-if never deletes", hint="change keep of the job, then maint backups prune --confirm")
    jobs = _jobs(app, job)
    stock = open_stock(app, repository)
    chosen = [b for b in stock.inventory.backups if server in (None, b.server) and database in (None, b.database)]
    groups = _groups(app, chosen, jobs)
    cases = list(_cases(stock, groups, jobs, _parse(what_if) if what_if else None))
    done = [one for case in cases for one in _delete(stock, case)] if confirm else []
    if as_json:
        deleted = {(one.group, one.id) for one in done if one.deleted}
        echo_json([_row(case, verdict, deleted) for case in cases for verdict in case.decision.verdicts])
    else:
        for line in [*_table(cases), *_left_out(app, chosen, groups, jobs)]:
            click.echo(line)
        click.echo(_deleted(cases, done) if confirm else _sum(cases, bool(what_if)))
    return 1 if any(one.failed for one in done) else stock.code


def _jobs(app: App, name: str | None) -> "dict[str, Job]":
    from maint.backups.stores import StoreOptions

    found = {job.name: job for job in app.config.jobs.values() if isinstance(job.options, StoreOptions)}
    if name is None:
        return found
    if name not in found:
        raise UsageError(f"there is no job {name} that makes backups", hint=f"those are: {', '.join(found)}")
    return {name: found[name]}


def _parse(text: str) -> "Keep":
    from pydantic import ValidationError

    from maint.config.model import Keep

    pairs = [part.partition("=") for part in text.replace(" ", "").split(",") if part]
    try:
        return Keep.model_validate({name: value for name, _, value in pairs})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"--what-if {text}: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}",
            hint='as in "last=3,daily=7,weekly=4,monthly=12,within=30d"',
        ) from error


def _groups(app: App, backups: "Sequence[Backup]", jobs: "dict[str, Job]") -> "dict[Group, list[Backup]]":
    """Return the groups that are ours to prune: of this installation and of these jobs, in their repositories."""
    from maint.config.values import matches
    from maint.identity import installation

    ours = installation(app.config)
    groups: dict[Group, list[Backup]] = defaultdict(list)
    for backup in backups:
        job = jobs.get(backup.summary.job)
        mine = job is not None and backup.summary.installation == ours
        if job is not None and mine and matches(_option(job, "repositories"), backup.repository):
            groups[backup.group].append(backup)
    return groups


def _option(job: "Job", name: str) -> Any:
    return getattr(job.options, name)


def _cases(
    stock: Stock, groups: "dict[Group, list[Backup]]", jobs: "dict[str, Job]", what_if: "Keep | None"
) -> Iterator[_Case]:
    from maint.backups import prune as pruning

    for group, backups in sorted(groups.items(), key=lambda item: str(item[0])):
        job = jobs[group.job]
        keep = what_if or _option(job, "keep")
        if keep is not None:
            decision = pruning.plan(
                stock.repositories[group.repository],
                backups,
                keep,
                zone=ZoneInfo(job.timezone),
                now=stock.app.clock.now(),
            )
            yield _Case(group, keep, {backup.id: backup for backup in backups}, decision)


@dataclass(frozen=True)
class _Done:
    """What became of a backup that was to be deleted."""

    group: "Group"
    id: str
    size_bytes: int
    deleted: bool
    failed: bool = False  #: a lock is no failure


def _delete(stock: Stock, case: _Case) -> Iterator[_Done]:
    """Delete what was decided, oldest first."""
    from maint.backups import prune as pruning

    for verdict in reversed(case.decision.removed):
        of, where = verdict.backup, case.group.repository
        deleted = failed = False
        try:
            pruning.remove(stock.repositories[where], case.backups[of.id])
            deleted = True
        except Locked as error:
            click.echo(f"{of.id} in {where} stays for now: {error}", err=True)
        except RepositoryError as error:
            complain(f"{of.id} in {where} was not deleted: {error}", error.hint)
            failed = True
        yield _Done(case.group, of.id, of.size_bytes, deleted, failed)


def _row(case: _Case, verdict: "Verdict", deleted: "Set[tuple[Group, str]]") -> dict[str, Any]:
    return {
        "id": verdict.backup.id,
        "server": case.group.server,
        "database": case.group.database,
        "repository": case.group.repository,
        "job": case.group.job,
        "created_at": verdict.backup.created_at,
        "size_bytes": verdict.backup.size_bytes,
        "decision": "keep" if verdict.keep else "delete",
        "reasons": verdict.reasons,
        "deleted": (case.group, verdict.backup.id) in deleted,
    }


def _table(cases: Sequence[_Case]) -> Iterator[str]:
    for case in cases:
        if len(cases) > 1:
            of = f"{case.group.server}/{case.group.database} in {case.group.repository}"
            yield f"{printable(of)} (job {case.group.job}: {_words(case.keep)})"
        words = [("keep" if v.keep else "delete", v.backup.id, v.reason) for v in case.decision.verdicts]
        yield table(words)


def _words(keep: "Keep") -> str:
    from maint.config.values import format_duration

    numbers = [f"{name} {n}" for name, n in keep.model_dump(exclude={"within"}).items() if n]
    return ", ".join([*numbers, *([f"within {format_duration(keep.within)}"] if keep.within else [])])


def _sum(cases: Sequence[_Case], what_if: bool) -> str:
    if not cases:
        return "nothing to decide over"
    removed = [verdict.backup.size_bytes for case in cases for verdict in case.decision.removed]
    kept = [verdict.backup.size_bytes for case in cases for verdict in case.decision.kept]
    how = "--what-if never does." if what_if else "add --confirm."
    note = f" Nothing was deleted: {how}" if removed else ""
    return f"frees {size(sum(removed))}, keeps {size(sum(kept))} in {_backups(len(kept))}.{note}"


def _deleted(cases: Sequence[_Case], done: Sequence[_Done]) -> str:
    gone = [one.size_bytes for one in done if one.deleted]
    stay = sum(len(case.decision.verdicts) for case in cases) - len(gone)
    of = f"{len(gone)} of {_backups(len(done))}" if len(gone) < len(done) else _backups(len(gone))
    return f"deleted {of}, freed {size(sum(gone))}; {_backups(stay)} left."


def _backups(n: int) -> str:
    return f"{n} backup{'s' if n != 1 else ''}"


def _left_out(
    app: App, backups: "Sequence[Backup]", groups: "dict[Group, list[Backup]]", jobs: "dict[str, Job]"
) -> list[str]:
    """Say which backups nothing was decided over, and why; quietly those that were not asked for."""
    from maint.identity import installation

    counts: dict[str, int] = defaultdict(int)
    for backup in backups:
        job, of = backup.summary.job, backup.summary.installation
        if of != installation(app.config):
            counts[f"made by installation {of}: its own retention prunes them"] += 1
        elif job not in app.config.jobs:
            counts[f"made by a job {job} that is no longer configured"] += 1
        elif job in jobs and backup.group not in groups:
            counts[f"in {backup.repository}, which job {job} no longer writes to"] += 1
        elif job in jobs and _option(jobs[job], "keep") is None:
            counts[f"of job {job}, which has no keep"] += 1
    return [f"not looked at: {_backups(n)} {why}" for why, n in counts.items()]
