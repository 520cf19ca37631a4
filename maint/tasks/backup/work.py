"""The work of the task: plan, act, and what is told afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from maint.backups import inventory
from maint.backups.paths import server_prefix
from maint.backups.standing import standing
from maint.format import duration, size
from maint.model import Action, Result, Step, StepOutcome
from maint.postgres import connect
from maint.task import Context
from maint.tasks.backup import dumping, pruning
from maint.tasks.backup.databases import closed, is_wanted, unmatched, why_not
from maint.tasks.backup.options import Options, open_stores, server_of


def plan(context: Context[Options]) -> Iterator[Action]:
    """Clear what a killed maint left, back up each database, and prune what its backup makes superfluous."""
    server = server_of(context)
    stores = open_stores(context.config, context.job, context.options.repositories)
    with connect(server, application_name=context.application_name, stop=context.stop) as connection:
        rows = connection.query("list_databases")
        facts = dumping.facts_of(context, connection)
    context.state.update(facts=facts, stores=stores)
    chosen = [row for row in rows if is_wanted(row, server)]
    for finding in chain(unmatched(server, rows, chosen), closed(server, chosen)):
        context.report(finding)
    yield from pruning.clearing(context, stores)
    for row in chosen:
        yield dumping.action_of(context, row, facts)
    yield from pruning.plan(context, stores, [row.name for row in chosen if why_not(row) is None])


_ACTS = {"backup": dumping.back_up, "delete": pruning.delete, "clear": pruning.clear}


def act(context: Context[Options], action: Action) -> Result:
    """Do one action."""
    return _ACTS[action.verb](context, action)


def conclude(context: Context[Options], steps: Sequence[Step]) -> str:
    """Sum up: ``2 databases, 2.9 GB -> 0.8 GB in 0:31``."""
    backups = [step for step in steps if step.action.verb == "backup"]
    done = [step for step in backups if step.result.outcome is StepOutcome.DONE]
    made = [next(iter(one.manifests.values())) for one in context.state.get("made", [])]
    raw, stored = sum(m.dump.raw_bytes for m in made), sum(m.size_bytes for m in made)
    of = f" of {len(backups)}" if len(done) != len(backups) else ""
    deleted = sum(step.action.verb == "delete" and step.result.outcome is StepOutcome.DONE for step in steps)
    seconds = sum(step.seconds for step in done)
    text = f"{len(done)}{of} {'database' if len(backups) == 1 else 'databases'}, {size(raw)} -> {size(stored)}"
    return f"{text} in {duration(seconds)}" + (f", {deleted} old backups deleted" if deleted else "")


def outputs(context: Context[Options], steps: Sequence[Step]) -> Mapping[str, Any]:
    """Name the backups that were made; where one failed, say what there is still."""
    failed = [s.action.object for s in steps if s.action.verb == "backup" and s.result.outcome in _WITHOUT_BACKUP]
    made = [one.id for one in context.state.get("made", [])]
    return {"backups": made, "still_good": list(_still_good(context, failed)) if failed else []}


_WITHOUT_BACKUP = (StepOutcome.FAILED, StepOutcome.NOT_REACHED)


def _still_good(context: Context[Options], databases: Sequence[str]) -> Iterator[str]:
    repositories = [repository for repository, _ in context.state["stores"]]
    server = server_of(context).name
    found = inventory.load(repositories, cache=context.history, prefix=server_prefix(server))
    for database in databases:
        yield standing(database, found.backups, context.clock.now())
    for name, error in found.unavailable.items():
        yield f"The repository {name} could not be asked: {error}"
