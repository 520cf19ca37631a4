"""One backup after another: planned with the exact command, made, and told in numbers."""

import os
import shlex
import statistics
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maint import programs
from maint.backups import dump, make, records
from maint.backups.manifest import Manifest
from maint.backups.paths import encode
from maint.backups.pipeline import Packing
from maint.config.model import ServerConfig
from maint.errors import MaintError
from maint.format import duration, size
from maint.model import Action, Finding, Result, Sample, Severity, StepOutcome
from maint.postgres import Connection
from maint.task import Context
from maint.tasks.backup.databases import why_not
from maint.tasks.backup.options import Options, server_of

#: samples in the history
STREAM_BYTES, STORED_BYTES, SECONDS = "backup.stream_bytes", "backup.stored_bytes", "backup.seconds"
#: how many earlier backups say what is usual
_USUAL = 5


@dataclass(frozen=True, slots=True)
class Facts:
    """What one look at the server tells all backups of the run."""

    programs: dump.Programs
    threads: int  #: of the compressor
    nice: int
    superuser: bool


def facts_of(context: Context[Options], connection: Connection) -> Facts:
    """Look at the server."""
    half = context.options.cpu == "half" or (context.options.cpu is None and connection.is_local)
    cores = os.cpu_count() or 1
    [role] = connection.query("describe_role")
    return Facts(
        programs=programs_for(server_of(context), connection.major),
        threads=max(1, cores // 2) if half else cores,
        nice=10 if half else 0,
        superuser=role.superuser,
    )


def programs_for(server: ServerConfig, major: int) -> dump.Programs:
    """Return the programs that dump a server of this major. Raises `ProgramMissing`."""
    pg_dump, version = programs.find("pg_dump", major=major, bin_dir=server.bin_dir)
    pg_restore, _ = programs.find("pg_restore", major=major, bin_dir=pg_dump.parent)
    pg_dumpall, _ = programs.find("pg_dumpall", major=major, bin_dir=pg_dump.parent)
    return dump.Programs(pg_dump, pg_restore, pg_dumpall, version)


def action_of(context: Context[Options], row: Any, facts: Facts) -> Action:
    """Plan the backup of one database, a row of sql/list_databases.sql."""
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


def _dump_options(context: Context[Options], facts: Facts, folder: Path | None) -> dump.Options:
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


def back_up(context: Context[Options], action: Action) -> Result:
    """Make one backup."""
    facts: Facts = context.state["facts"]
    server = server_of(context)
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


def _globals(context: Context[Options], facts: Facts) -> bytes:
    """Dump roles and tablespaces, once a run."""
    with context.state.setdefault("globals_lock", threading.Lock()):
        if "globals" not in context.state:
            context.state["globals"] = dump.globals_of(
                server_of(context),
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
    failed = {name: error for name, error in made.errors.items() if name in required}
    return Result(
        outcome=StepOutcome.FAILED if failed else StepOutcome.DONE,
        note="; ".join(
            [_note(made, manifest, seconds), *(f"not in {name}: {error}" for name, error in failed.items())]
        ),
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
            Sample(STORED_BYTES, manifest.database, manifest.size_bytes, "bytes"),
            Sample(SECONDS, manifest.database, seconds, "seconds"),
        ),
        transient=bool(failed) and all(error.transient for error in failed.values()),
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
