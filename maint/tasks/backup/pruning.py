"""After a backup: retention, and before it: what a maint that was killed left in the repositories."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

from maint.backups import inventory, prune, records
from maint.backups.inventory import Backup
from maint.backups.make import Made
from maint.backups.paths import database_prefix, server_prefix
from maint.backups.retention import Candidate, Decision, Group
from maint.errors import Locked
from maint.format import size
from maint.model import Action, Result, StepOutcome
from maint.repository import Repository
from maint.task import Context
from maint.tasks.backup.options import Options, Stores, server_of

#: stands in a plan for the backup that the run is about to make
_COMING = "coming"


def clearing(context: Context[Options], stores: Stores) -> Iterator[Action]:
    """Plan to clear unfinished uploads and backups of dead processes, one action a repository."""
    prefix = server_prefix(server_of(context).name)
    for repository, _ in stores:
        yield Action(
            verb="clear",
            object=f"repository {repository.name}",
            commands=(
                f"abort uploads below {repository.url_of('')} that dead processes of maint left",
                f"delete backups without manifest below {repository.url_of(prefix)} "
                f"that dead processes of installation {context.installation} left",
            ),
            reason="what a maint that was killed left behind",
            key=f"repository {repository.name}",
            payload=repository,
        )


def clear(context: Context[Options], action: Action) -> Result:
    """Clear one repository."""
    repository: Repository = action.payload
    cleared = [*repository.sweep()]
    cleared += records.sweep(
        repository,
        installation=context.installation,
        now=context.clock.now(),
        prefix=server_prefix(server_of(context).name),
    )
    if not cleared:
        return Result(StepOutcome.NO_EFFECT, "nothing was left")
    return Result(note=f"cleared {', '.join(cleared)}", after={"cleared": cleared})


def plan(context: Context[Options], stores: Stores, databases: Sequence[str]) -> Iterator[Action]:
    """Plan the deletions that retention wants once each database has its new backup."""
    if context.options.keep is None:
        return
    for repository, _ in stores:
        groups = _groups(context, repository, server_prefix(server_of(context).name))
        for database in databases:
            decision = _decide(context, repository, groups[database], coming=_coming(context, repository, database))
            if decision.finding:
                context.report(decision.finding)
            for verdict in decision.removed:
                backup = next(b for b in groups[database] if b.id == verdict.backup.id)
                yield _deletion(repository, backup, verdict.reason)


def _groups(context: Context[Options], repository: Repository, prefix: str) -> dict[str, list[Backup]]:
    """Return this job's backups in a repository by database; none if it cannot be read: its backup will tell."""
    found: dict[str, list[Backup]] = defaultdict(list)
    for backup in inventory.load([repository], cache=context.history, prefix=prefix).backups:
        if backup.group == _group(context, repository, backup.database):
            found[backup.database].append(backup)
    return found


def _group(context: Context[Options], repository: Repository, database: str) -> Group:
    return Group(context.installation, context.job.name, server_of(context).name, database, repository.name)


def _coming(context: Context[Options], repository: Repository, database: str) -> Candidate:
    return Candidate(_COMING, _group(context, repository, database), context.clock.now())


def _decide(
    context: Context[Options], repository: Repository, backups: Sequence[Backup], *, coming: Candidate | None = None
) -> Decision:
    assert context.options.keep is not None  # noqa: S101 - asked in plan
    return prune.plan(
        repository,
        backups,
        context.options.keep,
        zone=ZoneInfo(context.job.timezone),
        now=context.clock.now(),
        max_delete=context.options.max_delete,
        coming=coming,
    )


def _deletion(repository: Repository, backup: Backup, reason: str) -> Action:
    return Action(
        verb="delete",
        object=f"{backup.id} in {repository.name}",
        commands=(f"delete {repository.url_of(backup.place.prefix)}",),
        reason=reason,
        key=backup.database,  # after the backup of the same database
        payload=(repository, backup),
    )


def delete(context: Context[Options], action: Action) -> Result:
    """Delete one backup, if the run has made a newer one there and retention still wants it gone."""
    repository: Repository
    backup: Backup
    repository, backup = action.payload
    made: list[Made] = context.state.get("made", [])
    places = {(next(iter(one.manifests.values())).database, name) for one in made for name in one.manifests}
    if (backup.database, repository.name) not in places:
        return Result(StepOutcome.SKIPPED, f"{backup.database} has no new backup there: nothing of it is deleted")
    if backup.id not in _unwanted(context, repository, backup.database):
        return Result(StepOutcome.SKIPPED, "is wanted now: the repository has changed since the plan")
    try:
        freed = prune.remove(repository, backup)
    except Locked as error:
        return Result(StepOutcome.SKIPPED, str(error))
    return Result(note=f"freed {size(freed)}: {action.reason}", after={"freed_bytes": freed})


_LOOKING = threading.Lock()


def _unwanted(context: Context[Options], repository: Repository, database: str) -> set[str]:
    """Decide again over what the repository holds now; once per database and repository in a run."""
    known: dict[tuple[str, str], set[str]] = context.state.setdefault("unwanted", {})
    with _LOOKING:
        if (database, repository.name) not in known:
            groups = _groups(context, repository, database_prefix(server_of(context).name, database))
            decision = _decide(context, repository, groups[database])
            known[database, repository.name] = {verdict.backup.id for verdict in decision.removed}
        return known[database, repository.name]
