"""The bytes of one part of an upload, as botocore sends them."""

import hashlib
from base64 import b64encode
from typing import Any

#: `sendall` has to get each block through within the connection's time limit, as a whole: with a whole part
#: at once a slow line would always fail. 256 KiB in 10 s are 26 kB/s.
_BLOCK = 256 << 10
#: smaller pieces are gathered
_SMALL = 64 << 10


class Aborted(Exception):
    """The upload was given up. Never seen outside: it ends a request that nobody waits for."""


def content_md5(data: bytes) -> str:
    """Return the Content-MD5 of a small body: with object lock, one without any digest is refused."""
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


class Part:
    """Keeps the pieces it is given, without copying them, and reads like a file.

    Only as far as botocore needs it (`read`, `seek`, `tell`, `len`): `read` may return more than asked for.
    """

    def __init__(self) -> None:
        self._pieces: list[memoryview] = []
        self._small = bytearray()
        self._size = 0
        self._position = (0, 0)  # piece, byte in it
        self.aborted = False

    def __len__(self) -> int:
        return self._size

    def add(self, data: memoryview) -> None:
        """Append bytes that nobody changes any more."""
        self._size += len(data)
        if len(data) < _SMALL:
            self._small += data
        if len(data) >= _SMALL or len(self._small) >= _SMALL:
            self._gather()
        if len(data) >= _SMALL:
            self._pieces.append(data)

    def _gather(self) -> None:
        if self._small:
            self._pieces.append(memoryview(bytes(self._small)))
            self._small.clear()

    def digest(self, name: str) -> str:
        """Return the digest of the whole part in base64, as S3's headers carry it."""
        self._gather()
        digest = hashlib.new(name, usedforsecurity=False)
        for piece in self._pieces:
            digest.update(piece)
        return b64encode(digest.digest()).decode()

    def read(self, n: int = -1) -> Any:
        if self.aborted:
            raise Aborted
        self._gather()
        if n < 0:
            return b"".join(self._pieces)
        index, start = self._position
        if index == len(self._pieces):
            return b""
        block = self._pieces[index][start : start + max(n, _BLOCK)]
        end = start + len(block)
        self._position = (index + 1, 0) if end == len(self._pieces[index]) else (index, end)
        return block

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to the beginning or to the end; botocore goes nowhere else."""
        if self.aborted:
            raise Aborted  # or a retry would begin
        self._position = (len(self._pieces), 0) if whence == 2 or offset else (0, 0)
        return self.tell()

    def tell(self) -> int:
        index, start = self._position
        return sum(map(len, self._pieces[:index])) + start
