"""The task ``backup``: dump every database of a server into its repositories, then let retention prune."""

import os
import shlex
import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from maint import programs
from maint.backups import dump, make, records
from maint.backups.manifest import Manifest
from maint.backups.paths import encode
from maint.backups.pipeline import Packing
from maint.config.model import Keep, RepositoryConfig, ServerConfig, Table
from maint.config.values import Duration, matches
from maint.errors import MaintError, UsageError
from maint.format import duration, size
from maint.model import Action, Finding, Result, Sample, Severity, Step, StepOutcome
from maint.postgres import Connection, connect
from maint.repository import Repository, open_repository
from maint.task import Context, Scope, Task

#: made by providers for themselves; nobody else can connect to them
PROVIDER_INTERNAL = frozenset({"rdsadmin", "cloudsqladmin", "alloydbadmin", "azure_maintenance", "azure_sys"})

#: samples in the history
STREAM_BYTES, SECONDS = "backup.stream_bytes", "backup.seconds"
#: how many earlier backups say what is usual
_USUAL = 5


class Options(Table):
    """Options of a job with ``task = "backup"``."""

    repositories: tuple[str, ...] = Field(("*",), min_length=1, description="patterns; one dump feeds all of them")
    format: Literal["custom", "directory"] = Field("custom", description="directory: parallel, needs local disk")
    parallel: int = Field(2, ge=1, le=64, description="workers of pg_dump in the directory format")
    compress: int = Field(3, ge=1, le=19, description="level of zstd")
    cpu: Literal["half", "all"] | None = Field(
        None,
        description="cores for compression; default: half, and nice, where the server is on this machine",
    )
    keep: Keep | None = Field(None, description="retention by age class; without it nothing is ever deleted")
    max_delete: int = Field(3, ge=1, description="a scheduled run that would delete more of a database deletes none")
    lock_wait: Duration = Field(timedelta(minutes=5), description="how long pg_dump waits for its table locks")
    globals: bool = Field(True, description="store roles and tablespaces with each backup")


def _server(context: Context[Options]) -> ServerConfig:
    assert context.server is not None  # noqa: S101 - the scope says so
    return context.server


def repositories(context: Context[Options]) -> list[tuple[Repository, RepositoryConfig]]:
    """Return the repositories of the job. Raises `UsageError` if it has none."""
    configs = context.config.repositories_of(context.options.repositories)
    if not configs:
        raise UsageError(
            f"the job {context.job.name} has no repository to write to",
            hint='add [repository.local] with url = "file:///var/backups/maint" to maint.toml',
        )
    return [(open_repository(config), config) for config in configs]


def plan(context: Context[Options]) -> Iterator[Action]:
    """Back up each database, and prune after each backup."""
    server = _server(context)
    stores = repositories(context)
    with connect(server, application_name=context.application_name, stop=context.stop) as connection:
        rows = connection.query("list_databases")
        context.state["facts"] = facts = _facts(context, connection)
    context.state["stores"] = stores
    chosen = [row for row in rows if is_wanted(row, server)]
    for finding in unmatched(server, rows, chosen):
        context.report(finding)
    for row in chosen:
        yield _backup_action(context, row, facts)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What one look at the server tells all backups of the run."""

    programs: dump.Programs
    threads: int  #: of the compressor
    nice: int
    superuser: bool


def _facts(context: Context[Options], connection: Connection) -> _Facts:
    half = context.options.cpu == "half" or (context.options.cpu is None and connection.is_local)
    cores = os.cpu_count() or 1
    [role] = connection.query("describe_role")
    return _Facts(
        programs=programs_for(_server(context), connection.major),
        threads=max(1, cores // 2) if half else cores,
        nice=10 if half else 0,
        superuser=role.superuser,
    )


def programs_for(server: ServerConfig, major: int) -> dump.Programs:
    pg_dump, version = programs.find("pg_dump", major=major, bin_dir=server.bin_dir)
    pg_restore, _ = programs.find("pg_restore", major=major, bin_dir=pg_dump.parent)
    pg_dumpall, _ = programs.find("pg_dumpall", major=major, bin_dir=pg_dump.parent)
    return dump.Programs(pg_dump, pg_restore, pg_dumpall, version)


def is_wanted(row: Any, server: ServerConfig) -> bool:
    return not row.template and row.name not in PROVIDER_INTERNAL and matches(server.databases, row.name)


def unmatched(server: ServerConfig, rows: Sequence[Any], chosen: Sequence[Any]) -> Iterator[Finding]:
    """What was asked for by name and is not there; and a server of which nothing is backed up."""
    names = {row.name for row in rows}
    for pattern in server.databases:
        if not set("*?[!") & set(pattern) and pattern not in names:
            yield Finding(
                check="backup.gone",
                severity=Severity.WARNING,
                object=pattern,
                message=f"the database {pattern}, which server.{server.name}.databases names, does not exist",
                fix=f"maint backups --database {shlex.quote(pattern)}   # its last good backup is kept",
            )
    if not chosen:
        yield Finding(
            check="backup.nothing",
            severity=Severity.CRITICAL,
            object=server.name,
            message=f"no database of {server.name} is selected: nothing is backed up",
            fix=f"set databases in [server.{server.name}] of maint.toml",
        )


def _backup_action(context: Context[Options], row: Any, facts: _Facts) -> Action:
    options = _dump_options(context, facts, Path("<scratch>"))
    shown = dump.arguments(facts.programs, row.name, options, "<snapshot>")
    seconds = context.recent(SECONDS, row.name)
    return Action(
        verb="backup",
        object=row.name,
        commands=(shlex.join(shown),),
        reason=f"the job's turn, into {', '.join(store.name for store, _ in context.state['stores'])}",
        skip=why_not(row),
        predicted_seconds=statistics.median(seconds[:_USUAL]) if seconds else None,
        lock="ACCESS SHARE on every table",
        database=row.name,
        key=row.name,
    )


def why_not(row: Any) -> str | None:
    if not row.allows_connections:
        return "the database does not allow connections"
    if row.connection_limit == 0:
        return "the database allows 0 connections"
    return None


def _dump_options(context: Context[Options], facts: _Facts, folder: Path | None) -> dump.Options:
    options = context.options
    directory = options.format == "directory"
    return dump.Options(
        format=options.format,
        jobs=options.parallel,
        # pg_dump's own zstd exists from 16 on; its gzip at 1 is the fastest before
        compress=(f"zstd:{options.compress}" if facts.programs.major >= 16 else "1") if directory else None,
        folder=folder,
        lock_wait_seconds=options.lock_wait.total_seconds(),
        nice=facts.nice,
    )


def act(context: Context[Options], action: Action) -> Result:
    """Make one backup."""
    facts: _Facts = context.state["facts"]
    server = _server(context)
    usual = context.recent(STREAM_BYTES, action.object)
    order = make.Order(
        server=server,
        database=action.object,
        repositories=context.state["stores"],
        programs=facts.programs,
        options=_dump_options(context, facts, _folder(context, action)),
        packing=Packing(None if context.options.format == "directory" else context.options.compress, facts.threads),
        owner=records.Owner.current(context.installation, context.run_id),
        job=context.job.name,
        slot=context.slot,
        globals=_globals(context, facts) if context.options.globals else None,
        usual_bytes=statistics.median(usual[:_USUAL]) if usual else None,
    )
    began = context.clock.monotonic()
    made = make.make(order, make.Tools(context.stop, context.clock, context.log, context.progress))
    return _result(context, made, context.clock.monotonic() - began)


def _folder(context: Context[Options], action: Action) -> Path | None:
    """Return where pg_dump's workers write, in the directory format; pg_dump makes it."""
    if context.options.format == "custom":
        return None
    return context.scratch() / encode(action.object)


def _globals(context: Context[Options], facts: _Facts) -> bytes:
    """Dump roles and tablespaces, once a run."""
    with context.state.setdefault("globals_lock", threading.Lock()):
        if "globals" not in context.state:
            context.state["globals"] = dump.globals_of(
                _server(context),
                facts.programs,
                passwords=facts.superuser,
                application_name=context.application_name,
                stop=context.stop,
                log=context.log,
            )
        found: bytes = context.state["globals"]
        return found


def _result(context: Context[Options], made: make.Made, seconds: float) -> Result:
    context.state.setdefault("made", []).append(made)
    manifest = next(iter(made.manifests.values()))
    required = {store.name for store, config in context.state["stores"] if config.required}
    failed = [f"{name}: {error}" for name, error in made.errors.items() if name in required]
    return Result(
        outcome=StepOutcome.FAILED if failed else StepOutcome.DONE,
        note="; ".join([_note(made, manifest, seconds), *(f"not in {text}" for text in failed)]),
        after={
            "backup": made.id,
            "repositories": sorted(made.manifests),
            "size_bytes": manifest.size_bytes,
            "tables": len(manifest.contents.tables),
            "rows": manifest.contents.rows,
            "not_counted": sum(table.rows is None for table in manifest.contents.tables),
        },
        findings=(*made.findings, *(_lost_repository(name, error) for name, error in made.errors.items())),
        samples=(
            Sample(STREAM_BYTES, manifest.database, manifest.dump.raw_bytes, "bytes"),
            Sample("backup.stored_bytes", manifest.database, manifest.size_bytes, "bytes"),
            Sample(SECONDS, manifest.database, seconds, "seconds"),
        ),
    )


def _note(made: make.Made, manifest: Manifest, seconds: float) -> str:
    contents = manifest.contents
    missed = sum(table.rows is None for table in contents.tables)
    return (
        f"{size(manifest.dump.raw_bytes)} -> {size(manifest.size_bytes)} in {duration(seconds)}, "
        f"{len(contents.tables)} tables, {contents.rows:,} rows counted"
        + (f", {missed} tables not counted" if missed else "")
        + f", to {' and '.join(sorted(made.manifests))} ({made.id})"
    )


def _lost_repository(name: str, error: MaintError) -> Finding:
    return Finding(
        check="backup.repository",
        severity=Severity.WARNING,
        object=f"repository {name}",
        message=f"the repository {name} left the pass: {error}",
        fix=error.hint or "maint doctor",
    )


def conclude(context: Context[Options], steps: Sequence[Step]) -> str:
    """Sum up: ``2 databases, 2.9 GB -> 0.8 GB in 0:31``."""
    backups = [step for step in steps if step.action.verb == "backup"]
    done = [step for step in backups if step.result.outcome is StepOutcome.DONE]
    made = [next(iter(one.manifests.values())) for one in context.state.get("made", [])]
    raw, stored = sum(m.dump.raw_bytes for m in made), sum(m.size_bytes for m in made)
    of = f" of {len(backups)}" if len(done) != len(backups) else ""
    deleted = sum(step.action.verb == "delete" and step.result.outcome is StepOutcome.DONE for step in steps)
    seconds = sum(step.seconds for step in done)
    text = f"{len(done)}{of} {'database' if len(done) == 1 else 'databases'}, {size(raw)} -> {size(stored)}"
    return f"{text} in {duration(seconds)}" + (f", {deleted} old backups deleted" if deleted else "")


def outputs(context: Context[Options]) -> Mapping[str, Any]:
    """Name the backups that were made."""
    return {"backups": [made.id for made in context.state.get("made", [])]}


TASK = Task(
    name="backup",
    summary="Dump databases into repositories, count them, and keep backups by age class.",
    options=Options,
    scope=Scope.SERVER,
    heavy=True,
    plan=plan,
    act=act,
    conclude=conclude,
    outputs=outputs,
    without_history=True,
)
