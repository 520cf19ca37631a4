"""An archive that sections can be restored from: streaming by, or in files that several jobs can read."""

import logging
import os
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from maint.clock import Stop
from maint.errors import Damaged, MaintError, ProgramFailed
from maint.format import size
from maint.process import Command, Program, run
from maint.restore.stream import Backup, Raw

_CHUNK = 1 << 20

#: bytes of a dump that failed which are read for the sake of a better word for it
_READ_ON = 1 << 30

#: sections as pg_restore names them
PRE_DATA, DATA, POST_DATA = "pre-data", "data", "post-data"


@dataclass(frozen=True, slots=True)
class Target:
    """The database to restore into, which is there and empty."""

    database: str  #: its name
    dbname: str  #: as libpq takes it after --dbname
    environment: Mapping[str, str]  #: PG*
    pg_restore: Path
    is_older: bool = False  #: than what this pg_restore was made for: a setting that it makes is not known there


@dataclass(frozen=True, slots=True)
class Tools:
    """What the caller lends."""

    stop: Stop
    log: logging.Logger
    scratch: Callable[[], Path]  #: makes a private folder
    progress: Callable[..., None] = lambda *_args, **_numbers: None


class Archive(Protocol):
    """An archive that sections can be restored from."""

    listing: str  #: its table of contents, as pg_restore --list prints it

    def read_head(self, *options: str) -> str:
        """Return what pg_restore says with these options, for which it needs no data: ``--list --schema=sales``."""
        ...

    def restore(self, sections: Sequence[str], arguments: Sequence[str]) -> None:
        """Run pg_restore on sections, in the order pre-data, data, post-data. Raises `Failed`."""
        ...


class NoRoom(MaintError):
    """The scratch folder is too small."""


class Failed(Exception):
    """pg_restore did not end well."""

    def __init__(self, error: ProgramFailed, lines: Sequence[str]) -> None:
        super().__init__(str(error))
        self.error = error
        self.lines = tuple(lines)  #: all that matters of what it said


@contextmanager
def opened(backup: Backup, target: Target, jobs: int, tools: Tools) -> Iterator[Archive]:
    """Make the archive ready: streaming where that is enough, else as files in a scratch folder."""
    with Raw(backup, tools.stop) as raw:
        told = _Told(raw, backup, tools)
        if backup.manifest.format == "custom" and jobs == 1:
            yield _Streaming(told, target, tools)
            return
        folder = Path(tempfile.mkdtemp(dir=tools.scratch()))
        try:
            _check_room(backup, folder)
            path = folder / "archive"
            (_spool if backup.manifest.format == "custom" else _untar)(told, path)
            yield _Files(path, target, jobs, tools)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _check_room(backup: Backup, folder: Path) -> None:
    free, needed = shutil.disk_usage(folder).free, backup.manifest.dump.raw_bytes
    if free < needed:
        streams = "one job needs no room here; or " if backup.manifest.format == "custom" else ""
        raise NoRoom(
            f"{folder.parent.parent} has {size(free)} free, the dump takes {size(needed)} there",
            hint=f"{streams}put state_dir where there is more room",
        )


class _Told:
    """The raw stream; tells how much of it has come."""

    def __init__(self, raw: Raw, backup: Backup, tools: Tools) -> None:
        self._raw, self._tools = raw, tools
        self._name, self._total = backup.place.database, backup.manifest.dump.raw_bytes

    @property
    def done(self) -> int:
        return self._raw.done

    def read(self, n: int = -1, /) -> bytes:
        data = self._raw.read(n)
        self._tools.progress(self._name, done_bytes=self._raw.done, total_bytes=self._total, what="restore")
        return data


def _spool(raw: _Told, path: Path) -> None:
    with path.open("xb") as file:  # the folder is private
        shutil.copyfileobj(raw, file, _CHUNK)


def _untar(raw: _Told, path: Path) -> None:
    """Unpack pg_dump's folder: plain files without folders, and nothing else."""
    path.mkdir(mode=0o700)
    try:
        with tarfile.open(fileobj=cast("tarfile._Fileobj", raw), mode="r|", bufsize=_CHUNK) as tar:  # noqa: SLF001
            for member in tar:
                if not member.isfile() or "/" in member.name or member.name.startswith("."):
                    raise Damaged(f"the dump holds {member.name!r}, which pg_dump never writes")
                source = tar.extractfile(member)
                assert source is not None  # noqa: S101 - a plain file
                with (path / member.name).open("xb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
    except tarfile.TarError as error:
        raise Damaged(f"the dump cannot be read as a tar: {error}") from error
    while raw.read(_CHUNK):  # to its end: only there is it known to be whole
        pass


class _Files:
    """An archive in files."""

    def __init__(self, path: Path, target: Target, jobs: int, tools: Tools) -> None:
        self._path, self._target, self._jobs, self._tools = path, target, jobs, tools
        self.listing = self.read_head("--list")

    def read_head(self, *options: str) -> str:
        command = Command((str(self._target.pg_restore), *options, str(self._path)))
        return run(command, stop=self._tools.stop, log=self._tools.log)

    def restore(self, sections: Sequence[str], arguments: Sequence[str]) -> None:
        jobs = [f"--jobs={self._jobs}"] if PRE_DATA not in sections else []
        with _pg_restore(self._target, sections, [*jobs, *arguments, str(self._path)], self._tools, None) as program:
            program.wait()


class _Streaming:
    """An archive that comes by once: its head is kept, for what comes before and after the data."""

    def __init__(self, raw: _Told, target: Target, tools: Tools) -> None:
        self._raw, self._target, self._tools = raw, target, tools
        self._head = bytearray()
        self.listing = self._read("--list", chunks=self._chunks_to_keep())  # that is all it needs

    def read_head(self, *options: str) -> str:
        return self._read(*options, chunks=iter([bytes(self._head)]))

    def _read(self, *options: str, chunks: Iterator[bytes]) -> str:
        lines: list[bytes] = []
        feeder = _Feeder(chunks)
        command = Command((str(self._target.pg_restore), *options))
        with feeder, Program(command, stop=self._tools.stop, log=self._tools.log, stdin=feeder.take()) as program:
            feeder.start()
            with feeder.first_error():
                lines.extend(iter(lambda: program.read(1 << 16), b""))
        return b"".join(lines).decode(errors="replace")

    def _chunks_to_keep(self) -> Iterator[bytes]:
        while data := self._raw.read(1 << 18):
            self._head += data
            yield data

    def _all(self) -> Iterator[bytes]:
        yield bytes(self._head)
        while data := self._raw.read(_CHUNK):
            yield data

    def restore(self, sections: Sequence[str], arguments: Sequence[str]) -> None:
        feeder = _Feeder(self._all() if DATA in sections else iter([bytes(self._head)]))
        try:
            with feeder, _pg_restore(self._target, sections, arguments, self._tools, feeder.take()) as program:
                feeder.start()
                with feeder.first_error():
                    program.wait()
                if DATA in sections:
                    feeder.finish()
        except Failed:
            self._look_for_damage()
            raise

    def _look_for_damage(self) -> None:
        """Read on for a while: a byte that changed may have failed in pg_restore before its checksum was reached."""
        until = self._raw.done + _READ_ON
        while self._raw.done < until and self._raw.read(_CHUNK):
            pass


class _Feeder:
    """A thread that writes chunks into a program's stdin."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._error: BaseException | None = None
        self._source, self._sink = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._work, name="feed", daemon=True)

    def take(self) -> int:
        """Return the end that the program reads; it is closed here when the thread starts."""
        return self._source

    def start(self) -> None:
        """The program has its end."""
        os.close(self._source)
        self._thread.start()

    def _work(self) -> None:
        try:
            for chunk in self._chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(self._sink, view) :]
        except BrokenPipeError:  # it has what it needs, or failed: its exit status tells
            pass
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            os.close(self._sink)

    @contextmanager
    def first_error(self) -> Iterator[None]:
        """Prefer what went wrong with the chunks to what the program made of it."""
        try:
            yield
        except ProgramFailed:
            self._thread.join()
            if self._error is not None:
                raise self._error from None
            raise

    def finish(self) -> None:
        """Read on to the end: only there the stream is known to be whole."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        for _ in self._chunks:
            pass

    def __enter__(self) -> "_Feeder":
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.ident is None:
            for descriptor in (self._source, self._sink):
                with suppress(OSError):
                    os.close(descriptor)
        else:
            self._thread.join()


@contextmanager
def _pg_restore(
    target: Target, sections: Sequence[str], arguments: Sequence[str], tools: Tools, stdin: int | None
) -> Iterator[Program]:
    chosen = [f"--section={section}" for section in sections]
    argv = (str(target.pg_restore), *chosen, f"--dbname={target.dbname}", "--no-password", *arguments)
    said = _Said(tools.log)
    try:
        with Program(Command(argv, env=target.environment), stop=tools.stop, log=said.logger, stdin=stdin) as program:
            yield program
    except ProgramFailed as error:
        raise Failed(error, said.lines) from error


@dataclass(slots=True)
class _Said:
    """Keeps what pg_restore says, longer than the few lines that go into an error; and logs it."""

    log: logging.Logger
    lines: list[str] = field(default_factory=list)

    #: of an archive whose every object fails
    LIMIT = 20_000

    @property
    def logger(self) -> logging.Logger:
        said = self

        class Logger(logging.Logger):
            def info(self, msg: object, *args: object, **_more: object) -> None:
                line = str(msg) % args if args else str(msg)
                if len(said.lines) < said.LIMIT:
                    said.lines.append(line)
                said.log.info("%s", line)

        return Logger("pg_restore")
