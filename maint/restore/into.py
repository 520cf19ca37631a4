"""Restore a backup into a new or empty database of a server."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from maint.backups.unpack import NoKey
from maint.clock import Clock
from maint.config.model import ServerConfig
from maint.errors import Damaged, MaintError, NotFound, ServerError, UsageError
from maint.postgres import SQL, Composable, Connection, Identifier, connect, quoted
from maint.restore import beside, engine, place, properties, roles, room, rows
from maint.restore.archive import Entry
from maint.restore.beside import APPLICATION
from maint.restore.engine import Leave, Problem, Restored, Way
from maint.restore.sources import Failed, Tools
from maint.restore.steps import Steps
from maint.restore.stream import Backup


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

    seconds: float
    rows: rows.Rows
    problems: tuple[Problem, ...] = ()
    left_out: tuple[str, ...] = ()
    along: tuple[str, ...] = ()  #: not chosen, but needed by what was
    roles: tuple[str, ...] = ()  #: that were created
    properties: str = ""  #: what the archive says of the database itself, as SQL


class RestoreFailed(MaintError):
    """The restore failed."""


def restore(order: Order, tools: Tools, clock: Clock, steps: Steps) -> Done:
    """Restore into a database that is made for it, or is there and holds nothing.

    Raises `UsageError` for one that holds something, `RestoreFailed`, `Damaged`. What was made here is removed again.
    """
    with connect(order.server, application_name=APPLICATION, stop=tools.stop) as connection:
        prepare(connection, order, tools, steps)
        exists = connection.execute(
            "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %(database)s", {"database": order.database}
        )
        if exists:
            _refuse_unless_empty(order)
        room.warn(connection, order.backup.manifest.source, tools.log)
        with made_roles(connection, order, tools, steps) as created:
            done = (_into_empty if exists else _into_new)(connection, order, tools, clock, steps)
    return replace(done, roles=created)


def prepare(connection: Connection, order: Order, tools: Tools, steps: Steps) -> None:
    """Look whether this server can take a backup at all; remove what killed restores have left there."""
    [[standby]] = connection.execute("SELECT pg_catalog.pg_is_in_recovery()")
    if standby:
        raise UsageError(f"server {order.server.name} is a standby: nothing can be restored into it")
    if order.backup.manifest.encrypted and order.backup.identity is None:
        raise _no_key(order, "there is no key here")
    if lacking := _tablespaces_missing(connection, order):
        raise UsageError(
            f"server {order.server.name} lacks the tablespace{'s' * (len(lacking) > 1)} {', '.join(lacking)}",
            hint="CREATE TABLESPACE, or leave out --with-tablespaces",
        )
    beside.sweep(connection, order.server, Steps(tools.log.warning) if not steps.dry else steps)


def _tablespaces_missing(connection: Connection, order: Order) -> list[str]:
    wanted = set(order.backup.manifest.source.tablespaces if order.way.tablespaces else ())
    return sorted(wanted - {row.spcname for row in connection.execute("SELECT spcname FROM pg_catalog.pg_tablespace")})


@contextmanager
def made_roles(connection: Connection, order: Order, tools: Tools, steps: Steps) -> Iterator[tuple[str, ...]]:
    """Make the roles that are asked for; they are removed again if the block fails. Raises if any are missing."""
    needed = order.backup.manifest.source.roles if order.way.owners or order.way.privileges else ()
    missing = roles.missing(connection, needed)
    if missing and not order.create_roles:
        raise UsageError(
            f"server {order.server.name} lacks the role{'s' * (len(missing) > 1)} {', '.join(missing)}",
            hint="--roles creates them from the backup; --no-owner --no-privileges does without",
        )
    try:
        made = roles.create(connection, order.backup, missing, steps, tools.stop) if missing else ()
    except NoKey as error:
        raise _no_key(order, str(error)) from error
    try:
        yield made
    except BaseException:
        with suppress(MaintError), connect(order.server, application_name=APPLICATION) as another:
            if not steps.dry:
                roles.drop(another, made)
        raise


def _into_new(connection: Connection, order: Order, tools: Tools, clock: Clock, steps: Steps) -> Done:
    way = replace(order.way, properties=not order.way.chooses)
    with fit(), beside.made(connection, order.server, order.backup.manifest.source, steps) as name:
        done = fill(replace(order, way=way), name, tools, clock, steps)
        if way.properties:
            steps.tell("what the archive says of the database itself: owner, settings, privileges, comment")
        problems = _give(connection, properties.from_archive(done.properties, name, way), steps)
        rename = SQL("ALTER DATABASE {} RENAME TO {}")
        steps.perform(connection, rename.format(Identifier(name), Identifier(order.database)))
    return replace(done, problems=(*done.problems, *problems))


def _give(connection: Connection, statements: Iterator[Composable], steps: Steps) -> list[Problem]:
    """Give the new database what belongs to it; what cannot be is no reason to be without the rest."""
    problems = []
    for statement in statements:
        try:
            steps.perform(connection, statement)
        except ServerError as error:
            problems.append(Problem("DATABASE", str(error)))
    return problems


def _into_empty(_connection: Connection, order: Order, tools: Tools, clock: Clock, steps: Steps) -> Done:
    with connect(order.server, order.database, application_name=APPLICATION) as inside:
        way = replace(order.way, atomic_up_to=_at_once(inside, order.backup.manifest.contents.large_objects or 0))
    try:
        return fill(replace(order, way=way), order.database, tools, clock, steps)
    except MaintError as error:
        with suppress(MaintError):
            if held := _contents(order):
                left = f"{order.database} is left half restored ({', '.join(held)}): drop it and create it again"
                error.hint = f"{left}; {error.hint}" if error.hint else left
        raise


def _at_once(connection: Connection, large_objects: int) -> int:
    """Return how many entries may be restored in one transaction: each object takes a lock, a table several."""
    [[locks]] = connection.execute(
        "SELECT current_setting('max_locks_per_transaction')::int * (current_setting('max_connections')::int"
        " + current_setting('max_prepared_transactions')::int)"
    )
    return max(0, int(locks) // 4 - large_objects)


def _refuse_unless_empty(order: Order) -> None:
    if held := _contents(order):
        raise UsageError(
            f"the database {order.database} of {order.server.name} holds something: {', '.join(held)}",
            hint="restore into another name, or replace it: --replace",
        )


def _contents(order: Order) -> list[str]:
    with connect(order.server, order.database, application_name=APPLICATION) as connection:
        rows = connection.query("list_contents")
    return [f"{row.n} {row.kind}{'s' if row.n != 1 else ''}" for row in rows if row.n]


@contextmanager
def fit() -> Iterator[None]:
    """Say what can be done about a locale that is not there."""
    try:
        yield
    except place.Unfit as error:
        raise RestoreFailed(
            str(error), hint="install it; or make an empty database with another (createdb), and restore into that"
        ) from error


def fill(order: Order, database: str, tools: Tools, clock: Clock, steps: Steps) -> Done:
    """Restore into `database`, which is there and empty; ANALYZE it; compare the rows."""
    manifest = order.backup.manifest
    if not steps.begin(f"{_words(order)} into {quoted(database)}; ANALYZE; count its rows"):
        return Done(0.0, rows.Rows(0, 0, (), ()))
    began = clock.monotonic()
    with connect(order.server, database, application_name=APPLICATION, stop=tools.stop, lock_timeout="0") as inside:
        target = place.target_for(inside, order.server, database, manifest.tools["pg_dump"])
        with _explained(order):
            done = engine.restore(order.backup, target, order.way, tools, before=_besides(inside))
        seconds = clock.monotonic() - began
        tools.progress(manifest.database, what="analyze")
        problems = [*done.problems, *_analyzed(inside)]
        tools.progress(manifest.database, what="count")
        counted = rows.compare(inside, manifest.contents, only=_chosen(done))
    along = tuple(entry.label for entry in done.choice.along) if done.choice else ()
    left_out = (*_tablespaces(order), *done.left_out)
    return Done(seconds, counted, tuple(problems), left_out, along, properties=done.properties)


def _words(order: Order) -> str:
    way = order.way
    what = [f"schema {name}" for name in way.schemas] + [f"table {name}" for name in way.tables]
    words = ["pg_restore", *way.options, *([f"--jobs={way.jobs}"] if way.jobs > 1 else []), order.backup.place.id]
    return " ".join(words) + (f" ({', '.join(what)})" if what else "")


def _analyzed(connection: Connection) -> list[Problem]:
    try:
        connection.perform("ANALYZE")
    except ServerError as error:  # of an expression that an index is over
        return [Problem("ANALYZE", str(error))]
    return []


def _tablespaces(order: Order) -> list[str]:
    names = () if order.way.tablespaces else order.backup.manifest.source.tablespaces
    return [f"TABLESPACE {name}: what was there is in the default one" for name in names if name != "pg_default"]


def _besides(connection: Connection) -> Callable[[Sequence[Entry]], Leave]:
    """Leave alone the extensions that are there already: only their owner may comment on them."""

    def before(_entries: Sequence[Entry]) -> Leave:
        found = connection.execute(
            "SELECT e.extname, n.nspname FROM pg_catalog.pg_extension e"
            " JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
        )
        names = {row.extname for row in found}
        schemas = {row.nspname for row in found} - {"pg_catalog", "public"}
        return place.Prepared(frozenset(names), frozenset(schemas)).has_exactly

    return before


@contextmanager
def _explained(order: Order) -> Iterator[None]:
    try:
        yield
    except Failed as failed:
        problem = next(iter(engine.problems(failed.lines)), None)
        text = f"{problem.entry}: {problem.error}" if problem else str(failed)
        raise RestoreFailed(f"pg_restore failed: {text}", hint=_hint(failed.lines, order)) from failed
    except NoKey as error:
        raise _no_key(order, str(error)) from error
    except (Damaged, NotFound) as error:
        raise Damaged(f"the backup is damaged: {error}", hint=f"another one: {_others(order)}") from error


def _others(order: Order) -> str:
    return f"maint backups --database {order.backup.place.database}; or another copy: --repository"


def _no_key(order: Order, why: str) -> MaintError:
    return MaintError(
        f"{order.backup.place.id} is encrypted: {why}",
        hint=f"set identity_file in [repository.{order.backup.repository.name}]",
    )


def _hint(lines: Sequence[str], order: Order) -> str:
    text = "\n".join(lines)
    if "must be owner" in text or "must be member" in text or "must be able to SET ROLE" in text:
        return "--no-owner restores everything as the role of the connection"
    if "permission denied to create extension" in text:
        return "make an empty database, create the extension in it as a superuser, and restore into that"
    if "permission denied" in text or "must be superuser" in text:
        return "restore as a superuser, or create what it names beforehand"
    return f"is the backup whole? maint backups check {order.backup.place.id}"


def _chosen(done: Restored) -> "rows.Only":
    return done.choice.has_rows_of if done.choice else lambda _schema, _name: True
