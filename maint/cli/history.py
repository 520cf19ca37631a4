"""``maint history`` and ``maint show``: what maint did."""

import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from maint.cli.app import App
from maint.cli.output import duration, echo_json, printable, table
from maint.clock import Stop
from maint.errors import HistoryError, UsageError
from maint.model import Outcome, Run

if TYPE_CHECKING:
    from maint.cli.page import Page
    from maint.history import History

_NO_RUNS = "no runs yet\nTo begin: maint run backup"


@click.command()
@click.option("--job", help="Only runs of this job.")
@click.option("--server", help='Only runs on this server; "-" for those of the installation.')
@click.option("--outcome", type=click.Choice([outcome.value for outcome in Outcome]), help="Only this outcome.")
@click.option("--since", help="Only runs that began since: 2d, 12h, or 2026-11-01, or 2026-11-01T18:00.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One array.")
@click.pass_obj
def history(
    app: App, job: str | None, server: str | None, outcome: str | None, since: str | None, limit: int, as_json: bool
) -> None:
    """The runs, newest first."""
    began = _since(app, since)
    found = app.history_if_any()
    if found is None:
        echo_json([]) if as_json else click.echo(_NO_RUNS)
        return
    with found:
        runs = found.runs(
            job=job, server=server, outcome=Outcome(outcome) if outcome else None, since=began, limit=limit
        )
    if as_json:
        echo_json([_row(run) for run in runs])
    elif runs:
        click.echo(_table(app, runs))
        _tell_of_more(runs, limit)
    else:
        click.echo("no such run" if job or server or outcome or since else _NO_RUNS)


def _since(app: App, text: str | None) -> datetime | None:
    from maint.config.values import parse_duration

    if text is None:
        return None
    if re.fullmatch(r"\d+[smhdw]", text):
        return app.clock.now() - parse_duration(text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text}: not understood", hint="as in 2d, 12h, 2026-11-01") from None
    zone = ZoneInfo(app.config.timezone)
    return (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)


def _zone(app: App, run: Run) -> ZoneInfo:
    job = app.config.jobs.get(run.job)
    return ZoneInfo(job.timezone if job else app.config.timezone)


def _table(app: App, runs: list[Run]) -> str:
    from maint.cli.page import outcome_of, seconds_of, slot_of

    rows = [
        (
            run.id,
            run.job,
            run.server,
            slot_of(run, _zone(app, run)) + (f" (attempt {run.attempt})" if run.attempt > 1 else ""),
            outcome_of(run),
            duration(seconds_of(run)),
            _short(run.error or run.summary),
        )
        for run in runs
    ]
    return table(rows, ("run", "job", "server", "slot", "outcome", "took", ""))


def _short(text: str) -> str:
    line = printable(text.partition("\n")[0])
    return line if len(line) <= 100 else f"{line[:99]}…"


def _tell_of_more(runs: list[Run], limit: int) -> None:
    bad = next((run for run in runs if run.outcome not in (None, Outcome.SUCCEEDED)), None)
    if len(runs) == limit:
        click.echo(f"The newest {limit}; more with --limit.", err=True)
    if bad is not None:
        click.echo(f"To look: maint show {bad.id}", err=True)


def _row(run: Run) -> dict[str, Any]:
    from maint.cli.page import seconds_of

    return {
        "run_id": run.id,
        "job": run.job,
        "task": run.task,
        "server": run.server,
        "slot": run.slot,
        "attempt": run.attempt,
        "outcome": run.outcome,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seconds": seconds_of(run),
        "summary": run.summary,
        "error": run.error,
        "hint": run.hint,
    }


@click.command()
@click.argument("run_id", metavar="[RUN]", type=click.IntRange(min=1), required=False)
@click.option("--follow", is_flag=True, help="Of a running one: show its log until it ends.")
@click.option("--log", "whole_log", is_flag=True, help="The whole log.")
@click.option("--json", "as_json", is_flag=True, help="One object.")
@click.pass_obj
def show(app: App, run_id: int | None, follow: bool, whole_log: bool, as_json: bool) -> None:
    """One run: its steps, findings and log. Without RUN: the newest that did not succeed.

    With --follow and without RUN: the newest that is running.
    """
    found = app.history_if_any()
    if found is None:
        if run_id is not None:
            raise HistoryError(f"there is no run {run_id}", hint="there is no history yet: maint run backup")
        echo_json(None) if as_json else click.echo(_NO_RUNS)
        return
    with found:
        run = found.run(run_id) if run_id is not None else _chosen(found, follow=follow)
        if run is None:
            echo_json(None) if as_json else click.echo(_nothing(follow=follow))
            return
        if follow:
            run = _follow(app, found, run, quiet=as_json)
        _show(app, found, run, whole_log=whole_log, as_json=as_json)


def _chosen(found: "History", *, follow: bool) -> Run | None:
    if not follow:
        return found.last_bad()
    return next(iter(found.runs(unfinished=True, limit=1)), None)


def _nothing(*, follow: bool) -> str:
    what = "nothing is running" if follow else "every run that ended succeeded"
    return f"{what}\nTo see them: maint history"


def _show(app: App, found: "History", run: Run, *, whole_log: bool, as_json: bool) -> None:
    from maint.cli.page import Page, text

    page = Page.read(found, run)
    if as_json:
        echo_json(_as_json(found, page, whole_log=whole_log))
    else:
        click.echo(text(page, _zone(app, run), app.clock.now(), whole_log=whole_log))


def _as_json(found: "History", page: "Page", *, whole_log: bool) -> dict[str, Any]:
    from dataclasses import asdict

    run = page.run
    return {
        **_row(run),
        "pid": run.pid,
        "host": run.host,
        "heartbeat_at": run.heartbeat_at,
        "progress": run.progress,
        "steps": [asdict(step) for step in page.steps],
        "findings": [
            {**asdict(row.finding), "server": row.server, "fingerprint": row.fingerprint, "at": row.at}
            for row in page.findings
        ],
        "samples": [{**asdict(row.sample), "server": row.server, "at": row.at} for row in found.samples(run.id)],
        "log": page.log.splitlines() if whole_log else page.tail,
    }


def _follow(app: App, found: "History", run: Run, *, quiet: bool) -> Run:
    """Show what the run logs until it ends, or shows no sign of life; return its last state."""
    from maint.cli.progress import Line

    line = Line(sys.stderr, app.clock)
    terminal = sys.stderr.isatty() and not quiet
    position = 0
    while True:
        run = found.run(run.id)  # before the log: what was logged until it ended is then there
        fresh, position = found.log_after(run.id, position)
        if fresh and not quiet:
            line.clear()
            click.echo("\n".join(printable(text) for text in fresh.splitlines()))
        if run.outcome is not None or _silent(app, run):
            line.clear()
            return run
        if terminal:
            line.show(run.progress)
        app.clock.wait(Stop(), 1.0)


def _silent(app: App, run: Run) -> bool:
    from maint.history.claims import SILENCE

    silent = run.heartbeat_at is not None and app.clock.now() - run.heartbeat_at > SILENCE
    if silent:
        click.echo(f"run {run.id} shows no sign of life: its process {run.pid} on {run.host} may be dead", err=True)
    return silent
