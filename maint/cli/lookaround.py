"""Looks for PostgreSQL servers on this machine and in libpq's settings, and asks each what it is."""

import configparser
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from maint.config.model import ServerConfig
from maint.config.values import mask_dsn
from maint.errors import MaintError
from maint.postgres import Connection, connect

#: Debian's and Red Hat's folder for sockets, and PostgreSQL's own default
SOCKET_FOLDERS = (Path("/var/run/postgresql"), Path("/tmp"))  # noqa: S108 - where servers put their sockets
ROLE = "maint"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was found, and what it said."""

    dsn: str
    found: str  #: where, in words
    error: MaintError | None = None  #: why it could not be asked
    version: int = 0  #: 160004
    user: str = ""
    superuser: bool = False
    standby: bool = False
    role_exists: bool = False
    databases: tuple[tuple[str, int | None], ...] = ()  #: name and bytes, where they may be known
    private: tuple[str, ...] = ()  #: databases to which not everybody may connect

    @property
    def shown(self) -> str:
        return f"{mask_dsn(self.dsn) or 'libpq defaults'} ({self.found})"


def places(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a dsn and where it was found, for everything that may be a server."""
    given = sorted(name for name in ("PGSERVICE", "PGHOST", "PGHOSTADDR", "PGPORT") if environment.get(name))
    if given:
        yield "", f"environment: {', '.join(given)}"
    for file in _service_files(environment):
        for name in _services(file):
            yield f"service={_quoted(name)}", str(file)
    for folder, port in _sockets():
        yield f"host={folder} port={port}", "socket"


def _service_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield libpq's: https://www.postgresql.org/docs/current/libpq-pgservice.html."""
    yield Path(environment.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf")
    if folder := environment.get("PGSYSCONFDIR"):
        yield Path(folder) / "pg_service.conf"


def _services(file: Path) -> list[str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    try:
        parser.read(file, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError):
        return []
    return parser.sections()


def _sockets() -> Iterator[tuple[Path, int]]:
    for folder in SOCKET_FOLDERS:
        for path in sorted(folder.glob(".s.PGSQL.*")) if os.access(folder, os.R_OK) else ():
            if (match := re.fullmatch(r"\.s\.PGSQL\.(\d+)", path.name)) and path.is_socket():
                yield folder, int(match[1])


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w.-]+", value) else "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"


def ask(dsn: str, found: str) -> Server:
    """Connect and describe the server; a socket also as postgres, for whom peer authentication may be off."""
    attempts = [dsn, f"{dsn} user=postgres"] if found == "socket" else [dsn]
    answers = (_asked(attempt, found) for attempt in attempts)
    first = next(answers)
    return first if first.error is None else next((a for a in answers if a.error is None), first)


def _asked(dsn: str, found: str) -> Server:
    try:
        # the maintenance database of the file that is written is the default, so it is asked for here too
        with connect(ServerConfig(name="main", dsn=dsn), application_name="maint init") as connection:
            return _described(connection, dsn, found)
    except MaintError as error:
        return Server(dsn, found, error=error)


def _described(connection: Connection, dsn: str, found: str) -> Server:
    role = connection.query("describe_role")[0]
    access = connection.query("describe_access", role=ROLE)[0]
    rows = [row for row in connection.query("list_databases") if row.allows_connections and not row.template]
    return Server(
        dsn,
        found,
        version=connection.version,
        user=role.name,
        superuser=role.superuser,
        standby=access.standby,
        role_exists=access.role_exists,
        databases=tuple((row.name, row.size_bytes) for row in rows),
        private=tuple(access.private_databases),
    )
