"""Replace a database: restore beside it, carry over what belongs to it, and swap both names in one transaction.

ALTER DATABASE … RENAME fails while anyone is connected; two renames in one transaction work; settings, privileges and
the connection limit stay with the old database [tried]. The old database keeps its contents under a dated name. It is
closed to connections, if at all, only between the end of the restore and the swap.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from maint.clock import Clock
from maint.config.model import ServerConfig
from maint.errors import MaintError, ServerError, UsageError
from maint.postgres import SQL, Composed, Connection, Identifier, Literal, connect
from maint.restore import into, place
from maint.restore.into import APPLICATION, Done, Order
from maint.restore.sources import Tools

#: bytes of a name that PostgreSQL keeps
_NAME_BYTES = 63
#: seconds that sessions which were told to end may take
_ENDING = 10.0


class InUse(UsageError):
    """Others are connected to the database."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of a replacement."""

    done: Done
    old_name: str  #: under which the old database stays
    stays_behind: tuple[str, ...]  #: slots and subscriptions that are bound to the old one


def replace(order: Order, tools: Tools, clock: Clock, *, disconnect: bool) -> Replaced:
    """Put the backup in the place of the database of that name.

    Raises `InUse` while others are connected, unless they are to be disconnected; whatever is raised, the old
    database is there under its name and open.
    """
    beside = suffixed(order.database, f"_maint_{order.backup.place.id[-4:]}")
    old_name = suffixed(order.database, f"_old_{clock.now():%Y%m%dT%H%M%SZ}")
    with connect(order.server, application_name=APPLICATION, stop=tools.stop) as connection:
        into.check(connection, order, tools)
        old = _settings(connection, order)
        _refuse_in_use(connection, order, disconnect=disconnect)
        place.create_database(connection, beside, order.backup.manifest.source)
        try:
            done = into.fill(order, beside, tools, clock)
            _carry_over(connection, order.database, beside, old)
            behind = connection.query("list_stays_behind", database=order.database)
            with _closed(order, connection, tools, clock, disconnect=disconnect):
                _swap(connection, order.database, beside, old_name)
        except BaseException:
            into.drop(order.server, beside)
            raise
    return Replaced(done, old_name, tuple(row.what for row in behind))


def suffixed(name: str, suffix: str) -> str:
    """Append to a database's name, within the 63 bytes that PostgreSQL keeps; characters stay whole."""
    room = _NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


def _settings(connection: Connection, order: Order) -> Any:
    rows = connection.query("describe_database_settings", database=order.database)
    if not rows:
        raise UsageError(
            f"there is no database {order.database} on {order.server.name} to replace", hint="leave out --replace"
        )
    if rows[0].template:
        raise UsageError(f"{order.database} is a template database: it is not replaced")
    return rows[0]


def _refuse_in_use(connection: Connection, order: Order, *, disconnect: bool) -> None:
    """Say who is connected, before and after the long work."""
    sessions = connection.query("list_sessions_of_database", database=order.database)
    if sessions and not disconnect:
        who = "; ".join(f"{s.role} ({s.application}, pid {s.pid}, since {s.since:%H:%M})" for s in sessions[:5])
        more = f" and {len(sessions) - 5} more" if len(sessions) > 5 else ""
        raise InUse(
            f"others are connected to {order.database}: {who}{more}",
            hint="end them, or let them be ended: --disconnect",
        )


def _carry_over(connection: Connection, database: str, beside: str, old: Any) -> None:
    """Give the new database what belongs to the old one and is not in it."""
    new = Identifier(beside)
    statements: list[Composed] = [
        SQL("ALTER DATABASE {} OWNER TO {}").format(new, Identifier(old.owner)),
        SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(new, Literal(old.connection_limit)),
        SQL("COMMENT ON DATABASE {} IS {}").format(new, Literal(old.comment)),
        *_privileges(connection, database, new),
        *_role_settings(connection, database, new),
    ]
    for statement in statements:
        connection.perform(statement)


def _privileges(connection: Connection, database: str, new: Identifier) -> Iterator[Composed]:
    grants = connection.query("list_database_privileges", database=database)
    if not grants:
        return
    yield SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(new)
    for grant in grants:
        grantee = SQL("PUBLIC") if grant.grantee is None else Identifier(grant.grantee)
        option = SQL(" WITH GRANT OPTION" if grant.grantable and grant.grantee is not None else "")
        yield SQL("GRANT {} ON DATABASE {} TO {}{}").format(SQL(grant.privilege), new, grantee, option)


def _role_settings(connection: Connection, database: str, new: Identifier) -> Iterator[Composed]:
    for row in connection.query("list_database_role_settings", database=database):
        of = SQL("DATABASE {}").format(new)
        if row.role is not None:
            of = SQL("ROLE {} IN DATABASE {}").format(Identifier(row.role), new)
        # lists such as search_path are stored quoted already: they must not become one name
        value = SQL(row.value) if row.name in _LISTS else Literal(row.value)
        yield SQL("ALTER {} SET {} TO {}").format(of, Identifier(*row.name.split(".")), value)


#: variables whose value is a list of names (GUC_LIST_QUOTE in guc_tables.c)
_LISTS = frozenset(
    (
        *("local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries"),
        *("temp_tablespaces", "unix_socket_directories"),
    )
)


@contextmanager
def _closed(order: Order, connection: Connection, tools: Tools, clock: Clock, *, disconnect: bool) -> Iterator[None]:
    """Have nobody else connected to the old database in the block; it is open again whatever happens."""
    if not disconnect:
        _refuse_in_use(connection, order, disconnect=False)
        yield
        return
    _allow(connection, order.database, allowed=False)
    try:
        connection.query("terminate_sessions_of_database", database=order.database)
        _await_nobody(connection, order, tools, clock)
        yield
    except BaseException:
        with connect(order.server, application_name=APPLICATION) as another:  # the run may have been stopped
            _allow(another, order.database, allowed=True)
        raise


def _allow(connection: Connection, database: str, *, allowed: bool) -> None:
    # a limit of 0 would let superusers in
    statement = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(Identifier(database), Literal(allowed))
    connection.perform(statement)


def _await_nobody(connection: Connection, order: Order, tools: Tools, clock: Clock) -> None:
    until = clock.monotonic() + _ENDING
    while sessions := connection.query("list_sessions_of_database", database=order.database):
        if clock.monotonic() > until:
            raise InUse(f"{len(sessions)} sessions of {order.database} have not ended within {_ENDING:.0f} s")
        clock.wait(tools.stop, 0.1)
        tools.stop.check()


def _swap(connection: Connection, database: str, beside: str, old_name: str) -> None:
    rename = SQL("ALTER DATABASE {} RENAME TO {}")
    try:
        with connection.transaction("ISOLATION LEVEL READ COMMITTED"):
            connection.perform(rename.format(Identifier(database), Identifier(old_name)))
            connection.perform(rename.format(Identifier(beside), Identifier(database)))
            # the old one was closed under its old name; whoever needs it gets in under the new one
            connection.perform(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(Identifier(old_name)))
    except ServerError as error:
        if error.sqlstate == "55006":
            raise InUse(str(error), hint="end the sessions, or let them be ended: --disconnect") from error
        raise


def leftovers(server: ServerConfig) -> list[str]:
    """Return databases that a replacement which was killed has left beside: ``<name>_maint_<id>``."""
    try:
        with connect(server, application_name=APPLICATION) as connection:
            rows = connection.execute(
                "SELECT datname FROM pg_catalog.pg_database WHERE datname ~ '_maint_[0-9a-f]{4}$' ORDER BY 1"
            )
    except MaintError:
        return []
    return [row.datname for row in rows]
