"""Count what has been restored, and compare it with what the manifest says was there."""

from collections.abc import Callable
from dataclasses import dataclass

from maint.backups.manifest import Contents
from maint.errors import ServerError
from maint.postgres import SQL, Connection, Identifier, quoted

#: schema and name of a table -> whether it is compared
Only = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Rows:
    """What was compared, table by table."""

    tables: int  #: that were compared
    rows: int  #: in them
    differing: tuple[str, ...]  #: "public.orders: 999 of 1,000 rows"
    uncompared: tuple[str, ...]  #: "public.logs: the dump ended first"


def compare(connection: Connection, contents: Contents, *, only: Only = lambda _schema, _name: True) -> Rows:
    """Count every table that was counted in the dump's snapshot (of those that `only` takes)."""
    found, differing, uncompared, rows = 0, [], [], 0
    for table in contents.tables:
        if not only(table.schema_, table.name):
            continue
        name = quoted(table.schema_, table.name)
        if table.rows is None:
            uncompared.append(f"{name}: {table.why or 'not counted'}")
            continue
        found += 1
        here = _count(connection, table.schema_, table.name)
        rows += here or 0
        if here != table.rows:
            differing.append(f"{name}: {'missing' if here is None else f'{here:,} of {table.rows:,} rows'}")
    return Rows(found, rows, tuple(differing), tuple(uncompared))


def _count(connection: Connection, schema: str, name: str) -> int | None:
    try:
        [[rows]] = connection.execute(SQL("SELECT count(*) FROM ONLY {}").format(Identifier(schema, name)))
    except ServerError as error:
        if error.sqlstate in ("42P01", "3F000"):  # no such table, no such schema
            return None
        raise
    return int(rows)
