"""``maint doctor``."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from maint.cli.app import App
from maint.cli.output import echo_json, printable
from maint.clock import Stop
from maint.errors import UsageError

if TYPE_CHECKING:
    from maint.doctor import Doctor
    from maint.task import Check

_COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "red"}
#: exit codes, worst first
_CODES = {"FAIL": 1, "WARN": 3, "OK": 0}
#: columns before the subject and before the message
_STATUS, _MESSAGE = 6, 27


@click.command()
@click.option("--server", "servers", multiple=True, help="Only this server; may be given again.")
@click.option("--repository", "repositories", multiple=True, help="Only this repository; may be given again.")
@click.option(
    "--write", is_flag=True, help="Probe a bucket also where its default lock would keep the small object for a while."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def doctor(app: App, servers: tuple[str, ...], repositories: tuple[str, ...], write: bool, as_json: bool) -> int:
    """Try every precondition; one line each, with the exact fix. Changes nothing.

    Exit codes: 0 everything is OK, 3 something is WARN, 1 something is FAIL.
    """
    found: list[Check] = []
    for line in _doctor(app, servers, repositories, write=write).examine():
        found.append(line)
        if not as_json:
            _echo(line)
    if as_json:
        echo_json([_as_json(line) for line in found])
    else:
        click.echo(_sum(found))
    return next(code for status, code in _CODES.items() if status == "OK" or status in {line.status for line in found})


def _doctor(app: App, servers: Sequence[str], repositories: Sequence[str], *, write: bool) -> "Doctor":
    """Naming servers leaves repositories out, and the other way round."""
    from maint.doctor import Doctor
    from maint.tasks import TASKS

    everything = not servers and not repositories
    return Doctor(
        app.config,
        TASKS,
        app.clock,
        Stop(),
        servers=_named(app.config.server, servers, "server", everything=everything),
        repositories=_named(app.config.repository, repositories, "repository", everything=everything),
        write=write,
    )


def _named(configured: dict[str, Any], names: Sequence[str], what: str, *, everything: bool) -> list[Any]:
    from maint.config.problems import suggestion

    for name in names:
        if name not in configured:
            raise UsageError(f"there is no {what} {name!r}{suggestion(name, configured)}", hint="maint config show")
    return [one for name, one in configured.items() if everything or name in names]


def _echo(line: "Check") -> None:
    from maint.log import redact

    status = click.style(line.status.ljust(_STATUS), fg=_COLOURS[line.status])
    head = printable(line.subject).ljust(_MESSAGE - _STATUS - 1)
    message = _wrapped(printable(redact(line.message)))
    click.echo(f"{status}{head} {message}")
    for fix in (line.fix or "").splitlines():  # never wrapped: it is to be copied
        click.echo(f"{' ' * _STATUS}{'fix'.ljust(_MESSAGE - _STATUS)}{printable(redact(fix))}")


def _wrapped(message: str) -> str:
    """Break a message for the terminal's width; whole lines in a pipe, for grep."""
    if not sys.stdout.isatty():
        return message
    width = max(40, shutil.get_terminal_size().columns - _MESSAGE)
    lines = textwrap.wrap(message, width, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * _MESSAGE}".join(lines)


def _sum(found: Iterable["Check"]) -> str:
    statuses = [line.status for line in found]
    return ", ".join(f"{statuses.count(status)} {status}" for status in _CODES)


def _as_json(line: "Check") -> dict[str, Any]:
    from maint.log import redact

    return {
        "status": line.status,
        "subject": line.subject,
        "message": redact(line.message),
        "fix": redact(line.fix) if line.fix else None,
    }
