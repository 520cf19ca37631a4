"""A folder of plain files as a tar stream, without a file of its own."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 20


class TarSource:
    """The files of `folder` (no subfolders) as one tar; each file is removed once it has been read, if asked."""

    def __init__(self, folder: Path, *, remove: bool = False) -> None:
        self._blocks = _blocks(folder, remove)

    def read(self, _n: int, /) -> bytes:
        return next(self._blocks, b"")


def _blocks(folder: Path, remove: bool) -> Iterator[bytes]:
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            info = tarfile.TarInfo(path.name)
            info.size = os.fstat(file.fileno()).st_size
            info.mode = 0o600
            yield info.tobuf(tarfile.PAX_FORMAT)
            left = info.size
            while left and (data := file.read(min(_BLOCK, left))):
                left -= len(data)
                yield data
            if padding := -info.size % tarfile.BLOCKSIZE:
                yield bytes(padding)
        if remove:
            path.unlink()
    yield bytes(2 * tarfile.BLOCKSIZE)
