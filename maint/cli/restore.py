"""``maint restore``: a backup back into a database."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from maint.cli.app import App, on_terminal
from maint.cli.output import duration, echo_json, printable
from maint.cli.signals import ended_by_signals
from maint.cli.stock import Stock, open_stock
from maint.clock import Stop
from maint.errors import UsageError

if TYPE_CHECKING:
    from maint.backups.inventory import Backup
    from maint.config.model import ServerConfig
    from maint.restore.into import Done, Order
    from maint.restore.sources import Tools


@click.command()
@click.argument("backup")
@click.option("--to", "to", required=True, metavar="[SERVER/]DATABASE", help="Where to: new, or empty, or --replace.")
@click.option("--repository", help="From this repository. Default: the first that holds it.")
@click.option("--schema", "schemas", multiple=True, help="Only this schema; may be given again.")
@click.option("--table", "tables", multiple=True, help="Only this table; may be given again.")
@click.option("--no-owner", is_flag=True, help="Everything belongs to the role of the connection.")
@click.option("--no-privileges", is_flag=True, help="Without GRANT and REVOKE.")
@click.option("--roles", is_flag=True, help="Create the roles that the server lacks, from the backup.")
@click.option("--jobs", default=1, type=click.IntRange(1, 64), help="Jobs at a time; more than 1 needs local disk.")
@click.option("--with-tablespaces", is_flag=True, help="Put objects into their tablespaces, which must be there.")
@click.option("--with-subscriptions", is_flag=True, help="Dropping one drops the publisher's slot: be sure.")
@click.option("--with-publications", is_flag=True, help="Publications, too.")
@click.option("--replace", is_flag=True, help="Put it in the place of the database, which stays under a dated name.")
@click.option("--disconnect", is_flag=True, help="With --replace: end the sessions of the database for the swap.")
@click.option("--yes", metavar="NAME", help="With --replace: the name of the database, instead of being asked.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def restore(app: App, /, backup: str, to: str, repository: str | None, as_json: bool, **options: Any) -> int:
    """Restore BACKUP: an id or the beginning of one, or [SERVER/]DATABASE[@newest|@proven|@INSTANT].

    The tables and their rows must all be there, else the new database is dropped again. What is made of them
    afterwards (indexes, constraints, materialised views) and could not be is named: exit code 3. All counted tables
    are counted again and compared. Left out unless asked for: tablespaces, subscriptions, publications.

    Exit codes: 0 restored, 1 failed, 2 usage, 3 restored but for what is named, 5 stopped.
    """
    from maint import log
    from maint.restore import into, swap

    log.setup(sys.stderr, debug=app.debug, quiet=on_terminal() and not app.debug)
    stop = Stop()
    with ended_by_signals(stop), _tools(app, stop, show=on_terminal() and not as_json) as tools:
        order = _order(app, open_stock(app, repository), backup, to, options)
        if not options["replace"]:
            if options["disconnect"] or options["yes"]:
                raise UsageError("--disconnect and --yes go with --replace")
            return _tell(order, into.restore(order, tools, app.clock), {}, as_json=as_json)
        _confirm(order, options["yes"])
        replaced = swap.replace(order, tools, app.clock, disconnect=options["disconnect"])
    more = {"old_database": replaced.old_name, "stays_behind": list(replaced.stays_behind)}
    return _tell(order, replaced.done, more, as_json=as_json)


def _order(app: App, stock: Stock, text: str, to: str, options: Mapping[str, Any]) -> "Order":
    from maint.backups import inventory
    from maint.backups.manifest import DatabaseManifest
    from maint.restore.engine import Way
    from maint.restore.into import Order
    from maint.restore.stream import Backup as Source

    copy = _readable(stock.select(text))
    found = stock.repositories[copy.repository]
    manifest = inventory.fresh(found, copy)
    if not isinstance(manifest, DatabaseManifest):
        raise UsageError(f"{copy.id} is a backup of files, not of a database")
    server, database = _destination(app, to, copy)
    way = Way(
        owners=not options["no_owner"],
        privileges=not options["no_privileges"],
        tablespaces=options["with_tablespaces"],
        subscriptions=options["with_subscriptions"],
        publications=options["with_publications"],
        schemas=options["schemas"],
        tables=options["tables"],
        jobs=options["jobs"],
    )
    source = Source(found, copy.place, manifest, stock.configs[copy.repository].identity_file)
    return Order(source, server, database, way, create_roles=options["roles"])


def _readable(copies: "list[Backup]") -> "Backup":
    """Choose the copy to read: the first that is not known to be damaged."""
    good = [copy for copy in copies if copy.is_good]
    if not good:
        what = copies[0].reason or "hidden by a delete marker"
        raise UsageError(f"{copies[0].id} is damaged ({what})", hint="choose another: maint backups")
    return good[0]


def _destination(app: App, to: str, copy: "Backup") -> "tuple[ServerConfig, str]":
    """Read ``[SERVER/]DATABASE``; without a server it is the one the backup is of."""
    servers = app.config.server
    name, slash, database = to.partition("/")
    if not slash or name not in servers:
        name, database = copy.server, to
    if name not in servers:
        raise UsageError(
            f"no server {name} is configured", hint=f"name one: --to SERVER/DATABASE ({', '.join(servers) or 'none'})"
        )
    if not database:
        raise UsageError("--to names no database", hint="--to [SERVER/]DATABASE")
    return servers[name], database


def _confirm(order: "Order", yes: str | None) -> None:
    """Have the name typed again."""
    if yes is None:
        if not sys.stdin.isatty():
            raise UsageError(f"--replace needs --yes {order.database} where nobody can be asked")
        click.echo(f"This replaces the database {printable(order.database)} of server {order.server.name}.", err=True)
        yes = click.prompt("Its name, to go on", err=True)
    if yes != order.database:
        raise UsageError(f"{yes} is not {order.database}: nothing was done")


@contextmanager
def _tools(app: App, stop: Stop, *, show: bool) -> "Iterator[Tools]":
    """Lend what a restore needs; its scratch folder is gone afterwards."""
    from maint.cli.progress import Line
    from maint.restore.sources import Tools
    from maint.runner.scratch import Scratch

    line = Line(sys.stderr, app.clock)
    last = app.clock.monotonic()

    def progress(name: str, /, **numbers: Any) -> None:
        nonlocal last
        if show and app.clock.monotonic() - last > 0.5:
            last = app.clock.monotonic()
            line.show({name: numbers})

    with Scratch(app.config, 0) as scratch:
        try:
            yield Tools(stop, logging.getLogger("maint.restore"), scratch, progress)
        finally:
            line.clear()


def _tell(order: "Order", done: "Done", more: Mapping[str, Any], *, as_json: bool) -> int:
    code = 3 if done.problems or done.rows.differing else 0
    if as_json:
        echo_json(_as_json(order, done, code) | dict(more))
        return code
    for problem in done.problems:
        click.echo(f"not made   {printable(problem.entry)}: {printable(problem.error)}")
    for text in done.rows.differing:
        click.echo(f"differs    {printable(text)}")
    for text in done.rows.uncompared:
        click.echo(f"uncompared {printable(text)}")
    for label in done.left_out:
        click.echo(f"left out   {printable(label)}")
    for text in more.get("stays_behind", ()):
        click.echo(f"stays with the old database: {printable(text)}")
    if "old_database" in more:
        click.echo(f"the old database is kept as {printable(more['old_database'])}")
    compared = f"{done.rows.tables} tables, {done.rows.rows:,} rows compared"
    where = f"{order.server.name}/{printable(order.database)}"
    click.echo(f"restored {order.backup.place.id} into {where} in {duration(done.seconds)}: {compared}")
    return code


def _as_json(order: "Order", done: "Done", code: int) -> dict[str, Any]:
    return {
        "id": order.backup.place.id,
        "repository": order.backup.repository.name,
        "server": order.server.name,
        "database": order.database,
        "seconds": round(done.seconds, 3),
        "exit_code": code,
        "tables_compared": done.rows.tables,
        "rows_compared": done.rows.rows,
        "differing": done.rows.differing,
        "uncompared": done.rows.uncompared,
        "problems": [{"entry": problem.entry, "error": problem.error} for problem in done.problems],
        "left_out": done.left_out,
    }
