"""From stored bytes to the raw dump: age, then zstd, in constant memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

import zstandard

from maint.backups import crypt
from maint.backups.manifest import Dump, Manifest

_PIECE = 1 << 20


class Unreadable(Exception):
    """What was stored is whole, but it is no dump."""


class NoKey(Exception):
    """The stream is encrypted, and there is no key here that fits."""


class Chunks:
    """Chunks as a file, for age; keeps the error of the chunks, which age would hide."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = memoryview(b"")
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def read(self, n: int = -1) -> bytes:
        """Return some bytes: what age asks for is a few KiB at a time."""
        if not self._buffer:
            try:
                self._buffer = memoryview(next(self._chunks, b""))
            except BaseException as error:
                self.error = error
                raise
        size = len(self._buffer) if n < 0 else n
        data = bytes(self._buffer[:size])
        self._buffer = self._buffer[size:]
        return data


def unpack(
    chunks: Chunks,
    manifest: Manifest,
    identity: Path | None,
    take: Callable[[bytes], object],
    *,
    stream: Dump | None = None,
) -> None:
    """Give the raw stream to `take`, piece by piece: the dump, or another `stream` of the same backup.

    Raises `NoKey`; `Unreadable` where age, zstd's own checksum or the recorded size does not hold; and whatever
    the chunks or `take` raise.
    """
    unpacked = _Unpacked(manifest.compression, stream or manifest.dump, take)
    if manifest.encrypted:
        _decrypt(chunks, identity, unpacked)
    else:
        for chunk in chunks:
            unpacked.write(chunk)
    unpacked.finish()


class _Unpacked:
    """Takes the compressed stream, gives the raw one."""

    def __init__(self, compression: str, stream: Dump, take: Callable[[bytes], object]) -> None:
        self._stream = stream
        self._give = take
        self._raw = 0
        self._target: _Raw | zstandard.ZstdDecompressionWriter = _Raw(self._take)
        if compression.startswith("zstd"):
            # in pieces: a mebibyte of nothing but spaces unpacks to a gibibyte
            raw = cast("IO[bytes]", self._target)
            self._target = zstandard.ZstdDecompressor().stream_writer(raw, write_size=_PIECE)

    def _take(self, raw: bytes) -> None:
        self._raw += len(raw)
        self._give(raw)

    def write(self, data: bytes) -> int:
        try:
            self._target.write(data)
        except zstandard.ZstdError as error:
            raise Unreadable(f"cannot be decompressed: {error}") from error
        return len(data)

    def finish(self) -> None:
        """The stream has ended: was that its end?"""
        if self._raw != self._stream.raw_bytes:
            raise Unreadable(f"unpacks to {self._raw} bytes, the manifest says {self._stream.raw_bytes}")


class _Raw:
    """A file that hands on what is written to it."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take

    def write(self, data: bytes) -> int:
        self._take(data)
        return len(data)


def _decrypt(chunks: Chunks, identity: Path | None, unpacked: _Unpacked) -> None:
    import pyrage

    if identity is None:
        raise NoKey("there is no key here (identity_file)")
    sink, keys = _Sink(unpacked), crypt.identities(identity)
    try:
        pyrage.decrypt_io(chunks, sink, keys)
    except Exception as error:
        if first := chunks.error or sink.error:
            raise first from error
        if "No matching keys" in str(error):
            raise NoKey("the key here does not fit") from error
        raise Unreadable(f"cannot be decrypted: {error}") from error


class _Sink:
    """Keeps the error that age would hide."""

    def __init__(self, unpacked: _Unpacked) -> None:
        self._unpacked = unpacked
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._unpacked.write(data)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Do nothing: nothing is held back."""
