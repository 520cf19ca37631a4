"""What the commands about backups share: the repositories, and what they hold."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from maint.cli.app import App
from maint.errors import Damaged, HistoryError, MaintError, UsageError
from maint.log import redact

if TYPE_CHECKING:
    from maint.backups.inventory import Backup, Inventory
    from maint.config.model import RepositoryConfig
    from maint.history import History
    from maint.repository import Repository


@dataclass(frozen=True)
class Stock:
    """The repositories that were asked for, and their inventory."""

    app: App
    configs: "dict[str, RepositoryConfig]"
    repositories: "dict[str, Repository]"
    inventory: "Inventory"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.app.config.timezone)

    @property
    def code(self) -> int:
        """The exit code: 1 if a repository could not be read."""
        return 1 if self.inventory.unavailable else 0

    def select(self, text: str) -> "list[Backup]":
        """Return the backup that is meant, once per repository that holds it.

        Raises `UsageError` if it is not there, `Damaged` if its manifest is, and cannot be read.
        """
        from maint.backups.select import select

        try:
            return select(self.inventory.backups, text, zone=self.zone)
        except UsageError:
            for remnant in self.inventory.remnants:
                if remnant.place.id == text and not remnant.reason.startswith("no manifest"):
                    raise Damaged(
                        f"{text} is damaged: {remnant.reason}", hint="choose another: maint backups"
                    ) from None
            raise


def open_stock(
    app: App, repository: str | None = None, *, server: str | None = None, database: str | None = None
) -> Stock:
    """Read the repositories. What cannot be read is told on stderr; raises if that is all of them."""
    from maint.backups import inventory
    from maint.repository import open_repository

    configs = _configs(app, repository)
    stores = {name: open_repository(config, state_dir=app.config.state_dir) for name, config in configs.items()}
    with _cache(app) as cache:
        found = inventory.load(stores.values(), cache=cache, prefix=_prefix(server, database))
    if len(found.unavailable) == len(stores):
        raise next(iter(found.unavailable.values()))
    for name, error in found.unavailable.items():
        complain(f"repository {name}: {error}", error.hint)
    return Stock(app, configs, stores, found)


def _configs(app: App, repository: str | None) -> "dict[str, RepositoryConfig]":
    known = app.config.repository
    if not known:
        raise UsageError(
            "no repository is configured",
            hint='add [repository.local] with url = "file:///var/backups/maint" to maint.toml; maint init',
        )
    if repository is None:
        return dict(known)
    if repository not in known:
        raise UsageError(f"there is no repository {repository}", hint=f"the repositories are: {', '.join(known)}")
    return {repository: known[repository]}


def _prefix(server: str | None, database: str | None) -> str:
    from maint.backups.paths import database_prefix, server_prefix

    if server is None:
        return ""
    return server_prefix(server) if database is None else database_prefix(server, database)


@contextmanager
def _cache(app: App) -> "Iterator[History | None]":
    """Lend the history as a cache, if there is one that can be read: the repositories alone are enough."""
    history: History | None = None
    try:
        history = app.history_if_any()
    except HistoryError:
        history = None
    try:
        yield history
    finally:
        if history is not None:
            history.close()


def complain(message: str, hint: str | None = None) -> None:
    """Tell on stderr what went wrong with a part of what was asked, in the form that was asked for."""
    context = click.get_current_context(silent=True)
    if context is not None and context.params.get("as_json"):
        click.echo(json.dumps({"error": redact(message), "hint": redact(hint) if hint else None}), err=True)
        return
    click.echo(redact(f"maint: {message}"), err=True)
    if hint:
        click.echo(redact(f"hint: {hint}"), err=True)


def by_place(backups: "Sequence[Backup]") -> "list[list[Backup]]":
    """Put together what is the same backup in several repositories, in the order given."""
    places: dict[Any, list[Backup]] = {}
    for backup in backups:
        places.setdefault(backup.place, []).append(backup)
    return list(places.values())


def existing_databases(app: App, servers: set[str]) -> dict[str, set[str]]:
    """Ask the servers that answer within two seconds which databases they have; the others are left out."""
    from concurrent.futures import ThreadPoolExecutor

    from maint.config.model import ServerConfig
    from maint.postgres import connect

    def ask(server: ServerConfig) -> set[str] | None:
        try:
            with connect(server, application_name="maint backups", connect_timeout=2) as connection:
                return {str(row.name) for row in connection.query("list_databases")}
        except MaintError:
            return None

    asked = [server for name, server in app.config.server.items() if name in servers]
    if not asked:
        return {}
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = zip(asked, pool.map(ask, asked), strict=True)
        return {server.name: names for server, names in answers if names is not None}
