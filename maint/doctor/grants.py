"""The SQL that mends what a role lacks. Pure; nothing of it is executed."""

from collections.abc import Iterator, Sequence
from typing import Any

#: objects that are granted one by one; with more, everything is
FEW = 3
#: large objects in one statement
_LARGE = 20


def identifier(name: str, quoted: str) -> str:
    """Return a name as SQL that can be shown and copied: `quoted`, by the server, unless it does not print."""
    if name.isprintable():
        return quoted
    # https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS-UESCAPE
    escaped = "".join(c if c.isprintable() and c != "\\" else f"\\+{ord(c):06x}" for c in name)
    return 'U&"' + escaped.replace('"', '""') + '"'


def relation(row: Any) -> str:
    """Return the qualified name of a row of list_unreadable."""
    return f"{identifier(row.schema, row.schema_quoted)}.{identifier(row.name, row.name_quoted)}"


def reading(rows: Sequence[Any], role: str, *, standby: bool) -> str:
    """Return what lets `role` read the relations of list_unreadable."""
    everything = f"GRANT pg_read_all_data TO {role};"
    if len(rows) > FEW:
        return _where(standby) + everything
    return "\n".join(
        [_where(standby) + line for line in _one_by_one(rows, role)] + [f"-- or all of them: {everything}"]
    )


def _one_by_one(rows: Sequence[Any], role: str) -> Iterator[str]:
    schemas = {identifier(row.schema, row.schema_quoted) for row in rows if row.lacks_usage}
    if schemas:
        yield f"GRANT USAGE ON SCHEMA {', '.join(sorted(schemas))} TO {role};"
    for kind in (False, True):
        names = [relation(row) for row in rows if row.lacks_select and row.is_sequence is kind]
        if names:
            yield f"GRANT SELECT ON {'SEQUENCE' if kind else 'TABLE'} {', '.join(names)} TO {role};"


def large_objects(oids: Sequence[int], role: str, *, standby: bool) -> str:
    """Return what lets `role` read these large objects: pg_read_all_data does not."""
    if len(oids) <= _LARGE:
        return f"{_where(standby)}GRANT SELECT ON LARGE OBJECT {', '.join(map(str, oids))} TO {role};"
    loop = "FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP"
    grant = f"EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO %s', o, {_literal(role)});"
    return f"{_where(standby)}DO $$ DECLARE o oid; BEGIN {loop} {grant} END LOOP; END $$;"


def row_security(role: str, *, standby: bool) -> str:
    return f"{_where(standby)}ALTER ROLE {role} BYPASSRLS;"


def connecting(database: str, role: str, *, standby: bool) -> str:
    return f"{_where(standby)}GRANT CONNECT ON DATABASE {database} TO {role};"


def superuser(role: str, *, standby: bool) -> str:
    return f"{_where(standby)}ALTER ROLE {role} SUPERUSER;  -- or keep them elsewhere yourself"


def _where(standby: bool) -> str:
    return "/* on the primary */ " if standby else ""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
