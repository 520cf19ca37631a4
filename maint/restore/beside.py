"""A database beside the one that is wanted: filled first, and given its name when all is there.

So nobody meets a database that is half restored, and what a killed restore leaves bears a name that tells whose it was.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from maint import owner
from maint.backups.manifest import Source
from maint.config.model import ServerConfig
from maint.errors import MaintError, ServerError
from maint.postgres import SQL, Connection, Identifier, as_text, connect, quoted
from maint.restore import place
from maint.restore.steps import Steps

#: what sessions of a restore call themselves
APPLICATION = "maint restore"

#: the process that made it follows
_PREFIX = "maint_restore_"
_NAME = re.compile(rf"{_PREFIX}([0-9a-f]{{12}}-\d+-\d+)_[0-9a-f]{{4}}")


class Left(MaintError):
    """A database could not be removed again."""


@contextmanager
def made(connection: Connection, server: ServerConfig, source: Source, steps: Steps) -> Iterator[str]:
    """Make an empty database as the old one was; it is removed again if the block fails.

    The block gives it another name at its end. Raises `place.Unfit`.
    """
    name = f"{_PREFIX}{owner.me()}_{secrets.token_hex(2)}"
    if not steps.begin(as_text(place.creation(name, source, connection.major)) + ";"):
        yield name
        return
    try:
        place.create_database(connection, name, source)
        yield name
    except BaseException as error:
        _drop_after(error, server, name)
        raise


def _drop_after(error: BaseException, server: ServerConfig, name: str) -> None:
    try:
        drop(server, name)
    except MaintError as another:
        raise Left(
            f"{error}; and the database {name} of {server.name}, half restored, could not be dropped: {another}",
            hint=f"DROP DATABASE {quoted(name)} WITH (FORCE); the next maint restore tries that, too",
        ) from error


def drop(server: ServerConfig, name: str) -> None:
    """Remove a database that was made here; on a session of its own: the other may have been stopped."""
    if not _NAME.fullmatch(name):
        raise MaintError(f"{name} is no database that a restore has made")
    statement = SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name))
    with connect(server, application_name=APPLICATION, lock_timeout="10s") as connection:
        try:
            connection.perform(statement)
        except ServerError as error:
            if error.sqlstate != "55006":
                raise
            _forget_subscriptions(server, name)
            connection.perform(statement)


def _forget_subscriptions(server: ServerConfig, name: str) -> None:
    """Drop the subscriptions of a copy, and leave the slot to the publisher: it is that of the original."""
    with connect(server, name, application_name=APPLICATION) as connection:
        for row in connection.execute(
            "SELECT subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid"
            " WHERE d.datname = pg_catalog.current_database()"
        ):
            subscription = SQL("SUBSCRIPTION {}").format(Identifier(row.subname))
            connection.perform(SQL("ALTER {} DISABLE").format(subscription))
            connection.perform(SQL("ALTER {} SET (slot_name = NONE)").format(subscription))
            connection.perform(SQL("DROP {}").format(subscription))


def leftovers(connection: Connection) -> list[tuple[str, bool]]:
    """Return the databases that restores which are gone have left; and whether that is known for sure.

    Not for sure: one that was begun on another machine, or before the last start of this one.
    """
    rows = connection.execute(
        "SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname, %(prefix)s) ORDER BY 1",
        {"prefix": _PREFIX},
    )
    found = []
    for row in rows:
        made_by = owner.Owner.parse(match[1]) if (match := _NAME.fullmatch(row.datname)) else None
        if made_by is not None and (alive := made_by.alive()) is not True:
            found.append((row.datname, alive is False))
    return found


def sweep(connection: Connection, server: ServerConfig, steps: Steps) -> None:
    """Remove what killed restores have left on this server; tell what may be somebody else's."""
    for name, sure in leftovers(connection):
        if not sure:
            steps.tell(f"{name} may be left of a restore elsewhere; if none runs: DROP DATABASE {quoted(name)}")
        elif steps.begin(f"DROP DATABASE {quoted(name)}: left by a restore that was killed"):
            with suppress(ServerError):  # another restore does it just now
                drop(server, name)
