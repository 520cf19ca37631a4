"""``maint run``: one job now, in the foreground."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from maint.cli.app import App, on_terminal
from maint.cli.output import echo_json_line, printable
from maint.cli.signals import ended_by_signals
from maint.clock import Stop
from maint.errors import HistoryDenied, HistoryError, Stopped, UsageError

if TYPE_CHECKING:
    from maint.cli.progress import Line
    from maint.config.model import Job, ServerConfig
    from maint.model import Action, Step
    from maint.runner import Ground, Report


@click.command()
@click.argument("job")
@click.option("--server", "servers", multiple=True, help="Only on this server; may be given again.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, in order, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per run, one per line.")
@click.pass_obj
def run(app: App, job: str, servers: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Run JOB now, on each of its servers, in the foreground.

    Exit codes: 0 succeeded, 1 failed, 2 usage or configuration, 3 warned, 4 skipped, 5 stopped (also Ctrl-C),
    6 timed out; of several runs, the worst.
    """
    from maint import log, runner
    from maint.tasks import TASKS

    log.setup(sys.stderr, debug=app.debug, quiet=on_terminal() and not app.debug)
    wanted = _job(app, job)
    stop = Stop()
    with (
        ended_by_signals(stop),
        _progress(app, on_terminal() and not as_json) as line,
        _history(app) as (history, error),
    ):
        ground = runner.Ground(app.config, TASKS, app.clock, stop, history, error, line.show if line else None)
        chosen = _servers(ground, wanted, servers)
        if dry_run:
            for server in chosen:
                _dry_run(ground, wanted, server, as_json=as_json)
            return 0
        runner.sweep(ground)
        return _run_all(ground, wanted, chosen, line, as_json=as_json)


def _job(app: App, name: str) -> "Job":
    jobs = app.config.jobs
    if name not in jobs:
        raise UsageError(f"there is no job {name}", hint=f"the jobs are: {', '.join(sorted(jobs))}")
    return jobs[name]


def _servers(ground: "Ground", job: "Job", names: Sequence[str]) -> list["ServerConfig | None"]:
    from maint import runner

    found = runner.servers_of(ground, job)
    unknown = set(names) - {server.name for server in found if server}
    if unknown:
        raise UsageError(
            f"the job {job.name} does not run on {', '.join(sorted(unknown))}",
            hint=f"its servers: {', '.join(s.name for s in found if s) or 'none'}",
        )
    if not found:
        raise UsageError(f"no server is configured for the job {job.name}", hint="add [server.main]; maint init")
    return [server for server in found if not names or (server and server.name in names)]


def _run_all(
    ground: "Ground", job: "Job", servers: Sequence["ServerConfig | None"], line: "Line | None", *, as_json: bool
) -> int:
    from maint import runner
    from maint.model import WORST_FIRST

    reports = []
    for server in servers:
        if ground.stop.is_set():
            break
        reports.append(runner.work(ground, job, server))
        if line:
            line.clear()
        _tell(reports[-1], job, as_json=as_json)
    if not reports:
        return Stopped.exit_code
    return min(reports, key=lambda report: WORST_FIRST.index(report.run.outcome or WORST_FIRST[0])).exit_code


def _tell(report: "Report", job: "Job", *, as_json: bool) -> None:
    from maint.cli import failure

    if as_json:
        echo_json_line(_as_json(report))
        return
    for step in report.steps:
        if not _is_routine(step):
            click.echo(f"{printable(step.action.object)}  {_word(step)}  {printable(step.result.note)}")
    for finding in report.findings:
        click.echo(
            f"{finding.severity}  {printable(finding.message)}"
            + (f"  ({finding.value})" if finding.value else "")
            + (f"  [{finding.where}]" if finding.where else "")
        )
        if finding.fix:
            click.echo(f"  fix: {finding.fix}")
    click.echo(f"{report.run.outcome}: {report.run.summary} (run {report.run.id})")
    if report.run.error:
        click.echo(failure.text(report, job), err=True)


def _is_routine(step: "Step") -> bool:
    """Whether there is nothing to tell: nothing was left to clear."""
    return step.action.verb == "clear" and step.result.outcome == "no_effect"


def _word(step: "Step") -> str:
    """Say what became of an action: ``done``, ``deleted``, ``not reached``."""
    if step.result.outcome == "done":
        return {"delete": "deleted", "clear": "cleared"}.get(step.action.verb, "done")
    return step.result.outcome.replace("_", " ")


def _as_json(report: "Report") -> dict[str, Any]:
    run = report.run
    return {
        "run_id": run.id,
        "job": run.job,
        "server": run.server,
        "slot": run.slot,
        "attempt": run.attempt,
        "outcome": run.outcome,
        "exit_code": report.exit_code,
        "summary": run.summary,
        "error": run.error,
        "hint": run.hint,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "findings": [
            {
                "check": f.check,
                "severity": f.severity,
                "object": f.object,
                "message": f.message,
                "value": f.value,
                "where": f.where,
            }
            for f in report.findings
        ],
        **report.outputs,
    }


def _dry_run(ground: "Ground", job: "Job", server: "ServerConfig | None", *, as_json: bool) -> None:
    from maint import runner

    actions = runner.plan(ground, job, server)
    if as_json:
        shown = [_action_json(action) for action in actions]
        echo_json_line({"job": job.name, "server": server.name if server else "-", "actions": shown})
        return
    for action in actions:
        reason = f"skipped: {action.skip}" if action.skip else action.reason
        click.echo(printable(f"{action.verb} {action.object}: {reason}"))
        for command in action.commands:
            click.echo(f"    {printable(command)}")
    click.echo("Nothing was done: this was a dry run.")


def _action_json(action: "Action") -> dict[str, Any]:
    return {
        "verb": action.verb,
        "object": action.object,
        "commands": action.commands,
        "reason": action.reason,
        "skip": action.skip,
        "predicted_seconds": action.predicted_seconds,
        "lock": action.lock,
    }


@contextmanager
def _history(app: App) -> Iterator[tuple[Any, HistoryError | None]]:
    """Open the history; one that does not open is a matter for the runner."""
    try:
        history = app.history()
    except HistoryError as error:
        if isinstance(error, HistoryDenied) and not os.access(app.config.state_dir, os.X_OK):
            raise  # nothing here is ours: whoever called meant to do so as its owner
        yield None, error
        return
    with history:
        yield history, None


@contextmanager
def _progress(app: App, wanted: bool) -> Iterator["Line | None"]:
    """Lend what shows progress in one line of the terminal."""
    if not wanted:
        yield None
        return
    from maint.cli.progress import Line

    line = Line(sys.stderr, app.clock)
    try:
        yield line
    finally:
        line.clear()
