"""Where backups are kept: a directory or an S3 bucket with a prefix.

Paths are relative, `/`-separated and already encoded by the caller (`maint.backups.paths`): every part is
made of ASCII letters, digits and ``. _ - % @ + = ~``. Names that begin with ``.maint-`` are maint's own
(unfinished files, probes).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from maint.config.model import RepositoryConfig
from maint.errors import RepositoryError

#: of every name that is maint's own and no object
RESERVED = ".maint-"
_PATH = re.compile(r"[A-Za-z0-9._\-%@+=~]+(/[A-Za-z0-9._\-%@+=~]+)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One object, as a listing shows it."""

    path: str
    size: int  #: bytes
    modified_at: datetime  #: UTC
    version: str | None = None  #: in a versioned bucket
    hidden: bool = False  #: under a delete marker: its bytes are kept, readers do not see it


@dataclass(frozen=True, slots=True)
class Stored:
    """One object that the store has confirmed."""

    path: str
    size: int  #: bytes
    sha256: str  #: hexadecimal, of what was sent
    version: str | None
    confirmed_by: str  #: "read back" | "store's checksum" | "size" (where the configuration forbids more)


class Probe(NamedTuple):
    """One thing that doctor tried on a repository."""

    status: str  #: "OK" | "WARN" | "FAIL"
    message: str
    fix: str | None = None


class Upload(Protocol):
    """One object being written. Leaving the `with` uncommitted aborts it: nothing is visible, nothing stays."""

    def write(self, data: bytes, /) -> None: ...

    def commit(self) -> Stored:
        """Make the object visible, and compare size and digest with the store before returning.

        Raises `Damaged` (after removing the object again) if they differ.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Reader(Protocol):
    """One object being read; `read` returns b"" at its end, and raises `Damaged` if it was cut short."""

    def read(self, n: int = -1, /) -> bytes: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Repository(Protocol):
    """Every method raises the `RepositoryError`s of maint.errors and nothing else."""

    name: str
    #: the largest object this repository takes, in bytes; None = no limit
    max_object_bytes: int | None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every object whose path begins with `prefix`, in one pass, hidden ones too."""
        ...

    def create(self, path: str, *, size_hint: int | None = None) -> Upload:
        """Begin an object, or replace it; of at least `size_hint` bytes: refused at once if that cannot fit."""
        ...

    def open(self, path: str, *, version: str | None = None, offset: int = 0) -> Reader: ...

    def delete(self, path: str, *, version: str | None = None) -> None:
        """Delete one object; in a versioned bucket this very version, or all of them if none is named.

        Absent = done. Raises `Locked` while an object lock holds it.
        """
        ...

    def locked_until(self, path: str, *, version: str | None = None) -> datetime | None:
        """Return when the object lock on this object ends (or ended); None without one."""
        ...

    def sweep(self) -> Sequence[str]:
        """Clear what earlier processes of this maint left unfinished here; return what was cleared.

        Only what no living process works on: own partial files and multipart uploads, known by their names.
        """
        ...

    def free_bytes(self) -> int | None:
        """Return how much more fits; None where nobody knows (S3)."""
        ...

    def probe(self, *, write: bool = False) -> Iterator[Probe]:
        """Try everything maint will ask of this repository, with small objects that are removed again.

        `write` tries it also where the bucket would lock the small object for its default period.
        """
        ...

    def url_of(self, path: str) -> str:
        """Return where a person finds this object: a path or an s3:// URL, without secrets."""
        ...


def check_path(path: str) -> str:
    """Return `path` if it may name an object; raise `RepositoryError` otherwise."""
    parts = path.split("/")
    if not _PATH.fullmatch(path) or {".", ".."} & set(parts) or any(p.startswith(RESERVED) for p in parts):
        raise RepositoryError(f"{path!r} cannot name an object in a repository")
    return path


def open_repository(config: RepositoryConfig, *, state_dir: Path | None = None) -> Repository:
    """Return the repository that `config` describes. Connects to nothing.

    In `state_dir` an S3 repository remembers its uploads while they run, so that the next start can clear what
    a killed process left; without it they are cleared a day later.
    """
    if config.url.startswith("s3://"):
        from maint.repository.s3 import S3Repository

        return S3Repository(config, state_dir=state_dir)
    from maint.repository.directory import DirectoryRepository

    return DirectoryRepository(config)
