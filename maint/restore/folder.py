"""A folder that files are restored into: nothing is written outside of it, whatever the names say.

Every step down is made from the folder above, which is open, and follows no link; so neither a name nor a link that was
restored before leads out. (tarfile's data filter compares paths as texts instead, and takes away modes that matter to
a server, as those of a data directory.)
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from maint.backups.files.member import FILE, FOLDER, LINK, Member
from maint.errors import BackupError, UsageError

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: the place for it is gone: the next file would fare no better
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)


class Refused(Exception):
    """This one is not restored; the text says why."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a file becomes."""

    uid: int
    gid: int


class Folder:
    """The folder, which must be empty or not be there yet."""

    def __init__(self, path: Path, *, outside_links: bool) -> None:
        self.path = path
        self._outside_links = outside_links
        self._finished: list[tuple[tuple[bytes, ...], Member, Owner | None]] = []  #: folders, whose times change yet
        self._parent: tuple[tuple[bytes, ...], int] | None = None  #: the folder that was worked in last, open

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if next(self.path.iterdir(), None) is not None:
                raise UsageError(f"{self.path} is not empty", hint="files are restored into a new or an empty folder")
            self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be restored into: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        os.close(self._root)

    def free_bytes(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def put(self, member: Member, owner: Owner | None, copy: Callable[[Callable[[bytes], object]], None]) -> str | None:
        """Restore one entry, a file by letting `copy` write it; return what of it was left out.

        Raises `Refused`, and `BackupError` where nothing more can be written.
        """
        parts = _parts(member.path)
        try:
            if member.type == FOLDER:
                self._make(parts, member, owner)
            elif member.type == LINK:
                self._link(parts, member, owner)
            elif member.type == FILE:
                self._file(parts, member, owner, copy)
            else:
                raise Refused("neither a file nor a folder nor a link")
        except OSError as error:
            if error.errno in _FATAL:
                raise BackupError(
                    f"{self.path} cannot be written: {error.strerror}", hint="restore elsewhere"
                ) from error
            raise Refused(error.strerror or str(error)) from error
        left = member.mode & (stat.S_ISUID | stat.S_ISGID) if member.type == FILE else 0
        return "restored without its set-user-ID and set-group-ID bits" if left else None

    def finish(self) -> None:
        """Give folders their modes and times, which what came into them has changed; the inner ones first."""
        for parts, member, owner in reversed(self._finished):
            with suppress(OSError):
                folder = self._open(parts)
                _settle(folder, member, owner, member.mode & 0o3777)

    def _make(self, parts: tuple[bytes, ...], member: Member, owner: Owner | None) -> None:
        self._open(parts)
        if parts:
            self._finished.append((parts, member, owner))

    def _link(self, parts: tuple[bytes, ...], member: Member, owner: Owner | None) -> None:
        target = member.target or ""
        if not self._outside_links and _leads_out(member.path, target):
            raise Refused(f"a link out of the folder, to {target}")
        parent, name = self._open(parts[:-1]), parts[-1]
        os.symlink(_bytes(target), name, dir_fd=parent)
        if owner is not None:
            os.chown(name, owner.uid, owner.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _file(
        self,
        parts: tuple[bytes, ...],
        member: Member,
        owner: Owner | None,
        copy: Callable[[Callable[[bytes], object]], None],
    ) -> None:
        parent, name = self._open(parts[:-1]), parts[-1]
        file = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            with os.fdopen(file, "wb", buffering=0, closefd=False) as out:
                copy(lambda data: _write(out.fileno(), data))
            _settle(file, member, owner, member.mode & 0o777)
        except BaseException:
            with suppress(OSError):
                os.unlink(name, dir_fd=parent)
            raise
        finally:
            os.close(file)

    def _open(self, parts: tuple[bytes, ...]) -> int:
        """Return the folder, open until the next one is asked for; what is missing on the way is made."""
        if self._parent and self._parent[0] == parts:
            return self._parent[1]
        current = os.dup(self._root)
        for part in parts:
            try:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=current)
                below = os.open(part, _FOLDER_FLAGS, dir_fd=current)
            finally:
                os.close(current)
            current = below
        self._leave()
        self._parent = (parts, current)
        return current

    def _leave(self) -> None:
        if self._parent:
            os.close(self._parent[1])
            self._parent = None


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _settle(descriptor: int, member: Member, owner: Owner | None, mode: int) -> None:
    if owner is not None:
        os.fchown(descriptor, owner.uid, owner.gid)
    os.fchmod(descriptor, mode)
    os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _parts(path: str) -> tuple[bytes, ...]:
    """Split a name from a tar. Raises `Refused` for one that leads elsewhere."""
    if path == ".":
        return ()
    try:
        parts = tuple(_bytes(path).split(b"/"))
    except UnicodeEncodeError:
        raise Refused("its name is none") from None
    if {b"", b".", b".."} & set(parts) or b"\0" in b"".join(parts):
        raise Refused("its name leads out of the folder")
    return parts


def _leads_out(path: str, target: str) -> bool:
    """Tell whether a link leads out of the folder, or might by way of other links.

    Only ``../`` in front can be judged: the folder that the link lies in is none itself.
    """
    ups, below = 0, False
    for part in target.split("/"):
        if part == ".." and below:
            return True
        ups += part == ".."
        below = below or part not in ("", ".", "..")
    return target.startswith("/") or ups > path.count("/")
