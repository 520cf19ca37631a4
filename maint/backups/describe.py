"""What the manifest says of a database: where it came from, what is in it, what a dump of it lacks."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from maint.backups.counts import Counter
from maint.backups.manifest import Contents, Extension, Size, Source, Table
from maint.backups.manifest import Sequence as SequenceValue
from maint.backups.toc import Contents as Listing
from maint.errors import ServerError
from maint.model import Finding, Severity
from maint.postgres import Connection, quoted


def source(connection: Connection) -> Source:
    """Describe the database of `connection`, so that a fitting place for a restore can be made."""
    [row] = connection.query("describe_database")
    return Source(
        system_identifier=_system_identifier(connection),
        version_num=connection.version,
        extensions=tuple(
            Extension(name=e.name, version=e.version, schema_=e.schema) for e in connection.query("list_extensions")
        ),
        tablespaces=tuple(t.name for t in connection.query("list_tablespaces")),
        roles=tuple(r.name for r in connection.query("list_needed_roles")),
        **{**row._asdict(), "server_version": row.server_version.split()[0]},
    )


def _system_identifier(connection: Connection) -> str | None:
    try:
        return str(connection.query("identify_system")[0].identifier)
    except ServerError:  # some managed services revoke it
        return None


def sequences(connection: Connection) -> tuple[SequenceValue, ...]:
    """Return what each sequence has reached; none at all if one of them is locked just now."""
    try:
        rows = connection.query("list_sequences")
    except ServerError:
        return ()
    return tuple(SequenceValue(schema_=row.schema, name=row.name, last_value=row.last_value) for row in rows)


def lacks(connection: Connection) -> tuple[str, ...]:
    """Return what a dump by this role leaves out although pg_dump ends well."""
    [row] = connection.query("list_lacks")
    found = (
        (row.subscriptions, "subscription"),
        (row.user_mappings, "user-mapping option"),
        (row.login_roles, "role password"),
    )
    return tuple(f"{n} {what}{'s' if n != 1 else ''}" for n, what in found if n)


def contents(
    connection: Connection, counter: Counter, listing: Listing, values: Sequence[SequenceValue], database: str
) -> tuple[Contents, list[Finding]]:
    """Put together what was counted and what the archive says is in it."""
    counts = counter.counts
    expected = {table.oid: table for table in counter.tables}
    tables = [
        Table(schema_=table.schema, name=table.name, rows=counts[oid].rows, why=counts[oid].why)
        for oid, table in expected.items()
        if oid in listing.table_data
    ]
    unexpected = sorted(listing.table_data - expected.keys())
    tables += _not_counted(connection, unexpected) if unexpected else []
    missing = [table for oid, table in expected.items() if oid not in listing.table_data and counts[oid].rows]
    found = Contents(
        tables=tuple(sorted(tables, key=lambda t: (t.schema_, t.name))),
        sequences=tuple(values),
        sizes=tuple(Size(schema_=row.schema, name=row.name, bytes=row.bytes) for row in connection.query("list_sizes")),
        large_objects=counter.large_objects,
        rows=sum(table.rows or 0 for table in tables),
    )
    names = tuple(f"{database}/{quoted(table.schema, table.name)}" for table in missing)
    return found, [_no_data(database, names, len(listing.table_data))] if names else []


def _not_counted(connection: Connection, oids: Sequence[int]) -> list[Table]:
    """Relations with rows in the archive that were not expected there: extensions dump some of theirs by a filter."""
    rows = connection.query("name_relations", oids=list(oids))
    return [
        Table(
            schema_=row.schema,
            name=row.name,
            rows=None,
            why="belongs to an extension, dumped by its filter" if row.of_extension else f"relation of kind {row.kind}",
        )
        for row in rows
    ]


def _no_data(database: str, names: tuple[str, ...], in_archive: int) -> Finding:
    return Finding(
        check="backup.missing",
        severity=Severity.CRITICAL,
        object=database,
        message="tables with rows are not in the dump" if in_archive else "rows were counted but the dump has no data",
        value=f"{len(names)} tables",
        examples=names[:10],
        fix="ls -l $(which pg_dump)   # is it PostgreSQL's own?",
    )


def bytes_below(folder: Path) -> int:
    """Return how much the files of `folder` hold, in bytes; 0 if it is not there yet."""
    total = 0
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                total += path.stat().st_size
    return total


def free_bytes(folder: Path) -> int:
    """Return what is free for us where `folder` is or will be, in bytes."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free
