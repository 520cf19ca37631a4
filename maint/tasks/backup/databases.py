"""Which databases of a server are backed up."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from maint.config.model import ServerConfig
from maint.config.values import matches
from maint.model import Finding, Severity

#: made by providers for themselves; nobody else can connect to them
PROVIDER_INTERNAL = frozenset({"rdsadmin", "cloudsqladmin", "alloydbadmin", "azure_maintenance", "azure_sys"})

#: how the names begin of what maint makes for the time of a restore or a proof
OURS = ("maint_restore_", "maint_scratch_")


def is_wanted(row: Any, server: ServerConfig) -> bool:
    """Tell whether a row of sql/list_databases.sql is selected by the server's patterns."""
    internal = row.name in PROVIDER_INTERNAL or row.name.startswith(OURS)
    return not row.template and not internal and matches(server.databases, row.name)


def unmatched(server: ServerConfig, rows: Sequence[Any], chosen: Sequence[Any]) -> Iterator[Finding]:
    """What was asked for by name and is not there; and a server of which nothing is backed up."""
    names = {row.name for row in rows}
    for pattern in server.databases:
        if not set("*?[!") & set(pattern) and pattern not in names:
            yield Finding(
                check="backup.gone",
                severity=Severity.WARNING,
                object=pattern,
                message=f"the database {pattern}, which server.{server.name}.databases names, does not exist",
                fix=f"maint backups --database {shlex.quote(pattern)}   # its last good backup is kept",
            )
    if not chosen:
        yield Finding(
            check="backup.nothing",
            severity=Severity.CRITICAL,
            object=server.name,
            message=f"no database of {server.name} is selected: nothing is backed up",
            fix=f"set databases in [server.{server.name}] of maint.toml",
        )


def closed(server: ServerConfig, chosen: Sequence[Any]) -> Iterator[Finding]:
    """What was asked for by name and lets nobody in: with a pattern alone it is skipped without a word more."""
    for row in chosen:
        if row.name in server.databases and (why := why_not(row)):
            yield Finding(
                check="backup.closed",
                severity=Severity.WARNING,
                object=row.name,
                message=f"{row.name} is not backed up: {why}",
                fix=f"ALTER DATABASE {row.name_quoted} "
                + ("CONNECTION LIMIT -1" if row.allows_connections else "ALLOW_CONNECTIONS true"),
            )


def why_not(row: Any) -> str | None:
    """Say why a database that is selected cannot be backed up."""
    if not row.allows_connections:
        return "the database does not allow connections"
    if row.connection_limit == 0:
        return "the database allows 0 connections"
    return None
