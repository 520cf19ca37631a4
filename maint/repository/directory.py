"""A folder as a repository."""

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from maint.clock import Clock, SystemClock
from maint.config.model import RepositoryConfig
from maint.errors import (
    Damaged,
    MaintError,
    NotFound,
    RepositoryDenied,
    RepositoryError,
    RepositoryFull,
    RepositoryUnavailable,
)
from maint.owner import Owner
from maint.repository import RESERVED, Entry, Probe, Reader, Upload, check_path

#: how long the unfinished file of another machine, or of an earlier boot, is left alone after its last write
FOREIGN_GRACE = timedelta(days=1)

#: the name of a backup's folder (`maint.backups.paths`)
_BACKUP = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")

_ERRORS: dict[int, tuple[type[RepositoryError], str | None]] = {
    errno.ENOSPC: (RepositoryFull, "free some space, or keep fewer backups: maint backups prune"),
    errno.EDQUOT: (RepositoryFull, "raise the quota, or keep fewer backups: maint backups prune"),
    errno.EFBIG: (RepositoryFull, "the file system or a limit (ulimit -f) allows no larger file"),
    errno.EACCES: (RepositoryDenied, "let the user that maint runs as write there: chown -R or chmod -R"),
    errno.EPERM: (RepositoryDenied, "let the user that maint runs as write there: chown -R or chmod -R"),
    errno.EROFS: (RepositoryDenied, "mount it writable: mount -o remount,rw"),
    errno.ENOENT: (NotFound, None),
    errno.ESTALE: (RepositoryUnavailable, None),
    errno.ETIMEDOUT: (RepositoryUnavailable, None),
    errno.EHOSTDOWN: (RepositoryUnavailable, None),
}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn every OSError inside into the `RepositoryError` it means; `what` says what was tried."""
    try:
        yield
    except OSError as error:
        kind, hint = _ERRORS.get(error.errno or 0, (RepositoryError, None))
        raise kind(f"cannot {what}: {error.strerror or error}", hint=hint) from error


class DirectoryRepository:
    """Objects are files (0600) in folders (0700) below the root.

    A file is written beside its final name, synced, read back, and renamed: what can be seen is complete. The
    root itself is made on the first write if its parent exists; if the parent is missing too, then probably a
    mount is, and maint refuses. Symbolic links are no objects, and none may lead out of the root.
    """

    max_object_bytes: int | None = None

    def __init__(self, config: RepositoryConfig, *, clock: Clock | None = None) -> None:
        self.name = config.name
        self.root = Path(config.url.removeprefix("file://"))
        self.read_back = config.read_back is not False
        self._clock = clock or SystemClock()

    def list(self, prefix: str = "") -> Iterator[Entry]:
        folder, _, beginning = prefix.rpartition("/")
        if folder:
            check_path(folder)
        with translated(f"list {self.root}"):
            if not self.root.is_dir():
                self.check_parent()
                return
            yield from self._walk(self.root / folder, f"{folder}/" if folder else "", beginning)

    def _walk(self, folder: Path | str, path: str, beginning: str) -> Iterator[Entry]:
        """Yield the files below `folder`, whose path is `path`, that begin with `beginning`; sorted."""
        for entry in _scan(folder):
            if not entry.name.startswith(beginning) or entry.name.startswith(RESERVED):
                continue
            if entry.is_dir(follow_symlinks=False):
                if path or entry.name != "lost+found":  # of the file system, and root's
                    yield from self._walk(entry.path, f"{path}{entry.name}/", "")
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found = entry.stat(follow_symlinks=False)
                    yield Entry(path + entry.name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def create(self, path: str, *, size_hint: int | None = None) -> Upload:
        from maint.repository.directory_upload import DirectoryUpload

        if size_hint and self.root.is_dir() and (free := self.free_bytes() or 0) < size_hint:
            raise RepositoryFull(
                f"{path} needs {size_hint} bytes, {self.root} has {free} left", hint=_ERRORS[errno.ENOSPC][1]
            )
        return DirectoryUpload(self, check_path(path))

    def open(self, path: str, *, version: str | None = None, offset: int = 0) -> Reader:  # noqa: ARG002
        return _FileReader(self.inside(path), offset)

    def delete(self, path: str, *, version: str | None = None) -> None:  # noqa: ARG002
        file = self.inside(path)
        with translated(f"delete {file}"), suppress(FileNotFoundError):
            file.unlink()
        self.remove_empty(file.parent)

    def remove_empty(self, folder: Path) -> None:
        """Remove `folder` and those above it, up to the root, as long as they are empty."""
        with suppress(OSError):
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent

    def locked_until(self, path: str, *, version: str | None = None) -> datetime | None:  # noqa: ARG002
        return None

    def sweep(self) -> Sequence[str]:
        swept = []
        with translated(f"sweep {self.root}"):
            for file in _partial(self.root):
                with suppress(FileNotFoundError):
                    if self._is_abandoned(file):
                        file.unlink()
                        swept.append(str(file.relative_to(self.root)))
                        self.remove_empty(file.parent)
            for folder in _empty_backups(self.root):
                swept.append(f"{folder.relative_to(self.root)}/")
                self.remove_empty(folder)
        return swept

    def _is_abandoned(self, file: Path) -> bool:
        owner = Owner.parse(file.name.removeprefix(RESERVED).removesuffix(".part").rpartition("-")[0])
        alive = owner.alive() if owner else None
        if alive is not None:
            return not alive
        written_at = datetime.fromtimestamp(file.lstat().st_mtime, UTC)
        return self._clock.now() - written_at > FOREIGN_GRACE

    def free_bytes(self) -> int | None:
        with translated(f"ask for the free space of {self.root}"):
            found = os.statvfs(self.root if self.root.exists() else self.root.parent)
        return found.f_bavail * found.f_frsize

    def probe(self, *, write: bool = False) -> Iterator[Probe]:  # noqa: ARG002 - nothing is locked here
        from maint.repository.directory_probe import probe

        return probe(self)

    def url_of(self, path: str) -> str:
        return str(self.root / path)

    def inside(self, path: str) -> Path:
        """Return where the object lies; raise if a symbolic link on the way leads out of the root."""
        file = self.root / check_path(path)
        if not file.parent.resolve().is_relative_to(self.root.resolve()):
            raise RepositoryError(
                f"{file.parent} leads out of {self.root}", hint="remove the symbolic link: maint does not follow it"
            )
        return file

    def check_parent(self) -> None:
        """Raise if not even the folder that should hold the root is there."""
        if not self.root.parent.is_dir():
            raise RepositoryError(
                f"{self.root.parent} does not exist",
                hint=f"mount what belongs there, or make it: mkdir -p {self.root.parent}",
            )


class _FileReader:
    """Reads one file, and notices if it ends before the size it had when it was opened."""

    def __init__(self, file: Path, offset: int) -> None:
        self._file = file
        with translated(f"read {file}"):
            self._fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._size = self._check(os.fstat(self._fd), offset)
                os.lseek(self._fd, offset, os.SEEK_SET)
            except MaintError:
                os.close(self._fd)
                raise
        self._position = offset

    def _check(self, found: os.stat_result, offset: int) -> int:
        if not stat.S_ISREG(found.st_mode):
            raise NotFound(f"{self._file} is no file")
        if offset > found.st_size:
            raise Damaged(f"{self._file} ends at byte {found.st_size}, {offset} is behind its end")
        return found.st_size

    def read(self, n: int = -1, /) -> bytes:
        with translated(f"read {self._file}"):
            data = os.read(self._fd, self._size - self._position if n < 0 else n)
        self._position += len(data)
        if not data and n and self._position < self._size:
            raise Damaged(f"{self._file} was cut to {self._position} of {self._size} bytes while it was read")
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)


def _scan(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):  # removed meanwhile, or a prefix that does not exist
        return []


def _partial(folder: Path | str) -> Iterator[Path]:
    """Yield every unfinished file below `folder`."""
    for entry in _scan(folder):
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "lost+found":
                yield from _partial(entry.path)
        elif entry.name.startswith(RESERVED) and entry.name.endswith(".part"):
            yield Path(entry.path)


def _empty_backups(folder: Path | str) -> Iterator[Path]:
    """Yield the empty folders of backups. Who is about to write into one makes it again."""
    for entry in _scan(folder):
        if entry.is_dir(follow_symlinks=False) and entry.name != "lost+found":
            if _BACKUP.fullmatch(entry.name) and not _scan(entry.path):
                yield Path(entry.path)
            else:
                yield from _empty_backups(entry.path)
