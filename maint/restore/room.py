"""Is there room for a restored database? It can only be known for a server of this machine."""

import logging
import shutil
from pathlib import Path

from maint.backups.manifest import Source
from maint.errors import MaintError, ServerError
from maint.format import size
from maint.postgres import Connection


class NoRoom(MaintError):
    """The server has too little disk."""


def free(connection: Connection) -> int | None:
    """Return the bytes that are free where the server keeps its data; None if that cannot be seen from here."""
    if not connection.environment()["PGHOST"].startswith("/"):  # a port may lead into a container
        return None
    try:
        [[folder]] = connection.execute("SHOW data_directory")
        return shutil.disk_usage(Path(folder)).free
    except (ServerError, OSError):
        return None


def check(connection: Connection, source: Source) -> str:
    """Say how much room there is for one more database of that size. Raises `NoRoom`."""
    there, needed = free(connection), f"room for both: about {size(source.size_bytes)} more are needed"
    if there is None:
        return f"{needed}; what is free on the server is not known here"
    if there < source.size_bytes:
        raise NoRoom(
            f"the server has {size(there)} free, the restored database takes about {size(source.size_bytes)} "
            "beside the old one",
            hint="make room; or drop the old database first, and restore without --replace",
        )
    return f"{needed}, {size(there)} are free"


def warn(connection: Connection, source: Source, log: logging.Logger) -> None:
    """Tell if the room may be too little: it was that large with what it had grown beside its rows."""
    there = free(connection)
    if there is not None and there < source.size_bytes:
        log.warning("the database was %s; the server has %s free", size(source.size_bytes), size(there))
