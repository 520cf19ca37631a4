"""Read every byte of a backup again: sizes and digests; decrypt and unpack it; let pg_restore read it through."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from maint.backups import inventory
from maint.backups.files.comparison import Comparison
from maint.backups.inventory import Backup
from maint.backups.manifest import DatabaseManifest, Dump, File, FilesManifest
from maint.backups.paths import MANIFEST
from maint.backups.readthrough import ReadThrough, reader_of
from maint.backups.records import Proof
from maint.backups.unpack import Chunks, NoKey, Unreadable, unpack
from maint.clock import Clock, Stop
from maint.errors import Damaged, NotFound
from maint.model import Trust
from maint.repository import Repository

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Tools:
    """What the caller lends."""

    stop: Stop
    clock: Clock
    log: logging.Logger
    progress: Callable[[int, int], None] = lambda _done, _total: None  #: bytes


@dataclass(slots=True)
class _Look:
    """One check as it goes on."""

    repository: Repository
    backup: Backup
    tools: Tools
    manifest: DatabaseManifest | FilesManifest
    done: int = 0  #: bytes
    compared: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)  #: files that were read
    damage: list[str] = field(default_factory=list)  #: by file
    unreadable: str | None = None  #: what is wrong with the dump although every file is as it was stored


def check(repository: Repository, backup: Backup, *, identity: Path | None, tools: Tools) -> Proof:
    """Read the whole backup and compare it with its manifest; return what was found out, `records.prove` keeps it.

    Without the key it is not decrypted, without pg_restore not read by it: the proof says what was compared. Raises
    `RepositoryError`s other than `NotFound` and `Damaged`: a store that does not answer is no damage.
    """
    began, at = tools.clock.monotonic(), tools.clock.now()
    look = _begin(repository, backup, tools)
    if isinstance(look, _Look):
        _read_dump(look, identity)
        for file in look.manifest.files:
            if file.name not in look.seen:
                _drain(_verified(look, file))
        look.compared.insert(0, f"size and SHA-256 of {len(look.manifest.files)} files, {look.done} bytes")
        compared = tuple(look.compared)
        damage = look.damage or ([look.unreadable] if look.unreadable else [])
    else:
        compared, damage = (), [look]
    return Proof(
        id=backup.id,
        result=Trust.DAMAGED if damage else Trust.CHECKED,
        at=at,
        seconds=round(tools.clock.monotonic() - began, 3),
        compared=compared,
        reason="; ".join(damage) or None,
    )


def _begin(repository: Repository, backup: Backup, tools: Tools) -> _Look | str:
    """Read the manifest; return what is wrong with it if it cannot be used."""
    try:
        manifest = inventory.fresh(repository, backup)
    except Damaged as error:
        return f"{MANIFEST}: {error}"
    if manifest.id != backup.id:
        return f"{MANIFEST}: is that of {manifest.id}"
    return _Look(repository, backup, tools, manifest)


class _Differs(Exception):
    """The stream cannot be read on: a volume differs. What it is stands in the look."""


def _verified(look: _Look, file: File) -> Iterator[bytes]:
    """Yield the bytes of one file; note the damage if they are not those that were stored."""
    look.seen.add(file.name)
    digest, size = hashlib.sha256(), 0
    try:
        with look.repository.open(look.backup.place / file.name, version=file.version) as reader:
            while data := reader.read(_CHUNK):
                look.tools.stop.check()
                digest.update(data)
                size += len(data)
                look.done += len(data)
                look.tools.progress(look.done, look.manifest.size_bytes)
                yield data
    except NotFound:
        look.damage.append(f"{file.name}: missing")
        return
    except Damaged:
        look.damage.append(f"{file.name}: cut while it was read")
        return
    if size != file.size:
        look.damage.append(f"{file.name}: {size} of {file.size} bytes")
    elif digest.hexdigest() != file.sha256:
        look.damage.append(f"{file.name}: digest differs")


def _drain(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass


class _Volumes:
    """The volumes as one stream that ends with `_Differs` where one of them differs."""

    def __init__(self, look: _Look, files: Sequence[File]) -> None:
        self._look = look
        self.left = list(files)  #: not begun

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            file = self.left.pop(0)
            yield from _verified(self._look, file)
            if self._look.damage:
                raise _Differs


def _read_dump(look: _Look, identity: Path | None) -> None:
    """Send the dump through age, zstd and its reader."""
    with _reader(look, identity) as reader:

        def unpacked(chunks: Iterator[bytes]) -> None:
            unpack(Chunks(chunks), look.manifest, identity, reader.feed)
            look.compared += ["decrypted"] if look.manifest.encrypted else []
            look.compared.append(reader.finish())

        _read_stream(look, look.manifest.dump, unpacked)


@contextmanager
def _reader(look: _Look, identity: Path | None) -> Iterator[ReadThrough]:
    """Lend what reads the dump; of files that compares each with the list beside it, which is read first."""
    if isinstance(look.manifest, DatabaseManifest):
        with reader_of(look.manifest, stop=look.tools.stop, log=look.tools.log) as reader:
            yield reader
        return
    listing = look.manifest.tree.listing
    with TemporaryFile() as spool:

        def spooled(chunks: Iterator[bytes]) -> None:
            unpack(Chunks(chunks), look.manifest, identity, spool.write, stream=listing)

        _read_stream(look, listing, spooled)
        spool.seek(0)
        with Comparison(spool) as comparison:
            yield comparison


def _read_stream(look: _Look, dump: Dump, work: Callable[[Iterator[bytes]], None]) -> None:
    """Let `work` read the volumes of a stream; whatever is left unread after damage is only compared."""
    files = {file.name: file for file in look.manifest.files}
    volumes = _Volumes(look, [files[name] for name in dump.volumes if name in files])
    if lost := [name for name in dump.volumes if name not in files]:
        look.damage.append(f"{MANIFEST}: does not list {lost[0]}")
    else:
        chunks = iter(volumes)
        with suppress(_Differs):
            _told(look, work, chunks)
            _drain(chunks)
    for file in volumes.left:
        _drain(_verified(look, file))


def _told(look: _Look, work: Callable[[Iterator[bytes]], None], chunks: Iterator[bytes]) -> None:
    try:
        work(chunks)
    except NoKey as error:
        look.compared[:] = [f"not decrypted: {error}"]
    except Unreadable as error:
        look.unreadable = look.unreadable or f"the dump {error}"
