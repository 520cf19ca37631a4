"""The task ``sql``: the user's own statements, each in a transaction of its own unless told otherwise."""

import shlex
from collections.abc import Iterator
from functools import partial
from typing import Self

from pydantic import Field, model_validator

from maint import programs
from maint.config.model import AbsolutePath, ServerConfig, Table
from maint.model import Action, Result, StepOutcome
from maint.postgres import connect, libpq_value
from maint.process import Command, Program
from maint.task import Context, Scope, Task


class Options(Table):
    """Options of a job with ``task = "sql"``."""

    database: str = Field(description="the database to run in")
    statements: tuple[str, ...] = Field((), description="SQL statements, run in this order")
    file: AbsolutePath | None = Field(None, description="or a file for psql, with as many statements as it likes")
    single_transaction: bool = Field(False, description="all of them in one transaction: all or nothing")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.statements) == (self.file is not None):
            raise ValueError("give either statements or file")
        return self


def _server(context: Context[Options]) -> ServerConfig:
    assert context.server is not None  # noqa: S101 - the scope says so
    return context.server


def plan(context: Context[Options]) -> Iterator[Action]:
    """One action a statement; a file, or statements that belong together, are one."""
    options = context.options
    action = partial(Action, "run", database=options.database, key=options.database)
    if options.file is not None:
        yield action(str(options.file), (_shown(options),), "the job's file")
    elif options.single_transaction:
        yield action(options.database, options.statements, "the job's statements, in one transaction")
    else:
        for number, statement in enumerate(options.statements, 1):
            yield action(f"{options.database}/statement {number}", (statement,), "the job's statement")


def act(context: Context[Options], action: Action) -> Result:
    """Run the statements of one action."""
    if context.options.file is not None:
        return _psql(context, context.options)
    with connect(
        _server(context),
        context.options.database,
        application_name=context.application_name,
        stop=context.stop,
        lock_timeout="0",
    ) as connection:
        # the user's statements see what any session of this role would see
        connection.execute("RESET search_path")
        connection.execute("RESET row_security")
        if not context.options.single_transaction:
            return _outcome([connection.perform(action.commands[0])], connection.notices)
        with connection.transaction("ISOLATION LEVEL READ COMMITTED"):
            tags = [connection.perform(statement) for statement in action.commands]
        return _outcome(tags, connection.notices)


def _outcome(tags: list[str], notices: list[str]) -> Result:
    """Say what the server said; what it skipped with a mere warning had no effect."""
    skipped = [notice for notice in notices if notice.startswith("WARNING") and "skipping" in notice]
    nothing = all(tag.split() and tag.split()[-1] == "0" and tag.split()[0] != "SELECT" for tag in tags)
    note = ", ".join([*tags, *notices[-3:]])
    return Result(StepOutcome.NO_EFFECT if skipped or nothing else StepOutcome.DONE, note, after={"tags": tags})


def _shown(options: Options) -> str:
    return shlex.join(_psql_arguments("psql", options))


def _psql_arguments(psql: str, options: Options) -> tuple[str, ...]:
    argv = [psql, "--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1", f"--file={options.file}"]
    argv += ["--single-transaction"] if options.single_transaction else []
    return (*argv, f"--dbname=dbname={libpq_value(options.database)}")


def _psql(context: Context[Options], options: Options) -> Result:
    server = _server(context)
    with connect(server, options.database, stop=context.stop) as connection:
        environment, major = connection.environment(), connection.major
    path, _ = programs.find("psql", major=major, bin_dir=server.bin_dir)
    command = Command(_psql_arguments(str(path), options), env={**environment, "PGAPPNAME": context.application_name})
    with Program(command, stop=context.stop, log=context.log) as program:
        context.progress(str(options.file))
        program.wait()
    return Result(note="psql ended well")


TASK = Task(
    name="sql",
    summary="Run SQL statements, or a file of them, in one database.",
    options=Options,
    scope=Scope.SERVER,
    heavy=False,
    plan=plan,
    act=act,
)
