"""Programs and code that read a raw dump from its first byte to its last, as a restore would."""

import logging
import os
import re
import tarfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from maint import programs
from maint.backups.manifest import DatabaseManifest
from maint.backups.unpack import Unreadable
from maint.clock import Stop
from maint.errors import ProgramFailed, ProgramMissing
from maint.process import Command, Program

#: pg_restore of an older major meets an archive of a newer one
_TOO_OLD = re.compile(r"unsupported version \(.*\) in file header")


class ReadThrough(Protocol):
    """Takes the raw stream."""

    def feed(self, data: bytes, /) -> None: ...

    def finish(self) -> str:
        """The stream is complete: return what was looked at, in words. Raises `Unreadable`."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def reader_of(manifest: DatabaseManifest, *, stop: Stop, log: logging.Logger) -> ReadThrough:
    """Return what reads a dump of this format."""
    if manifest.format == "directory":
        return _Folder()
    try:
        version = manifest.tools.get("pg_dump") or manifest.source.server_version
        path, found = programs.find("pg_restore", major=int(version.split(".")[0].split()[0]))
    except ProgramMissing as error:
        return _Nothing(f"not read by pg_restore: {error}")
    return _PgRestore(path, found, stop, log)


class _Nothing:
    def __init__(self, why: str) -> None:
        self._why = why

    def feed(self, _data: bytes, /) -> None:
        """Look at nothing."""

    def finish(self) -> str:
        return self._why

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have nothing to close."""


class Piped:
    """Writes into a pipe; a reader that has gone away takes the rest unseen, and says why in `finish`."""

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._end: int | None = None

    def feed(self, data: bytes, /) -> None:
        view = memoryview(data)
        while view and self._end is not None:
            try:
                view = view[os.write(self._end, view) :]
            except BrokenPipeError:
                self._close()

    def _open(self) -> int:
        """Return the end of the pipe that is read from."""
        read_end, self._end = os.pipe2(os.O_CLOEXEC)
        self._resources.callback(self._close)
        return read_end

    def _close(self) -> None:
        if self._end is not None:
            os.close(self._end)
            self._end = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()


class _PgRestore(Piped):
    """pg_restore writes the whole dump as SQL into /dev/null: no server is needed (--list would miss a cut)."""

    def __init__(self, path: Path, version: str, stop: Stop, log: logging.Logger) -> None:
        super().__init__()
        self._command = Command((str(path), "--file=/dev/null"))
        self._version = version
        self._stop = stop
        self._log = log

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            read_end = self._open()
            stack.callback(os.close, read_end)
            program = Program(self._command, stop=self._stop, log=self._log, stdin=read_end)
            self._program = self._resources.enter_context(program)
        return self

    def finish(self) -> str:
        self._close()
        try:
            self._program.wait()
        except ProgramFailed as error:
            if _TOO_OLD.search("\n".join(error.tail)):
                return f"not read by pg_restore: {self._version} is too old for this archive"
            if error.status < 0:  # out of memory, or somebody's kill: says nothing about the dump
                raise
            raise Unreadable(f"cannot be read by pg_restore: {error.tail[-1] if error.tail else error}") from error
        return f"read whole by pg_restore {self._version}"


class TarThrough(Piped):
    """A thread reads a tar through."""

    def look(self, stream: IO[bytes], /) -> str:
        """Read the tar; return what was looked at, in words. Raises `Unreadable`, or what reading raises."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._told = ""
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._read, args=(self._open(),), daemon=True)
        self._thread.start()
        self._resources.callback(self._thread.join)
        self._resources.callback(self._close)  # before the thread is waited for
        return self

    def _read(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb") as stream:
            try:
                self._told = self.look(stream)
            except (Unreadable, tarfile.TarError, OSError, EOFError) as error:
                self._error = error
            with suppress(OSError):
                while stream.read(1 << 20):  # what follows the end of the tar
                    pass

    def finish(self) -> str:
        self._close()
        self._thread.join()
        if isinstance(self._error, Unreadable):
            raise self._error
        if self._error is not None:
            raise Unreadable(f"cannot be read as a tar: {self._error}")
        return self._told


class _Folder(TarThrough):
    """The folder of pg_dump's directory format."""

    def look(self, stream: IO[bytes], /) -> str:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            names = [member.name for member in tar]
        if "toc.dat" not in names:
            raise Unreadable("holds no toc.dat")
        return f"read whole as a tar of {len(names)} files"
