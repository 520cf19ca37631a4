"""A tar of files that is made while it is read: nothing of it lies on a disk, and no file is held in memory."""

import grp
import hashlib
import os
import pwd
import stat
import tarfile
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import IO

from maint.backups.files.member import FILE, FOLDER, LINK, Member
from maint.backups.files.walk import CHANGED, SPECIAL, Choice, Found, Notes, Walk
from maint.clock import Stop

_BLOCK = 1 << 20
#: a pipe or device that took the place of a file does not hold it up, nor is a link followed there
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Archive:
    """The tar as the output of a program; its list is written meanwhile."""

    def __init__(self, choice: Choice, listing: IO[bytes], stop: Stop) -> None:
        self.notes = Notes()
        self.counts: Counter[str] = Counter()  #: by type
        self.bytes = 0  #: of all files together
        self._listing = listing
        self._stop = stop
        self._blocks = self._all(Walk(choice, self.notes))

    def read(self, n: int, /) -> bytes:
        """Return at least `n` bytes, at the end what is left: headers alone are not worth a call."""
        gathered: list[bytes] = []
        size = 0
        while size < n and (block := next(self._blocks, None)) is not None:
            gathered.append(block)
            size += len(block)
        return b"".join(gathered)

    def close(self) -> None:
        """Read no more: folders that are open are closed."""
        self._blocks.close()

    def _all(self, walk: Walk) -> Generator[bytes, None, None]:
        for found in walk:
            self._stop.check()
            if stat.S_ISREG(found.stat.st_mode):
                yield from self._file(found)
            else:
                yield from self._other(found)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _other(self, found: Found) -> Iterator[bytes]:
        target = None
        if stat.S_ISLNK(found.stat.st_mode):
            try:
                target = _text(os.readlink(found.name, dir_fd=found.folder))
            except OSError as error:
                self.notes.failed(found.path, error)
                return
        member = _member(found, found.stat, LINK if target is not None else FOLDER, target)
        yield _header(member, found.stat)
        self._list(member)

    def _file(self, found: Found) -> Iterator[bytes]:
        flags = _FLAGS if found.folder is not None else _FLAGS & ~os.O_NOFOLLOW
        try:
            descriptor = os.open(found.name, flags, dir_fd=found.folder)
        except OSError as error:
            self.notes.failed(found.path, error)
            return
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                self.notes.add(SPECIAL, found.path, "took the place of a file")
                return
            yield from self._content(found, file, before)

    def _content(self, found: Found, file: IO[bytes], before: os.stat_result) -> Iterator[bytes]:
        """Yield header and bytes: exactly as many as the header says, whatever becomes of the file meanwhile."""
        member = _member(found, before, FILE)
        yield _header(member, before)
        digest, left, trouble = hashlib.sha256(), member.size, None
        while left:
            data = b""
            try:
                data = file.read(min(_BLOCK, left))
            except OSError as error:
                trouble = f"could not be read on: {error.strerror}"
            if not data:
                trouble = trouble or "was cut while it was read"
                data = bytes(min(_BLOCK, left))
            digest.update(data)
            left -= len(data)
            yield data
            self._stop.check()
        yield bytes(-member.size % tarfile.BLOCKSIZE)
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            trouble = trouble or "changed while it was read"
        if trouble:
            self.notes.add(CHANGED, found.path, trouble)
        self.bytes += member.size
        self._list(member, digest.hexdigest(), trouble)

    def _list(self, member: Member, sha256: str | None = None, trouble: str | None = None) -> None:
        self.counts[member.type] += 1
        self._listing.write(replace(member, sha256=sha256, trouble=trouble).to_line())


def _text(name: str) -> str:
    """Return a name as the tar has it: UTF-8 whatever the locale is, what is none byte by byte."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _member(found: Found, of: os.stat_result, type_: str, target: str | None = None) -> Member:
    size = of.st_size if type_ == FILE else 0
    path = _text(found.path).lstrip("/") or "."
    return Member(path, type_, stat.S_IMODE(of.st_mode), of.st_mtime_ns, size, target=target)


def _header(member: Member, of: os.stat_result) -> bytes:
    return member.header(of.st_uid, of.st_gid, _user(of.st_uid), _group(of.st_gid))


@lru_cache(1024)
def _user(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return ""


@lru_cache(1024)
def _group(gid: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return ""
