"""The exclusion lock of a database: one heavy task at a time, whatever the number of daemons.

A session advisory lock, taken in the server's `maintenance_db` (advisory locks are local to one database) on a
connection of its own, in autocommit: a session blocked in pg_advisory_lock() would hold a snapshot.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self

from maint.clock import Clock, Stop
from maint.config.model import ServerConfig
from maint.errors import ServerError
from maint.postgres import Connection, connect

#: seconds between two attempts to get a lock that somebody holds
_RETRY = 1.0


def key_of(database: str) -> int:
    """Return the 64-bit key of a database's lock: the same for every maint."""
    return int.from_bytes(hashlib.sha256(f"maint {database}".encode()).digest()[:8], "big", signed=True)


class Locks:
    """The exclusion locks of one run on one server; the connection opens with the first lock."""

    def __init__(self, server: ServerConfig, application_name: str, *, clock: Clock, stop: Stop) -> None:
        self._server = server
        self._application_name = f"{application_name} (lock)"
        self._clock = clock
        self._stop = stop
        self._mutex = threading.Lock()
        self._connection: Connection | None = None

    @contextmanager
    def holding(self, database: str, wait: timedelta) -> Iterator[str | None]:
        """Hold the lock of `database` in the block; yields None, or who holds it if it could not be had in time."""
        until = self._clock.monotonic() + wait.total_seconds()
        while not self._try(database):
            if self._clock.monotonic() >= until:
                yield self._holder(database)
                return
            self._clock.wait(self._stop, _RETRY)
            self._stop.check()
        try:
            yield None
        finally:
            self._release(database)

    def _try(self, database: str) -> bool:
        with self._mutex:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._server, application_name=self._application_name, stop=self._stop)
            [row] = self._connection.query("try_lock_database", key=key_of(database))
            return bool(row.locked)

    def _release(self, database: str) -> None:
        with self._mutex:
            if self._connection is None:
                return
            try:
                self._connection.query("unlock_database", key=key_of(database))
            except Exception:  # noqa: BLE001 - whatever it was, the end of the session releases it
                self._connection.close()

    def _holder(self, database: str) -> str:
        with self._mutex:
            assert self._connection is not None  # noqa: S101 - _try has opened it
            try:
                rows = self._connection.query("find_lock_holder", key=key_of(database))
            except ServerError:
                rows = []
        if not rows:
            return "somebody"
        row = rows[0]
        return f"{row.application_name.removesuffix(' (lock)')} from {row.client} (pid {row.pid})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
