"""The raw stream of a backup: read from its repository, compared with its manifest, decrypted, unpacked."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from maint.backups.manifest import DatabaseManifest, Dump, File, Manifest
from maint.backups.paths import Place
from maint.backups.unpack import Chunks, Unreadable, unpack
from maint.clock import Stop
from maint.errors import Damaged
from maint.repository import Repository

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """A backup of any kind to read: where it is, what it should be, and the key."""

    repository: Repository
    place: Place
    manifest: Manifest
    identity: Path | None


@dataclass(frozen=True)
class Backup(Source):
    """One of a database."""

    manifest: DatabaseManifest


class Raw:
    """The raw stream, read by a thread ahead of who reads this; the same bytes that pg_dump wrote.

    Of the dump, or of another `stream` of the backup.

    `read` raises `Damaged` where a byte is not what was stored, `unpack.NoKey` without a key that fits, and what
    the repository raises.
    """

    def __init__(self, backup: Source, stop: Stop, stream: Dump | None = None) -> None:
        self._backup = backup
        self._stream = stream or backup.manifest.dump
        self._stop = stop
        self._error: BaseException | None = None
        self._source, self._sink = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._work, name="raw stream", daemon=True)
        self.done = 0  #: bytes read

    def read(self, n: int = -1, /) -> bytes:
        """Return up to `n` bytes; b"" at the end of a stream that was whole."""
        data = os.read(self._source, n if n >= 0 else _CHUNK)
        self.done += len(data)
        if not data:
            self._thread.join()
            if self._error is not None:
                raise self._error
        return data

    def _work(self) -> None:
        try:
            chunks = Chunks(_volumes(self._backup, self._stream, self._stop))
            unpack(chunks, self._backup.manifest, self._backup.identity, self._give, stream=self._stream)
        except BrokenPipeError:  # nobody wants the rest
            return
        except Unreadable as error:
            self._error = Damaged(f"the dump of {self._backup.place.id} {error}")
        except BaseException as error:  # noqa: BLE001 - raised by `read`
            self._error = error
        finally:
            os.close(self._sink)

    def _give(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._sink, view) :]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.close(self._source)
        self._thread.join()


def _volumes(backup: Source, stream: Dump, stop: Stop) -> Iterator[bytes]:
    files = {file.name: file for file in backup.manifest.files}
    for name in stream.volumes:
        if name not in files:
            raise Damaged(f"manifest.json does not list {name}")
        yield from _verified(backup, files[name], stop)


def compare_rest(backup: Backup, stop: Stop) -> None:
    """Read what lies beside the dump and compare it with the manifest. Raises `Damaged`, `NotFound`."""
    for file in backup.manifest.files:
        if file.name not in backup.manifest.dump.volumes:
            for _ in _verified(backup, file, stop):
                pass


def whole(backup: Source, file: File, stop: Stop) -> bytes:
    """Return a small file that lies beside the dump. Raises `Damaged`, `NotFound`."""
    return b"".join(_verified(backup, file, stop))


def _verified(backup: Source, file: File, stop: Stop) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    with backup.repository.open(backup.place / file.name, version=file.version) as reader:
        while data := reader.read(_CHUNK):
            stop.check()
            digest.update(data)
            size += len(data)
            yield data
    if size != file.size or digest.hexdigest() != file.sha256:
        what = f"{size} of {file.size} bytes" if size != file.size else "digest differs"
        raise Damaged(
            f"{file.name}: {what}",
            hint=f"restore another one: maint backups --database {backup.place.database}",
        )
