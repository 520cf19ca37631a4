"""Exact counts of what is in a dump, taken in the dump's own snapshot beside it.

The order matters [tried]: locks held here before pg_dump has its own, plus one queued ALTER TABLE, are a deadlock
PostgreSQL cannot see; a count that ends after the dump's transaction may read 0 rows of a table rewritten since. So:

- secured: every table is locked here (ACCESS SHARE, without waiting) before pg_dump starts, and let go again if
  pg_dump does not have its own locks within a second. Such counts are right whatever happens, and may end a few
  seconds after the dump: a small dump is over before it could be counted.
- otherwise (somebody holds or awaits a lock, or too many tables): counting begins when pg_dump holds its locks, and
  a count is kept only if pg_dump still held them afterwards.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from maint.clock import Clock, Stop
from maint.errors import LockNotAvailable, MaintError, ServerError, Stopped
from maint.postgres import SQL, Connection, Identifier, Literal

#: seconds between two looks whether the dump's transaction still holds its locks
_LOOK = 0.5

#: tables that are locked at once; the server's lock table has room for 6,400 by default, and pg_dump needs as many
_SECURED_TABLES = 1000
#: seconds for which our locks may keep an ALTER TABLE, and so pg_dump behind it, waiting
_SECURED_WAIT = 1.0
#: seconds that secured counts may go on after the dump
GRACE = 5.0

_SETTINGS = ["enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan", "jit"]

#: stands for pg_dump's session where our own locks outlived it
_OURS = object()

_ENDED = "the dump ended first"
_BUSY = "locked by another session"


@dataclass(frozen=True, slots=True)
class Relation:
    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Count:
    rows: int | None
    why: str | None = None  #: why there is no number


class Counter:
    """Counts the tables of one dump in a thread: `start`, then `finish` as soon as the dump has ended."""

    def __init__(
        self, connect: Callable[[Stop], Connection], snapshot: str, application_name: str, *, clock: Clock
    ) -> None:
        self._connect = connect
        self._snapshot = snapshot
        self._application_name = application_name
        self._clock = clock
        self.stop = Stop()  #: ends the counting, not the dump
        self._counts: dict[int, Count] = {}
        self._tables: list[Relation] = []
        self._large_objects: int | None = None
        self._error: str | None = None
        self._secured = False
        self._ready = threading.Event()
        self._dumped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="counts", daemon=True)

    def start(self) -> None:
        """Begin, and return as soon as pg_dump may be started."""
        self._thread.start()
        self._ready.wait()

    def finish(self, *, complete: bool) -> None:
        """The dump has ended: what is not counted soon stays uncounted."""
        self._dumped.set()
        if complete and self._secured:
            self._thread.join(GRACE)
        self.stop.set(Stopped(_ENDED))
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def tables(self) -> list[Relation]:
        return self._tables

    @property
    def large_objects(self) -> int | None:
        return self._large_objects

    @property
    def counts(self) -> Mapping[int, Count]:
        """By oid, for every table that pg_dump was expected to dump."""
        missing = Count(None, self._error or _ENDED)
        return {table.oid: self._counts.get(table.oid, missing) for table in self._tables}

    def _work(self) -> None:
        try:
            with self._connect(self.stop) as connection:
                self._count_all(connection)
        except MaintError as error:
            if not self.stop.is_set():
                self._error = str(error)
        finally:
            self._ready.set()

    def _count_all(self, connection: Connection) -> None:
        with connection.transaction():
            connection.execute(SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(self._snapshot)))
            for setting in _SETTINGS:
                connection.execute(SQL("SET LOCAL {} = off").format(Identifier(setting)))
            connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
            self._tables = [Relation(*row) for row in connection.query("list_dumped_tables")]
            session = self._secure(connection)
            self._ready.set()
            session = session or self._await_locks(connection)
            self._large_objects = connection.query("count_large_objects")[0].large_objects
            self._count_tables(connection, session)

    def _secure(self, connection: Connection) -> Any:
        """Lock every table here, let pg_dump start, and keep the locks if it gets its own soon."""
        if not 0 < len(self._tables) <= _SECURED_TABLES:
            return None
        connection.execute("SAVEPOINT secured")
        tables = SQL(", ").join(SQL("ONLY {}").format(Identifier(t.schema, t.name)) for t in self._tables)
        try:
            connection.execute(SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(tables))
        except ServerError:
            connection.execute("ROLLBACK TO SAVEPOINT secured")
            return None
        self._secured = True
        self._ready.set()
        session = self._await_locks(connection, within=_SECURED_WAIT)
        if session is None:
            self._secured = False
            connection.execute("ROLLBACK TO SAVEPOINT secured")
        return session

    def _await_locks(self, connection: Connection, *, within: float | None = None) -> Any:
        """Wait until pg_dump holds its locks on all tables; return its session, None if it takes too long."""
        names = {"application_name": self._application_name, "oids": [table.oid for table in self._tables]}
        until = self._clock.monotonic() + within if within else None
        delay = 0.01
        while True:
            connection.execute("SELECT pg_stat_clear_snapshot()")  # activity is frozen in a transaction
            if found := connection.query("find_dump_session", **names):
                return found[0]
            if until and self._dumped.is_set():
                return _OURS
            if until and self._clock.monotonic() > until:
                return None
            self._clock.wait(self.stop, delay)
            self.stop.check()
            delay = min(delay * 2, _LOOK)

    def _count_tables(self, connection: Connection, session: Any) -> None:
        pending: dict[int, Count] = {}
        looked = self._clock.monotonic()
        for table in self._tables:
            pending[table.oid] = _count(connection, table)
            if table is self._tables[-1] or self._clock.monotonic() - looked > _LOOK:
                if not self._secured and not _holds(connection, session):
                    return
                self._counts |= pending
                pending.clear()
                looked = self._clock.monotonic()


def _holds(connection: Connection, session: Any) -> bool:
    [row] = connection.query("holds_transaction", pid=session.pid, transaction=session.transaction)
    return bool(row.holds)


def _count(connection: Connection, table: Relation) -> Count:
    """Count one table; a lock that somebody wants exclusively costs this count, not the others."""
    connection.execute("SAVEPOINT count")
    try:
        query = SQL("SELECT count(*) FROM ONLY {}").format(Identifier(table.schema, table.name))
        [[rows]] = connection.execute(query)
    except LockNotAvailable:
        connection.execute("ROLLBACK TO SAVEPOINT count")
        return Count(None, _BUSY)
    connection.execute("RELEASE SAVEPOINT count")
    return Count(rows)
