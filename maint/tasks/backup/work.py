"""The work of the task: plan, act, and what is told afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from maint.backups import judging, telling
from maint.backups.stores import open_stores
from maint.backups.upkeep import Upkeep
from maint.model import DONE_BEFORE, Action, Finding, Result, Step
from maint.postgres import connect
from maint.task import Context
from maint.tasks.backup import dumping
from maint.tasks.backup.databases import closed, is_wanted, unmatched, why_not
from maint.tasks.backup.options import Options, server_of


def plan(context: Context[Options]) -> Iterator[Action]:
    """Clear what a killed maint left, back up each database, and prune what its backup makes superfluous."""
    server = server_of(context)
    stores = open_stores(context.config, context.job, context.options.repositories)
    with connect(server, application_name=context.application_name, stop=context.stop) as connection:
        rows = connection.query("list_databases")
        facts = dumping.facts_of(context, connection)
    upkeep = Upkeep(
        stores, context.installation, context.job, context.options, server.name, context.clock, context.history
    )
    context.state.update(facts=facts, upkeep=upkeep)
    chosen = [row for row in rows if is_wanted(row, server)]
    for finding in chain(unmatched(server, rows, chosen), closed(server, chosen)):
        context.report(finding)
    context.state["databases"] = [row.name for row in chosen if why_not(row) is None]
    yield from upkeep.clearing()
    for row in chosen:
        yield dumping.action_of(context, row, facts)
    for found in upkeep.deletions(context.state["databases"]):
        if isinstance(found, Finding):
            context.report(found)
        else:
            yield found


def act(context: Context[Options], action: Action) -> Result:
    """Do one action."""
    upkeep: Upkeep = context.state["upkeep"]
    if action.verb == "backup":
        return dumping.back_up(context, action)
    return upkeep.clear(action) if action.verb == "clear" else upkeep.delete(action)


def conclude(context: Context[Options], steps: Sequence[Step]) -> str:
    """Sum up: ``2 databases, 2.9 GB -> 0.8 GB in 0:31``; report promises that are not kept."""
    if "databases" in context.state and context.stop.reason is None:
        for finding in judging.at_the_end(
            context.config,
            {server_of(context).name: context.state["databases"]},
            cache=context.history,
            now=context.clock.now(),
            log=context.log,
        ):
            context.report(finding)
    backups = sum(step.action.verb == "backup" for step in steps)
    earlier = sum(step.action.verb == "backup" and step.result.note == DONE_BEFORE for step in steps)
    done = len(telling.done(steps, "backup")) + earlier
    of = f" of {backups}" if done != backups else ""
    upkeep: Upkeep | None = context.state.get("upkeep")
    what = f"{done}{of} {'database' if backups == 1 else 'databases'}"
    what += f" ({earlier} by an earlier attempt)" if earlier else ""
    return telling.summary(what, upkeep.made if upkeep else (), steps)


def outputs(context: Context[Options], steps: Sequence[Step]) -> Mapping[str, Any]:
    """Name the backups that were made; where one failed, say what there is still."""
    return telling.outputs(context.state.get("upkeep"), steps)
