"""``maint init``: look around, propose, write a configuration that passes its check."""

import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from maint.cli.app import App
from maint.cli.output import printable, size
from maint.errors import UsageError

if TYPE_CHECKING:
    from maint.cli.lookaround import Server


@click.command()
@click.option("--dsn", help="The server, as libpq takes it; otherwise maint looks for servers.")
@click.option("--repository", "url", help="Where backups go: file:///a/path or s3://bucket/prefix.")
@click.option("--yes", is_flag=True, help="Take what is proposed; so it is where no terminal is read from.")
@click.option("--force", is_flag=True, help="Overwrite a configuration.")
@click.pass_obj
def init(app: App, dsn: str | None, url: str | None, yes: bool, force: bool) -> int:
    """Look for servers, say what a role for maint needs there, and write a commented maint.toml.

    It is written to --config, or /etc/maint/maint.toml as root, or ./maint.toml. Exit codes: 0 written,
    2 refused, 3 written, but no server answered.
    """
    target = _target(app)
    if target.exists() and not force:
        raise UsageError(f"{target} exists already", hint="maint config check checks it; --force overwrites it")
    _check(dsn, url)
    servers = _look(dsn)
    url = url or _proposed_url()
    if sys.stdin.isatty() and not yes:
        url = click.prompt("Where shall backups go?", default=url)
        _check(dsn, url)
        click.confirm(f"Write {target}?", default=True, abort=True)
    _write(target, "".join(_text(servers, url, app.clock.now())), force=force)
    _validate(target)
    click.echo(f"Wrote {target} (only you can read it). Backups go to {url}.")
    named = f" --config {target}" if app.config_path else ""
    click.echo(f"Next: maint{named} doctor")
    return 0 if servers and servers[0].error is None else 3


def _target(app: App) -> Path:
    if app.config_path:
        return app.config_path.absolute()
    return Path("/etc/maint/maint.toml") if os.geteuid() == 0 else Path("maint.toml").absolute()


def _proposed_url() -> str:
    from maint.config.load import state_dir

    return f"file://{Path('/var/backups/maint') if os.geteuid() == 0 else state_dir() / 'backups'}"


def _check(dsn: str | None, url: str | None) -> None:
    """Refuse what the configuration would refuse, before anything is written."""
    from pydantic import ValidationError

    from maint.config.model import RepositoryConfig, ServerConfig

    try:
        ServerConfig(name="main", dsn=dsn or "")
        RepositoryConfig(name="local", url=url or _proposed_url())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        option = "--dsn" if first["loc"] == ("dsn",) else "--repository"
        raise UsageError(f"{option}: {first['msg'].removeprefix('Value error, ')}") from None


# -- servers --


def _look(dsn: str | None) -> "list[Server]":
    """Ask every server that may be there, show what was found; those that answer come first."""
    from maint.cli.lookaround import ask, places

    found = [(dsn, "--dsn")] if dsn is not None else list(places(os.environ))
    servers = sorted((ask(*place) for place in found), key=lambda server: server.error is not None)
    for line in _seen(servers):
        click.echo(line)
    return servers


def _seen(servers: "Sequence[Server]") -> Iterator[str]:
    from maint.cli import grants

    if not servers:
        yield "No server found: no socket, no PG* variables, no service file. Give one: maint init --dsn 'host=…'"
    for server in servers:
        if server.error is not None:
            yield f"FAIL  {printable(server.shown)}: {printable(str(server.error))}"
            continue
        kind = "a superuser" if server.superuser else "no superuser"
        yield f"OK    {printable(server.shown)}: PostgreSQL {_version(server)}, as {server.user} ({kind})"
        yield f"      databases: {', '.join(f'{printable(n)} {size(b)}' for n, b in server.databases) or 'none'}"
        if server.version // 10000 < grants.OLDEST:
            yield f"      too old: maint needs PostgreSQL {grants.OLDEST} or newer"
    if answering := [server for server in servers if server.error is None]:
        yield from _role(answering[0])
    elif servers:
        yield "As the user who may connect, often postgres: sudo -u postgres maint init"


def _role(server: "Server") -> Iterator[str]:
    from maint.cli import grants

    yield ""
    enough = "It works as it is; for a role of its own," if server.superuser else "For a role with what it needs,"
    yield f"{enough} run this as a superuser:"
    yield from (f"  {line}" for line in grants.statements(server))
    yield ""


def _version(server: "Server") -> str:
    return f"{server.version // 10000}.{server.version % 10000}"


# -- the file --


def _text(servers: "Sequence[Server]", url: str, now: datetime) -> Iterator[str]:
    zone = _zone()
    yield f"# Configuration of maint, written by maint init on {now.astimezone(ZoneInfo(zone)):%Y-%m-%d}.\n"
    yield "# Check it: maint config check. What is in force: maint config show. Jobs: files in jobs/ beside this one.\n"
    yield "# ${env:NAME} and ${credential:NAME} are an environment variable and a systemd credential; $$ is a $.\n"
    yield f"\n# Zone of schedules and of retention.\ntimezone = {_quoted(zone)}\n"
    yield from _server_text(servers)
    yield from _repository_text(url)
    yield _REST


def _server_text(servers: "Sequence[Server]") -> Iterator[str]:
    from maint.cli.lookaround import ROLE

    dsn = servers[0].dsn if servers else f"host=localhost user={ROLE}"
    yield "\n[server.main]\n# Anything libpq takes; better than here passwords stand in ~/.pgpass or password_file.\n"
    if servers and servers[0].error is not None:
        yield "# When maint init asked, this did not answer.\n"
    yield f"dsn = {_quoted(dsn)}\n"
    yield '# Patterns; "!scratch_*" leaves out. Templates and databases internal to a provider are never taken.\n'
    yield 'databases = ["*"]\n'
    for number, server in enumerate(servers[1:], 2):
        yield f"\n# Found too ({printable(server.found)}):\n"
        yield f"# [server.server{number}]\n# dsn = {_quoted(server.dsn)}\n"


def _repository_text(url: str) -> Iterator[str]:
    name = "local" if url.startswith("file:") else "offsite"
    yield f"\n[repository.{name}]\nurl = {_quoted(url)}\n"
    yield "# Public keys (age); backups are then encrypted before they leave this machine.\n"
    yield '# encrypt_to = ["age1…"]\n'
    if name == "local":
        yield "\n# A backup on the same machine dies with it. One dump feeds all repositories.\n"
        yield '# [repository.offsite]\n# url = "s3://bucket/prefix"\n# endpoint = "https://s3.example.com"\n'
        yield '# access_key = "${env:S3_ACCESS_KEY}"\n# secret_key = "${env:S3_SECRET_KEY}"\n'


_REST = """
# Promises that are measured; one that is broken is a finding. The schedules that ship with maint can keep these:
# the age of the newest good backup (every night), and of the newest proven one (every Sunday; the first run of
# verify proves the first). rto, the time that a restore takes, depends on the size of your databases.
# [objectives]
# rpo = "26h"
# proof = "8d"
"""


def _quoted(text: str) -> str:
    from maint.config.show import toml

    return toml(text.replace("$", "$$"))


def _zone() -> str:
    """Return the zone of this machine, as far as it tells its name."""
    from maint.schedule import check_zone

    linked = os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    for name in (os.environ.get("TZ", "").removeprefix(":"), linked):
        try:
            return check_zone(name)
        except ValueError:
            continue
    return "UTC"


def _write(target: Path, text: str, *, force: bool) -> None:
    """Write the file, 0600 from its first byte; an existing one is replaced whole."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        # a link fails if somebody else was faster
        draft.replace(target) if force else target.hardlink_to(draft)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}", hint="--config names another place") from None
    finally:
        draft.unlink(missing_ok=True)


def _validate(target: Path) -> None:
    from maint.config import load
    from maint.tasks import OPTIONS

    load(target, options=OPTIONS)
