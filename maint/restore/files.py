"""Restore a backup of files into a folder: each file compared with its list while it is written."""

import grp
import os
import pwd
import tarfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, cast

from maint.backups.files.comparison import Entry, entries
from maint.backups.files.member import FILE, FOLDER, LINK, shown
from maint.backups.inventory import Backup, fresh
from maint.backups.manifest import FilesManifest
from maint.backups.unpack import NoKey, Unreadable
from maint.clock import Clock
from maint.errors import BackupError, Damaged, UsageError
from maint.format import size
from maint.repository import Repository
from maint.restore.folder import Folder, Owner, Refused
from maint.restore.sources import Tools
from maint.restore.stream import Raw, Source

_CHUNK = 1 << 20
#: named in the result; the others are counted
_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Left:
    """Something that was left out, or is not as it was."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back."""

    files: int
    folders: int
    links: int
    bytes: int
    seconds: float
    skipped: tuple[Left, ...]  #: not restored, or not wholly
    skipped_count: int  #: of them, the ones that are not named here, too
    torn: tuple[Left, ...]  #: restored as they were stored: they had changed while they were read

    @property
    def exit_code(self) -> int:
        return 3 if self.skipped_count or self.torn else 0


def restore_files(
    repository: Repository,
    backup: Backup,
    folder: Path,
    *,
    identity: Path | None,
    tools: Tools,
    clock: Clock,
    owners: bool = False,
    outside_links: bool = False,
) -> Restored:
    """Restore all of `backup` into `folder`, which must be empty or not be there; paths lie below it as they were.

    `owners`: give each file its owner again, which only root can. `outside_links`: make the links that lead out of
    the folder, too; without it they are left out and named. Raises `UsageError`, `Damaged` (what had been restored by
    then stays, and is right), `BackupError` where the folder takes no more.
    """
    began = clock.monotonic()
    manifest = fresh(repository, backup)
    if not isinstance(manifest, FilesManifest):
        raise UsageError(f"{backup.id} is a backup of a database", hint="restore it with --to [SERVER/]DATABASE")
    if owners and os.geteuid() != 0:
        raise UsageError("only root can give files their owners again", hint="leave the owners out, or run it as root")
    source = Source(repository, backup.place, manifest, identity)
    with Folder(folder, outside_links=outside_links) as target, TemporaryFile() as listing:
        if (free := target.free_bytes()) < manifest.tree.bytes:
            raise BackupError(f"{folder} has room for {size(free)}, the files need {size(manifest.tree.bytes)}")
        work = _Work(target, owners, Counter(), [], [])
        try:
            _read_listing(source, manifest, listing, tools)
            _extract(source, listing, tools, work)
        except NoKey as error:
            raise UsageError(f"{backup.id} is encrypted: {error}", hint="identity_file of the repository") from error
        except (Unreadable, Damaged, tarfile.TarError, EOFError) as error:
            raise _damaged(backup, work, error) from error
        finally:
            target.finish()
    return work.result(clock.monotonic() - began)


def _read_listing(source: Source, manifest: FilesManifest, listing: IO[bytes], tools: Tools) -> None:
    with Raw(source, tools.stop, manifest.tree.listing) as raw:
        while data := raw.read(_CHUNK):
            listing.write(data)
    listing.seek(0)


def _extract(source: Source, listing: IO[bytes], tools: Tools, work: "_Work") -> None:
    name, total = source.place.database, source.manifest.dump.raw_bytes
    with Raw(source, tools.stop) as raw:
        for entry in entries(cast("IO[bytes]", raw), listing):
            tools.stop.check()
            work.take(entry)
            tools.progress(name, done_bytes=raw.done, total_bytes=total, what="restore")
        while raw.read(_CHUNK):  # what follows the end of the tar belongs to the digest
            pass


@dataclass(slots=True)
class _Work:
    """A restore as it goes on."""

    folder: Folder
    owners: bool
    counts: Counter[str]
    skipped: list[Left]
    torn: list[Left]

    def take(self, entry: Entry) -> None:
        member = entry.member
        try:
            left = self.folder.put(member, _owner(entry.header) if self.owners else None, entry.copy)
        except Refused as error:
            self._skip(member.path, str(error))
            return
        self.counts[member.type] += 1
        self.counts["bytes"] += member.size
        if left:
            self._skip(member.path, left)
        if member.trouble and len(self.torn) < _NAMED:
            self.torn.append(Left(shown(member.path), member.trouble))

    def _skip(self, path: str, why: str) -> None:
        self.counts["skipped"] += 1
        if len(self.skipped) < _NAMED:
            self.skipped.append(Left(shown(path), why))

    def result(self, seconds: float) -> Restored:
        counts = self.counts
        return Restored(
            files=counts[FILE],
            folders=counts[FOLDER],
            links=counts[LINK],
            bytes=counts["bytes"],
            seconds=seconds,
            skipped=tuple(self.skipped),
            skipped_count=counts["skipped"],
            torn=tuple(self.torn),
        )


def _damaged(backup: Backup, work: _Work, error: Exception) -> Damaged:
    text = str(error) if isinstance(error, Damaged) else f"the tar {error}"
    return Damaged(
        f"{backup.id} is damaged: {text}; {work.counts[FILE]} files were restored before, each compared",
        hint=f"restore another one: maint backups --database {backup.database}",
    )


def _owner(header: tarfile.TarInfo) -> Owner:
    """Return whose it was: by name where this machine knows it, else by number."""
    return Owner(_uid(header.uname, header.uid), _gid(header.gname, header.gid))


@lru_cache(1024)
def _uid(name: str, number: int) -> int:
    with suppress(KeyError):
        return pwd.getpwnam(name).pw_uid
    return number


@lru_cache(1024)
def _gid(name: str, number: int) -> int:
    with suppress(KeyError):
        return grp.getgrnam(name).gr_gid
    return number
