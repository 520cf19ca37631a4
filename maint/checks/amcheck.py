"""Look for corruption with the extension amcheck: every B-tree with its heap, every heap with its toast."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from maint.checks import Budget
from maint.errors import ServerError
from maint.model import Finding, Severity
from maint.postgres import SQL, Connection, Identifier, Literal, quoted

#: damaged places of one table that are told
_MOST = 10


@dataclass(frozen=True, slots=True)
class Options:
    database: str  #: as findings name it
    schema: str  #: where the extension's functions are


def check(connection: Connection, options: Options, budget: Budget) -> Iterator[Finding]:
    """Check every index and table; the role must be allowed to execute the functions."""
    rows = connection.query("list_amcheckable")
    for number, row in enumerate(rows):
        if budget.is_spent():
            yield _not_reached(options, number, len(rows))
            return
        problems = (_index if row.kind == "i" else _heap)(connection, options, row.oid)
        if problems:
            yield _finding(options, row, problems, f"{number + 1} of {len(rows)}")


def _index(connection: Connection, options: Options, oid: int) -> list[str]:
    function = Identifier(options.schema, "bt_index_parent_check")
    try:
        # index, heapallindexed: every row of the table is in it, rootdescend: and is found from the root
        connection.execute(SQL("SELECT {}({}::oid, true, true)").format(function, Literal(oid)))
    except ServerError as error:
        if error.transient:
            raise
        return [str(error)]
    return []


def _heap(connection: Connection, options: Options, oid: int) -> list[str]:
    function = Identifier(options.schema, "verify_heapam")
    query = SQL("SELECT blkno, offnum, msg FROM {}({}::oid, check_toast => true) LIMIT {}")
    rows = connection.execute(query.format(function, Literal(oid), Literal(_MOST)))
    return [f"block {row.blkno}, item {row.offnum}: {row.msg}" for row in rows]


def _finding(options: Options, row: Any, problems: list[str], scope: str) -> Finding:
    name = quoted(row.schema, row.name)
    return Finding(
        check="amcheck.index" if row.kind == "i" else "amcheck.table",
        severity=Severity.CRITICAL,
        object=f"{options.database}/{name}",
        message=f"{name} of {options.database} is corrupt: {problems[0]}",
        scope=scope,
        examples=tuple(problems),
        fix=f"REINDEX INDEX CONCURRENTLY {name};" if row.kind == "i" else None,
    )


def _not_reached(options: Options, number: int, of: int) -> Finding:
    return Finding(
        check="amcheck.not_reached",
        severity=Severity.INFO,
        object=options.database,
        message=f"{of - number} indexes and tables of {options.database} were not looked at: the time was over",
        scope=f"{number} of {of}",
        withheld="the time was over",
    )
