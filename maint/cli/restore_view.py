"""How ``maint restore`` tells what it did, or would do."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maint.cli.output import duration, echo_json, printable, size

if TYPE_CHECKING:
    from maint.backups.inventory import Backup
    from maint.restore.files import Restored
    from maint.restore.into import Done, Order


def plan(order: "Order", told: Sequence[str], *, as_json: bool) -> int:
    """Show what would be done."""
    if as_json:
        echo_json({**_what(order), "dry_run": True, "steps": list(told)})
        return 0
    for text in told:
        click.echo(printable(text))
    click.echo("Nothing was changed: this is a dry run.")
    return 0


def result(order: "Order", done: "Done", more: Mapping[str, Any], *, as_json: bool) -> int:
    """Show what was done; return the exit code."""
    code = 3 if done.problems or done.rows.differing else 0
    if as_json:
        echo_json(_as_json(order, done, code) | dict(more))
        return code
    for line in _lines(order, done, more):
        click.echo(line)
    return code


def _lines(order: "Order", done: "Done", more: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"not made    {printable(problem.entry)}: {printable(problem.error)}" for problem in done.problems)
    yield from (f"differs     {printable(text)}" for text in done.rows.differing)
    yield from (f"uncompared  {printable(text)}" for text in done.rows.uncompared)
    yield from (f"left out    {printable(text)}" for text in done.left_out)
    yield from (f"came along  {printable(text)}" for text in done.along)
    yield from (f"new role    {printable(name)}" for name in done.roles)
    for text in more.get("stays_behind", ()):
        yield f"stays with the old database: {printable(text)}"
    if "old_database" in more:
        yield f"the old database is kept as {printable(more['old_database'])}"
    compared = f"{done.rows.tables} tables, {done.rows.rows:,} rows compared"
    where = f"{order.server.name}/{printable(order.database)}"
    yield f"restored {order.backup.place.id} into {where} in {duration(done.seconds)}: {compared}"


def _what(order: "Order") -> dict[str, Any]:
    return {
        "id": order.backup.place.id,
        "repository": order.backup.repository.name,
        "server": order.server.name,
        "database": order.database,
    }


def _as_json(order: "Order", done: "Done", code: int) -> dict[str, Any]:
    return {
        **_what(order),
        "seconds": round(done.seconds, 3),
        "exit_code": code,
        "tables_compared": done.rows.tables,
        "rows_compared": done.rows.rows,
        "differing": done.rows.differing,
        "uncompared": done.rows.uncompared,
        "problems": [{"entry": problem.entry, "error": problem.error} for problem in done.problems],
        "left_out": done.left_out,
        "came_along": done.along,
        "new_roles": done.roles,
    }


def files(copy: "Backup", folder: Path, done: "Restored", *, as_json: bool) -> int:
    """Show what came back of a backup of files; return the exit code."""
    if as_json:
        echo_json(_files_as_json(copy, folder, done))
        return done.exit_code
    for left in done.skipped:
        click.echo(f"left out    {printable(left.path)}: {printable(left.why)}")
    if done.skipped_count > len(done.skipped):
        click.echo(f"left out    {done.skipped_count - len(done.skipped):,} more")
    for left in done.torn:
        click.echo(f"changed     {printable(left.path)}: {printable(left.why)}")
    what = f"{done.files:,} files, {done.folders:,} folders, {done.links:,} links, {size(done.bytes)}"
    click.echo(f"restored {copy.id} into {printable(str(folder))} in {duration(done.seconds)}: {what}")
    return done.exit_code


def _files_as_json(copy: "Backup", folder: Path, done: "Restored") -> dict[str, Any]:
    return {
        "id": copy.id,
        "repository": copy.repository,
        "folder": str(folder),
        "seconds": round(done.seconds, 3),
        "exit_code": done.exit_code,
        "files": done.files,
        "folders": done.folders,
        "links": done.links,
        "restored_bytes": done.bytes,
        "left_out": [{"path": left.path, "why": left.why} for left in done.skipped],
        "left_out_count": done.skipped_count,
        "changed_while_read": [{"path": left.path, "why": left.why} for left in done.torn],
    }
