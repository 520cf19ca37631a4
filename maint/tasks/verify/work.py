"""The work of the task: choose, restore, compare, tell."""

import shlex
import shutil
import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from maint.backups import inventory, judging
from maint.backups.inventory import Backup, Inventory, Remnant
from maint.backups.manifest import DatabaseManifest
from maint.backups.paths import server_prefix
from maint.backups.select import select
from maint.config.values import matches
from maint.errors import HistoryError, MaintError, RepositoryError, ServerError, UsageError
from maint.format import duration, size
from maint.model import Action, Finding, Result, Severity, Step, StepOutcome, Trust
from maint.repository import open_repository
from maint.task import Context
from maint.tasks.verify import places, telling
from maint.tasks.verify.choose import Candidate, next_ones
from maint.tasks.verify.options import Options
from maint.tasks.verify.proving import Chosen, Gone, prove, way_of
from maint.tasks.verify.verdict import CannotVerify, Verdict, Word

#: how the inventory begins to say that a manifest is there and not what was written
_EDITED = ("the manifest is not", "its manifest is that of")
_NOTHING_LEFT = "nothing was left"
#: how many earlier restores say what is usual
_USUAL = 5


def plan(context: Context[Options]) -> Iterator[Action]:
    """Clear what a killed maint left on the scratch server, then verify one backup after another."""
    if context.server is not None and context.server.name == context.options.scratch:
        return  # holds copies, not what they are copies of
    yield from _clearing(context)
    chosen = _chosen(context)
    context.state["chosen"] = [_key(one.backup) for one in chosen]
    for one in chosen:
        yield _action(context, one)


def _clearing(context: Context[Options]) -> Iterator[Action]:
    if context.options.scratch is None:
        return
    server = places.scratch_server(context)
    with suppress(ServerError):  # the verification itself will tell
        for name in places.leftovers(server):
            commands = (f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"DROP ROLE IF EXISTS {name}")
            yield Action("clear", name, commands, reason="left by a maint that was killed", key="clear")


def _chosen(context: Context[Options]) -> list[Chosen]:
    configs = context.config.repositories_of(context.options.repositories)
    if not configs:
        raise UsageError(f"the job {context.job.name} has no repository to read", hint="add one to maint.toml")
    stores = {one.name: (open_repository(one, state_dir=context.config.state_dir), one) for one in configs}
    found = inventory.load(
        [repository for repository, _ in stores.values()], cache=context.history, prefix=_prefix(context)
    )
    _tell_unavailable(context, found)
    if not context.options.backup:
        for remnant in found.remnants:
            _tell_unreadable(context, remnant)
    wanted = _named(context, found) if context.options.backup else _next(context, found)
    return [Chosen(*stores[backup.repository], backup) for backup in wanted]


def _prefix(context: Context[Options]) -> str:
    return server_prefix(context.server.name) if context.server else ""


def _tell_unavailable(context: Context[Options], found: Inventory) -> None:
    """Tell which repositories could not be read; raise if there is none left."""
    for name, error in found.unavailable.items():
        context.report(
            Finding(
                check="verify.repository",
                severity=Severity.WARNING,
                object=f"repository {name}",
                message=f"the backups in {name} cannot be verified: {error}",
                fix=error.hint or "maint doctor",
            )
        )
    if found.unavailable and not found.backups:
        raise next(iter(found.unavailable.values()))


def _tell_unreadable(context: Context[Options], remnant: Remnant) -> None:
    """Tell of a backup whose manifest was edited, cut, or copied from elsewhere: nothing can be compared with it."""
    if not remnant.reason.startswith(_EDITED):
        return
    place = remnant.place
    context.state.setdefault("unreadable", []).append(telling.unreadable(remnant))
    context.report(
        Finding(
            check="verify.damaged",
            severity=Severity.CRITICAL,
            object=f"{place.database}/{place.id}",
            message=f"the backup {place.id} of {place.database} in {remnant.repository} is damaged: {remnant.reason}",
            fix=f"maint run backup --server {shlex.quote(place.server)}",
        )
    )


def _named(context: Context[Options], found: Inventory) -> list[Backup]:
    """Return the one that the options name, in each repository; none if it is another server's."""
    try:
        return select(found.backups, context.options.backup or "", zone=ZoneInfo(context.job.timezone))
    except UsageError:
        if len(context.config.server) > 1 and "/" not in (context.options.backup or ""):
            return []
        raise


def _next(context: Context[Options], found: Inventory) -> list[Backup]:
    backups = {_key(backup): backup for backup in found.backups if _is_candidate(context, backup)}
    memory = _memory(context)
    if memory.get("slot") == context.slot:  # a further attempt: the same ones again
        return [backups[key] for key in memory.get("chosen", ()) if key in backups]
    tried = {key: datetime.fromisoformat(at) for key, at in memory.get("tried", {}).items()}
    candidates = [_candidate(backup, tried.get(_key(backup))) for backup in backups.values()]
    if not candidates:
        _tell_nothing(context)
    chosen = next_ones(candidates, old=context.options.old, now=context.clock.now())
    return [backups[one.key] for one in chosen]


def _is_candidate(context: Context[Options], backup: Backup) -> bool:
    known_damaged = backup.trust is Trust.DAMAGED and backup.trust_at is not None
    of_database = getattr(backup.summary, "kind", "database") == "database"
    return (
        of_database and not backup.hidden and not known_damaged and matches(context.options.databases, backup.database)
    )


def _candidate(backup: Backup, tried: datetime | None) -> Candidate:
    proven = backup.trust_at if backup.trust in (Trust.RESTORED, Trust.PROVEN) else None
    return Candidate(
        backup.repository,
        backup.server,
        backup.database,
        backup.id,
        backup.created_at,
        max((at for at in (proven, tried) if at), default=None),
        broken=backup.trust is Trust.DAMAGED,
    )


def _tell_nothing(context: Context[Options]) -> None:
    name = context.server.name if context.server else "any server"
    context.report(
        Finding(
            check="verify.nothing",
            severity=Severity.WARNING,
            object=name,
            message=f"there is no backup of {name} that could be verified",
            fix="maint run backup" + (f" --server {shlex.quote(name)}" if context.server else ""),
        )
    )


# -- what was tried, and did not get a record in the repository --


def _memory_key(context: Context[Options]) -> str:
    return f"verify {context.job.name} {context.server.name if context.server else '-'}"


def _memory(context: Context[Options]) -> dict[str, Any]:
    if context.history is None:
        return {}
    with suppress(HistoryError):
        return context.history.fact(_memory_key(context)) or {}
    return {}


def _key(backup: Backup) -> str:
    """Name it as `Candidate.key` does."""
    return f"{backup.repository}/{backup.server}/{backup.database}/{backup.id}"


_REMEMBERING = threading.Lock()


def _remember(context: Context[Options], chosen: Chosen | None) -> None:
    """Keep what this slot is about, and when `chosen` was tried: it goes to the end of the queue."""
    if context.history is None:
        return
    with _REMEMBERING, suppress(HistoryError):
        memory = _memory(context)
        tried = memory.get("tried", {})
        if chosen is not None:
            tried[_key(chosen.backup)] = context.clock.now().isoformat()
        newest = dict(sorted(tried.items(), key=lambda item: item[1])[-1000:])
        kept = {"slot": context.slot, "chosen": context.state.get("chosen", []), "tried": newest}
        context.history.set_fact(_memory_key(context), kept)


# -- actions --


def _action(context: Context[Options], chosen: Chosen) -> Action:
    usual = context.recent(telling.SECONDS, chosen.database)
    action = Action(
        verb="verify",
        object=f"{chosen.database} {chosen.backup.id} in {chosen.repository.name}",
        commands=(_shown(context, chosen),),
        reason=f"{chosen.backup.trust}, of {chosen.backup.created_at:%Y-%m-%d %H:%M} UTC",
        predicted_seconds=statistics.median(usual[:_USUAL]) if usual else None,
        payload=chosen,
    )
    try:
        _check_space(context, chosen)
    except CannotVerify as error:
        verdict = _cannot(error)
        _keep(context, chosen, verdict)
        for finding in telling.findings(chosen, verdict):
            context.report(finding)
        return Action(action.verb, action.object, action.commands, skip=telling.note(verdict))
    return action


def _shown(context: Context[Options], chosen: Chosen) -> str:
    options = way_of(context.options, chosen.backup.summary.format).options
    where = "<throw-away server>" if context.options.scratch is None else f"<a database on {context.options.scratch}>"
    return shlex.join(["pg_restore", "--section=<each>", *options, f"--dbname={where}"])


def _check_space(context: Context[Options], chosen: Chosen) -> None:
    """Look whether the copy takes no more than its share of the free space. Raises `CannotVerify`."""
    if context.options.scratch is not None:
        return  # its disk cannot be seen from here
    try:
        manifest = inventory.fresh(chosen.repository, chosen.backup)
    except RepositoryError:
        return  # told when it is verified
    if isinstance(manifest, DatabaseManifest):
        needed = manifest.source.size_bytes + places.wal_bytes(manifest.source.size_bytes)
        _check_folder(context, context.options.base, needed)
        if way_of(context.options, manifest.format).jobs > 1:
            _check_folder(context, context.config.state_dir, manifest.dump.raw_bytes)


def _check_folder(context: Context[Options], folder: Path, needed: int) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free * context.options.scratch_limit:
        share = f"{context.options.scratch_limit:.0%}"
        raise CannotVerify(
            f"space: needs {size(needed)}, {share} of the {size(free)} free in {folder} may be taken",
            hint="scratch_dir in the job: a folder on a larger disk; or a larger scratch_limit",
        )


def _cannot(error: CannotVerify) -> Verdict:
    return Verdict(Word.CANNOT_VERIFY, (str(error),), fix=error.hint)


def _keep(context: Context[Options], chosen: Chosen, verdict: Verdict) -> None:
    context.state.setdefault("verified", []).append((chosen, verdict))


def act(context: Context[Options], action: Action) -> Result:
    """Do one action."""
    if action.verb == "clear":
        return _clear(context, action)
    chosen: Chosen = action.payload
    _remember(context, None)
    began = context.clock.monotonic()
    try:
        verdict = prove(context, chosen, action.object)
    except CannotVerify as error:
        verdict = _cannot(error)
    except Gone as error:
        return Result(StepOutcome.SKIPPED, str(error))
    except MaintError as error:
        if not error.transient and not context.stop.is_set():
            _remember(context, chosen)
        raise
    _remember(context, chosen)
    _keep(context, chosen, verdict)
    return telling.result(chosen, verdict, _recorded(context, chosen, verdict, context.clock.monotonic() - began))


def _recorded(context: Context[Options], chosen: Chosen, verdict: Verdict, seconds: float) -> tuple[Finding, ...]:
    try:
        telling.record(context, chosen, verdict, seconds)
    except RepositoryError as error:
        return (
            Finding(
                check="verify.record",
                severity=Severity.WARNING,
                object=f"repository {chosen.repository.name}",
                message=f"{chosen.backup.id} is {verdict.word}, but that could not be recorded beside it: {error}",
                fix=error.hint or "maint doctor",
            ),
        )
    return ()


def _clear(context: Context[Options], action: Action) -> Result:
    server = places.scratch_server(context)
    if action.object not in places.leftovers(server):
        return Result(StepOutcome.NO_EFFECT, _NOTHING_LEFT)
    places.drop(server, action.object)
    return Result(note="dropped")


def conclude(context: Context[Options], _steps: Sequence[Step]) -> str:
    """Sum up: ``2 proven, 1 damaged: 214 tables, 94,201,877 rows equal in 0:47``; report promises not kept."""
    if "chosen" in context.state and context.stop.reason is None:
        server = context.server.name if context.server else None
        for finding in judging.at_the_end(
            context.config,
            server=server,
            cache=context.history,
            now=context.clock.now(),
            log=context.log,
        ):
            context.report(finding)
    verdicts = [verdict for _, verdict in context.state.get("verified", [])]
    counts = [(word, sum(verdict.word is word for verdict in verdicts)) for word in Word]
    text = ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in counts if n)
    if not text:
        return "nothing was verified"
    restored = [verdict for verdict in verdicts if verdict.word in (Word.PROVEN, Word.RESTORED)]
    if not restored:
        return text
    tables, rows = sum(v.tables for v in restored), sum(v.rows for v in restored)
    return f"{text}: {tables} tables, {rows:,} rows equal in {duration(sum(v.seconds or 0 for v in restored))}"


def outputs(context: Context[Options], _steps: Sequence[Step]) -> Mapping[str, Any]:
    """Say what became of each backup."""
    found = [telling.entry(chosen, verdict) for chosen, verdict in context.state.get("verified", [])]
    return {"verified": [*found, *context.state.get("unreadable", [])]}
