"""The task ``command``: any program, with maint's schedule, time limit, log and alerts."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field, SecretStr

from maint.config.model import AbsolutePath, Table
from maint.model import Action, Result
from maint.process import Command, Program
from maint.task import Context, Scope, Task


class Options(Table):
    """Options of a job with ``task = "command"``."""

    argv: tuple[str, ...] = Field(min_length=1, description="the program and its arguments; there is no shell")
    cwd: AbsolutePath | None = Field(None, description="where it runs")
    env: Mapping[str, SecretStr] = Field(
        default_factory=dict,
        description="added to a minimal environment; what is called a password, secret or token is never shown",
    )


def plan(context: Context[Options]) -> Iterator[Action]:
    """One action: the program."""
    argv = context.options.argv
    yield Action("run", Path(argv[0]).name, (shlex.join(argv),), "the job's program")


def act(context: Context[Options], action: Action) -> Result:
    """Run the program; its output goes to the log."""
    options = context.options
    secrets = {name: value.get_secret_value() for name, value in options.env.items()}
    command = Command(options.argv, env=secrets, cwd=options.cwd)
    with Program(command, stop=context.stop, log=context.log) as program:
        context.progress(action.object)
        program.wait()
    return Result(note="exit status 0")


TASK = Task(
    name="command",
    summary="Run any program.",
    options=Options,
    scope=Scope.INSTALLATION,
    heavy=False,
    plan=plan,
    act=act,
)
