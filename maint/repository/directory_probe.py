"""What doctor tries on a directory repository."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from maint.errors import RepositoryError
from maint.repository import RESERVED, Probe
from maint.repository.directory import translated

if TYPE_CHECKING:
    from maint.repository.directory import DirectoryRepository


def probe(repository: "DirectoryRepository") -> Iterator[Probe]:
    """Write, sync, rename, read, list and delete one small file; tell the free space."""
    yield from _try(lambda: _round_trip(repository))
    yield from _try(lambda: _free_space(repository))


def _try(step: Callable[[], Probe]) -> Iterator[Probe]:
    try:
        yield step()
    except RepositoryError as error:
        yield Probe("FAIL", str(error), error.hint)


def _round_trip(repository: "DirectoryRepository") -> Probe:
    repository.check_parent()
    root = repository.root
    with translated(f"write {root}"):
        made = not root.is_dir()
        root.mkdir(mode=0o700, exist_ok=True)
        file = root / f"{RESERVED}probe-{secrets.token_hex(8)}"
        try:
            _write_and_compare(file.with_suffix(".part"), file)
        finally:
            file.unlink(missing_ok=True)
            file.with_suffix(".part").unlink(missing_ok=True)
            if made:
                root.rmdir()
    if (mode := 0o700 if made else root.stat().st_mode & 0o777) & 0o007:
        return Probe("WARN", f"{root} is open to everybody (mode {mode:o})", f"chmod o-rwx {root}")
    return Probe("OK", f"{root}: write, sync, rename, read and delete work")


def _write_and_compare(part: Path, file: Path) -> None:
    sent = secrets.token_bytes(512)
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, sent)
        os.fsync(fd)
        part.rename(file)
        if os.pread(fd, len(sent), 0) != sent:
            raise RepositoryError(f"{file} does not hold what was written to it")
    finally:
        os.close(fd)


def _free_space(repository: "DirectoryRepository") -> Probe:
    free = repository.free_bytes() or 0
    with translated(f"ask for the size of {repository.root}"):
        found = os.statvfs(repository.root if repository.root.exists() else repository.root.parent)
    share = free / (found.f_blocks * found.f_frsize or 1)
    text = f"{repository.root}: {free / 2**30:.1f} GiB ({share:.0%}) free"
    if share < 0.05:
        return Probe("WARN", text, "free some space, or keep fewer backups: maint backups prune --what-if")
    return Probe("OK", text)
