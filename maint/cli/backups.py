"""``maint backups``: the inventory; one backup; pins. `check` and `prune` have modules of their own."""

from typing import TYPE_CHECKING

import click

from maint.cli.app import App
from maint.cli.backups_check import check
from maint.cli.backups_prune import prune
from maint.cli.output import echo_json
from maint.cli.stock import Stock, existing_databases, open_stock
from maint.errors import UsageError

if TYPE_CHECKING:
    from maint.backups.inventory import Backup, Inventory
    from maint.cli.backups_view import View

_REPOSITORY = click.option("--repository", help="Only in this repository.")


@click.group(invoke_without_command=True)
@click.option("--server", help="Only of this server.")
@click.option("--database", help="Only of this database.")
@_REPOSITORY
@click.option("--json", "as_json", is_flag=True, help="One array: one object per backup and repository.")
@click.pass_context
def backups(ctx: click.Context, server: str | None, database: str | None, repository: str | None, as_json: bool) -> int:
    """The backups, newest first, with their age and trust.

    The repositories alone are believed; the history, if there is one, only makes it faster. BACKUP in the commands
    below is an id or the beginning of one, or [SERVER/]DATABASE[@newest|@proven|@INSTANT].

    Exit codes: 0 done, 1 a repository could not be read, 2 usage or configuration.
    """
    if ctx.invoked_subcommand is not None:
        if server or database or repository or as_json:
            raise UsageError(f"options of backups go behind the command: maint backups {ctx.invoked_subcommand} --…")
        return 0
    from maint.cli import backups_view

    app: App = ctx.obj
    stock = open_stock(app, repository, server=server, database=database)
    found = _only(stock.inventory, server, database)
    view = _view(stock, found)
    if as_json:
        echo_json(backups_view.rows(found.backups, view))
    else:
        for line in backups_view.text(found, view):
            click.echo(line)
    return stock.code


def _only(found: "Inventory", server: str | None, database: str | None) -> "Inventory":
    """Leave out what was not asked for."""
    from dataclasses import replace

    def wanted(one: "object") -> bool:
        place = one.place  # type: ignore[attr-defined]
        return server in (None, place.server) and database in (None, place.database)

    return replace(
        found,
        backups=tuple(filter(wanted, found.backups)),
        remnants=tuple(filter(wanted, found.remnants)),
        foreign=found.foreign if server is None and database is None else (),
    )


def _view(stock: Stock, found: "Inventory") -> "View":
    from maint.cli.backups_view import View

    existing = existing_databases(stock.app, {backup.server for backup in found.backups})
    return View(stock.zone, stock.app.clock.now(), stock.app.config, existing)


@backups.command()
@click.argument("backup")
@_REPOSITORY
@click.option("--json", "as_json", is_flag=True, help="One object, with the manifest.")
@click.pass_obj
def show(app: App, backup: str, repository: str | None, as_json: bool) -> int:
    """One backup: what is in it, where it lies, how far it can be trusted."""
    from maint.backups import inventory
    from maint.cli import backups_view

    stock = open_stock(app, repository)
    copies = stock.select(backup)
    manifest = inventory.fresh(stock.repositories[copies[0].repository], copies[0])
    urls = {copy.repository: _url(stock, copy) for copy in copies}
    view = backups_view.View(stock.zone, app.clock.now(), app.config)
    if as_json:
        where = [backups_view.row(copy, None) | {"url": urls[copy.repository]} for copy in copies]
        echo_json({"id": manifest.id, "repositories": where, "manifest": manifest.model_dump(by_alias=True)})
    else:
        for line in backups_view.page(copies, manifest, urls, view):
            click.echo(line)
    return stock.code


def _url(stock: Stock, copy: "Backup") -> str:
    """Return where the backup's folder is."""
    return stock.repositories[copy.repository].url_of(copy.place / "manifest.json").removesuffix("manifest.json")


@backups.command()
@click.argument("backup")
@click.option("--reason", required=True, help='Why it must stay, as in "before 4.2".')
@_REPOSITORY
@click.pass_obj
def pin(app: App, backup: str, reason: str, repository: str | None) -> int:
    """Keep a backup until it is unpinned, whatever retention says."""
    from maint.backups import records

    stock = open_stock(app, repository)
    for copy in stock.select(backup):
        records.pin(stock.repositories[copy.repository], copy.place, reason, at=app.clock.now())
        click.echo(f"pinned {copy.id} of {copy.database} in {copy.repository}: {reason}")
    return stock.code


@backups.command()
@click.argument("backup")
@_REPOSITORY
@click.pass_obj
def unpin(app: App, backup: str, repository: str | None) -> int:
    """Let retention decide over a pinned backup again."""
    from maint.backups import records

    stock = open_stock(app, repository)
    for copy in stock.select(backup):
        if copy.pinned is None:
            click.echo(f"{copy.id} of {copy.database} in {copy.repository} was not pinned")
            continue
        records.unpin(stock.repositories[copy.repository], copy.place)
        click.echo(f"unpinned {copy.id} of {copy.database} in {copy.repository}")
    return stock.code


backups.add_command(check)
backups.add_command(prune)
