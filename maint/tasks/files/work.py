"""The work of the task: plan, act, what is told afterwards, and what doctor looks at before."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maint.backups import check, inventory, records, telling
from maint.backups.files.make import Order, make
from maint.backups.files.walk import Choice, identity_of
from maint.backups.inventory import Backup
from maint.backups.passes import Maker, Tools
from maint.backups.paths import FILES, Place
from maint.backups.pipeline import Packing
from maint.backups.stores import open_stores
from maint.backups.upkeep import Upkeep
from maint.config.model import Config, Job, RepositoryConfig
from maint.errors import Damaged
from maint.model import Action, Finding, Result, Severity, Step, StepOutcome, Trust
from maint.repository import Repository
from maint.task import Check, Context
from maint.tasks.files.options import Options


def plan(context: Context[Options]) -> Iterator[Action]:
    """Clear what a killed maint left, back up, read it again, and prune what the backup makes superfluous."""
    options, name = context.options, context.job.name
    stores = open_stores(context.config, context.job, options.repositories)
    upkeep = Upkeep(stores, context.installation, context.job, options, FILES, context.clock, context.history)
    context.state["upkeep"] = upkeep
    yield from upkeep.clearing()
    yield _backup(context, upkeep)
    if options.verify:
        yield from (_check(name, store, config) for store, config in stores)
    for found in upkeep.deletions([name]):
        if isinstance(found, Finding):
            context.report(found)
        else:
            yield found


def _backup(context: Context[Options], upkeep: Upkeep) -> Action:
    words = ["tar", *(f"--exclude={pattern}" for pattern in context.options.exclude), "--"]
    return Action(
        verb="backup",
        object=context.job.name,
        commands=(shlex.join([*words, *map(str, context.options.paths)]),),
        reason=f"the job's turn, into {', '.join(store.name for store, _ in upkeep.stores)}",
        predicted_seconds=telling.usual(context.recent(telling.SECONDS, context.job.name)),
        key=context.job.name,
    )


def _check(name: str, store: Repository, config: RepositoryConfig) -> Action:
    return Action(
        verb="check",
        object=f"{name} in {store.name}",
        commands=(f"maint backups check --repository {store.name} -- {FILES}/{name}",),
        reason="what was stored is compared with what was read",
        key=name,
        payload=(store, config),
    )


def act(context: Context[Options], action: Action) -> Result:
    """Do one action."""
    upkeep: Upkeep = context.state["upkeep"]
    if action.verb == "backup":
        return _back_up(context, upkeep)
    if action.verb == "check":
        return _compare(context, upkeep, *action.payload)
    return upkeep.clear(action) if action.verb == "clear" else upkeep.delete(action)


def _back_up(context: Context[Options], upkeep: Upkeep) -> Result:
    options = context.options
    scratch = context.scratch()
    order = Order(
        choice=_choice(context.config, options, scratch),
        repositories=upkeep.stores,
        packing=Packing(options.compress, options.threads(local=True)),
        maker=Maker(records.Owner.current(context.installation, context.run_id), context.job.name, context.slot),
        scratch=scratch,
        usual_bytes=telling.usual(context.recent(telling.STREAM_BYTES, context.job.name)),
    )
    began = context.clock.monotonic()
    made = make(order, Tools(context.stop, context.clock, context.log, context.progress))
    upkeep.made.append(made)
    tree = made.manifest.tree
    counts = {"files": tree.files, "folders": tree.folders, "links": tree.links}
    note = f"{tree.files:,} files in {tree.folders:,} folders"
    return telling.result(upkeep.stores, made, context.clock.monotonic() - began, note, counts)


def _choice(config: Config, options: Options, scratch: Path) -> Choice:
    """Return what is backed up: never a repository (it would grow into itself), nor this run's scratch folder."""
    folders = [repository.url.removeprefix("file://") for repository in config.repository.values()]
    never = [identity_of(folder) for folder in (*folders, str(scratch)) if folder.startswith("/")]
    return Choice(
        tuple(str(path) for path in options.paths), options.exclude, frozenset(found for found in never if found)
    )


def _compare(context: Context[Options], upkeep: Upkeep, store: Repository, config: RepositoryConfig) -> Result:
    """Read the new backup again from one repository, and record what was found."""
    made = next((one for one in upkeep.made if store.name in one.manifests), None)
    if made is None:
        return Result(StepOutcome.SKIPPED, "there is no new backup")
    backup = _stored(store, Place(FILES, context.job.name, made.id))

    def progress(done: int, total: int) -> None:
        context.progress(context.job.name, done_bytes=done, total_bytes=total, what="check")

    tools = check.Tools(context.stop, context.clock, context.log, progress)
    proof = check.check(store, backup, identity=config.identity_file, tools=tools)
    records.prove(store, backup.place, proof)
    if proof.result is Trust.DAMAGED:
        return Result(StepOutcome.FAILED, f"damaged: {proof.reason}", findings=(_damaged(backup, proof.reason),))
    return Result(note=f"{proof.result}: {'; '.join(proof.compared)}", after={"trust": str(proof.result)})


def _stored(store: Repository, place: Place) -> Backup:
    found = inventory.load([store], prefix=place.prefix)
    for error in found.unavailable.values():
        raise error
    if not found.backups:
        raise Damaged(f"the backup {place.id} that has just been stored in {store.name} is not there")
    return found.backups[0]


def _damaged(backup: Backup, reason: str | None) -> Finding:
    return Finding(
        check="backup.damaged",
        severity=Severity.CRITICAL,
        object=f"{backup.id} in {backup.repository}",
        message=f"the new backup {backup.id} of {backup.database} in {backup.repository} is damaged: {reason}",
        fix=f"maint run {backup.database}",
    )


def conclude(context: Context[Options], steps: Sequence[Step]) -> str:
    """Sum up: ``1,204 files, 2.9 GB -> 0.8 GB in 0:31``."""
    upkeep: Upkeep | None = context.state.get("upkeep")
    made = upkeep.made if upkeep else []
    files = sum(one.manifest.tree.files for one in made)
    return telling.summary(f"{files:,} files" if made else "no backup", made, steps)


def outputs(context: Context[Options], steps: Sequence[Step]) -> Mapping[str, Any]:
    """Name the backup that was made; if it failed, say what there is still."""
    return telling.outputs(context.state.get("upkeep"), steps)


def preflight(_config: Config, job: Job) -> Iterator[Check]:
    """Look at each path: is it there, may it be read?"""
    assert isinstance(job.options, Options)  # noqa: S101 - validated by the model of the task
    for path in job.options.paths:
        if not path.exists():
            yield Check("FAIL", job.name, f"{path} is not there", "mount or make it, or take it out of paths")
        elif not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            yield Check(
                "FAIL", job.name, f"{path} cannot be read", f"setfacl -Rm u:$(id -un):rX {shlex.quote(str(path))}"
            )
        else:
            yield Check("OK", job.name, f"{path} can be read")
