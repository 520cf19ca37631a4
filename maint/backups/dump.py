"""One consistent dump of one database: the snapshot, pg_dump on it, and what happens on the server meanwhile."""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maint.backups.counts import Counter
from maint.clock import Clock, Stop
from maint.config.model import ServerConfig
from maint.errors import MaintError
from maint.model import Finding, Severity
from maint.postgres import Connection, connect, libpq_value
from maint.process import Command, run

#: seconds somebody may wait behind the dump's locks before it is a finding
WAITING_TOO_LONG = 60
#: seconds between two looks at the server while a dump runs
_LOOK = 2.0


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one version that make a dump and read it."""

    pg_dump: Path
    pg_restore: Path
    pg_dumpall: Path
    version: str  #: "16.4"

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]


@dataclass(frozen=True, slots=True)
class Options:
    """How to dump."""

    format: str  #: "custom" | "directory"
    jobs: int = 1  #: of the directory format
    compress: str | None = None  #: what pg_dump compresses itself with, in the directory format
    folder: Path | None = None  #: of the directory format
    lock_wait_seconds: float = 300
    nice: int = 0


def arguments(programs: Programs, database: str, options: Options, snapshot: str) -> tuple[str, ...]:
    """Return the command line of pg_dump: no secret in it, and a database of any name."""
    argv = [str(programs.pg_dump), f"--format={options.format}"]
    if options.format == "directory":
        argv += [f"--jobs={options.jobs}", f"--file={options.folder}", "--no-sync"]
        argv += [f"--compress={options.compress}"] if options.compress else []
    else:
        argv += ["--compress=0"]
    argv += [
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={round(options.lock_wait_seconds * 1000)}",
        "--no-password",
        f"--dbname=dbname={libpq_value(database)}",
    ]
    return tuple(argv)


@dataclass(slots=True)
class Session:
    """A snapshot of one database and what stands around it."""

    snapshot: str
    application_name: str
    environment: Mapping[str, str]  #: for programs that connect to the very same server
    observer: Connection  #: autocommit, beside the snapshot
    counter: Counter
    findings: list[Finding] = field(default_factory=list)

    def command(self, programs: Programs, database: str, options: Options) -> Command:
        return Command(
            arguments(programs, database, options, self.snapshot),
            env={**self.environment, "PGAPPNAME": self.application_name},
            nice=options.nice,
        )


@contextmanager
def session(
    server: ServerConfig, database: str, *, application_name: str, stop: Stop, clock: Clock
) -> Iterator[Session]:
    """Export a snapshot of `database`; it is held until the block ends, by a session that touches no table."""

    def open_(stop: Stop) -> Connection:
        return connect(server, database, application_name=f"{application_name} (maint)", stop=stop)

    with ExitStack() as stack:
        observer = stack.enter_context(open_(stop))
        exporter = stack.enter_context(open_(stop))
        environment = exporter.environment()
        stack.enter_context(exporter.transaction())
        [[snapshot]] = exporter.execute("SELECT pg_export_snapshot()")
        counter = Counter(open_, snapshot, application_name, clock=clock)
        stack.enter_context(stop.interrupts(lambda: counter.stop.set(stop.reason)))
        stack.callback(counter.finish, complete=False)
        yield Session(snapshot, application_name, environment, observer, counter)


@contextmanager
def watched(
    dump: Session, database: str, *, clock: Clock, log: logging.Logger, tell: Callable[[str], None]
) -> Iterator[None]:
    """Look at the server now and then while the dump runs: what it copies, and who waits behind its locks."""
    done = Stop()

    def look() -> None:
        waiters: dict[int, Finding] = {}
        while not clock.wait(done, _LOOK):
            try:
                waiters |= _waiters(dump, database)
                for row in dump.observer.query("show_dump_progress", application_name=dump.application_name):
                    tell(_copied_table(row.query))
            except MaintError as error:
                log.debug("cannot look at the server: %s", error)
                break
        dump.findings.extend(waiters.values())

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _waiters(dump: Session, database: str) -> dict[int, Finding]:
    rows = dump.observer.query("list_waiters", application_name=dump.application_name, longer_than=WAITING_TOO_LONG)
    return {row.pid: _waiting(row, database) for row in rows}


def _waiting(row: Any, database: str) -> Finding:
    return Finding(
        check="backup.blocking",
        severity=Severity.WARNING,
        object=f"{database}/pid {row.pid}",
        message=f"{row.role or 'somebody'} ({row.application_name or 'no name'}, pid {row.pid}) waits behind the locks "
        f"of the dump of {database}: {row.query}",
        value=f"{row.seconds:.0f} s",
        threshold=f"{WAITING_TOO_LONG} s",
        fix="-- let schema changes use lock_timeout, or move them away from the backup's time",
    )


def _copied_table(query: str) -> str:
    """Return the table of ``COPY public.events (…) TO stdout;``."""
    found = re.match(r'COPY (?:\(SELECT .*? FROM (?:ONLY )?)?((?:"(?:[^"]|"")*"|[^\s("])+)', query)
    return found[1] if found else query


def globals_of(
    server: ServerConfig,
    programs: Programs,
    *,
    passwords: bool,
    application_name: str,
    stop: Stop,
    log: logging.Logger,
) -> bytes:
    """Return roles and tablespaces as pg_dumpall writes them; passwords of roles only a superuser can read."""
    with connect(server, application_name=application_name, stop=stop) as connection:
        environment = connection.environment()
    argv = [str(programs.pg_dumpall), "--globals-only", "--no-password"]
    argv += [] if passwords else ["--no-role-passwords"]
    # managed services: the default, postgres, may not be there for us
    argv += [f"--database={server.maintenance_db}"]
    command = Command(tuple(argv), env={**environment, "PGAPPNAME": application_name})
    return run(command, stop=stop, log=log).encode()
