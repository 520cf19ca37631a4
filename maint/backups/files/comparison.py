"""A tar and its list, side by side."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import IO

from maint.backups.files.member import FILE, Member, headers
from maint.backups.readthrough import TarThrough
from maint.backups.unpack import Unreadable

_CHUNK = 1 << 20


class Entry:
    """One entry of the tar with its line in the list; its bytes can be read once."""

    def __init__(self, member: Member, header: tarfile.TarInfo, data: IO[bytes] | None) -> None:
        self.member = member
        self.header = header
        self._data = data
        self._digest = hashlib.sha256()

    @property
    def unread(self) -> bool:
        return self._data is not None

    def copy(self, write: Callable[[bytes], object]) -> None:
        """Give the bytes of the file to `write`. Raises `Unreadable` at the end if they are not those of the list."""
        while self._data and (data := self._data.read(_CHUNK)):
            self._digest.update(data)
            write(data)
        self._data = None
        if self._digest.hexdigest() != self.member.sha256:
            raise Unreadable(f"holds another {self.member.path!r} than its list says")


def entries(stream: IO[bytes], listing: IO[bytes]) -> Iterator[Entry]:
    """Yield what is in the tar as the list has it, too. Raises `Unreadable` where they differ.

    What a file holds is compared when it is copied; of one that is not, it is here.
    """
    for header, data in headers(stream):
        line = listing.readline()
        if not line:
            raise Unreadable(f"holds {header.name!r}, which is not in its list")
        listed = Member.from_line(line)
        if Member.of(header) != replace(listed, sha256=None, trouble=None):
            raise Unreadable(f"holds {header.name!r} where its list says {listed.path!r}, or as something else")
        entry = Entry(listed, header, data)
        yield entry
        if entry.unread:
            entry.copy(len)
    if missing := listing.readline():
        raise Unreadable(f"ends before {Member.from_line(missing).path!r}")


class Comparison(TarThrough):
    """Compares each file of a tar with its list."""

    def __init__(self, listing: IO[bytes]) -> None:
        super().__init__()
        self._listing = listing

    def look(self, stream: IO[bytes], /) -> str:
        files = sum(entry.member.type == FILE for entry in entries(stream, self._listing))
        return f"{files} files, each compared with its size and SHA-256"
