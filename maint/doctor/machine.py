"""Doctor's lines about this machine: who may read the configuration, and whether the history works."""

import os
import pwd
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from maint.backups.telling import STORED_BYTES
from maint.clock import Clock
from maint.config.model import Config
from maint.doctor.lines import fail, ok, warn
from maint.errors import HistoryError
from maint.history import History
from maint.task import Check

#: what doctor leaves in the history, so that writing it was tried
_SEEN = "doctor.seen"


def files(config: Config) -> Iterator[Check]:
    """Look at the modes of the configuration's files."""
    lines = [*_configuration(config), *_password_files(config)]
    yield from lines
    if not lines and config.path:
        yield ok("configuration", f"{config.path}: nobody else can change it, or read a secret in it")


def _configuration(config: Config) -> Iterator[Check]:
    if config.path is None:
        return
    folder = config.path.parent / "jobs"
    for file in (config.path, folder, *sorted(folder.glob("*.toml"))):
        if not file.exists():
            continue
        mode = file.stat().st_mode & 0o777
        if mode & 0o002:
            yield fail(
                "configuration",
                f"{file} can be changed by everybody (mode {mode:o})",
                f"chmod o-w {shlex.quote(str(file))}",
            )
        if mode & 0o004 and file.is_file() and _holds_secret(file, config):
            yield warn(
                "configuration",
                f"{file} holds a secret and can be read by everybody (mode {mode:o})",
                f"chmod o-rwx {shlex.quote(str(file))}",
            )


def _holds_secret(file: Path, config: Config) -> bool:
    """Tell whether a secret stands in the file itself, not only a reference to one."""
    text = file.read_text(encoding="utf-8", errors="replace")
    return any(secret in text for secret in config.secrets if secret)


def _password_files(config: Config) -> Iterator[Check]:
    for server in config.server.values():
        file = server.password_file
        if file is None:
            continue
        if not os.access(file, os.R_OK):
            yield fail(
                f"server {server.name}", f"password_file {file} cannot be read", f"ls -l {shlex.quote(str(file))}"
            )
        elif file.stat().st_mode & 0o077:  # https://www.postgresql.org/docs/current/libpq-pgpass.html
            yield fail(
                f"server {server.name}",
                f"libpq ignores {file}: others can read it",
                f"chmod 600 {shlex.quote(str(file))}",
            )


def history(config: Config, clock: Clock) -> Iterator[Check]:
    """Try to write the history."""
    try:
        if not History.exists(config):
            yield _can_be_made(config)
            return
        with History.open(config) as opened:
            opened.set_fact(_SEEN, clock.now().isoformat())
            yield ok("history", f"{opened.place} can be read and written")
    except HistoryError as error:
        yield fail("history", str(error), error.hint)


def last_sizes(config: Config, objects: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Return the bytes of the last backup of each (server, database) of which the history knows one."""
    try:
        if not History.exists(config):
            return {}
        with History.open(config) as opened:
            recent = {(s, d): opened.recent(STORED_BYTES, s, d, limit=1) for s, d in objects}
    except HistoryError:  # told already
        return {}
    return {key: values[0] for key, values in recent.items() if values}


def _can_be_made(config: Config) -> Check:
    existing = next(path for path in (config.state_dir, *config.state_dir.parents) if path.exists())
    if os.access(existing, os.W_OK | os.X_OK):
        return ok("history", f"none yet: the first run makes it (state_dir {config.state_dir})")
    user = pwd.getpwuid(os.geteuid()).pw_name
    fix = (
        f"install -d -m 700 -o {user} {shlex.quote(str(config.state_dir))}   # as root; or set state_dir in maint.toml"
    )
    return fail("history", f"state_dir {config.state_dir} cannot be made by {user}", fix)


def user(config: Config) -> Iterator[Check]:
    """Warn when root asks for somebody else's service: root may do more."""
    if os.geteuid() != 0 or not config.state_dir.exists():
        return
    owner = config.state_dir.stat().st_uid
    if owner != 0:
        name = _name(owner)
        yield warn(
            "user",
            f"asked as root, but maint runs as {name}: what {name} may do was not tried",
            f"sudo -u {name} maint doctor",
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
