"""Brings a history to the schema of this maint: made, migrated, or refused because it is newer."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from maint.errors import HistoryError
from maint.history.schema import REVISION, SCHEMA

#: of the advisory lock under which a PostgreSQL history is migrated; any number that nobody else uses
_LOCK = 0x6D61696E74


def revision(connection: Connection) -> str | None:
    """Return the migration that the history is at; None for a new one. Does not need alembic."""
    schema = SCHEMA if connection.dialect.name == "postgresql" else None
    if not inspect(connection).has_table("alembic_version", schema=schema):
        return None
    table = f"{schema}.alembic_version" if schema else "alembic_version"
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {table}"))  # noqa: S608
    return found


def upgrade(engine: Engine) -> None:
    """Make or migrate the history if it is not at this maint's revision; several processes may."""
    with engine.connect() as connection:
        if _fits(revision(connection)):
            return
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if not _fits(revision(connection)):  # somebody else may have been faster
            _migrate(connection)


def _fits(found: str | None) -> bool:
    if found is not None and found > REVISION:
        raise HistoryError(
            f"the history is newer than this maint: schema {found}, and {REVISION} is known here",
            hint="update maint on this host to the version that wrote it (pip install --upgrade pg-maint)",
        )
    return found == REVISION


def _migrate(connection: Connection) -> None:
    from alembic import command  # half a second to import: only when there is something to do
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        _make_schema(connection)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _make_schema(connection: Connection) -> None:
    # not IF NOT EXISTS alone: that asks for CREATE on the database even where the schema exists
    if not inspect(connection).has_schema(SCHEMA):
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
