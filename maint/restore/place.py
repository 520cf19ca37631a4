"""A place for a restore: a database with the recorded encoding and locale, and what only a superuser can put in it."""

from collections.abc import Sequence
from dataclasses import dataclass

from maint import programs
from maint.backups.manifest import Extension, Source
from maint.config.model import ServerConfig
from maint.errors import MaintError, ServerError
from maint.postgres import SQL, Composed, Connection, Identifier, Literal, libpq_value
from maint.restore.archive import Entry
from maint.restore.engine import Leave
from maint.restore.sources import Target


class Unfit(MaintError):
    """This place cannot take the backup: nothing is said about the backup itself."""


def create_database(
    connection: Connection, name: str, source: Source, *, owner: str | None = None, substitute_collation: bool = False
) -> None:
    """Create an empty database as the old one was. Raises `Unfit` where encoding or locale do not exist here."""
    try:
        connection.execute(
            creation(name, source, connection.major, owner=owner, substitute_collation=substitute_collation)
        )
    except ServerError as error:
        if error.sqlstate in ("42704", "22023", "0A000", "42809", "22021"):
            raise Unfit(
                f"the server has no locale {source.locale or source.collate} ({source.locale_provider}, "
                f"{source.encoding}): {error}",
                hint='install it, or let verify restore under C: collation = "substitute"',
            ) from error
        raise


def creation(
    name: str, source: Source, major: int, *, owner: str | None = None, substitute_collation: bool = False
) -> Composed:
    """Return the CREATE DATABASE for a server of this major; options came with 15 (provider) and 17 (builtin)."""
    clauses: list[Composed] = [SQL("TEMPLATE template0 ENCODING {}").format(Literal(source.encoding))]
    if owner is not None:
        clauses.append(SQL("OWNER {}").format(Identifier(owner)))
    if substitute_collation:
        clauses.append(SQL("LC_COLLATE {} LC_CTYPE {}").format(Literal("C"), Literal("C")))
    else:
        locale = SQL("LC_COLLATE {} LC_CTYPE {}").format(Literal(source.collate), Literal(source.ctype))
        clauses += [locale, *_provider(source, major)]
    return SQL("CREATE DATABASE {} ").format(Identifier(name)) + SQL(" ").join(clauses)


def _provider(source: Source, major: int) -> list[Composed]:
    if source.locale_provider == "libc":
        return [SQL("LOCALE_PROVIDER libc").format()] if major >= 15 else []
    if major < (17 if source.locale_provider == "builtin" else 15):
        raise Unfit(f"PostgreSQL {major} has no locale provider {source.locale_provider}")
    option = SQL("BUILTIN_LOCALE {}") if source.locale_provider == "builtin" else SQL("ICU_LOCALE {}")
    provider = SQL("LOCALE_PROVIDER {}").format(Identifier(source.locale_provider))
    return [provider, option.format(Literal(source.locale))]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a superuser has made before the restore, so that a plain role can do the rest."""

    extensions: frozenset[str]
    schemas: frozenset[str]

    def has(self, entry: Entry) -> bool:
        """Tell whether an entry of the archive is done with."""
        name = entry.names.removeprefix("- ").split(" ")[0]
        of_extension = entry.kind == "COMMENT" and entry.names.startswith("- EXTENSION ")
        return (
            of_extension
            or (entry.kind == "EXTENSION" and name in self.extensions)
            or (entry.kind == "SCHEMA" and name in self.schemas)
        )

    def has_exactly(self, entry: Entry) -> bool:
        """Tell whether an entry makes, or is about, one of these extensions; or makes one of the schemas."""
        words = entry.names.removeprefix("- ").split(" ")
        if entry.kind == "COMMENT":
            return words[0] == "EXTENSION" and words[1] in self.extensions
        return words[0] in {"EXTENSION": self.extensions, "SCHEMA": self.schemas}.get(entry.kind, ())


def make_extensions(
    connection: Connection, extensions: Sequence[Extension], entries: Sequence[Entry], *, owner: str
) -> Leave:
    """Create the extensions of the archive, as a superuser in the new database; return what is done with.

    Raises `Unfit` for one that is not installed here.
    """
    names = {e.names.removeprefix("- ").split(" ")[0] for e in entries if e.kind == "EXTENSION"}
    wanted = [extension for extension in extensions if extension.name in names]
    schemas = {e.schema_ for e in wanted} - {"public", "pg_catalog"}
    for schema in sorted(schemas):
        connection.execute(
            SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(Identifier(schema), Identifier(owner))
        )
    for extension in wanted:
        _make_extension(connection, extension)
    for [wrapper] in connection.execute("SELECT fdwname FROM pg_foreign_data_wrapper"):
        connection.execute(
            SQL("GRANT USAGE ON FOREIGN DATA WRAPPER {} TO {}").format(Identifier(wrapper), Identifier(owner))
        )
    return Prepared(frozenset(e.name for e in wanted), frozenset(schemas)).has


def _make_extension(connection: Connection, extension: Extension) -> None:
    statement = SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {} CASCADE")
    try:
        connection.execute(statement.format(Identifier(extension.name), Identifier(extension.schema_)))
    except ServerError as error:
        raise Unfit(
            f"the extension {extension.name} cannot be created here: {error}",
            hint=f"install the package of the extension {extension.name} where backups are restored",
        ) from error


def target_for(connection: Connection, server: ServerConfig, database: str, pg_dump: str) -> Target:
    """Return where to restore to: with the environment of `connection`, and the pg_restore that fits.

    That of the server's own major reads older archives; a newer archive needs the pg_restore that came with it.
    """
    major = max(connection.major, int(pg_dump.split(".")[0]))
    path, version = programs.find("pg_restore", major=major, bin_dir=server.bin_dir)
    older = connection.major < 17 <= int(version.split(".")[0])
    return Target(database, f"dbname={libpq_value(database)}", connection.environment(), path, older)
