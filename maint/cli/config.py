"""``maint config``: check, show, schema."""

import click

from maint.cli.app import App
from maint.cli.output import echo_json, printable
from maint.errors import ConfigError


@click.group()
def config() -> None:
    """Check and show the configuration."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def check(app: App, as_json: bool) -> int:
    """Check every file of the configuration; tell every problem at once.

    Connects to nothing: `maint doctor` does. Exit codes: 0 valid, 2 not.
    """
    try:
        found = app.config
    except ConfigError as error:
        return _tell_problems(error, as_json=as_json)
    counts = {"servers": len(found.server), "repositories": len(found.repository), "jobs": len(found.jobs)}
    if as_json:
        echo_json({"path": str(found.path), "valid": True, "problems": [], **counts})
        return 0
    off = sum(not job.enabled for job in found.jobs.values())
    told = [_count(counts["servers"], "server"), _count(counts["repositories"], "repository", "repositories")]
    click.echo(f"OK: {found.path}: {', '.join(told)}, {_count(len(found.jobs), 'job')} ({off} off)")
    for kind in ("server", "repository"):
        if not getattr(found, kind):
            click.echo(f"hint: there is no {kind} yet: add [{kind}.NAME] to {found.path}", err=True)
    return 0


def _tell_problems(error: ConfigError, *, as_json: bool) -> int:
    from maint.log import redact

    problems = [redact(problem) for problem in error.problems]
    if as_json:
        echo_json({"valid": False, "problems": problems})
        return error.exit_code
    for problem in problems:
        click.echo(printable(problem), err=True)
    click.echo(f"maint: {_count(len(problems), 'problem')} in the configuration", err=True)
    return error.exit_code


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(app: App, as_json: bool) -> None:
    """Show the effective configuration: each value, and where it comes from. Secrets are masked."""
    from maint.config.show import settings

    found = settings(app.config)
    if as_json:
        values = {setting.key: {"value": setting.value, "origin": setting.origin} for setting in found}
        echo_json({"path": str(app.config.path), "settings": values})
        return
    click.echo(f"# {app.config.path}")
    _echo_toml([(s.key, s.value, s.origin) for s in found])


def _echo_toml(found: list[tuple[str, object, str]]) -> None:
    """Print TOML: a header where the table changes, the origin as a comment."""
    from maint.config.show import toml

    table = ""
    lines = [(*key.rpartition("."), toml(value), origin) for key, value, origin in found]
    width = min(48, max((len(f"{name} = {value}") for _, _, name, value, _ in lines), default=0))
    for header, _, name, value, origin in lines:
        if header != table:
            click.echo(f"\n[{header}]")
            table = header
        click.echo(f"{printable(f'{name} = {value}').ljust(width)}  # {origin}")


@config.command()
@click.option("--job", is_flag=True, help="Of the files in jobs/ instead.")
def schema(job: bool) -> None:
    """Print the JSON schema of maint.toml, for editors that complete and check."""
    from maint.config.show import schema_of_jobs, schema_of_maint_toml
    from maint.tasks import OPTIONS

    echo_json(schema_of_jobs(OPTIONS) if job else schema_of_maint_toml())
