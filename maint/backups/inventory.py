"""Which backups there are, and how far each can be trusted: one listing of each repository tells it all."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import combinations

from maint.backups import records
from maint.backups.manifest import DatabaseManifest, FilesManifest
from maint.backups.paths import FILES, MANIFEST, PIN, STARTED, Place, parse
from maint.backups.reading import Cache, read_all
from maint.backups.retention import Candidate, Group
from maint.backups.summary import Summary
from maint.errors import MaintError, RepositoryError
from maint.model import Finding, Severity, Trust
from maint.repository import Entry, Repository

#: results whose record is read for what it says beside its name: the reason, the measured seconds
_READ_RESULTS = (Trust.DAMAGED, Trust.RESTORED, Trust.PROVEN)


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup in one repository."""

    repository: str
    place: Place
    summary: Summary  #: of its manifest
    trust: Trust
    trust_at: datetime | None = None  #: when that was found out; None: nobody has looked since it was stored
    trust_seconds: float | None = None  #: of a restore: the measured time
    reason: str | None = None  #: what is damaged, or could not be compared
    pinned: str | None = None  #: the reason
    hidden: bool = False  #: under a delete marker
    version: str | None = None  #: of the manifest, in a versioned bucket

    @property
    def id(self) -> str:
        return self.place.id

    @property
    def server(self) -> str:
        return self.place.server

    @property
    def database(self) -> str:
        return self.place.database

    @property
    def created_at(self) -> datetime:
        return self.summary.created_at

    @property
    def is_good(self) -> bool:
        """Whether somebody could restore it, as far as is known."""
        return self.trust > Trust.DAMAGED and not self.hidden

    @property
    def group(self) -> Group:
        """What retention decides over together with this one."""
        of = self.summary
        return Group(of.installation, of.job, self.server, self.database, self.repository)

    def candidate(self, locked_until: datetime | None = None) -> Candidate:
        """Return it as retention sees it."""
        return Candidate(
            self.id,
            self.group,
            self.created_at,
            self.trust,
            self.hidden,
            self.pinned,
            locked_until,
            self.summary.size_bytes,
        )


@dataclass(frozen=True, slots=True)
class Remnant:
    """A folder like a backup's that is none: never counted, restored or deleted by retention."""

    repository: str
    place: Place
    size_bytes: int
    modified_at: datetime  #: of its newest object
    reason: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """Objects of somebody else in a repository."""

    repository: str
    objects: int
    size_bytes: int
    example: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the repositories hold, newest first."""

    backups: tuple[Backup, ...] = ()
    remnants: tuple[Remnant, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    unavailable: Mapping[str, MaintError] = field(default_factory=dict)  #: repositories that could not be read


def load(repositories: Iterable[Repository], *, cache: Cache | None = None, prefix: str = "") -> Inventory:
    """List what is below `prefix` in each repository; one that cannot be read hides nothing of the others."""
    parts: list[_Contents] = []
    unavailable: dict[str, MaintError] = {}
    for repository in repositories:
        try:
            parts.append(_load(repository, cache, prefix))
        except RepositoryError as error:
            unavailable[repository.name] = error
    backups = [backup for part in parts for backup in part.backups]
    return Inventory(
        backups=tuple(sorted(backups, key=lambda b: (b.created_at, b.id, b.repository), reverse=True)),
        remnants=tuple(remnant for part in parts for remnant in part.remnants),
        foreign=tuple(part.foreign for part in parts if part.foreign),
        unavailable=unavailable,
    )


def fresh(repository: Repository, backup: Backup) -> DatabaseManifest | FilesManifest:
    """Read the manifest again: before deleting or restoring only the repository is believed.

    Raises `NotFound` if it is gone, `Damaged` if it is not what it was.
    """
    from maint.backups import manifest

    path = backup.place / MANIFEST
    return manifest.read(records.get(repository, path, version=backup.version), where=repository.url_of(path))


def rivals(backups: Iterable[Backup]) -> list[Finding]:
    """Find installations that back up the same server into the same repository at the same time.

    Each prunes only its own; but whoever believes there is one set of backups is wrong. One that was replaced
    (its newest backup is more than a week older than the other's) is no rival.
    """
    newest: dict[tuple[str, str], dict[str, Backup]] = defaultdict(dict)
    for backup in backups:
        known = newest[backup.repository, backup.server].setdefault(backup.summary.installation, backup)
        if backup.created_at > known.created_at:
            newest[backup.repository, backup.server][backup.summary.installation] = backup
    return [
        _rivalry(repository, server, pair)
        for (repository, server), of in newest.items()
        for pair in combinations(of.values(), 2)
        if abs(pair[0].created_at - pair[1].created_at) <= timedelta(days=7)
    ]


def _rivalry(repository: str, server: str, pair: Sequence[Backup]) -> Finding:
    what = "files" if server == FILES else f"server {server}"
    names = " and ".join(sorted(f"{b.summary.installation} (on {b.summary.host})" for b in pair))
    return Finding(
        check="backup.installations",
        severity=Severity.WARNING,
        object=f"repository {repository}",
        message=f"two installations write backups of {what} to {repository}: {names}",
        fix=f"give each a repository or a prefix of its own: url in [repository.{repository}]",
    )


@dataclass(frozen=True, slots=True)
class _Contents:
    backups: Sequence[Backup]
    remnants: Sequence[Remnant]
    foreign: Foreign | None


@dataclass(slots=True)
class _Folder:
    """What the listing shows of one backup."""

    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)  #: by name, relative to the folder

    @property
    def manifest(self) -> Entry | None:
        return self.entries.get(MANIFEST)

    @property
    def pin(self) -> Entry | None:
        found = self.entries.get(PIN)
        return None if found is None or found.hidden else found

    @property
    def proof(self) -> tuple[datetime, Trust] | None:
        """The record that tells the trust."""
        names = (name for name, entry in self.entries.items() if name.startswith("proof/") and not entry.hidden)
        return records.deciding(found for name in names if (found := records.proof_of(name)))

    def proof_entry(self) -> Entry | None:
        """Return that record, if what it says is of interest."""
        found = self.proof
        if found is None or found[1] not in _READ_RESULTS:
            return None
        return next(e for name, e in self.entries.items() if records.proof_of(name) == found)

    def wanted(self) -> Iterator[Entry]:
        """Yield the objects that have to be read."""
        if self.manifest:
            yield self.manifest
            yield from (entry for entry in (self.pin, self.proof_entry()) if entry)


def _load(repository: Repository, cache: Cache | None, prefix: str) -> _Contents:
    folders: dict[Place, _Folder] = {}
    strangers: list[Entry] = []
    for entry in repository.list(prefix):
        found = parse(entry.path)
        if found is None:
            strangers.append(entry)
        else:
            place, name = found
            folders.setdefault(place, _Folder(place)).entries[name] = entry
    wanted = [entry for folder in folders.values() for entry in folder.wanted()]
    values = read_all(repository, wanted, cache, everything=not prefix)
    judged = [_judge(repository, folder, values) for folder in folders.values()]
    return _Contents(
        [one for one in judged if isinstance(one, Backup)],
        [one for one in judged if isinstance(one, Remnant)],
        _foreign(repository, strangers),
    )


def _judge(repository: Repository, folder: _Folder, values: Mapping[str, dict[str, object]]) -> Backup | Remnant:
    if folder.manifest is None:
        return _remnant(repository, folder, "no manifest: unfinished" if STARTED in folder.entries else "no manifest")
    value = values.get(folder.manifest.path, {"error": "the manifest has just been deleted"})
    if "error" in value:
        return _remnant(repository, folder, str(value["error"]))
    summary = Summary.from_json(value)
    if (summary.server, summary.database, summary.id) != (folder.place.server, folder.place.database, folder.place.id):
        return _remnant(repository, folder, f"its manifest is that of {summary.server}/{summary.database} {summary.id}")
    return _backup(repository, folder, summary, values)


def _backup(
    repository: Repository, folder: _Folder, summary: Summary, values: Mapping[str, dict[str, object]]
) -> Backup:
    assert folder.manifest is not None  # noqa: S101 - asked before
    at, trust = folder.proof or (None, Trust.STORED)
    entry = folder.proof_entry()
    proof = values.get(entry.path, {}) if entry else {}
    lost = _lost(summary, folder)
    seconds = proof.get("seconds")
    return Backup(
        repository=repository.name,
        place=folder.place,
        summary=summary,
        trust=Trust.DAMAGED if lost else trust,
        trust_at=None if lost else at,
        trust_seconds=float(seconds) if isinstance(seconds, (int, float)) and not lost else None,
        reason=lost or _text(proof.get("reason")),
        pinned=_text(values.get(folder.pin.path, {}).get("reason", "")) if folder.pin else None,
        hidden=folder.manifest.hidden,
        version=folder.manifest.version,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _lost(summary: Summary, folder: _Folder) -> str | None:
    """Compare the listing with the manifest's files: say what is missing or has another size."""
    for name, size, version in summary.files:
        entry = folder.entries.get(name)
        if entry is None:
            return f"{name}: missing"
        if entry.hidden and version is None:
            return f"{name}: hidden by a delete marker"
        # of a version written over it the listing tells nothing: `check` reads the recorded one
        if entry.size != size and version in (None, entry.version):
            return f"{name}: {entry.size} of {size} bytes"
    return None


def _remnant(repository: Repository, folder: _Folder, reason: str) -> Remnant:
    entries = folder.entries.values()
    return Remnant(
        repository.name,
        folder.place,
        sum(entry.size for entry in entries),
        max(entry.modified_at for entry in entries),
        reason,
    )


def _foreign(repository: Repository, entries: Sequence[Entry]) -> Foreign | None:
    if not entries:
        return None
    return Foreign(repository.name, len(entries), sum(entry.size for entry in entries), entries[0].path)
