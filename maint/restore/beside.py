"""A database beside the one that is wanted: filled first, and given its name when all is there.

So nobody meets a database that is half restored, and what a killed restore leaves bears a name that tells whose it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from maint.backups.manifest import Source
from maint.config.model import ServerConfig
from maint.errors import MaintError, ServerError
from maint.postgres import SQL, Connection, Identifier, as_text, connect, quoted
from maint.restore import names, place
from maint.restore.steps import Steps

#: what sessions of a restore call themselves
APPLICATION = "maint restore"


class Left(MaintError):
    """A database could not be removed again."""


@contextmanager
def made(connection: Connection, server: ServerConfig, source: Source, steps: Steps) -> Iterator[str]:
    """Make an empty database as the old one was; it is removed again if the block fails.

    The block gives it another name at its end. Raises `place.Unfit`.
    """
    name = names.new()
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
    if not names.is_ours(name):
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


def sweep(connection: Connection, server: ServerConfig, steps: Steps) -> None:
    """Remove what killed restores have left on this server; tell what may be somebody else's."""
    rows = connection.execute("SELECT datname FROM pg_catalog.pg_database ORDER BY 1")
    for name, sure in names.left(row.datname for row in rows):
        if not sure:
            steps.tell(f"{name} may be left of a restore elsewhere; if none runs: DROP DATABASE {quoted(name)}")
        elif steps.begin(f"DROP DATABASE {quoted(name)}: left by a restore that was killed"):
            with suppress(ServerError):  # another restore does it just now
                drop(server, name)
