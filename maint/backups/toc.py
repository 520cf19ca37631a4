"""The table of contents of an archive, as pg_restore prints it."""

import logging
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from maint.clock import Stop
from maint.errors import BackupError, MaintError
from maint.process import Command, Program

#: "3393; 0 16389 TABLE DATA public orders owner": dump id; oid of the catalog, oid of the object, kind, names
_TABLE_DATA = re.compile(r"^\d+; \d+ (\d+) TABLE DATA ", re.MULTILINE)
_LARGE_OBJECTS = re.compile(r"^\d+; \d+ \d+ BLOBS? ", re.MULTILINE)

#: what pg_restore says of a dump that failed half-way is no news; of one that did not, it is in the error
_UNHEARD = logging.getLogger("maint.backups.toc.pg_restore")
_UNHEARD.addHandler(logging.NullHandler())
_UNHEARD.propagate = False

#: the first bytes of every archive in custom format
MAGIC = b"PGDMP"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive says is in it."""

    table_data: frozenset[int]  #: oids of relations with rows in the archive
    large_objects: bool


def parse(listing: str) -> Contents:
    """Read the output of ``pg_restore --list``."""
    oids = frozenset(int(oid) for oid in _TABLE_DATA.findall(listing))
    return Contents(oids, _LARGE_OBJECTS.search(listing) is not None)


def list_command(pg_restore: Path, archive: Path | None = None) -> Command:
    """Return the command that prints the contents of `archive`, a folder, or of what it reads."""
    if archive is not None and not (archive / "toc.dat").is_file():
        raise _no_archive("nothing at all")
    return Command((str(pg_restore), "--list", *([str(archive)] if archive else [])))


def _no_archive(what: str) -> BackupError:
    return BackupError(
        f"pg_dump wrote no archive: {what}",
        hint="is bin_dir's pg_dump really pg_dump, or a wrapper that prints something?",
    )


class TocReader:
    """Reads the table of contents off the head of an archive that streams by: `feed` it, then ask `result`.

    pg_restore takes what it needs from a pipe and leaves; the contents are in front of the data.
    """

    def __init__(self, pg_restore: Path, *, stop: Stop) -> None:
        self._head = b""
        self._listing: list[bytes] = []
        self._error: MaintError | None = None
        source, self._pipe = os.pipe()
        self._open = True
        work = (list_command(pg_restore), source, stop)
        self._thread = threading.Thread(target=self._read, args=work, daemon=True)
        self._thread.start()

    def feed(self, data: bytes) -> None:
        """Show the next bytes of the archive; costs nothing once pg_restore has what it needs."""
        if len(self._head) < len(MAGIC):
            self._head += data[: len(MAGIC)]
        if not self._open:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._pipe, view) :]
        except BrokenPipeError:
            self.close()

    def result(self) -> Contents:
        """Return the contents; raises `BackupError` if this was no archive."""
        self.close()
        self._thread.join()
        if not self._head.startswith(MAGIC):
            raise _no_archive("nothing at all" if not self._head else "its head is not PGDMP")
        if self._error:
            raise BackupError(f"the archive cannot be read: {self._error}") from self._error
        return parse(b"".join(self._listing).decode(errors="replace"))

    def close(self) -> None:
        """Say that no more comes."""
        if self._open:
            self._open = False
            os.close(self._pipe)

    def _read(self, command: Command, source: int, stop: Stop) -> None:
        try:
            with Program(command, stop=stop, log=_UNHEARD, stdin=source) as program:
                os.close(source)
                source = -1
                self._listing.extend(iter(lambda: program.read(1 << 16), b""))
        except MaintError as error:
            self._error = error
        finally:
            if source >= 0:
                os.close(source)
