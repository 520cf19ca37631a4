"""What came back, compared with what was counted when the backup was made.

Everything is asked as the plain role that owns the copy: a dump is untrusted code, and a relation that a manifest
calls a table may be a view over a function.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from maint.backups.manifest import Contents, Table
from maint.errors import PermissionDenied, ServerError
from maint.postgres import SQL, Connection, Identifier, quoted
from maint.restore.archive import Entry

#: what is read of each kind of relation beside tables
_KINDS = {
    "m": "materialised view {}: refreshed on restore",
    "f": "foreign table {}: its rows are elsewhere",
}

#: kinds of entries whose objects are looked for in the catalog, and how many words name one in its schema
_MADE = ("INDEX", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT")

_DataTold = Callable[[int, int], None]


@dataclass(slots=True)
class Compared:
    """What a comparison found."""

    tables: int = 0  #: whose rows were counted on both sides
    rows: int = 0  #: of these, as restored
    countable: int = 0  #: tables with rows of their own; those of extensions apart
    damage: list[str] = field(default_factory=list)  #: counted, and not what came back
    lacking: list[str] = field(default_factory=list)  #: what keeps it from being proven
    uncompared: list[str] = field(default_factory=list)  #: what cannot be compared, with the reason
    looked: list[str] = field(default_factory=list)  #: what else was looked at

    @property
    def share(self) -> float:
        """Return which part of the tables was compared."""
        return self.tables / self.countable if self.countable else 1.0


def compare(
    connection: Connection, contents: Contents, entries: Sequence[Entry], *, told: _DataTold = lambda _n, _of: None
) -> Compared:
    """Compare the restored database of `connection` with what was counted, and with what the archive holds."""
    found = Compared()
    relations = {(row.schema, row.name): row for row in connection.query("list_relations")}
    for number, table in enumerate(contents.tables):
        told(number, len(contents.tables))
        _compare_rows(connection, table, relations.get((table.schema_, table.name)), found)
    found.uncompared += [
        _KINDS[row.kind].format(quoted(row.schema, row.name)) for row in relations.values() if row.kind in _KINDS
    ]
    _compare_sequences(connection, contents, entries, found)
    _compare_large_objects(connection, contents, found)
    _compare_indexes(connection, entries, found)
    _compare_constraints(connection, entries, found)
    return found


def _compare_rows(connection: Connection, table: Table, relation: Any, found: Compared) -> None:
    name = quoted(table.schema_, table.name)
    if relation is not None and (relation.of_extension or relation.kind != "r"):
        if relation.kind not in _KINDS:
            found.uncompared.append(f"{name}: {table.why or 'belongs to an extension, dumped by its filter'}")
        return
    found.countable += 1
    if table.rows is None:
        found.uncompared.append(f"{name}: not counted: {table.why or 'no reason recorded'}")
        return
    if relation is None:
        found.damage.append(f"{name}: missing, {table.rows} rows were counted")
        return
    [[rows]] = connection.execute(SQL("SELECT count(*) FROM ONLY {}").format(Identifier(table.schema_, table.name)))
    found.tables += 1
    found.rows += rows
    if rows != table.rows:
        found.damage.append(f"{name}: {rows} of {table.rows} rows")


def _compare_sequences(connection: Connection, contents: Contents, entries: Sequence[Entry], found: Compared) -> None:
    """A sequence ignores snapshots: what was recorded is a lower bound, unless somebody set it back meanwhile."""
    there = {(row.schema, row.name): row for row in connection.query("list_sequences")}
    in_archive = _Names(entry for entry in entries if entry.kind == "SEQUENCE SET")
    compared = 0
    for sequence in contents.sequences:
        name = quoted(sequence.schema_, sequence.name)
        row = there.get((sequence.schema_, sequence.name))
        if row is None:
            if in_archive.has(sequence.schema_, sequence.name):
                found.damage.append(f"sequence {name}: missing")
            else:
                found.uncompared.append(f"sequence {name}: not in the dump")
        elif sequence.last_value is not None:
            compared += 1
            if _is_behind(row, sequence.last_value):
                reached = "unused" if row.last_value is None else f"at {row.last_value}"
                found.lacking.append(f"sequence {name}: {reached}, had reached {sequence.last_value}")
    if compared:
        found.looked.append(f"{compared} sequences")


def _is_behind(row: Any, recorded: int) -> bool:
    if row.last_value is None:
        return True
    return bool(row.last_value > recorded if row.step < 0 else row.last_value < recorded)


def _compare_large_objects(connection: Connection, contents: Contents, found: Compared) -> None:
    [row] = connection.query("count_large_objects")
    if contents.large_objects is None:
        found.uncompared.append("large objects: not counted")
    elif row.large_objects != contents.large_objects:
        found.damage.append(f"large objects: {row.large_objects} of {contents.large_objects}")
    elif row.large_objects:
        found.looked.append(f"{row.large_objects} large objects")


def _compare_indexes(connection: Connection, entries: Sequence[Entry], found: Compared) -> None:
    rows = connection.query("list_indexes")
    names = {_in_archive(row.schema, row.name) for row in rows}
    missing = [entry.label for entry in entries if entry.kind == "INDEX" and not _is_among(entry, names)]
    found.lacking += [f"missing: {label}" for label in missing]
    for row in rows:
        if not row.valid:
            why = ": not every partition has one, as in the source" if row.partitioned else ""
            found.lacking.append(f"index {quoted(row.schema, row.name)} is not valid{why}")
    if rows:
        found.looked.append(f"{len(rows)} indexes")


def _compare_constraints(connection: Connection, entries: Sequence[Entry], found: Compared) -> None:
    """Present is enough: one that is valid in the archive is added as valid, or not at all."""
    rows = connection.query("list_constraints")
    names = {_in_archive(row.schema, f"{row.owner} {row.name}") for row in rows}
    wanted = [entry for entry in entries if entry.kind in _MADE[1:]]
    found.lacking += [f"missing: {entry.label}" for entry in wanted if not _is_among(entry, names)]
    if rows:
        found.looked.append(f"{len(rows)} constraints")


class _Names:
    """Names as a table of contents prints them: spaces in them cannot be told from those between them."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._names = {prefix for entry in entries for prefix in _prefixes(entry)}

    def has(self, schema: str, name: str) -> bool:
        return _in_archive(schema, name) in self._names


def _is_among(entry: Entry, names: set[str]) -> bool:
    return any(prefix in names for prefix in _prefixes(entry))


def _prefixes(entry: Entry) -> Iterator[str]:
    """Yield what may be schema and name: an owner follows, and each of them may hold spaces."""
    words = entry.names.split(" ")
    return (" ".join(words[:n]) for n in range(1, len(words) + 1))


def _in_archive(schema: str, name: str) -> str:
    """Write names as pg_restore --list does: on one line."""
    return f"{schema} {name}".replace("\n", " ").replace("\r", " ")


def assertion(connection: Connection, statement: str) -> str | None:
    """Return what is wrong with the answer to one assertion; None if it is true. It can change nothing."""
    try:
        with connection.transaction("READ ONLY"):
            rows = connection.execute(statement)
    except (ServerError, PermissionDenied) as error:
        return f"error: {error}"
    if len(rows) != 1 or len(rows[0]) != 1:
        return f"answered {len(rows)} rows, and not one with true"
    return None if rows[0][0] is True else f"answered {rows[0][0]}"
