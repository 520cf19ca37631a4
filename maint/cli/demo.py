"""``maint demo``: the whole thing on a throw-away PostgreSQL, with the commands that anybody would type."""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from maint.cli.app import App
from maint.cli.output import duration, size
from maint.cli.signals import ended_by_signals
from maint.clock import Stop
from maint.errors import MaintError, Stopped
from maint.model import EXIT_CODES, Outcome

if TYPE_CHECKING:
    from maint.demo import Shop

#: a day's business lies between the backups; the last one is of now
_AGES = (timedelta(days=8), timedelta(days=1), timedelta(0))


@click.command()
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep configuration, backups and history in this new folder, to look at.",
)
@click.pass_obj
def demo(app: App, keep: Path | None) -> None:
    """Show everything on a throw-away PostgreSQL with sample data; takes under a minute and leaves nothing.

    Exit codes: 0 shown, 1 failed, 5 stopped.
    """
    began = app.clock.monotonic()
    stop = Stop()
    with ended_by_signals(stop):
        _show(app, keep.absolute() if keep else None, stop)
    _say(f"That took {duration(app.clock.monotonic() - began)}. {_left(keep)}")
    _say(
        "For a server of yours:",
        "   maint init      looks for servers, says what a role for maint needs, writes a configuration",
        "   maint doctor    tells what is missing, with the exact fix",
        "   maint run backup",
    )


def _show(app: App, keep: Path | None, stop: Stop) -> None:
    import logging

    from maint import log
    from maint.demo import shop

    log.setup(sys.stderr, debug=app.debug, quiet=not app.debug)
    then = app.clock.monotonic()
    _say("maint demo: a PostgreSQL server to throw away, a small shop in it, and its backups.")
    with shop(keep=keep, stop=stop, log=logging.getLogger("maint.demo")) as made:
        _title("A server with something to lose")
        version = made.cluster.installation.version
        _say(f"Started PostgreSQL {version} in {made.cluster.folder} ({_since(app, then)}). Only you can reach it.")
        _fill(app, made, stop)
        _explain(made)
        _back_up(app, made, stop)
        _look_around(app, made, stop)
        _prove(app, made, stop)


def _fill(app: App, shop: "Shop", stop: Stop) -> None:
    then = app.clock.monotonic()
    held = shop.fill(stop)
    _say(
        f"Filled its database shop: {held.rows:,} rows in {held.tables} tables of {held.schemas} schemas,"
        f" {size(held.size_bytes)} ({_since(app, then)}).",
        "It has what real ones have: partitions, foreign keys, identity and generated columns, an enum,",
        "a materialised view, a large object, a role with grants.",
    )


def _explain(shop: "Shop") -> None:
    _title("What maint has to be told")
    _say("Where the server is, and where backups go. This is the whole configuration:")
    _say(*(f"   {line}".rstrip() for line in shop.configuration.splitlines()))
    _say(
        "What to do and when comes with maint, as jobs; the one for backups runs every night at 02:00.",
        f"(It is in {shop.config}; the commands below are run with --config and that path.)",
    )


def _back_up(app: App, shop: "Shop", stop: Stop) -> None:
    from maint.demo import BackThen

    _title("Three backups")
    _say(
        "Each is one consistent dump of the whole database. While it is made, maint counts every row in the",
        "same snapshot, so that a restored copy can later be compared with what was there. For the demo,",
        "maint's clock is set back for the first two: as if they had been made 8 days ago, and yesterday.",
    )
    for age in _AGES:
        _run(replace(app, config_path=shop.config, clock=BackThen(age)), stop, "run", "backup")
        if age:
            shop.sell(stop)


def _look_around(app: App, shop: "Shop", stop: Stop) -> None:
    there = replace(app, config_path=shop.config)
    _title("What there is now")
    _say(
        "A backup exists if and only if its manifest does, which is written last. Trust says what is known of",
        "it: stored, checked (every byte read again), restored, proven (a restored copy had every row).",
    )
    _run(there, stop, "backups")
    _run(there, stop, "backups", "check", "shop@newest")
    _title("What is kept, and why")
    _say("Old ones are deleted by age class, after a good backup and never the newest good one. Nothing is due:")
    _run(there, stop, "backups", "prune")
    _say("With keep = { weekly = 1 } in its place, this would happen:")
    _run(there, stop, "backups", "prune", "--what-if", "weekly=1")
    _title("What has happened")
    _run(there, stop, "history")


def _prove(app: App, shop: "Shop", stop: Stop) -> None:
    there = replace(app, config_path=shop.config)
    _title("The proof")
    _say(
        "A backup that nobody has restored is a hope. Every Sunday maint restores the newest one of each database,",
        "and an older one in turn, on a second throw-away server: it reads every byte back, loads it, builds every",
        "index and constraint anew, counts every row of every table, and compares all that with what was counted",
        "while the backup was made. The seconds it tells are what a restore takes on this machine. Now, for once:",
    )
    _run(there, stop, "run", "verify")
    _say("What was found stands beside the backup, for everyone who looks at it:")
    _run(there, stop, "backups")


def _run(app: App, stop: Stop, *words: str) -> None:
    """Run a command of maint's as if it had been typed."""
    from maint.cli import cli

    stop.check()
    _say(click.style(f"$ maint {' '.join(words)}", bold=True))
    command = cli.get_command(click.get_current_context(), words[0])
    if command is None:
        raise AssertionError(words)
    code = command.main(args=list(words[1:]), prog_name=f"maint {words[0]}", standalone_mode=False, obj=app)
    if code == Stopped.exit_code:
        raise Stopped("the demo was stopped")
    if code not in {None, 0, EXIT_CODES[Outcome.WARNED]}:
        raise MaintError(f"maint {' '.join(words)} ended with exit code {code}", hint="maint --debug demo tells more")


def _left(keep: Path | None) -> str:
    if keep is None:
        return "The server and everything else were removed."
    return f"The server was removed; the rest is in {keep}: maint --config {keep}/maint.toml backups"


def _since(app: App, then: float) -> str:
    return duration(app.clock.monotonic() - then)


def _title(text: str) -> None:
    click.echo()
    click.secho(f"== {text}", bold=True)


def _say(*lines: str) -> None:
    click.echo()
    for line in lines:
        click.echo(line)
