"""One backup after another: planned with the exact command, made, and told in numbers."""

import shlex
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maint import programs
from maint.backups import dump, make, records, telling
from maint.backups.manifest import DatabaseManifest
from maint.backups.passes import Made, Maker, Tools
from maint.backups.paths import encode
from maint.backups.pipeline import Packing
from maint.config.model import ServerConfig
from maint.model import Action, Result
from maint.postgres import Connection
from maint.task import Context
from maint.tasks.backup.databases import why_not
from maint.tasks.backup.options import Options, server_of


@dataclass(frozen=True, slots=True)
class Facts:
    """What one look at the server tells all backups of the run."""

    programs: dump.Programs
    threads: int  #: of the compressor
    nice: int
    superuser: bool


def facts_of(context: Context[Options], connection: Connection) -> Facts:
    """Look at the server."""
    [role] = connection.query("describe_role")
    return Facts(
        programs=programs_for(server_of(context), connection.major),
        threads=context.options.threads(local=connection.is_local),
        nice=10 if context.options.on_half(local=connection.is_local) else 0,
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
    return Action(
        verb="backup",
        object=row.name,
        commands=(shlex.join(shown),),
        reason=f"the job's turn, into {', '.join(store.name for store, _ in context.state['upkeep'].stores)}",
        skip=why_not(row),
        predicted_seconds=telling.usual(context.recent(telling.SECONDS, row.name)),
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
    order = make.Order(
        server=server,
        database=action.object,
        repositories=context.state["upkeep"].stores,
        programs=facts.programs,
        options=_dump_options(context, facts, _folder(context, action)),
        packing=Packing(None if context.options.format == "directory" else context.options.compress, facts.threads),
        maker=Maker(records.Owner.current(context.installation, context.run_id), context.job.name, context.slot),
        globals=_globals(context, facts) if context.options.globals else None,
        usual_bytes=telling.usual(context.recent(telling.STREAM_BYTES, action.object)),
    )
    began = context.clock.monotonic()
    made = make.make(order, Tools(context.stop, context.clock, context.log, context.progress))
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


def _result(context: Context[Options], made: Made[DatabaseManifest], seconds: float) -> Result:
    upkeep = context.state["upkeep"]
    upkeep.made.append(made)
    contents = made.manifest.contents
    missed = sum(table.rows is None for table in contents.tables)
    note = f"{len(contents.tables)} tables, {contents.rows:,} rows counted"
    note += f", {missed} tables not counted" if missed else ""
    after = {"tables": len(contents.tables), "rows": contents.rows, "not_counted": missed}
    return telling.result(upkeep.stores, made, seconds, note, after)
