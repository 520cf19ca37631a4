"""``maint jobs``, ``maint jobs show``, ``maint tasks``."""

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from maint.cli.app import App
from maint.cli.output import age, echo_json, local, printable, table
from maint.errors import HistoryError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from maint.config.model import Job
    from maint.history import History
    from maint.model import Run


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_context
def jobs(ctx: click.Context, as_json: bool) -> None:
    """List what is scheduled, the next run and the last outcome."""
    if ctx.invoked_subcommand is not None:
        return
    app: App = ctx.obj
    last = _last_runs(app)
    if as_json:
        echo_json([_as_json(app, job, last.get(name)) for name, job in app.config.jobs.items()])
        return
    on = [job for job in app.config.jobs.values() if job.enabled]
    if on:
        rows = [_row(app, job, last.get(job.name)) for job in on]
        click.echo(table(rows, headers=("job", "task", "schedule", "next run", "last outcome")))
    for job in app.config.jobs.values():
        if not job.enabled:
            click.echo(f"off: {job.name} ({job.task}); to switch it on: {_switch(app, job)}")


def _switch(app: App, job: "Job") -> str:
    folder = app.config.path.parent if app.config.path else None
    return f"enabled = true in {folder / 'jobs' / f'{job.name}.toml' if folder else 'its file'}"


def _last_runs(app: App) -> dict[str, "Run"]:
    """Return the last run of each job; without a history that can be read, nothing."""
    try:
        history = app.history_if_any()
    except HistoryError as error:
        click.echo(f"maint: last outcomes are unknown: {error}", err=True)
        return {}
    if history is None:
        return {}
    with history:
        found = {job.name: _last_run(app, history, job) for job in app.config.jobs.values()}
    return {name: run for name, run in found.items() if run}


def _last_run(app: App, history: "History", job: "Job") -> "Run | None":
    """Return the worst of the last runs on each server; one that still runs counts as the best."""
    from maint.model import WORST_FIRST

    servers = ["-", *(server.name for server in app.config.servers_of(job.servers))]
    found = [run for server in servers if (run := history.last_of(job.name, server))]
    rank = {outcome: number for number, outcome in enumerate(WORST_FIRST)}
    return min(found, key=lambda run: rank.get(run.outcome, 99) if run.outcome else 99, default=None)


def _row(app: App, job: "Job", last: "Run | None") -> tuple[str, ...]:
    following = _next_run(app, job)
    when = _with_utc(following, job) if following else f"after {job.after}" if job.after else "by hand"
    trigger = job.schedule or (f"after {job.after}" if job.after else "none")
    return job.name, job.task + (" (advise)" if job.mode == "advise" else ""), trigger, when, _told(app, last)


def _told(app: App, run: "Run | None") -> str:
    if run is None:
        return "-"
    now = app.clock.now()
    if run.outcome is None:
        return f"running for {age(run.started_at, now)} (run {run.id})"
    return f"{run.outcome} {age(run.finished_at or run.started_at, now)} ago (run {run.id})"


def _next_run(app: App, job: "Job") -> "datetime | None":
    return job.cron.next(app.clock.now()) if job.cron and job.enabled else None


def _with_utc(instant: "datetime", job: "Job") -> str:
    shown = local(instant, ZoneInfo(job.timezone))
    return shown if shown.endswith(" UTC") else f"{shown} ({local(instant, ZoneInfo('UTC'))[-9:]})"


def _as_json(app: App, job: "Job", last: "Run | None") -> dict[str, Any]:
    return {
        "name": job.name,
        "task": job.task,
        "enabled": job.enabled,
        "mode": job.mode,
        "schedule": job.schedule,
        "after": job.after,
        "timezone": job.timezone,
        "servers": [server.name for server in app.config.servers_of(job.servers)],
        "next_run_at": _next_run(app, job),
        "last_run_id": last.id if last else None,
        "last_outcome": last.outcome if last else None,
        "last_started_at": last.started_at if last else None,
    }


@jobs.command()
@click.argument("name")
@click.option(
    "--next", "count", type=click.IntRange(0, 1000), default=5, show_default=True, help="Coming runs to show."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(app: App, name: str, count: int, as_json: bool) -> None:
    """Show the effective settings of the job NAME, where each comes from, and its next runs."""
    from maint.config.problems import suggestion
    from maint.config.show import job_settings, toml

    if name not in app.config.jobs:
        raise UsageError(f"there is no job {name!r}{suggestion(name, app.config.jobs)}", hint="maint jobs")
    job = app.config.jobs[name]
    prefix = f"jobs.{name}."
    found = [(s.key.removeprefix(prefix), s.value, s.origin) for s in job_settings(app.config, job)]
    coming = job.cron.upcoming(app.clock.now(), count) if job.cron and job.enabled else []
    if as_json:
        values = {key: {"value": value, "origin": origin} for key, value, origin in found}
        echo_json({"name": name, "settings": values, "next_runs_at": coming})
        return
    click.echo(table([(key, toml(value), origin) for key, value, origin in found], headers=(name, "value", "from")))
    click.echo(_coming_in_words(app, job, [_with_utc(instant, job) for instant in coming]))


def _coming_in_words(app: App, job: "Job", coming: list[str]) -> str:
    if not job.enabled:
        return f"next runs: none, it is off; to switch it on: {_switch(app, job)}"
    if job.cron:
        return "next runs: " + "\n           ".join(coming or ["not asked for"])
    return f"next runs: after each run of {job.after}" if job.after else f"next runs: by hand: maint run {job.name}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def tasks(as_json: bool) -> None:
    """List the tasks and their options."""
    from maint.config.show import options_of, toml
    from maint.tasks import TASKS

    if as_json:
        echo_json([{"name": t.name, "summary": t.summary, "options": [*options_of(t.options)]} for t in TASKS.values()])
        return
    for number, task in enumerate(TASKS.values()):
        click.echo(("\n" if number else "") + f"{task.name}: {printable(task.summary)}")
        rows = [(o["option"], o["type"], _default(o, toml), o["description"]) for o in options_of(task.options)]
        click.echo(table(rows, headers=("option", "type", "default", "")))


def _default(option: dict[str, Any], write: Any) -> str:
    if option["required"]:
        return "required"
    return write(option["default"]) if option["default"] is not None else "-"
