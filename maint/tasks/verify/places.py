"""Where backups are restored to be verified: a throw-away server, or a database of maint's own on a scratch server."""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pydantic import SecretStr

from maint import log, owner, programs
from maint.backups.manifest import DatabaseManifest, Source
from maint.cluster import Cluster
from maint.config.model import ServerConfig
from maint.errors import MaintError, ProgramError, ProgramFailed, ProgramMissing, ServerError
from maint.postgres import SQL, Connection, Identifier, Literal, as_user, connect
from maint.restore import place
from maint.restore.archive import Entry
from maint.restore.engine import Leave
from maint.restore.place import Unfit
from maint.task import Context
from maint.tasks.verify.options import Options
from maint.tasks.verify.verdict import CannotVerify, check_place

#: of the databases and roles on a scratch server; the process that made one follows
_PREFIX = "maint_scratch_"
_NAME = re.compile(rf"{_PREFIX}([0-9a-f]{{12}}-\d+-\d+)_[0-9a-f]{{4}}")
_MARK = "made by maint to verify a backup, and dropped by it"

#: the plain role that restores in a throw-away server
_ROLE = "maint_restore"

#: the schema of what the laboratory needs
_LABORATORY = "maint_laboratory"

#: what is told of a server whose restore was measured
_TOLD = ("shared_buffers", "maintenance_work_mem", "max_wal_size", "fsync", "max_parallel_maintenance_workers")

_GB = 1 << 30


@dataclass(frozen=True, slots=True)
class Place:
    """An empty database for one restore."""

    admin: ServerConfig  #: as whoever made it
    restorer: ServerConfig  #: as the role that owns it and restores
    role: str
    database: str
    major: int
    substituted: bool  #: under C instead of the recorded locale
    settings: Mapping[str, str]
    last_words: Callable[[], str] = lambda: ""  #: of the server's log

    def make_amcheck(self) -> str | None:
        """Create amcheck before anything of the backup is here; return the schema of its functions, if it can be."""
        with connect(self.admin, self.database) as connection:
            try:
                connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(_LABORATORY)))
                connection.execute(
                    SQL("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA {}").format(Identifier(_LABORATORY))
                )
            except ServerError:
                return None
            [[schema]] = connection.execute(
                "SELECT extnamespace::regnamespace::text FROM pg_catalog.pg_extension WHERE extname = 'amcheck'"
            )
            place, role = Identifier(schema), Identifier(self.role)
            connection.execute(SQL("GRANT USAGE ON SCHEMA {} TO {}").format(place, role))
            connection.execute(SQL("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {} TO {}").format(place, role))
            return str(schema)

    def prepare(self, source: Source, entries: Sequence[Entry]) -> Leave:
        """Create as superuser what only one can; return which entries are done with or left out."""
        with connect(self.admin, self.database) as connection:
            done = place.make_extensions(connection, source.extensions, entries, owner=self.role)
            for row in connection.query("list_relations"):
                if row.of_extension and row.kind in "rpS":
                    name, role = Identifier(row.schema, row.name), Identifier(self.role)
                    connection.execute(SQL("GRANT ALL ON {} TO {}").format(name, role))
        return lambda entry: done(entry) or entry.kind == "USER MAPPING"  # of roles that are not here, with passwords


def wanted_major(manifest: DatabaseManifest) -> int:
    """Return the major of the server that the backup needs at least: an archive is also as new as its pg_dump."""
    made_by = re.match(r"\d+", manifest.tools.get("pg_dump", ""))
    return max(manifest.source.version_num // 10000, int(made_by[0]) if made_by else 0)


@contextmanager
def made(context: Context[Options], manifest: DatabaseManifest) -> Iterator[Place]:
    """Make the place that the options ask for; it is gone afterwards. Raises `CannotVerify`."""
    make = _throw_away if context.options.scratch is None else _on_server
    with make(context, manifest) as found:
        yield found


@contextmanager
def _throw_away(context: Context[Options], manifest: DatabaseManifest) -> Iterator[Place]:
    installation = _installation(wanted_major(manifest))
    with _cluster(context, installation, manifest.source) as cluster:
        admin = _server(cluster.dsn(), cluster)
        taken = {"postgres", "template0", "template1"}
        name = "restored" if manifest.database in taken else manifest.database
        role = _ROLE if _ROLE not in manifest.source.roles else f"{_ROLE}_{secrets.token_hex(2)}"
        with connect(admin, stop=context.stop) as connection:
            _make_roles(connection, role, manifest.source.roles, superuser=context.options.trusted)
            substituted = _make_database(connection, context.options, name, manifest.source, role)
            settings = _settings(connection)
        if installation.major < 15:  # from then on public belongs to the owner of the database
            with connect(admin, name) as connection:
                connection.execute(SQL("ALTER SCHEMA public OWNER TO {}").format(Identifier(role)))
        restorer = _server(cluster.dsn(user=role), cluster)
        words = lambda: cluster.last_words(50)  # noqa: E731
        yield Place(admin, restorer, role, name, installation.major, substituted, settings, words)


def _installation(major: int) -> programs.Installation:
    try:
        return programs.server_at_least(major)
    except ProgramMissing as error:
        raise CannotVerify(f"programs: {error}", hint=error.hint) from error


@contextmanager
def _cluster(context: Context[Options], installation: programs.Installation, source: Source) -> Iterator[Cluster]:
    options = context.options
    try:
        made = Cluster.make(
            installation, base=options.base, stop=context.stop, log=context.log, settings=tuned(source.size_bytes)
        )
    except OSError as error:
        raise CannotVerify(f"space: {options.base}: {error.strerror}", hint="scratch_dir in the job") from error
    except ProgramError as error:
        cause = error.__cause__
        check_place([str(error), *(cause.tail if isinstance(cause, ProgramFailed) else ())])
        raise
    with made as cluster:
        yield cluster


def tuned(size: int) -> dict[str, str]:
    """Return settings with which a server of this machine restores a database of so many bytes fast."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = os.cpu_count() or 1
    return {
        "shared_buffers": _kb(min(memory // 4, _GB)),
        "maintenance_work_mem": _kb(min(memory // 8, _GB // 2)),
        "max_wal_size": _kb(wal_bytes(size)),
        "autovacuum": "off",
        "max_parallel_maintenance_workers": str(cores),
        "max_parallel_workers": str(max(8, cores)),
        "max_locks_per_transaction": "256",
    }


def wal_bytes(size: int) -> int:
    """Return how much WAL the server keeps at most: fewer checkpoints, more disk."""
    return min(max(size, _GB // 16), 4 * _GB)


def _kb(size: int) -> str:
    return f"{size >> 10}kB"


def _server(dsn: str, cluster: Cluster) -> ServerConfig:
    return ServerConfig(name="scratch", dsn=SecretStr(dsn), bin_dir=cluster.installation.bin_dir)


def _make_roles(connection: Connection, role: str, others: Sequence[str], *, superuser: bool) -> None:
    """Make the role that restores, and those that policies name; only the first can log in."""
    privileges = SQL("LOGIN SUPERUSER" if superuser else "LOGIN BYPASSRLS")  # it counts tables that hide rows
    connection.execute(SQL("CREATE ROLE {} ").format(Identifier(role)) + privileges)
    for other in others:
        with suppress(ServerError):  # it is there: the superuser; or of a kind that this server reserves
            connection.execute(SQL("CREATE ROLE {}").format(Identifier(other)))


def _make_database(connection: Connection, options: Options, name: str, source: Source, role: str) -> bool:
    """Create the database; return whether under C instead of the recorded locale."""
    try:
        place.create_database(connection, name, source, owner=role)
    except Unfit as error:
        if options.collation != "substitute":
            raise CannotVerify(f"locale: {error}", hint=error.hint) from error
        place.create_database(connection, name, source, owner=role, substitute_collation=True)
        return True
    return False


def _settings(connection: Connection) -> dict[str, str]:
    found = {name: connection.execute(SQL("SHOW {}").format(Identifier(name)))[0][0] for name in _TOLD}
    return {"server_version": connection.execute("SHOW server_version")[0][0], **found}


@contextmanager
def _on_server(context: Context[Options], manifest: DatabaseManifest) -> Iterator[Place]:
    server = scratch_server(context)
    name = f"{_PREFIX}{owner.me()}_{secrets.token_hex(2)}"
    with connect(server, application_name=context.application_name, stop=context.stop) as connection:
        if connection.major < wanted_major(manifest):
            raise CannotVerify(
                f"programs: {server.name} is PostgreSQL {connection.major}, the backup needs {wanted_major(manifest)}",
                hint="a newer scratch server, or none: then a throw-away one is made here",
            )
        [me] = connection.query("describe_role")
        try:
            restorer = _login(connection, server, name) if me.superuser and not context.options.trusted else server
            role = connection.user if restorer is server else name
            substituted = _make_database(connection, context.options, name, manifest.source, role)
            comment = SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(name), Literal(_MARK))
            connection.execute(comment)
            yield Place(server, restorer, role, name, connection.major, substituted, _settings(connection))
        finally:
            try:
                drop(server, name)
            except ServerError as error:  # it went away in between, or a session does not end
                context.log.warning("%s stays on %s until the next run: %s", name, server.name, error)


def scratch_server(context: Context[Options]) -> ServerConfig:
    """Return the configured scratch server."""
    name = context.options.scratch
    server = context.config.server.get(name or "")
    if server is None:
        raise CannotVerify(f"there is no server {name}", hint=f"add [server.{name}] to maint.toml, or correct scratch")
    return server


def _login(connection: Connection, server: ServerConfig, role: str) -> ServerConfig:
    """Make a plain role that can log in, for one restore."""
    password = secrets.token_urlsafe(24)
    log.register_secret(password)
    connection.execute(SQL("CREATE ROLE {} LOGIN BYPASSRLS PASSWORD {}").format(Identifier(role), Literal(password)))
    return as_user(server, role, password)


def leftovers(server: ServerConfig) -> list[str]:
    """Return the scratch databases and roles of processes of this machine that are gone."""
    with connect(server) as connection:
        return [row.name for row in connection.query("list_scratch", prefix=_PREFIX) if _is_left(row)]


def _is_left(row: "object") -> bool:
    """Tell by name and comment; one killed in between has left no comment, but the name is as good as a mark."""
    found = _NAME.fullmatch(row.name)  # type: ignore[attr-defined]
    made_by = owner.Owner.parse(found[1]) if found else None
    return made_by is not None and row.comment in (None, _MARK) and made_by.alive() is False  # type: ignore[attr-defined]


def drop(server: ServerConfig, name: str) -> None:
    """Drop a scratch database and its role; nothing else is called like that."""
    if not _NAME.fullmatch(name):
        raise MaintError(f"{name} is no scratch database of maint's")
    with connect(server) as connection:
        connection.perform(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
        role = {"name": name}
        if connection.execute(
            "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %(name)s", role
        ):  # else it may not ask
            connection.perform(SQL("DROP ROLE IF EXISTS {}").format(Identifier(name)))
