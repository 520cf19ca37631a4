"""Restore one backup and compare what came back with what was there."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maint.backups import check, inventory
from maint.backups.inventory import Backup
from maint.backups.manifest import DatabaseManifest
from maint.backups.unpack import NoKey
from maint.checks import Budget, amcheck, bloat
from maint.config.model import RepositoryConfig
from maint.config.values import matches
from maint.errors import Damaged, NotFound, UsageError
from maint.model import Finding, Severity
from maint.postgres import SQL, Connection, Literal, connect
from maint.repository import Repository
from maint.restore import compare, engine, place, stream
from maint.restore.archive import Entry
from maint.restore.compare import Compared
from maint.restore.engine import Leave, Restored, Way
from maint.restore.sources import Failed, NoRoom, Tools
from maint.task import Context
from maint.tasks.verify import places
from maint.tasks.verify.options import Options
from maint.tasks.verify.places import Place
from maint.tasks.verify.verdict import (
    CannotVerify,
    NotRestorable,
    PlaceFailed,
    Verdict,
    Word,
    check_ended,
    judge,
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A backup to verify, in one repository."""

    repository: Repository
    config: RepositoryConfig
    backup: Backup

    @property
    def database(self) -> str:
        return self.backup.database


class Gone(Exception):
    """The backup was deleted meanwhile: retention goes on."""


def prove(context: Context[Options], chosen: Chosen, name: str) -> Verdict:
    """Verify one backup; `name` is what its progress is told under.

    Raises `CannotVerify`, `Gone`, and what ended it early: no damage unless it was seen twice.
    """
    try:
        manifest = _manifest(chosen)
        return _restored(context, chosen, manifest, name)
    except (Damaged, NotFound, NotRestorable) as error:
        return _confirmed(context, chosen, error)
    except NoKey as error:
        raise _no_key(chosen, str(error)) from error


def _manifest(chosen: Chosen) -> DatabaseManifest:
    manifest = inventory.fresh(chosen.repository, chosen.backup)
    if not isinstance(manifest, DatabaseManifest) or manifest.id != chosen.backup.id:
        raise Damaged(f"its manifest is that of {manifest.id}")
    return manifest


def _confirmed(context: Context[Options], chosen: Chosen, error: Exception) -> Verdict:
    """Read every byte again before anything is called damaged."""
    tools = check.Tools(context.stop, context.clock, context.log)
    try:
        proof = check.check(chosen.repository, chosen.backup, identity=chosen.config.identity_file, tools=tools)
    except NotFound as gone:
        raise Gone("it was deleted meanwhile") from gone
    if proof.reason is None and not isinstance(error, NotRestorable):
        raise PlaceFailed(f"{error}; read again, every byte was as it was stored", hint="is the disk or network sound?")
    return Verdict(Word.DAMAGED, tuple((proof.reason or str(error)).split("; ")), fix=None, seconds=None)


def _no_key(chosen: Chosen, why: str) -> CannotVerify:
    return CannotVerify(
        f"key: {why}",
        hint=f"identity_file in [repository.{chosen.config.name}]: a private key it was encrypted to",
    )


def _restored(context: Context[Options], chosen: Chosen, manifest: DatabaseManifest, name: str) -> Verdict:
    if manifest.encrypted and chosen.config.identity_file is None:
        raise _no_key(chosen, "there is none here")
    backup = stream.Backup(chosen.repository, chosen.backup.place, manifest, chosen.config.identity_file)
    with places.made(context, manifest) as where:
        began = context.clock.monotonic()
        done = _restore(context, backup, where, name)
        seconds = context.clock.monotonic() - began
        stream.compare_rest(backup, context.stop)
        return _compared(context, backup, where, done, seconds, name)


def _restore(context: Context[Options], backup: stream.Backup, where: Place, name: str) -> Restored:
    """Restore; tell failures of the place from those of the backup."""
    manifest = backup.manifest
    same_major = where.major == manifest.source.version_num // 10000

    def before(entries: Sequence[Entry]) -> Leave:
        leave = where.prepare(manifest.source, entries)
        if "amcheck" in context.options.laboratory:
            context.state[f"amcheck {name}"] = where.make_amcheck()
        return leave

    def progress(_object: str, **numbers: object) -> None:
        context.progress(name, **numbers)

    tools = Tools(context.stop, context.log, context.scratch, progress)
    way = way_of(context.options, manifest.format)
    try:
        with connect(where.restorer, where.database, application_name=context.application_name) as connection:
            made_by = manifest.tools.get("pg_dump", manifest.source.server_version)
            target = place.target_for(connection, where.restorer, where.database, made_by)
        done = engine.restore(backup, target, way, tools, before=before)
        check_ended(done.said, words=where.last_words())
    except Failed as failed:
        raise judge(
            failed, same_major=same_major, trusted=context.options.trusted, words=where.last_words()
        ) from failed
    except place.Unfit as error:
        raise CannotVerify(str(error), hint=error.hint) from error
    except NoRoom as error:
        raise CannotVerify(f"space: {error}", hint=error.hint) from error
    except UsageError as error:  # of the key file
        raise CannotVerify(f"key: {error}", hint=error.hint) from error
    return done


def way_of(options: Options, format_: str) -> Way:
    """Return how to restore: without owners, privileges, tablespaces, subscriptions and publications."""
    return Way(jobs=options.jobs or (1 if format_ == "custom" else os.cpu_count() or 1))


def _compared(
    context: Context[Options], backup: stream.Backup, where: Place, done: Restored, seconds: float, name: str
) -> Verdict:
    manifest = backup.manifest
    with connect(
        where.restorer,
        where.database,
        application_name=context.application_name,
        stop=context.stop,
        lock_timeout="0",
    ) as connection:

        def told(number: int, of: int) -> None:
            context.progress(name, what="count", done=number, total=of)

        found = compare.compare(connection, manifest.contents, done.entries, told=told)
        began = context.clock.monotonic()
        context.progress(name, what="analyze")
        connection.perform("ANALYZE")
        analyzed = context.clock.monotonic() - began
        lacking = [*found.lacking, *(f"{problem.entry}: {problem.error}" for problem in done.problems)]
        lacking += _share(found, context.options.proven_share)
        lacking += ["restored under C: the recorded locale is not here"] if where.substituted else []
        lacking += assertions(context, connection, manifest)
        found.uncompared += [f"{label}: left out" for label in done.left_out]
        context.progress(name, what="laboratory")
        looked = tuple(laboratory(context, connection, manifest, context.state.get(f"amcheck {name}")))
    word = Word.DAMAGED if found.damage else Word.RESTORED if lacking else Word.PROVEN
    return Verdict(
        word,
        tuple(found.damage or lacking),
        seconds=round(seconds, 3),
        analyze_seconds=round(analyzed, 3),
        tables=found.tables,
        rows=found.rows,
        looked=tuple(found.looked),
        uncompared=tuple(found.uncompared),
        settings=dict(where.settings),
        findings=looked,
    )


def _share(found: Compared, wanted: float) -> list[str]:
    if found.share >= wanted:
        return []
    return [f"only {found.tables} of {found.countable} tables were counted when it was made"]


def assertions(context: Context[Options], connection: Connection, manifest: DatabaseManifest) -> list[str]:
    """Ask the job's assertions; return what is wrong with the answers."""
    wrong = []
    instant = manifest.created_at.isoformat()
    connection.execute(SQL("SELECT set_config('maint.created_at', {}, false)").format(Literal(instant)))
    connection.execute("RESET search_path")
    for pattern, statements in context.options.assertions.items():
        if matches([pattern], manifest.database):
            for statement in statements:
                context.progress(manifest.database, what="assert")
                if problem := compare.assertion(connection, statement):
                    wrong.append(f"assertion {' '.join(statement.split())}: {problem}")
    connection.execute("SELECT set_config('search_path', '', false)")
    return wrong


def laboratory(
    context: Context[Options], connection: Connection, manifest: DatabaseManifest, amcheck_schema: str | None
) -> Iterator[Finding]:
    """Run the expensive checks that are asked for on the copy, where they cost production nothing."""
    budget = Budget(context.clock, context.stop)
    database, asked = manifest.database, context.options.laboratory
    if "amcheck" in asked and amcheck_schema is None:
        yield _no_amcheck(database)
    elif "amcheck" in asked:
        yield from amcheck.check(connection, amcheck.Options(database, amcheck_schema or ""), budget)
    if "bloat" in asked:
        sizes = {(one.schema_, one.name): one.bytes for one in manifest.contents.sizes}
        yield from bloat.check(connection, bloat.Options(database, sizes), budget)


def _no_amcheck(database: str) -> Finding:
    return Finding(
        check="amcheck.not_reached",
        severity=Severity.INFO,
        object=database,
        message=f"nothing of {database} was looked at by amcheck",
        withheld="the extension amcheck cannot be created where backups are verified",
        fix="install the package postgresql-contrib there",
    )
