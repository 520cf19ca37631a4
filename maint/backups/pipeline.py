"""One stream into many repositories: source -> zstd -> age, where asked -> volumes in every repository at once.

One pass, no local disk, constant memory: each repository writes in a thread of its own behind a short queue, and
one that fails leaves the pass while the others finish.
"""

import ctypes
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import zstandard

from maint.backups import crypt
from maint.clock import Stop
from maint.errors import MaintError
from maint.repository import Repository, Stored, Upload

#: what is asked of the source at once; a pipe holds 1 MiB at most
READ_SIZE = 1 << 18
#: chunks a repository may lie behind the others before they wait for it
QUEUE_CHUNKS = 4
#: bytes that are handed on at once
_CHUNK = 1 << 20
#: option of mallopt(3)
_M_MMAP_THRESHOLD = -3
#: a read of less than this many bytes found the pipe nearly empty: it may fill for this many seconds
_WORTH_A_WAIT, _PIPE_FILLS = 1 << 17, 0.001


class Source(Protocol):
    """The output of a program."""

    def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes; b"" only after the program's exit status was 0, else raise."""
        ...


@dataclass(frozen=True, slots=True)
class Packing:
    """How the stream is packed."""

    level: int | None  #: of zstd; None: as it comes
    threads: int  #: of the compressor

    @property
    def name(self) -> str:
        return "none" if self.level is None else f"zstd:{self.level}"


@dataclass(slots=True)
class Target:
    """One repository in a pass, and what became of it."""

    repository: Repository
    path_of: Callable[[int], str]  #: number of a volume -> its path
    recipients: tuple[str, ...] = ()  #: age public keys; empty: not encrypted
    stored: list[Stored] = field(default_factory=list)
    error: MaintError | None = None


def pump(
    source: Source,
    targets: Sequence[Target],
    packing: Packing,
    *,
    stop: Stop,
    tap: Callable[[bytes], None] = lambda _data: None,
) -> int:
    """Read `source` to its end into every target; return the bytes read.

    `tap` sees every chunk as it was read. Raises the source's error, or the first target's if none is left; the
    volumes that were finished by then stand in each target's `stored`, for the caller to remove.
    """
    _give_back_memory()
    with ExitStack() as stack:
        branches = [stack.enter_context(branch) for branch in _branches(targets, stop)]
        raw = 0
        for data in _packed(_read(source, tap, stop), packing):
            raw = data.raw
            if data.bytes:
                _give(branches, data.bytes, targets)
        for branch in branches:
            branch.finish()
    _check_any_left(targets)
    return raw


@dataclass(frozen=True, slots=True)
class _Piece:
    bytes: bytes
    raw: int  #: bytes read from the source so far


def _read(source: Source, tap: Callable[[bytes], None], stop: Stop) -> Iterator[bytes]:
    """Yield the source in pieces worth a call of everybody further down.

    pg_dump writes 8 KiB at a time and a reader that waits is woken for each: 250,000 times for 2 GB. To let the
    pipe fill for a moment costs nothing, it holds 1 MiB.
    """
    while data := source.read(READ_SIZE):
        tap(data)
        yield data
        if len(data) < _WORTH_A_WAIT:
            stop.wait(_PIPE_FILLS)


def _give_back_memory() -> None:
    """Have glibc map chunks one by one, and unmap them when they are freed.

    By itself it soon takes them from its heaps, where they leave holes: 20 MB more for the same upload.
    """
    with suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _CHUNK // 2)


def _packed(chunks: Iterable[bytes], packing: Packing) -> Iterator[_Piece]:
    """Compress `chunks` into one zstd frame with a checksum of the raw stream."""
    raw = 0
    if packing.level is None:
        for chunk in chunks:
            raw += len(chunk)
            yield _Piece(chunk, raw)
        return
    compressor = zstandard.ZstdCompressor(
        level=packing.level, threads=packing.threads if packing.threads > 1 else 0, write_checksum=True
    ).chunker(chunk_size=_CHUNK)
    for chunk in chunks:
        raw += len(chunk)
        for out in compressor.compress(chunk):
            yield _Piece(out, raw)
    for out in compressor.finish():  # type: ignore[no-untyped-call] # zstandard's stub lacks it
        yield _Piece(out, raw)


def _give(branches: Sequence["_Branch"], data: bytes, targets: Sequence[Target]) -> None:
    for branch in branches:
        branch.put(data)
    _check_any_left(targets)


def _check_any_left(targets: Sequence[Target]) -> None:
    errors = [target.error for target in targets if target.error]
    if len(errors) == len(targets):
        raise errors[0]


class _Branch:
    """A thread that takes chunks from a short queue until the end of the stream."""

    def __init__(self, consume: Callable[[Iterator[bytes]], None], stop: Stop) -> None:
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE_CHUNKS)
        self._aborted = False
        self._stop = stop
        self._consume = consume
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, data: bytes | None) -> None:
        """Hand over one chunk; waits while the queue is full."""
        while True:
            self._stop.check()
            try:
                return self._queue.put(data, timeout=0.5)
            except queue.Full:
                continue

    def finish(self) -> None:
        """The stream is complete: wait until the last byte is stored."""
        self.put(None)
        while self._thread.is_alive():
            self._stop.check()
            self._thread.join(0.5)

    def abort(self) -> None:
        """The stream will not be completed."""
        if self._thread.is_alive():
            self._aborted = True
            self._drain()
            self._queue.put(None)
            self._thread.join()

    def _drain(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()

    def _chunks(self) -> Iterator[bytes]:
        while (data := self._queue.get()) is not None:
            yield data
        if self._aborted:
            raise _Aborted

    def _work(self) -> None:
        chunks = self._chunks()
        with suppress(_Aborted):
            try:
                self._consume(chunks)
            except Exception:
                # age wraps whatever its reader or writer raised
                if not (self._aborted or self._stop.is_set()):
                    raise
            for _ in chunks:  # it has left the pass: nobody waits for it
                pass


class _Aborted(Exception):
    """The end of the stream is not the end of the dump."""


def _branches(targets: Sequence[Target], stop: Stop) -> Iterator[AbstractContextManager["_Branch"]]:
    """One branch per plain target, and one per set of recipients that feeds its targets."""
    groups: dict[tuple[str, ...], list[Target]] = {}
    for target in targets:
        groups.setdefault(tuple(sorted(target.recipients)), []).append(target)
    for recipients, members in groups.items():
        if recipients:
            yield _running(_Branch(partial(_encrypt, recipients=recipients, targets=members, stop=stop), stop))
        else:
            yield from (_running(_Branch(partial(_store, target=target), stop)) for target in members)


@contextmanager
def _running(branch: _Branch) -> Iterator[_Branch]:
    try:
        yield branch
    finally:
        branch.abort()


def _store(chunks: Iterator[bytes], target: Target) -> None:
    """Write `chunks` as volumes of at most what the repository takes."""
    limit = target.repository.max_object_bytes
    rest: Iterator[bytes] | None = chunks
    try:
        while rest is not None:
            rest = _store_volume(rest, target, limit)
    except MaintError as error:
        target.error = error


def _store_volume(chunks: Iterator[bytes], target: Target, limit: int | None) -> Iterator[bytes] | None:
    """Write one volume; return what follows, or None at the end of the stream."""
    upload: Upload
    with target.repository.create(target.path_of(len(target.stored))) as upload:
        room = limit
        for chunk in chunks:
            if room is not None and len(chunk) > room:
                upload.write(chunk[:room])
                target.stored.append(upload.commit())
                return _before(chunk[room:], chunks)
            upload.write(chunk)
            room = None if room is None else room - len(chunk)
        target.stored.append(upload.commit())
    return None


def _before(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


class _ChunkReader:
    """Chunks as a file, for age."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = memoryview(b"")

    def read(self, n: int = -1) -> bytes:
        if not self._buffer:
            self._buffer = memoryview(next(self._chunks, b""))
        data = bytes(self._buffer[:n]) if n >= 0 else bytes(self._buffer)
        self._buffer = self._buffer[len(data) :]
        return data


class _ChunkWriter:
    """A file that gathers what age writes (64 KiB at a time) into chunks."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        self._buffer += data
        if len(self._buffer) >= _CHUNK:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._buffer:
            self._put(bytes(self._buffer))
            self._buffer.clear()


def _encrypt(chunks: Iterator[bytes], recipients: Sequence[str], targets: Sequence[Target], stop: Stop) -> None:
    import pyrage

    keys = crypt.recipients(recipients)
    with ExitStack() as stack:
        branches = [stack.enter_context(_running(_Branch(partial(_store, target=target), stop))) for target in targets]

        def put(data: bytes) -> None:
            for branch in branches:
                branch.put(data)

        writer = _ChunkWriter(put)
        pyrage.encrypt_io(_ChunkReader(chunks), writer, keys)
        writer.flush()
        for branch in branches:
            branch.finish()
