"""Backups that tests make: their manifests, independent counts, a restore with stock tools, stand-ins for pg_dump."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from maint.backups.manifest import DatabaseManifest
from maint.cluster import Cluster
from maint.programs import Installation
from support import postgres, wait_until
from support.maint import Maint
from support.postgres import Database

Counts = dict[tuple[str, str], int]


def backup_job(maint: Maint, options: str = "", **keys: Any) -> None:
    """Write jobs/backup.toml: no retries unless asked for, other `keys`, and lines for its options."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"retries": 0, **keys}.items()]
    maint.job("backup", "\n".join([*lines, "[options]", options]))


def manifests(maint: Maint, repository: Path | None = None) -> dict[str, DatabaseManifest]:
    """Return the manifests in a repository by database; there is one each."""
    paths = sorted((repository or maint.repository).rglob("manifest.json"))
    found = {one.database: one for one in (DatabaseManifest.model_validate_json(path.read_bytes()) for path in paths)}
    assert len(found) == len(paths), paths
    return found


def manifest(maint: Maint, repository: Path | None = None) -> DatabaseManifest:
    """Return the only manifest in a repository."""
    (found,) = manifests(maint, repository).values()
    return found


def folder_of(maint: Maint, repository: Path | None = None) -> Path:
    """Return the folder of the only backup in a repository."""
    (path,) = (repository or maint.repository).rglob("manifest.json")
    return path.parent


def left_in(repository: Path) -> list[str]:
    """Return everything in a repository, folders too."""
    return sorted(str(path.relative_to(repository)) for path in repository.rglob("*"))


def counted(manifest: DatabaseManifest) -> Counts:
    """Return the counts in a manifest; each table stands there once and was counted."""
    tables = manifest.contents.tables
    found = {(table.schema_, table.name): table.rows for table in tables}
    assert len(found) == len(tables)
    assert None not in found.values(), [table for table in tables if table.rows is None]
    return found  # type: ignore[return-value]


def counts(database: Database) -> Counts:
    """Count every ordinary table of a database that is nobody's extension's."""
    with database.connect() as connection:
        names = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables t JOIN pg_class c"
            "  ON c.oid = format('%I.%I', schemaname, tablename)::regclass"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND c.relkind = 'r'"
        ).fetchall()
        return {name: _rows(connection, name) for name in names}


def _rows(connection: psycopg.Connection[Any], name: tuple[Any, ...]) -> int:
    query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(*name))
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def restore(folder: Path, database: Database, identity: str = "") -> Database:
    """Do what RESTORE.md says, word for word, on the database's own server.

    The database itself is renamed to "moved away" for it, and must be gone when the next one is.
    """
    with psycopg.connect(database.cluster.dsn(), autocommit=True) as connection:
        connection.execute('DROP DATABASE IF EXISTS "moved away" WITH (FORCE)')
        statement = sql.SQL('ALTER DATABASE {} RENAME TO "moved away"')
        connection.execute(statement.format(sql.Identifier(database.name)))
    with tempfile.TemporaryDirectory() as place:
        downloaded = Path(shutil.copytree(folder, Path(place, "downloaded")))
        (downloaded / "key.txt").write_text(identity)
        _follow(downloaded, database, _age(Path(place)))
    return database


def instructions(folder: Path) -> list[str]:
    """Return the commands in RESTORE.md."""
    text = (folder / "RESTORE.md").read_text()
    return [line.strip() for line in text.splitlines() if line.startswith("       ")]


def _follow(folder: Path, database: Database, age: Path) -> None:
    cluster = database.cluster
    environment = {
        "PATH": os.pathsep.join([str(cluster.installation.bin_dir), str(age), os.environ["PATH"]]),
        "PGHOST": str(cluster.socket_dir),
        "PGPORT": str(cluster.port),
        "PGUSER": "postgres",
    }
    for command in instructions(folder):
        argv = ["bash", "-e", "-o", "pipefail", "-c", command]
        done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def _age(folder: Path) -> Path:
    """Make an ``age`` for PATH, which may not be installed."""
    script = (
        f"#!{sys.executable}\n"
        "import sys, pathlib, pyrage\n"
        "assert sys.argv[1:3] == ['--decrypt', '--identity']\n"
        "key = pyrage.x25519.Identity.from_str(pathlib.Path(sys.argv[3]).read_text())\n"
        "pyrage.decrypt_io(sys.stdin.buffer, sys.stdout.buffer, [key])\n"
    )
    return _executable(folder / "bin" / "age", script).parent


def _executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def stand_in(folder: Path, installation: Installation, script: str, version: str | None = None) -> Path:
    """Return a bin_dir whose pg_dump is a script in bash; "$REAL" is the true one, and tells the version."""
    folder.mkdir(parents=True)
    for name in ("pg_restore", "pg_dumpall", "psql"):
        (folder / name).symlink_to(installation.bin_dir / name)
    answer = f"echo 'pg_dump (PostgreSQL) {version}'; exit" if version else 'exec "$REAL" --version'
    head = f"#!/bin/bash\nREAL={installation.bin_dir}/pg_dump\n" + f'if [ "$1" = --version ]; then {answer}; fi\n'
    return _executable(folder / "pg_dump", head + script + "\n").parent


@dataclass
class Gate:
    """A pg_dump that waits at some point until the test lets it go on."""

    bin_dir: Path
    _folder: Path

    @classmethod
    def before(cls, folder: Path, installation: Installation) -> "Gate":
        """It waits before it does anything: between the snapshot and its locks."""
        return cls._make(folder, installation, 'WAIT; exec "$REAL" "$@"')

    @classmethod
    def middle(cls, folder: Path, installation: Installation, only: str = "") -> "Gate":
        """It holds its locks and has written 200,000 bytes; it is the process that maint started, no child of it.

        With `only`, just the dump of that database waits.
        """
        free = f"""case "$*" in *"{only}"*) ;; *) exec "$REAL" "$@" ;; esac\n"""
        return cls._make(folder, installation, free + 'exec "$REAL" "$@" > >(head -c 200000; WAIT; exec cat)')

    @classmethod
    def after(cls, folder: Path, installation: Installation) -> "Gate":
        """It has ended, and its transaction with it, but nobody is told yet; `pass_middle` first."""
        middle = f'head -c 200000; while [ ! -e "{folder}/middle" ]; do sleep 0.02; done; cat'
        return cls._make(folder, installation, f'"$REAL" "$@" > >({middle}); code=$?; WAIT; exit $code')

    def pass_middle(self) -> None:
        """Let one that is made by `after` write more than 200,000 bytes."""
        (self._folder / "middle").touch()

    @classmethod
    def _make(cls, folder: Path, installation: Installation, script: str) -> "Gate":
        wait = f'echo $$ > "{folder}/reached"; while [ ! -e "{folder}/open" ]; do sleep 0.02; done'
        return cls(stand_in(folder, installation, script.replace("WAIT", wait)), folder)

    @property
    def line(self) -> str:
        """What goes into the table of the server."""
        return f'bin_dir = "{self.bin_dir}"'

    def wait(self) -> int:
        """Wait until it is there; return the process id of pg_dump."""
        path = self._folder / "reached"
        return int(wait_until(lambda: path.exists() and path.read_text().strip(), "the gate", seconds=30))

    def open(self) -> None:
        """Let it go on."""
        (self._folder / "open").touch()

    def close(self) -> None:
        """Hold up the next one."""
        for name in ("open", "reached"):
            (self._folder / name).unlink(missing_ok=True)


#: more than the pipes between pg_dump and maint hold: pg_dump cannot be through when a gate in the middle is reached
BIG = "CREATE TABLE public.big AS SELECT i, repeat('x', 100) AS filler FROM generate_series(1, 40000) AS i"

#: for tests of what does not depend on the server's version
NEWEST = pytest.mark.parametrize("major", postgres.oldest_and_newest()[-1:], ids="newest-pg{}".format, scope="session")


def running(cluster: Cluster) -> list[str]:
    """Return what runs of PostgreSQL's client programs against a server, as far as maint started it."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if f"PGHOST={cluster.socket_dir}" in (process / "environ").read_bytes().decode(errors="replace"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if "pg_dump" in line or "pg_restore" in line]


def nothing_is_left(maint: Maint, cluster: Cluster) -> bool:
    """Tell whether a run has left nothing: in the repository, in the scratch folder, running."""
    assert left_in(maint.repository) == []
    assert left_in(maint.state / "scratch") == []
    assert wait_until(lambda: not running(cluster), f"the end of {running(cluster)}")
    return True
