"""Restore a backup into a new or empty database of a server."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from maint.clock import Clock
from maint.config.model import ServerConfig
from maint.errors import MaintError, UsageError
from maint.postgres import SQL, Connection, Identifier, connect
from maint.restore import engine, place, roles, rows
from maint.restore.engine import Problem, Way
from maint.restore.sources import Failed, Tools
from maint.restore.stream import Backup

#: what sessions of a restore call themselves
APPLICATION = "maint restore"


@dataclass(frozen=True, slots=True)
class Order:
    """What to restore, and to where."""

    backup: Backup
    server: ServerConfig
    database: str
    way: Way
    create_roles: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What was restored."""

    database: str
    seconds: float
    rows: rows.Rows
    problems: tuple[Problem, ...]
    left_out: tuple[str, ...]


class RestoreFailed(MaintError):
    """The restore failed."""


def restore(order: Order, tools: Tools, clock: Clock) -> Done:
    """Restore into a database that is made for it, or is there and holds nothing.

    Raises `UsageError` for one that holds something, `RestoreFailed`, `Damaged`. A database that was made here is
    dropped again.
    """
    with connect(order.server, application_name=APPLICATION, stop=tools.stop) as connection:
        check(connection, order, tools)
        with _made_if_needed(connection, order):
            return fill(order, order.database, tools, clock)


def check(connection: Connection, order: Order, tools: Tools) -> None:
    """Look whether this server can take the backup; make the roles that were asked for."""
    [[standby]] = connection.execute("SELECT pg_catalog.pg_is_in_recovery()")
    if standby:
        raise UsageError(f"server {order.server.name} is a standby: nothing can be restored into it")
    if not (order.way.owners or order.way.privileges):
        return
    missing = roles.missing(connection, order.backup.manifest.source.roles)
    if missing and order.create_roles:
        tools.log.info("creating the roles %s", ", ".join(missing))
        roles.create(connection, order.backup, missing)
        missing = roles.missing(connection, missing)
    if missing:
        raise UsageError(
            f"server {order.server.name} lacks the roles {', '.join(missing)}",
            hint="--roles creates them from the backup; --no-owner --no-privileges does without",
        )


@contextmanager
def _made_if_needed(connection: Connection, order: Order) -> Iterator[None]:
    exists = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %(database)s", {"database": order.database}
    )
    if exists:
        _refuse_unless_empty(order)
        yield
        return
    place.create_database(connection, order.database, order.backup.manifest.source)
    try:
        yield
    except BaseException:
        drop(order.server, order.database)
        raise


def drop(server: ServerConfig, database: str) -> None:
    """Remove a database that was made here; on a session of its own: the other may have been stopped."""
    with connect(server, application_name=APPLICATION) as connection:
        connection.perform(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(database)))


def _refuse_unless_empty(order: Order) -> None:
    with connect(order.server, order.database, application_name=APPLICATION) as connection:
        held = [f"{row.n} {row.kind}{'s' if row.n != 1 else ''}" for row in connection.query("list_contents") if row.n]
    if held:
        raise UsageError(
            f"the database {order.database} of {order.server.name} holds something: {', '.join(held)}",
            hint="restore into another name, or replace it: --replace",
        )


def fill(order: Order, database: str, tools: Tools, clock: Clock) -> Done:
    """Restore into `database`, which is there and empty; ANALYZE it; compare the rows."""
    began = clock.monotonic()
    with connect(order.server, database, application_name=APPLICATION, stop=tools.stop, lock_timeout="0") as inside:
        target = place.target_for(inside, order.server, database, order.backup.manifest.tools["pg_dump"])
        try:
            done = engine.restore(order.backup, target, order.way, tools)
        except Failed as failed:
            raise _explained(failed) from failed
        seconds = clock.monotonic() - began
        tools.progress(database, what="analyze")
        inside.perform("ANALYZE")
        counted = rows.compare(inside, order.backup.manifest.contents, only=_chosen(order.way))
    return Done(database, seconds, counted, tuple(done.problems), tuple(done.left_out))


def _explained(failed: Failed) -> MaintError:
    problem = next(iter(engine.problems(failed.lines)), None)
    text = f"{problem.entry}: {problem.error}" if problem else str(failed)
    return RestoreFailed(f"pg_restore failed: {text}", hint=_hint(failed.lines))


def _hint(lines: Sequence[str]) -> str | None:
    text = "\n".join(lines)
    if "must be owner" in text or "must be member" in text or "must be able to SET ROLE" in text:
        return "--no-owner restores everything as the role of the connection"
    if "permission denied" in text or "must be superuser" in text:
        return "restore as a superuser, or create what it names beforehand"
    return None


def _chosen(way: Way) -> "rows.Only":
    if not way.schemas and not way.tables:
        return lambda _schema, _name: True
    return lambda schema, name: schema in way.schemas or name in way.tables or f"{schema}.{name}" in way.tables
