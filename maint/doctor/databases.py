"""Doctor's lines about databases: what this role cannot read, what its dump lacks, which secrets it holds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import maint.doctor.grants as grants
from maint.backups import describe
from maint.doctor.lines import counted, fail, ok, some, warn
from maint.doctor.servers import Server
from maint.format import size
from maint.postgres import Connection
from maint.task import Check
from maint.tasks import backup


@dataclass(frozen=True, slots=True)
class Database:
    """What one look into a database tells."""

    name: str
    tables: int
    sequences: int
    large_objects: int
    size_bytes: int | None
    unreadable: Sequence[Any]  #: rows of list_unreadable
    unreadable_large_objects: Sequence[int]
    lacks: Sequence[str]  #: left out of a dump by this role: "2 user-mapping options"
    secrets: Sequence[str]  #: in plain text in a dump by this role: "1 password of a user mapping"


def look(connection: Connection, row: Any, *, superuser: bool) -> Database:
    """Ask a database; `row` is the one of list_databases."""
    [counts] = connection.query("count_dumped")
    return Database(
        name=row.name,
        tables=counts.tables,
        sequences=counts.sequences,
        large_objects=counts.large_objects,
        size_bytes=row.size_bytes,
        unreadable=connection.query("list_unreadable"),
        unreadable_large_objects=[row.oid for row in connection.query("list_unreadable_large_objects")],
        lacks=describe.lacks(connection),
        secrets=tuple(_secrets(connection, superuser=superuser)),
    )


def _secrets(connection: Connection, *, superuser: bool) -> Iterator[str]:
    [foreign] = connection.query("count_foreign_secrets")
    if foreign.user_mappings:
        yield counted(foreign.user_mappings, "user-mapping option")
    if foreign.foreign_servers:
        yield counted(foreign.foreign_servers, "foreign-server option")
    if superuser:
        [found] = connection.query("count_subscription_secrets")
        if found.subscriptions:
            yield counted(found.subscriptions, "subscription password")


def closed(server: Server, row: Any) -> Check | None:
    """Return the line for a database that cannot be entered at all."""
    subject = f"{server.name}/{row.name}"
    if why := backup.why_not(row):
        patterns = json.dumps([*server.config.databases, f"!{row.name}"], ensure_ascii=False)
        fix = f"databases = {patterns}   # in [server.{server.name}]: leave it out"
        return warn(subject, f"is not backed up: {why}", fix)
    if not row.may_connect:
        fix = grants.connecting(grants.identifier(row.name, row.name_quoted), role(server), standby=_standby(server))
        return fail(subject, f"the role {server.role.name} may not connect: it cannot be backed up", fix)
    return None


def unreadable(server: Server, database: Database) -> Iterator[Check]:
    """Tell what would make pg_dump fail. One line a kind, with the grants."""
    standby = _standby(server)
    lacking = [row for row in database.unreadable if row.lacks_usage or row.lacks_select]
    for kind, total, what in ((False, database.tables, "table"), (True, database.sequences, "sequence")):
        if rows := [row for row in lacking if row.is_sequence is kind]:
            fix = grants.reading(rows, role(server), standby=standby)
            yield _lost(server, database, [grants.relation(row) for row in rows], f"{total:,} {what}s", fix)
    if oids := database.unreadable_large_objects:
        fix = grants.large_objects(oids, role(server), standby=standby)
        names, of = [str(oid) for oid in oids], f"{database.large_objects:,} large objects"
        yield _lost(server, database, names, of, fix)
    if rows := [row for row in database.unreadable if row.filtered]:
        yield fail(
            f"{server.name}/{database.name}",
            f"{counted(len(rows), 'table')} of {database.tables:,} with row security that applies to this role, "
            f"so pg_dump fails: {some([grants.relation(row) for row in rows])}",
            grants.row_security(role(server), standby=standby),
        )


def _lost(server: Server, database: Database, names: Sequence[str], of: str, fix: str) -> Check:
    subject = f"{server.name}/{database.name}"
    return fail(subject, f"{len(names):,} of {of} cannot be read, so pg_dump fails: {some(names)}", fix)


def readable(server: Server, databases: Sequence[Database]) -> Iterator[Check]:
    """Say which databases can be dumped whole."""
    good = [found for found in databases if not found.unreadable and not found.unreadable_large_objects]
    if good:
        amounts = [
            counted(sum(found.tables for found in good), "table"),
            counted(sum(found.sequences for found in good), "sequence"),
            counted(sum(found.large_objects for found in good), "large object"),
        ]
        yield ok(f"databases {server.name}", f"{', '.join(amounts)} can be read whole: {some(_listed(good), 8)}")


def _listed(databases: Sequence[Database]) -> list[str]:
    return [f"{found.name} {size(found.size_bytes)}" for found in databases]


def lacks(server: Server, databases: Sequence[Database]) -> Iterator[Check]:
    """Tell what a dump by this role leaves out although pg_dump ends well."""
    passwords = next((text for found in databases for text in found.lacks if "role password" in text), None)
    missing = [f"{text} ({found.name})" for found in databases for text in found.lacks if "role password" not in text]
    if passwords:
        missing.append(passwords)
    if missing:
        yield warn(
            server.name,
            f"a dump by the role {server.role.name} lacks: {some(missing, 6)}",
            grants.superuser(role(server), standby=_standby(server)),
        )


def role(server: Server) -> str:
    """Return the role's name as SQL."""
    return grants.identifier(server.role.name, server.about.role_quoted)


def _standby(server: Server) -> bool:
    return bool(server.about.standby)
