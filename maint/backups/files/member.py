"""One entry of a backup of files: as the list tells it, and as the tar does."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import IO

from maint.backups.unpack import Unreadable

FILE, FOLDER, LINK = "file", "folder", "link"

_TYPES = {tarfile.REGTYPE: FILE, tarfile.AREGTYPE: FILE, tarfile.DIRTYPE: FOLDER, tarfile.SYMTYPE: LINK}
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
#: a header of names and times longer than this is none that anybody wrote in earnest: it is read into memory
_LONGEST_HEADER = 1 << 20
#: names that are not UTF-8 come through byte by byte: PAX marks them with hdrcharset=BINARY
_ENCODING, _ERRORS = "utf-8", "surrogateescape"


@dataclass(frozen=True, slots=True)
class Member:
    """A file, folder or symbolic link."""

    path: str  #: without the leading slash; bytes that are no UTF-8 as surrogates, as Python does (PEP 383)
    type: str  #: "file" | "folder" | "link"; of a tar that somebody else made, anything
    mode: int
    mtime_ns: int  #: since 1970
    size: int = 0  #: bytes, of a file
    sha256: str | None = None  #: of a file, as it is stored
    target: str | None = None  #: of a link
    trouble: str | None = None  #: why it may not be what it was: it changed while it was read

    def to_line(self) -> bytes:
        """Return its line in the list."""
        said = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(said, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Member":
        """Read a line of the list. Raises `Unreadable`."""
        try:
            return cls(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise Unreadable(f"has a list with a line that says nothing: {line[:80]!r}") from error

    @classmethod
    def of(cls, header: tarfile.TarInfo) -> "Member":
        """Return what a header in a tar says; of a file the digest is not known yet."""
        type_ = _TYPES.get(header.type, f"type {header.type!r}")
        return cls(
            path=header.name,
            type=type_,
            mode=header.mode,
            mtime_ns=_nanoseconds(header),
            size=header.size if type_ == FILE else 0,
            target=header.linkname if type_ == LINK else None,
        )

    def header(self, uid: int, gid: int, user: str, group: str) -> bytes:
        """Return its header in a tar."""
        info = tarfile.TarInfo(self.path)
        info.type = {FILE: tarfile.REGTYPE, FOLDER: tarfile.DIRTYPE, LINK: tarfile.SYMTYPE}[self.type]
        info.mode, info.size, info.linkname = self.mode, self.size, self.target or ""
        info.uid, info.gid, info.uname, info.gname = uid, gid, user, group
        info.mtime = self.mtime_ns // 10**9
        info.pax_headers = {"mtime": _seconds(self.mtime_ns)}
        return info.tobuf(tarfile.PAX_FORMAT, _ENCODING, _ERRORS)


def _seconds(ns: int) -> str:
    """Write nanoseconds as PAX takes them: exactly."""
    return f"{'-' if ns < 0 else ''}{abs(ns) // 10**9}.{abs(ns) % 10**9:09}"


def _nanoseconds(header: tarfile.TarInfo) -> int:
    try:
        return int(Decimal(header.pax_headers.get("mtime", str(header.mtime))) * 10**9)
    except (InvalidOperation, ValueError, OverflowError):
        return 0


def shown(path: str) -> str:
    """Return a path that can be written anywhere: what is no UTF-8 as ``\\udcff``."""
    return path.encode(errors="backslashreplace").decode()


class _Header(tarfile.TarInfo):
    """A header that does not fill the memory, whoever wrote it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        found = super().frombuf(buf, encoding, errors)
        if found.type in _HEADERS and found.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {found.size} bytes")
        return found


def headers(stream: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Yield each header of a tar with the bytes of the file, in constant memory."""
    with tarfile.open(
        fileobj=stream, mode="r|", bufsize=1 << 20, encoding=_ENCODING, errors=_ERRORS, tarinfo=_Header
    ) as tar:
        while (header := _next(tar)) is not None:
            tar.members.clear()  # type: ignore[attr-defined] # tarfile remembers each
            yield header, tar.extractfile(header) if header.isreg() else None


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except (ValueError, OverflowError) as error:  # numbers in a header that are none
        raise tarfile.ReadError(str(error)) from error
