"""Replace a database: restore beside it, carry over what belongs to it, and swap both names in one transaction.

ALTER DATABASE … RENAME fails while anyone is connected; two renames in one transaction work; settings, privileges and
the connection limit stay with the old database [tried]. The old database keeps its contents under a dated name.

The first rename locks the old database for all who want to connect, superusers too, and then waits up to five seconds
for those who are connected to be gone: meanwhile another session ends them. Until the transaction is committed nothing
has changed; the server itself undoes it if maint, or the server, is killed [tried].
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

from maint.clock import Clock, Stop
from maint.errors import LockNotAvailable, MaintError, PermissionDenied, ServerError, UsageError
from maint.postgres import SQL, Connection, Identifier, connect
from maint.restore import beside, into, names, properties, room
from maint.restore.beside import APPLICATION
from maint.restore.into import Done, Order
from maint.restore.sources import Tools
from maint.restore.steps import Steps

#: how often the renames are tried while sessions are being ended; each waits for five seconds
_TRIES = 3
#: seconds between two looks for sessions to end
_LOOK = 0.1


class InUse(UsageError):
    """Others are connected to the database."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of a replacement."""

    done: Done
    old_name: str  #: under which the old database stays
    stays_behind: tuple[str, ...]  #: slots and subscriptions that are bound to the old one


def replace_database(order: Order, tools: Tools, clock: Clock, steps: Steps, *, disconnect: bool) -> Replaced:
    """Put the backup in the place of the database of that name.

    Raises `InUse` while others are connected, unless they are to be disconnected; whatever is raised, the old
    database is there under its name and open.
    """
    with connect(order.server, application_name=APPLICATION, stop=tools.stop) as connection:
        old_name = _old_name(connection, order, clock)
        into.prepare(connection, order, tools, steps)
        old = _settings(connection, order)
        _refuse_in_use(connection, order, disconnect=disconnect)
        steps.tell(room.check(connection, order.backup.manifest.source))
        with into.made_roles(connection, order, tools, steps) as created, _new(connection, order, steps) as new:
            done = into.fill(order, new, tools, clock, steps)
            for statement in properties.of_database(connection, order.database, new, old):
                steps.perform(connection, statement)
            behind = connection.query("list_stays_behind", database=order.database)
            _swap(connection, order, Names(order.database, new, old_name), tools, clock, steps, disconnect=disconnect)
    left_out = () if old.default_tablespace else (f"TABLESPACE {old.tablespace}: the database is in the default one",)
    done = replace(done, roles=created, left_out=(*done.left_out, *left_out))
    return Replaced(done, old_name, tuple(row.what for row in behind))


def _old_name(connection: Connection, order: Order, clock: Clock) -> str:
    """Return a dated name that is free."""
    taken = {row.datname for row in connection.execute("SELECT datname FROM pg_catalog.pg_database")}
    dated = f"_old_{clock.now():%Y%m%d_%H%M%S}"
    tried = (names.suffixed(order.database, dated + more) for more in chain([""], (f"_{n}" for n in count(2))))
    return next(name for name in tried if name not in taken)


@contextmanager
def _new(connection: Connection, order: Order, steps: Steps) -> Iterator[str]:
    with into.fit(), beside.made(connection, order.server, order.backup.manifest.source, steps) as name:
        yield name


def _settings(connection: Connection, order: Order) -> Any:
    rows = connection.query("describe_database_settings", database=order.database)
    if not rows:
        raise UsageError(
            f"there is no database {order.database} on {order.server.name} to replace", hint="leave out --replace"
        )
    if rows[0].template:
        raise UsageError(f"{order.database} is a template database: it is not replaced")
    if order.database == connection.database:
        raise UsageError(
            f"{order.database} is the database over which maint reaches {order.server.name}",
            hint=f'maintenance_db = "template1" in [server.{order.server.name}]',
        )
    if not rows[0].may_rename:
        raise PermissionDenied(
            f"{connection.user} may not rename {order.database}",
            hint=f"as a superuser, or as {rows[0].owner} with CREATEDB",
        )
    return rows[0]


def _refuse_in_use(connection: Connection, order: Order, *, disconnect: bool) -> None:
    """Say who is connected, before and after the long work."""
    sessions = connection.query("list_sessions_of_database", database=order.database)
    if prepared := [one for one in sessions if one.pid is None]:
        raise InUse(f"{order.database} has a {_who(prepared)}", hint="COMMIT PREPARED or ROLLBACK PREPARED it there")
    if sessions and not disconnect:
        raise _in_use(order, sessions)


def _in_use(order: Order, sessions: list[Any]) -> InUse:
    return InUse(
        f"others are connected to {order.database}: {_who(sessions)}",
        hint="end them, or let them be ended: --disconnect",
    )


def _who(sessions: list[Any]) -> str:
    shown = [
        f"{one.application} of {one.role}"
        if one.pid is None
        else f"{one.role} ({one.application}, pid {one.pid}, since {one.since:%H:%M})"
        for one in sessions[:5]
    ]
    return "; ".join(shown) + (f" and {len(sessions) - 5} more" if len(sessions) > 5 else "")


@dataclass(frozen=True, slots=True)
class Names:
    """Who is called how before and after."""

    database: str  #: of the old one before, of the new one after
    new: str  #: of the new one before
    old: str  #: of the old one after


def _swap(
    connection: Connection, order: Order, swapped: Names, tools: Tools, clock: Clock, steps: Steps, *, disconnect: bool
) -> None:
    ending = disconnect and steps.begin(f"end all sessions of {order.database} with pg_terminate_backend")
    for number in range(_TRIES if ending else 1):
        try:
            if ending:
                with _sessions_end(order, clock):
                    _rename(connection, swapped, steps)
            else:
                _rename(connection, swapped, steps)
        except (LockNotAvailable, ServerError) as error:
            if error.sqlstate not in ("55006", "55P03"):
                raise
            sessions = connection.query("list_sessions_of_database", database=order.database)
            if number + 1 >= (_TRIES if ending else 1):
                raise (_in_use(order, sessions) if sessions else InUse(str(error))) from error
        else:
            return
        tools.stop.check()


def _rename(connection: Connection, swapped: Names, steps: Steps) -> None:
    rename = SQL("ALTER DATABASE {} RENAME TO {}")
    with connection.transaction("ISOLATION LEVEL READ COMMITTED"):
        steps.perform(connection, rename.format(Identifier(swapped.database), Identifier(swapped.old)))
        steps.perform(connection, rename.format(Identifier(swapped.new), Identifier(swapped.database)))


@contextmanager
def _sessions_end(order: Order, clock: Clock) -> Iterator[None]:
    """End the sessions of the database as long as the block runs, on a connection of its own."""
    done, errors = Stop(), list[MaintError]()
    with connect(order.server, application_name=APPLICATION) as connection:

        def work() -> None:
            try:
                while not clock.wait(done, _LOOK):
                    connection.query("terminate_sessions_of_database", database=order.database)
            except MaintError as error:
                errors.append(error)

        thread = threading.Thread(target=work, name="disconnect", daemon=True)
        thread.start()
        try:
            yield
        except ServerError as error:
            if errors:
                raise errors[0] from error
            raise
        finally:
            done.set()
            thread.join()
