"""``maint backups check``: read backups again, every byte."""

import logging
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from maint.cli.app import App, on_terminal
from maint.cli.output import duration, echo_json, printable, size
from maint.cli.stock import Stock, complain, open_stock
from maint.errors import MaintError, RepositoryError, UsageError
from maint.model import Trust

if TYPE_CHECKING:
    from maint.backups.inventory import Backup
    from maint.backups.records import Proof


@click.command()
@click.argument("backup", required=False)
@click.option("--all", "every", is_flag=True, help="Every backup, newest first.")
@click.option("--repository", help="Only in this repository.")
@click.option("--json", "as_json", is_flag=True, help="One array: one object per backup and repository.")
@click.pass_obj
def check(app: App, backup: str | None, every: bool, repository: str | None, as_json: bool) -> int:
    """Read BACKUP again, every byte, and record what was found.

    Sizes and digests are compared with the manifest; the dump is decrypted if the key is here (identity_file),
    decompressed, and read whole by pg_restore. The record makes it "checked" or "damaged" for everyone.

    Exit codes: 0 checked; 1 damaged, or it could not be read; 3 all that was read is right, but it could not be
    decrypted or not be read by pg_restore here, or the result could not be recorded.
    """
    if every == (backup is not None):
        raise UsageError("which backup?", hint="maint backups check BACKUP, or --all")
    stock = open_stock(app, repository)
    chosen = stock.select(backup) if backup is not None else list(stock.inventory.backups)
    looked = [_look(stock, copy, as_json=as_json) for copy in chosen]
    if as_json:
        echo_json([found for _, found in looked])
    codes = {code for code, _ in looked} | {stock.code}
    return next((code for code in (1, 3) if code in codes), 0)


def _look(stock: Stock, copy: "Backup", *, as_json: bool) -> tuple[int, dict[str, Any]]:
    """Check one copy; return its exit code and what is told of it."""
    of = {"id": copy.id, "server": copy.server, "database": copy.database, "repository": copy.repository}
    try:
        proof = _check(stock, copy)
    except MaintError as error:
        complain(f"{copy.id} of {copy.database} in {copy.repository} could not be checked: {error}", error.hint)
        return 1, {**of, "result": None, "recorded": False, "error": str(error)}
    recorded = _record(stock, copy, proof)
    if not as_json:
        click.echo(_line(copy, proof))
    unseen = any(what.startswith("not ") for what in proof.compared)
    code = 1 if proof.result is Trust.DAMAGED else 3 if unseen or not recorded else 0
    return code, {**asdict(proof), **of, "recorded": recorded, "error": None}


def _check(stock: Stock, copy: "Backup") -> "Proof":
    from maint.backups import check as checking
    from maint.cli.progress import Line
    from maint.clock import Stop

    clock = stock.app.clock
    line = Line(sys.stderr, clock)
    shown = 0.0

    def show(done: int, total: int) -> None:
        nonlocal shown
        if clock.monotonic() - shown >= 0.2:
            shown = clock.monotonic()
            line.show({copy.database: {"done_bytes": done, "total_bytes": total, "what": copy.id}})

    tools = checking.Tools(Stop(), clock, logging.getLogger("maint.check"))
    if on_terminal():
        tools = checking.Tools(tools.stop, tools.clock, tools.log, show)
    try:
        identity = stock.configs[copy.repository].identity_file
        return checking.check(stock.repositories[copy.repository], copy, identity=identity, tools=tools)
    finally:
        line.clear()


def _record(stock: Stock, copy: "Backup", proof: "Proof") -> bool:
    from maint.backups import records

    try:
        records.prove(stock.repositories[copy.repository], copy.place, proof)
    except RepositoryError as error:
        complain(f"what was found out about {copy.id} could not be recorded: {error}", error.hint)
        return False
    return True


def _line(copy: "Backup", proof: "Proof") -> str:
    told = proof.reason or "; ".join(proof.compared[1:])
    name = f"{copy.id}  {copy.database}  in {copy.repository}"
    return printable(f"{proof.result:<8} {name}  {size(copy.summary.size_bytes)} in {duration(proof.seconds)}: {told}")
