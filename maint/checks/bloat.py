"""True bloat: what a table or an index takes in production, minus what the same rows take in a fresh copy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from maint.checks import Budget
from maint.format import size
from maint.model import Finding, Severity
from maint.postgres import Connection, quoted


@dataclass(frozen=True, slots=True)
class Options:
    database: str  #: as findings name it
    production: Mapping[tuple[str, str], int]  #: bytes, by schema and name
    least_bytes: int = 100 << 20  #: less is not worth a word
    least_share: float = 0.3  #: of what it takes in production


def check(connection: Connection, options: Options, budget: Budget) -> Iterator[Finding]:
    """Compare the copy of `connection` with the sizes of production."""
    budget.is_spent()
    if not options.production:
        yield _withheld(options)
        return
    total = wasted = compared = 0
    for row in connection.query("list_true_sizes"):
        before = options.production.get((row.schema, row.name))
        if before is None:
            continue
        compared, total = compared + 1, total + before
        lost = max(0, before - row.bytes)
        wasted += lost
        if lost >= options.least_bytes and lost >= before * options.least_share:
            yield _bloated(options, quoted(row.schema, row.name), row.kind == "i", before, row.bytes)
    yield Finding(
        check="bloat.total",
        severity=Severity.INFO,
        object=options.database,
        message=f"bloat of {options.database}: {size(wasted)} of {size(total)}, as of its last VACUUM or ANALYZE",
        value=f"{wasted} bytes",
        scope=f"{compared} of {len(options.production)}",
    )


def _bloated(options: Options, name: str, index: bool, before: int, after: int) -> Finding:
    return Finding(
        check="bloat.index" if index else "bloat.table",
        severity=Severity.WARNING,
        object=f"{options.database}/{name}",
        message=f"{name} of {options.database} takes {size(before)}, its rows need {size(after)}",
        value=f"{before - after} bytes",
        threshold=f"{size(options.least_bytes)} and {options.least_share:.0%}",
        fix=f"REINDEX INDEX CONCURRENTLY {name};" if index else f"VACUUM (FULL) {name};  -- locks it; or pg_repack",
    )


def _withheld(options: Options) -> Finding:
    return Finding(
        check="bloat.total",
        severity=Severity.INFO,
        object=options.database,
        message=f"the bloat of {options.database} cannot be told",
        withheld="the backup does not hold the sizes of production: none was of 1 MB, or an older maint made it",
    )
