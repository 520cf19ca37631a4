"""Deleting backups: what retention decided, one object at a time, and nothing that the manifest does not list."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

from maint.backups import inventory, records
from maint.backups.inventory import Backup
from maint.backups.manifest import Manifest
from maint.backups.paths import MANIFEST, PIN, STARTED
from maint.backups.retention import Candidate, Decision, decide
from maint.config.model import Keep
from maint.errors import NotFound
from maint.repository import Repository


def plan(
    repository: Repository,
    backups: Sequence[Backup],
    keep: Keep,
    *,
    zone: ZoneInfo,
    now: datetime,
    max_delete: int | None = None,
    coming: Candidate | None = None,
) -> Decision:
    """Decide over the backups of one group, locks included: only of those that would go the lock is asked for.

    `coming` stands for a backup that is about to be made.
    """
    more = [coming] if coming else []
    decision = decide([*(backup.candidate() for backup in backups), *more], keep, zone=zone, now=now)
    going = {verdict.backup.id for verdict in decision.removed}
    candidates = [
        backup.candidate(_locked_until(repository, backup, now) if backup.id in going else None) for backup in backups
    ]
    return decide([*candidates, *more], keep, zone=zone, now=now, max_delete=max_delete)


def remove(repository: Repository, backup: Backup) -> int:
    """Delete one backup; return the bytes freed.

    First its manifest, with which it ceases to exist; then its files, only those that the manifest lists and in the
    version it lists; then pin and proofs; last the mark by which `records.sweep` knows what is left if this is
    interrupted. Raises `Locked` if a lock holds a part of it: nothing was deleted if that is its manifest.
    """
    manifest = _reread(repository, backup)
    if manifest is None:
        return 0
    entries = list(repository.list(backup.place.prefix))
    repository.delete(backup.place / MANIFEST, version=backup.version)
    for file in manifest.files:
        repository.delete(backup.place / file.name, version=file.version)
    for name in (entry.path.removeprefix(backup.place.prefix) for entry in entries):
        if name == PIN or records.proof_of(name):
            repository.delete(backup.place / name)
    repository.delete(backup.place / STARTED)
    return manifest.size_bytes


def _reread(repository: Repository, backup: Backup) -> Manifest | None:
    """Believe the repository, not what was listed before: None if somebody else has deleted it."""
    with suppress(NotFound):
        return inventory.fresh(repository, backup)
    return None


def _locked_until(repository: Repository, backup: Backup, now: datetime) -> datetime | None:
    """Return when the last lock on any part of it ends; one that holds the manifest is enough to know."""
    until = repository.locked_until(backup.place / MANIFEST, version=backup.version)
    if until is not None and until > now:
        return until
    ends = [repository.locked_until(backup.place / name, version=version) for name, _, version in backup.summary.files]
    return max((end for end in ends if end is not None), default=None)
