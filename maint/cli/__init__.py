"""The command line. This package imports click only; each command's module is imported when it is called."""

import atexit
import gc
import importlib
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from maint import __version__
from maint.errors import HistoryDenied, MaintError, Stopped

#: command -> (module, one line of help); the module holds a click command of that name
COMMANDS = {
    "demo": ("demo", "The whole thing on a throw-away PostgreSQL with sample data."),
    "init": ("init", "Look around, propose a configuration, and write it."),
    "doctor": ("doctor", "Every precondition, one line each, with the exact fix."),
    "config": ("config", "Check and show the configuration."),
    "jobs": ("jobs", "What is scheduled, the next run, the last outcome."),
    "tasks": ("jobs", "The tasks and their options."),
    "run": ("run", "Run a job now, in the foreground."),
    "history": ("history", "The runs."),
    "show": ("history", "One run: its steps, findings and log."),
    "backups": ("backups", "The backups, their trust and age; pin, check, prune."),
    "restore": ("restore", "A backup back into a database, new, empty or replaced."),
}


class LazyGroup(click.Group):
    """A group that imports the module of a command only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"maint.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Path of maint.toml. Default: $MAINT_CONFIG, ./maint.toml, $XDG_CONFIG_HOME/maint/, /etc/maint/.",
)
@click.option("--debug", is_flag=True, help="Log everything; show tracebacks.")
@click.version_option(__version__, prog_name="maint", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None, debug: bool) -> None:
    """Keep PostgreSQL databases backed up, provably restorable, vacuumed, tidy and understood.

    Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 done with warnings or findings; `run` also
    4 skipped, 5 stopped, 6 timed out.
    """
    from maint.cli.app import App

    ctx.obj = App(config_path=config_path, debug=debug)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Python would look through all that was imported for garbage, twice, just before the system takes it back:
    # a fifth of a short command
    atexit.register(gc.freeze)
    argv = sys.argv[1:] if args is None else args
    try:
        code = cli.main(args=argv, prog_name="maint", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.Abort:
        code = _tell(Stopped("interrupted"), argv)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BrokenPipeError:
        # the reader went away (`maint history | head`): no traceback, and none at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except MaintError as error:
        if "--debug" in argv:
            raise
        code = _tell(error, argv)
    except Exception as error:
        if "--debug" in argv:
            raise
        said = MaintError(f"internal error: {type(error).__name__}: {error}", hint="maint --debug … shows where")
        code = _tell(said, argv)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: MaintError, argv: list[str]) -> int:
    """Say on stderr what is wrong and what to do, in the form that was asked for; return the exit code."""
    from maint.log import redact

    if isinstance(error, HistoryDenied):
        error.hint = shlex.join(["sudo", "-u", error.owner, "maint", *argv])
    if "--json" in argv:
        import json

        body: dict[str, Any] = {
            "error": redact(str(error)),
            "hint": redact(error.hint) if error.hint else None,
        }
        click.echo(json.dumps(body), err=True)
    else:
        click.echo(redact(f"maint: {error}"), err=True)
        if error.hint:
            click.echo(redact(f"hint: {error.hint}"), err=True)
    return error.exit_code
