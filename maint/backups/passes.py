"""A pass: everything of one backup goes into several repositories at once, or nothing of it stays.

A repository that fails leaves the pass while the others finish.
"""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import zstandard

from maint import __version__
from maint.backups import crypt, pipeline, records
from maint.backups.manifest import Dump, File, Manifest
from maint.backups.paths import MANIFEST, STARTED, Place
from maint.backups.pipeline import Packing, Source
from maint.backups.stores import Stores
from maint.clock import Clock, Stop
from maint.errors import MaintError, RepositoryError
from maint.model import Finding, Severity
from maint.repository import Repository, Stored

M = TypeVar("M", bound=Manifest)

#: a stream of less than this share of the usual one is suspicious
_USUAL_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run lends."""

    stop: Stop
    clock: Clock
    log: logging.Logger
    progress: Callable[..., None]


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes a backup: what every manifest says of it."""

    owner: records.Owner  #: installation, run, process
    job: str
    slot: str


@dataclass(slots=True)
class Part:
    """What one repository holds of the backup until now."""

    repository: Repository
    place: Place
    recipients: tuple[str, ...]  #: age public keys; empty: not encrypted
    stored: list[Stored] = field(default_factory=list)
    streams: dict[str, Dump] = field(default_factory=dict)  #: by name
    error: MaintError | None = None

    @property
    def files(self) -> tuple[File, ...]:
        return tuple(_file(stored, self.place) for stored in self.stored)

    def put(self, name: str, data: bytes) -> None:
        """Store one small object."""
        with self.repository.create(self.place / name, size_hint=len(data)) as upload:
            upload.write(data)
            self.stored.append(upload.commit())

    def put_sealed(self, name: str, data: bytes) -> str:
        """Store one small object compressed, and encrypted where asked; return its name."""
        name += ".zst.age" if self.recipients else ".zst"
        self.put(name, _sealed(data, self.recipients))
        return name


@dataclass(frozen=True, slots=True)
class Pass:
    """One backup on its way."""

    place: Place
    parts: Sequence[Part]
    maker: Maker
    packing: Packing
    tools: Tools

    def pump(self, name: str, source: Source, tap: Callable[[bytes], None] = lambda _data: None) -> int:
        """Store a stream as ``name.000``, …; return its bytes. Raises the source's error, or the last repository's."""
        living = [part for part in self.parts if part.error is None]
        targets = [
            pipeline.Target(part.repository, lambda number: self.place / f"{name}.{number:03}", part.recipients)
            for part in living
        ]
        raw = 0
        try:
            raw = pipeline.pump(source, targets, self.packing, stop=self.tools.stop, tap=tap)
        finally:
            for part, target in zip(living, targets, strict=True):
                part.stored += target.stored
                part.error = target.error
                part.streams[name] = _stream(target.stored, self.place, raw)
        return raw

    def each(self, work: Callable[[Part], None]) -> None:
        """Do `work` for each repository; one that fails leaves. Raises the first error if none is left."""
        for part in self.parts:
            if part.error is None:
                try:
                    work(part)
                except RepositoryError as error:
                    part.error = error
        errors = [part.error for part in self.parts if part.error]
        if len(errors) == len(self.parts):
            raise errors[0]

    def facts(self, part: Part, created_at: datetime, tools: dict[str, str]) -> dict[str, Any]:
        """Return what every kind of manifest says, of what is stored until now."""
        owner = self.maker.owner
        return {
            "id": self.place.id,
            "installation": owner.installation,
            "host": owner.host,
            "job": self.maker.job,
            "run_id": owner.run_id,
            "slot": self.maker.slot,
            "server": self.place.server,
            "database": self.place.database,
            "created_at": created_at,
            "finished_at": self.tools.clock.now(),
            "compression": self.packing.name,
            "encrypted": bool(part.recipients),
            "recipients": part.recipients,
            "files": part.files,
            "size_bytes": sum(file.size for file in part.files),
            "tools": {"maint": __version__, **tools},
        }

    def conclude(self, part: Part, manifest: Manifest) -> None:
        """Write the manifest: with it the backup exists."""
        part.put(MANIFEST, manifest.to_json())

    @property
    def errors(self) -> dict[str, MaintError]:
        """The repositories that left the pass."""
        return {part.repository.name: part.error for part in self.parts if part.error}


@dataclass(frozen=True, slots=True)
class Made(Generic[M]):
    """What became of an order."""

    id: str
    manifests: dict[str, M]  #: by repository
    errors: dict[str, MaintError]  #: repositories that left the pass
    findings: tuple[Finding, ...]

    @property
    def manifest(self) -> M:
        """The manifest in one of the repositories: what they say of the contents is the same."""
        return next(iter(self.manifests.values()))


@contextmanager
def begun(place: Place, stores: Stores, maker: Maker, packing: Packing, tools: Tools) -> Iterator[Pass]:
    """Begin a backup in every repository; leave nothing of it where it got no manifest."""
    parts = [Part(repository, place, config.encrypt_to) for repository, config in stores]
    one = Pass(place, parts, maker, packing, tools)
    try:
        one.each(lambda part: records.begin(part.repository, place, maker.owner))
        yield one
    except BaseException:
        for part in parts:
            _remove(part, tools.log)
        raise
    for part in parts:
        if part.error:
            _remove(part, tools.log)


def _remove(part: Part, log: logging.Logger) -> None:
    try:
        # not only what was confirmed: an object whose answer was lost is there, too
        part.repository.delete(part.place / MANIFEST)
        for stored in reversed(part.stored):
            part.repository.delete(stored.path, version=stored.version)
        for entry in list(part.repository.list(part.place.prefix)):
            if entry.path != part.place / STARTED:
                part.repository.delete(entry.path)
        records.end(part.repository, part.place)
    except RepositoryError as error:
        log.warning("the unfinished %s stays behind in %s: %s", part.place.prefix, part.repository.name, error)


def _stream(stored: Sequence[Stored], place: Place, raw: int) -> Dump:
    files = [_file(one, place) for one in stored]
    return Dump(
        volumes=tuple(file.name for file in files), raw_bytes=raw, stored_bytes=sum(file.size for file in files)
    )


def _file(stored: Stored, place: Place) -> File:
    return File(
        name=stored.path.removeprefix(place.prefix),
        size=stored.size,
        sha256=stored.sha256,
        version=stored.version,
        confirmed_by=stored.confirmed_by,
    )


def _sealed(data: bytes, recipients: Sequence[str]) -> bytes:
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    if not recipients:
        return packed
    import pyrage

    sealed = io.BytesIO()
    pyrage.encrypt_io(io.BytesIO(packed), sealed, crypt.recipients(recipients))
    return sealed.getvalue()


def too_small(database: str, raw: int, usual: float | None) -> Iterator[Finding]:
    """Find a stream that is much smaller than earlier ones: something may be gone, or not mounted."""
    if usual and raw < usual * _USUAL_SHARE:
        yield Finding(
            check="backup.small",
            severity=Severity.WARNING,
            object=database,
            message=f"the backup of {database} is much smaller than usual",
            value=f"{raw} bytes",
            threshold=f"half of the usual {usual:.0f} bytes",
            fix=f"maint backups --database {database}",
        )
