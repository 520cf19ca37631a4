"""Backups that tests restore with maint: made once, restored into databases that are gone afterwards."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from maint.cluster import Cluster
from support import postgres
from support.dumps import backup_job
from support.maint import Maint
from support.postgres import Database

_numbers = itertools.count(1)

#: of databases that a restore makes until they get their name
BESIDE = "maint_restore_"


@pytest.fixture
def target(cluster: Cluster) -> Iterator[Callable[..., Database]]:
    """Name databases that do not exist yet: `target()`; on the shared server, or another; dropped afterwards."""
    named: list[Database] = []

    def name(text: str | None = None, server: Cluster = cluster) -> Database:
        named.append(Database(server, text or f"restored_{next(_numbers)}"))
        return named[-1]

    yield name
    for one in named:
        postgres.drop(one)


def backed_up(maint: Maint, options: str = "", **job: Any) -> Maint:
    """Make one backup with a configured maint."""
    backup_job(maint, options, **job)
    answer = maint("run", "backup")
    assert answer.code in (0, 3), answer.err
    return maint


def add_server(maint: Maint, name: str, cluster: Cluster, user: str = "postgres") -> None:
    """Configure one more server."""
    maint.add(f'[server.{name}]\ndsn = "{cluster.dsn(user=user)}"\n')


def databases(cluster: Cluster) -> set[str]:
    """Return the names of all databases of a server."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}


def roles(cluster: Cluster) -> set[str]:
    """Return the names of all roles of a server."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        return {row[0] for row in connection.execute("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'")}


def nothing_beside(maint: Maint, cluster: Cluster) -> bool:
    """Tell whether restores have left nothing: no database beside another, no file."""
    assert {name for name in databases(cluster) if name.startswith(BESIDE)} == set()
    scratch = maint.state / "scratch"
    assert not scratch.is_dir() or list(scratch.iterdir()) == []
    return True


def volumes(folder: Path) -> list[Path]:
    """Return the volumes of a backup, in order."""
    return sorted(folder.glob("dump.[0-9]*"))


def flip(path: Path, at: int | None = None) -> None:
    """Change one bit of a file, by default in its middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)
