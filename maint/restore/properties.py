"""What belongs to a database and not to its contents: owner, settings, privileges, limit, comment.

An archive holds them, but pg_restore gives them only to a database of the old name that it has created itself.
"""

import re
from collections.abc import Iterator
from typing import Any

from maint.postgres import SQL, Composable, Connection, Identifier, Literal
from maint.restore import roles
from maint.restore.engine import Way

_NAME = r'(?:"(?:[^"]|"")*"|[^\s;"]+)'
_ABOUT = re.compile(
    rf"(ALTER DATABASE |ALTER ROLE {_NAME} IN DATABASE |COMMENT ON DATABASE |(?:GRANT|REVOKE) [A-Z, ]+ ON DATABASE )"
    rf"{_NAME} (?!IS_TEMPLATE)(.*)",
    re.DOTALL,
)


def from_archive(script: str, new: str, way: Way) -> Iterator[Composable]:
    """Yield what pg_restore would say of the database it creates, for another name."""
    for statement in roles.split(script):
        if (found := _ABOUT.fullmatch(statement)) and _is_wanted(found[1], found[2], way):
            yield SQL("{}{} {}").format(SQL(found[1]), Identifier(new), SQL(found[2]))


def _is_wanted(start: str, rest: str, way: Way) -> bool:
    if start.startswith(("GRANT", "REVOKE")):
        return way.privileges
    if rest.startswith("OWNER TO "):
        return way.owners
    return way.tablespaces or not rest.startswith("SET TABLESPACE")


def of_database(connection: Connection, database: str, new: str, old: Any) -> Iterator[Composable]:
    """Yield what gives the database `new` all that `database` has; `old` is what describe_database_settings says."""
    to = Identifier(new)
    yield SQL("ALTER DATABASE {} OWNER TO {}").format(to, Identifier(old.owner))
    if old.connection_limit != -1:
        yield SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(to, SQL(str(int(old.connection_limit))))
    if old.comment is not None:
        yield SQL("COMMENT ON DATABASE {} IS {}").format(to, Literal(old.comment))
    if not old.default_privileges:
        yield from _privileges(connection, database, to, old.owner)
    yield from _settings(connection, database, to)


def _privileges(connection: Connection, database: str, to: Identifier, owner: str) -> Iterator[Composable]:
    yield SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(to, Identifier(owner))
    for grant in connection.query("list_database_privileges", database=database):
        grantee = SQL("PUBLIC") if grant.grantee is None else Identifier(grant.grantee)
        option = SQL(" WITH GRANT OPTION" if grant.grantable and grant.grantee is not None else "")
        yield SQL("GRANT {} ON DATABASE {} TO {}{}").format(SQL(grant.privilege), to, grantee, option)


def _settings(connection: Connection, database: str, to: Identifier) -> Iterator[Composable]:
    for row in connection.query("list_database_role_settings", database=database):
        of = SQL("DATABASE {}").format(to)
        if row.role is not None:
            of = SQL("ROLE {} IN DATABASE {}").format(Identifier(row.role), to)
        values = names_of(row.value) if row.name.lower() in _LISTS else [row.value]
        value = SQL(", ").join(Literal(value) for value in values)
        yield SQL("ALTER {} SET {} TO {}").format(of, Identifier(*row.name.split(".")), value)


#: variables whose value is a list of names (GUC_LIST_QUOTE in guc_tables.c): as one literal it would be one name
_LISTS = frozenset(
    (
        *("local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries"),
        *("temp_tablespaces", "unix_socket_directories"),
    )
)


def names_of(value: str) -> list[str]:
    """Split a list of names as it is stored: quoted where they must be."""
    found = re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^\s,]+))\s*(?:,|$)', value)
    return [quoted.replace('""', '"') or bare for quoted, bare in found] or [""]
