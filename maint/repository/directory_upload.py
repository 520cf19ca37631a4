"""Writing one file so that it is either complete and synced, or not there."""

import hashlib
import os
import secrets
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from maint.errors import Damaged
from maint.owner import me
from maint.repository import RESERVED, Stored
from maint.repository.directory import translated

if TYPE_CHECKING:
    from maint.repository.directory import DirectoryRepository

#: Bytes that are synced and read back at once behind the writer. Larger steps leave more to do at the end.
STEP = 32 << 20
_BLOCK = 256 << 10  # stays in the processor's cache between reading and digesting


class DirectoryUpload:
    """One file being written: hidden, synced, read back, renamed."""

    def __init__(self, repository: "DirectoryRepository", path: str) -> None:
        self._repository = repository
        self._path = path
        self._file = repository.inside(path)
        self._fd = -1
        self._size = 0
        self._digest = hashlib.sha256()
        self._back = _ReadBack() if repository.read_back else None
        self._committed = False

    def __enter__(self) -> Self:
        with translated(f"write {self._file}"):
            self._part, self._fd = self._begin()
        return self

    def _begin(self) -> tuple[Path, int]:
        name = f"{RESERVED}{me()}-{secrets.token_hex(4)}.part"
        for attempt in range(3):
            self._make_folders()
            try:
                part = self._file.parent / name
                return part, os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # somebody's delete found the new folder empty
                if attempt == 2:
                    raise
        raise AssertionError

    def _make_folders(self) -> None:
        self._repository.check_parent()
        missing = [self._file.parent]
        while missing[-1] != self._repository.root:
            missing.append(missing[-1].parent)
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                _sync_folder(folder.parent)

    def write(self, data: bytes, /) -> None:
        with translated(f"write {self._file}"):
            _write_all(self._fd, data)
            self._digest.update(data)
            self._size += len(data)
            if self._back:
                self._back.follow(self._fd, self._size)

    def commit(self) -> Stored:
        with translated(f"write {self._file}"):
            os.fsync(self._fd)
            if self._back:
                self._compare(self._back.finish(self._fd, self._size))
            self._part.rename(self._file)
            self._committed = True
            _sync_folder(self._file.parent)
        by = "read back" if self._back else "size"
        return Stored(self._path, self._size, self._digest.hexdigest(), None, by)

    def _compare(self, digest: str) -> None:
        if digest != self._digest.hexdigest():
            raise Damaged(
                f"{self._file}: what was read back differs from what was written",
                hint="suspect the disk, its cable or the memory: look into dmesg, run smartctl",
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._back:
            self._back.stop()
        with suppress(OSError):  # nothing that close could still say matters after fsync, or after an error
            os.close(self._fd)
        if not self._committed:
            with suppress(OSError):  # sweep finds it
                self._part.unlink()
                self._repository.remove_empty(self._file.parent)


class _ReadBack:
    """Syncs and reads what was written, in a thread close behind the writer, and takes its digest.

    Reading from the page cache would prove nothing about the disk: what is read was synced and dropped from
    the cache before. A file smaller than one step needs no thread.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._position = 0
        self._written = 0
        self._changed = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def follow(self, fd: int, written: int) -> None:
        """Tell that the file is `written` bytes long now."""
        if written - self._written < STEP:
            return
        if self._error:
            raise self._error
        with self._changed:
            self._written = written
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(fd,), name="read back", daemon=True)
            self._thread.start()

    def finish(self, fd: int, size: int) -> str:
        """Read the rest of the file, which has been synced, and return the digest."""
        self.stop()
        if self._error:
            raise self._error
        self._read(fd, size)
        return self._digest.hexdigest()

    def stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread:
            self._thread.join()

    def _run(self, fd: int) -> None:
        try:
            while (written := self._wait()) is not None:
                os.fdatasync(fd)
                self._read(fd, written)
        except OSError as error:
            self._error = error

    def _wait(self) -> int | None:
        """Return how far the file can be read, once there is more; None when the writer ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._written > self._position)
            return None if self._ended else self._written

    def _read(self, fd: int, end: int) -> None:
        os.posix_fadvise(fd, self._position, end - self._position, os.POSIX_FADV_DONTNEED)
        block = memoryview(bytearray(min(_BLOCK, end - self._position)))
        while self._position < end and not (self._ended and self._is_thread()):
            n = os.preadv(fd, [block[: end - self._position]], self._position)
            if not n:
                return  # cut short: the digest tells
            self._digest.update(block[:n])
            self._position += n

    def _is_thread(self) -> bool:
        return threading.current_thread() is self._thread


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
