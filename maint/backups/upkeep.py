"""Around a job's new backups: before them, what a killed maint left is cleared; after them, retention prunes."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from maint.backups import inventory, prune, records
from maint.backups.inventory import Backup
from maint.backups.passes import Made
from maint.backups.paths import database_prefix, server_prefix
from maint.backups.reading import Cache
from maint.backups.retention import Candidate, Decision, Group
from maint.backups.standing import standing
from maint.backups.stores import StoreOptions, Stores
from maint.clock import Clock
from maint.config.model import Job
from maint.errors import Locked, RepositoryError
from maint.format import size
from maint.model import Action, Finding, Result, Severity, StepOutcome
from maint.repository import Repository

#: stands in a plan for the backup that the run is about to make
_COMING = "coming"


@dataclass(slots=True)
class Upkeep:
    """The backups of one job on one server, in its repositories, during one run."""

    stores: Stores
    installation: str
    job: Job
    options: StoreOptions
    server: str
    clock: Clock
    cache: Cache | None
    made: list[Made[Any]] = field(default_factory=list)  #: by this run: older backups of the same may be deleted
    _unwanted: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def clearing(self) -> Iterator[Action]:
        """Plan to clear unfinished uploads and backups of dead processes, one action a repository."""
        prefix = server_prefix(self.server)
        for repository, _ in self.stores:
            yield Action(
                verb="clear",
                object=f"repository {repository.name}",
                commands=(
                    f"abort uploads below {repository.url_of('')} that dead processes of maint left",
                    f"delete backups without manifest below {repository.url_of(prefix)} "
                    f"that dead processes of installation {self.installation} left",
                ),
                reason="what a maint that was killed left behind",
                key=f"repository {repository.name}",
                payload=repository,
            )

    def clear(self, action: Action) -> Result:
        """Clear one repository."""
        repository: Repository = action.payload
        prefix = server_prefix(self.server)
        try:
            cleared = [*repository.sweep()]
            cleared += records.sweep(repository, installation=self.installation, now=self.clock.now(), prefix=prefix)
        except RepositoryError as error:
            if self._is_required(repository):
                raise
            finding = _left(f"repository {repository.name}", f"{repository.name} could not be cleared", error)
            return Result(StepOutcome.NO_EFFECT, f"not cleared: {error}", findings=(finding,))
        if not cleared:
            return Result(StepOutcome.NO_EFFECT, "nothing was left")
        return Result(note=f"cleared {', '.join(cleared)}", after={"cleared": cleared})

    def deletions(self, databases: Sequence[str]) -> Iterator[Action | Finding]:
        """Plan the deletions that retention wants once each database has its new backup, or say why there are none."""
        if self.options.keep is None:
            return
        for repository, _ in self.stores:
            try:
                yield from self._deletions_in(repository, databases)
            except RepositoryError as error:  # new backups are made all the same
                yield _left(f"repository {repository.name}", f"retention could not look into {repository.name}", error)

    def _deletions_in(self, repository: Repository, databases: Sequence[str]) -> Iterator[Action | Finding]:
        groups = self._groups(repository, server_prefix(self.server))
        for database in databases:
            coming = Candidate(_COMING, self._group(repository, database), self.clock.now())
            decision = self._decide(repository, groups[database], coming=coming)
            if decision.finding:
                yield decision.finding
            for verdict in decision.removed:
                backup = next(b for b in groups[database] if b.id == verdict.backup.id)
                yield _deletion(repository, backup, verdict.reason)

    def delete(self, action: Action) -> Result:
        """Delete one backup, if the run has made a newer one there and retention still wants it gone."""
        repository: Repository
        backup: Backup
        repository, backup = action.payload
        made = (one.manifests.get(repository.name) for one in self.made)
        if not any(new is not None and new.database == backup.database for new in made):
            return Result(StepOutcome.SKIPPED, f"{backup.database} has no new backup there: nothing of it is deleted")
        if backup.id not in self._unwanted_now(repository, backup.database):
            return Result(StepOutcome.SKIPPED, "is wanted now: the repository has changed since the plan")
        try:
            freed = prune.remove(repository, backup)
        except Locked as error:
            return Result(StepOutcome.SKIPPED, str(error))
        except RepositoryError as error:  # the new backup is good all the same; the next run deletes
            finding = _left(action.object, f"retention could not delete {action.object}", error)
            return Result(StepOutcome.NO_EFFECT, f"not deleted: {error}", findings=(finding,))
        return Result(note=f"freed {size(freed)}: {action.reason}", after={"freed_bytes": freed})

    def still_good(self, databases: Sequence[str]) -> Iterator[str]:
        """Say of each database which good backup there is, in whatever repository."""
        repositories = [repository for repository, _ in self.stores]
        found = inventory.load(repositories, cache=self.cache, prefix=server_prefix(self.server))
        for database in databases:
            yield standing(database, found.backups, self.clock.now())
        for name, error in found.unavailable.items():
            yield f"The repository {name} could not be asked: {error}"

    def _is_required(self, repository: Repository) -> bool:
        return any(config.required for store, config in self.stores if store is repository)

    def _groups(self, repository: Repository, prefix: str) -> dict[str, list[Backup]]:
        """Return this job's backups in a repository by database; none if it cannot be read: its backup will tell."""
        found: dict[str, list[Backup]] = defaultdict(list)
        for backup in inventory.load([repository], cache=self.cache, prefix=prefix).backups:
            if backup.group == self._group(repository, backup.database):
                found[backup.database].append(backup)
        return found

    def _group(self, repository: Repository, database: str) -> Group:
        return Group(self.installation, self.job.name, self.server, database, repository.name)

    def _decide(
        self, repository: Repository, backups: Sequence[Backup], *, coming: Candidate | None = None
    ) -> Decision:
        assert self.options.keep is not None  # noqa: S101 - asked before anything is planned
        return prune.plan(
            repository,
            backups,
            self.options.keep,
            zone=ZoneInfo(self.job.timezone),
            now=self.clock.now(),
            max_delete=self.options.max_delete,
            coming=coming,
        )

    def _unwanted_now(self, repository: Repository, database: str) -> set[str]:
        """Decide again over what the repository holds now; once per database and repository in a run."""
        with self._lock:
            if (database, repository.name) not in self._unwanted:
                groups = self._groups(repository, database_prefix(self.server, database))
                decision = self._decide(repository, groups[database])
                self._unwanted[database, repository.name] = {verdict.backup.id for verdict in decision.removed}
            return self._unwanted[database, repository.name]


def _deletion(repository: Repository, backup: Backup, reason: str) -> Action:
    return Action(
        verb="delete",
        object=f"{backup.id} in {repository.name}",
        commands=(f"delete {repository.url_of(backup.place.prefix)}",),
        reason=reason,
        key=backup.database,  # after the backup of the same database
        payload=(repository, backup),
    )


def _left(object_: str, what: str, error: RepositoryError) -> Finding:
    return Finding(
        check="backup.prune",
        severity=Severity.WARNING,
        object=object_,
        message=f"{what}: {error}",
        fix=error.hint or "maint doctor",
    )
