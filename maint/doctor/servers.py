"""Doctor's lines about one server: reachable, what it is, the programs that fit, recovery, clock."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from maint.clock import Clock
from maint.config.model import ServerConfig
from maint.doctor.lines import counted, fail, ok, some, warn
from maint.errors import ProgramMissing, ServerError
from maint.format import duration, size
from maint.model import Severity
from maint.postgres import Connection, quoted
from maint.restore import names
from maint.task import Check
from maint.tasks import backup
from maint.tasks.backup.dumping import programs_for

#: the oldest major that the statements in sql/ are written for
OLDEST = 14
#: seconds that two clocks may differ
CLOCK = 5.0
#: from this pg_dump on, what it writes sets a parameter that older servers do not know
_TRANSACTION_TIMEOUT = 17


@dataclass(frozen=True, slots=True)
class Server:
    """What one look at a server tells."""

    config: ServerConfig
    about: Any  #: the row of describe_server
    role: Any  #: the row of describe_role
    archiving: Any  #: the row of describe_archiving
    major: int
    ahead: float  #: seconds that its clock is ahead of ours
    databases: Sequence[Any]  #: rows of list_databases

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def chosen(self) -> list[Any]:
        """The databases that the backup task would take."""
        return [row for row in self.databases if backup.is_wanted(row, self.config)]


def look(connection: Connection, config: ServerConfig, clock: Clock) -> Server:
    """Ask a server what it is."""
    before = clock.now()
    [about] = connection.query("describe_server")
    after = clock.now()
    return Server(
        config=config,
        about=about,
        role=connection.query("describe_role")[0],
        archiving=connection.query("describe_archiving")[0],
        major=connection.major,
        ahead=_ahead(about.now, before, after),
        databases=connection.query("list_databases"),
    )


def _ahead(theirs: datetime, before: datetime, after: datetime) -> float:
    """Return how far their clock is ahead at least: the question took some time itself."""
    if before <= theirs <= after:
        return 0.0
    return (theirs - (after if theirs > after else before)).total_seconds()


def unreachable(config: ServerConfig, error: ServerError) -> Check:
    """Say why a server could not be asked."""
    subject = f"server {config.name}"
    message = str(error).removeprefix(f"{subject}: ").removeprefix("connection failed: ")
    table = f"[server.{config.name}]"
    if error.sqlstate is not None:
        return fail(subject, message, error.hint)
    if error.transient:
        dsn = shlex.quote(config.shown_dsn)
        return fail(subject, message, f"pg_isready -d {dsn}   # is it up? else correct dsn in {table}")
    return fail(subject, message, f"correct dsn or password_file in {table} of maint.toml, or pg_hba.conf there")


def describe(server: Server) -> Iterator[Check]:
    """Say what the server is, and what of it is asked for but not there."""
    subject = f"server {server.name}"
    if server.major < OLDEST:
        yield fail(
            subject, f"PostgreSQL {_version(server)} is older than {OLDEST}, the oldest that maint knows", "upgrade it"
        )
    known = [row.size_bytes for row in server.chosen if row.size_bytes is not None]
    amount = size(sum(known)) if len(known) == len(server.chosen) else f"at least {size(sum(known))}"
    yield ok(
        subject,
        f"PostgreSQL {_version(server)}, {'standby' if server.about.standby else 'primary'}, "
        f"{counted(len(server.chosen), 'database')}, {amount}, as role {server.role.name}"
        + (" (superuser)" if server.role.superuser else ""),
    )
    for finding in backup.unmatched(server.config, server.databases, server.chosen):
        line = fail if finding.severity is Severity.CRITICAL else warn
        yield line(subject, finding.message, finding.fix)


def left_by_restores(server: Server) -> Iterator[Check]:
    """Name the databases that restores which were killed have left."""
    for name, sure in names.left(row.name for row in server.databases):
        why = "was left by a restore that was killed" if sure else "may be left of a restore on another machine"
        yield warn(f"{server.name}/{name}", f"it {why}", f"DROP DATABASE {quoted(name)} WITH (FORCE);")


def _version(server: Server) -> str:
    return str(server.about.version).split()[0]


def programs(server: Server) -> Check:
    """Say which pg_dump would be used."""
    subject = f"programs {server.name}"
    try:
        found = programs_for(server.config, server.major)
    except ProgramMissing as error:
        return fail(subject, str(error), error.hint)
    text = f"pg_dump {found.version} for {server.major} ({found.pg_dump.parent})"
    if found.major <= server.major:
        return ok(subject, text)
    if found.major < _TRANSACTION_TIMEOUT or server.major >= _TRANSACTION_TIMEOUT:
        return ok(subject, f"{text}, newer than the server")
    return warn(
        subject,
        f"{text}: what it dumps sets transaction_timeout, which a restore into {server.major} complains about",
        f"install postgresql-client-{server.major} (Debian, Ubuntu) or postgresql{server.major} (Red Hat)",
    )


def standby(server: Server) -> Iterator[Check]:
    """Warn of a standby that ends a long dump."""
    about = server.about
    if about.standby and not about.standby_feedback and about.standby_delay_seconds is not None:
        yield warn(
            f"server {server.name}",
            f"a dump from this standby is cancelled when it holds back replay for {about.standby_delay_seconds:.0f} s",
            "ALTER SYSTEM SET max_standby_streaming_delay = -1; SELECT pg_reload_conf();",
        )


def recovery(server: Server, gap: timedelta | None) -> Check:
    """Say whether WAL is archived; `gap` is the longest time between two backups."""
    subject, archiving = f"recovery {server.name}", server.archiving
    if archiving.receivers:
        return ok(subject, f"WAL is received by {', '.join(archiving.receivers)}")
    if archiving.mode == "off":
        return warn(subject, "no WAL archiving seen: " + _loss(gap))
    if archiving.fails:
        return warn(
            subject,
            f"WAL archiving fails: {archiving.last_failed_wal}, {_ago(archiving.failed_seconds_ago)}; " + _loss(gap),
            "look for archive_command in the server's log, and: SELECT * FROM pg_stat_archiver;",
        )
    if archiving.archived_count:
        return ok(subject, f"WAL archiving works: the last file was archived {_ago(archiving.archived_seconds_ago)}")
    if server.about.standby:
        return ok(subject, "archive_mode is on; whether archiving works is seen on the primary only")
    return warn(
        subject, "archive_mode is on, but nothing has been archived yet: " + _loss(gap), "SELECT pg_switch_wal();"
    )


def _loss(gap: timedelta | None) -> str:
    if gap is None:
        return "no point-in-time recovery (logical backups only)"
    hours = gap.total_seconds() / 3600
    span = f"{hours / 24:.0f} d" if hours >= 72 else f"{hours:.0f} h" if hours >= 1 else f"{hours * 60:.0f} min"
    return f"up to {span} of data can be lost (logical backups only)"


def _ago(seconds: float | None) -> str:
    return f"{duration(seconds)} ago" if seconds is not None else "some time ago"


def clock(servers: Sequence[Server], zones: Sequence[str], now: Callable[[str], str]) -> Iterator[Check]:
    """Compare clocks, and say which zones jobs run in; `now` shows the present time in a zone."""
    wrong = [server for server in servers if abs(server.ahead) > CLOCK]
    for server in wrong:
        side = "ahead of" if server.ahead > 0 else "behind"
        yield warn(
            "clock",
            f"the clock of {server.name} is {duration(abs(server.ahead))} {side} this machine's",
            "timedatectl set-ntp true   # on the one that is wrong",
        )
    if not wrong:
        agree = f"agrees with {some([server.name for server in servers])}; " if servers else ""
        shown = ", ".join(f"{zone} ({now(zone)})" for zone in zones) or f"none ({now('UTC')})"
        yield ok("clock", f"{agree}zone of the jobs: {shown}")
