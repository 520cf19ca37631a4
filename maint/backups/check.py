"""Read every byte of a backup again: sizes and digests; decrypt and unpack it; let pg_restore read it through."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import zstandard

from maint.backups import crypt, inventory
from maint.backups.inventory import Backup
from maint.backups.manifest import File, Manifest
from maint.backups.paths import MANIFEST
from maint.backups.readthrough import ReadThrough, Unreadable, reader_of
from maint.backups.records import Proof
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
    manifest: Manifest
    done: int = 0  #: bytes
    compared: list[str] = field(default_factory=list)
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
            if file.name not in look.manifest.dump.volumes:
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
    """The volumes as one stream that ends with `_Differs` where one of them differs; a file, for age."""

    def __init__(self, look: _Look, files: Sequence[File]) -> None:
        self._look = look
        self.left = list(files)  #: not begun
        self._chunks = self._all()
        self._buffer = memoryview(b"")
        self.error: BaseException | None = None

    def _all(self) -> Iterator[bytes]:
        while self.left:
            file = self.left.pop(0)
            yield from _verified(self._look, file)
            if self._look.damage:
                raise _Differs

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def read(self, n: int = -1) -> bytes:
        """Return some bytes: what age asks for is a few KiB at a time."""
        if not self._buffer:
            try:
                self._buffer = memoryview(next(self._chunks, b""))
            except BaseException as error:
                self.error = error  # age reports only that its reader failed
                raise
        size = len(self._buffer) if n < 0 else n
        data = bytes(self._buffer[:size])
        self._buffer = self._buffer[size:]
        return data


def _read_dump(look: _Look, identity: Path | None) -> None:
    """Send the dump through age, zstd and its reader; whatever is left unread after damage is only compared."""
    files = {file.name: file for file in look.manifest.files}
    volumes = _Volumes(look, [files[name] for name in look.manifest.dump.volumes if name in files])
    if lost := [name for name in look.manifest.dump.volumes if name not in files]:
        look.damage.append(f"{MANIFEST}: does not list {lost[0]}")
    elif look.manifest.encrypted and identity is None:
        look.compared.append("not decrypted: there is no key here (identity_file)")
    else:
        with suppress(_Differs):
            _unpack(look, volumes, identity)
    with suppress(_Differs):
        _drain(iter(volumes))
    for file in volumes.left:
        _drain(_verified(look, file))


def _unpack(look: _Look, volumes: _Volumes, identity: Path | None) -> None:
    with reader_of(look.manifest, stop=look.tools.stop, log=look.tools.log) as reader:
        unpacked = _Unpacked(look.manifest, reader)
        try:
            if look.manifest.encrypted and identity is not None:
                _decrypt(look, volumes, identity, unpacked)
            else:
                for chunk in volumes:
                    unpacked.write(chunk)
            unpacked.finish()
            look.compared.append(reader.finish())
        except Unreadable as error:
            look.unreadable = f"the dump {error}"


class _Unpacked:
    """Takes the compressed stream, gives the raw one to the reader."""

    def __init__(self, manifest: Manifest, reader: ReadThrough) -> None:
        self._manifest = manifest
        self._reader = reader
        self._raw = 0
        self._target: _Raw | zstandard.ZstdDecompressionWriter = _Raw(self._take)
        if manifest.compression.startswith("zstd"):
            # in pieces: a mebibyte of nothing but spaces unpacks to a gibibyte
            raw = cast("IO[bytes]", self._target)
            self._target = zstandard.ZstdDecompressor().stream_writer(raw, write_size=_CHUNK)

    def _take(self, raw: bytes) -> None:
        self._raw += len(raw)
        self._reader.feed(raw)

    def write(self, data: bytes) -> int:
        """Take some bytes; raises `Unreadable` where zstd's own checksum or structure does not hold."""
        try:
            self._target.write(data)
        except zstandard.ZstdError as error:
            raise Unreadable(f"cannot be decompressed: {error}") from error
        return len(data)

    def finish(self) -> None:
        """The stream has ended: was that its end?"""
        if self._raw != self._manifest.dump.raw_bytes:
            raise Unreadable(f"unpacks to {self._raw} bytes, the manifest says {self._manifest.dump.raw_bytes}")


class _Raw:
    """A file that hands on what is written to it."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def write(self, data: bytes) -> int:
        self._take(data)
        return len(data)


def _decrypt(look: _Look, volumes: _Volumes, identity: Path, unpacked: _Unpacked) -> None:
    import pyrage

    keys = crypt.identities(identity)
    sink = _Sink(unpacked)
    try:
        pyrage.decrypt_io(volumes, sink, keys)
    except Exception as error:
        if first := volumes.error or sink.error:
            raise first from error
        if "No matching keys" in str(error):
            look.compared.append("not decrypted: the key here does not fit")
            raise _Differs from error
        raise Unreadable(f"cannot be decrypted: {error}") from error
    look.compared.append("decrypted")


class _Sink:
    """Keeps the error that age would hide."""

    def __init__(self, unpacked: _Unpacked) -> None:
        self._unpacked = unpacked
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._unpacked.write(data)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Do nothing: nothing is held back."""
