"""``maint restore``: a backup back into a database; or one of files into a folder."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maint.cli import restore_view
from maint.cli.app import App, on_terminal
from maint.cli.output import printable
from maint.cli.signals import ended_by_signals
from maint.cli.stock import Stock, open_stock
from maint.clock import Stop
from maint.errors import Damaged, UsageError

if TYPE_CHECKING:
    from maint.backups.inventory import Backup
    from maint.config.model import ServerConfig
    from maint.restore.into import Order
    from maint.restore.sources import Tools

_OF_REPLACE = ("disconnect", "yes")
_OF_FOLDERS = ("with_owners", "with_outside_links")


@click.command()
@click.argument("backup")
@click.option("--to", "to", metavar="[SERVER/]DATABASE", help="Where to: new, or empty, or --replace.")
@click.option("--repository", help="From this repository. Default: the first that holds it.")
@click.option("--schema", "schemas", multiple=True, help="Only this schema; may be given again.")
@click.option("--table", "tables", multiple=True, help="Only this table, [SCHEMA.]TABLE; may be given again.")
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
@click.option("--to-folder", type=click.Path(path_type=Path, file_okay=False), help="Where to, of files: new or empty.")
@click.option("--with-owners", is_flag=True, help="With --to-folder: give files their owners again, as root.")
@click.option("--with-outside-links", is_flag=True, help="With --to-folder: links that lead out of it, too.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, in the same words, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def restore(app: App, /, backup: str, repository: str | None, as_json: bool, **options: Any) -> int:
    """Restore BACKUP: an id or the beginning of one, or [SERVER/]DATABASE[@newest|@proven|@INSTANT].

    The tables and their rows must all be there, else nothing of it is. What is made of them afterwards (indexes,
    constraints, materialised views) and could not be is named: exit code 3. All counted tables are counted again and
    compared. Left out unless asked for: tablespaces, subscriptions, publications.

    A chosen table brings its partitions, indexes, constraints and sequences, and the types and functions it needs;
    a foreign key to a table that was not chosen is left out and named.

    Exit codes: 0 restored, 1 failed, 2 usage, 3 restored but for what is named, 5 stopped.
    """
    from maint import log

    log.setup(sys.stderr, debug=app.debug, quiet=on_terminal() and not app.debug)
    _check_options(options)
    stock = open_stock(app, repository)
    copy = _readable(stock, backup)
    if options["to_folder"] is not None:
        return _into_folder(app, stock, copy, options, as_json=as_json)
    return _into_database(app, _order(app, stock, copy, options), options, as_json=as_json)


def _check_options(options: Mapping[str, Any]) -> None:
    if (options["to"] is None) == (options["to_folder"] is None):
        raise UsageError("where to? --to [SERVER/]DATABASE; or, of files, --to-folder DIR")
    given = {name: f"--{name.replace('_', '-')}" for name, value in options.items() if value}
    if wrong := [given[name] for name in _OF_REPLACE if name in given and not options["replace"]]:
        raise UsageError(f"{' and '.join(wrong)} goes with --replace")
    if wrong := [given[name] for name in _OF_FOLDERS if name in given and options["to_folder"] is None]:
        raise UsageError(f"{' and '.join(wrong)} goes with --to-folder")
    if options["replace"] and (options["schemas"] or options["tables"]):
        raise UsageError(
            "--replace takes the whole backup: what is not chosen would be gone",
            hint="restore the chosen ones into a new database, and copy them from there",
        )


def _into_database(app: App, order: "Order", options: Mapping[str, Any], *, as_json: bool) -> int:
    from maint.restore import into, swap
    from maint.restore.steps import Steps

    told: list[str] = []
    dry = bool(options["dry_run"])
    if options["replace"] and not dry:
        _confirm(order, options["yes"])
    more: dict[str, Any] = {}
    with _tools(app, show=on_terminal() and not as_json) as tools:
        steps = Steps(told.append if dry else _logged(tools.log), dry)
        if options["replace"]:
            replaced = swap.replace_database(order, tools, app.clock, steps, disconnect=options["disconnect"])
            done = replaced.done
            more = {"old_database": replaced.old_name, "stays_behind": list(replaced.stays_behind)}
        else:
            done = into.restore(order, tools, app.clock, steps)
    if dry:
        return restore_view.plan(order, told, as_json=as_json)
    return restore_view.result(order, done, more, as_json=as_json)


def _logged(log: logging.Logger) -> Callable[[str], None]:
    return lambda text: log.info("%s", printable(text))


def _into_folder(app: App, stock: Stock, copy: "Backup", options: Mapping[str, Any], *, as_json: bool) -> int:
    from maint.restore.files import restore_files

    if options["dry_run"]:
        raise UsageError("--to-folder has no --dry-run: the folder must be empty or new")
    with _tools(app, show=on_terminal() and not as_json) as tools:
        done = restore_files(
            stock.repositories[copy.repository],
            copy,
            options["to_folder"],
            identity=stock.configs[copy.repository].identity_file,
            tools=tools,
            clock=app.clock,
            owners=options["with_owners"],
            outside_links=options["with_outside_links"],
        )
    return restore_view.files(copy, options["to_folder"], done, as_json=as_json)


def _order(app: App, stock: Stock, copy: "Backup", options: Mapping[str, Any]) -> "Order":
    from maint.backups import inventory
    from maint.backups.manifest import DatabaseManifest
    from maint.restore.engine import Way
    from maint.restore.into import Order
    from maint.restore.stream import Backup as Source

    found = stock.repositories[copy.repository]
    manifest = inventory.fresh(found, copy)
    if not isinstance(manifest, DatabaseManifest):
        raise UsageError(f"{copy.id} is a backup of files, not of a database", hint="--to-folder DIR")
    server, database = _destination(app, options["to"], copy)
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


def _readable(stock: Stock, text: str) -> "Backup":
    """Choose the copy to read: in the first repository of those where it is not known to be damaged."""
    order = list(stock.configs)
    copies = sorted(stock.select(text), key=lambda copy: order.index(copy.repository))
    good = [copy for copy in copies if copy.is_good]
    if not good:
        what = copies[0].reason or "hidden by a delete marker"
        raise Damaged(f"{copies[0].id} is damaged ({what})", hint="choose another: maint backups")
    return good[0]


def _destination(app: App, to: str, copy: "Backup") -> "tuple[ServerConfig, str]":
    """Read ``[SERVER/]DATABASE``; without a server it is the one the backup is of."""
    from maint.restore import names

    servers = app.config.server
    name, slash, database = to.partition("/")
    if not slash:  # a slash in a database's name: with the server before it, so that no misspelt server becomes one
        name, database = copy.server, to
    if name not in servers:
        raise UsageError(
            f"no server {name} is configured", hint=f"name one: --to SERVER/DATABASE ({', '.join(servers) or 'none'})"
        )
    if not database:
        raise UsageError("--to names no database", hint="--to [SERVER/]DATABASE")
    if len(database.encode()) > names.LONGEST:
        raise UsageError(f"a name has at most {names.LONGEST} bytes, {database} has {len(database.encode())}")
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
def _tools(app: App, *, show: bool) -> "Iterator[Tools]":
    """Lend what a restore needs, until a signal ends it; its scratch folder is gone afterwards."""
    from maint.cli.progress import Line
    from maint.restore.sources import Tools
    from maint.runner.scratch import Scratch, sweep

    line, log, stop = Line(sys.stderr, app.clock), logging.getLogger("maint.restore"), Stop()
    last = app.clock.monotonic()

    def progress(name: str, /, **numbers: Any) -> None:
        nonlocal last
        if show and app.clock.monotonic() - last > 0.5:
            last = app.clock.monotonic()
            line.show({name: numbers})

    with ended_by_signals(stop), Scratch(app.config, 0) as scratch:
        for path in sweep(app.config, app.clock.now()):
            log.info("removed %s, left by a process that was killed", path)
        try:
            yield Tools(stop, log, scratch, progress)
        finally:
            line.clear()
