"""What must hold after a run that was killed, stopped or failed: of repository, server, history and machine."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from maint.backups import inventory, records
from maint.backups.inventory import Backup
from maint.backups.manifest import Manifest
from maint.backups.paths import MANIFEST, STARTED
from maint.config.model import Config, RepositoryConfig
from maint.history import History
from maint.model import Run
from maint.repository import Repository, open_repository
from maint.repository.directory import DirectoryRepository
from maint.repository.s3 import S3Repository
from maint.repository.s3_sweep import unfinished
from support import wait_until
from support.maint import Maint
from support.postgres import Database


def local(maint: Maint) -> RepositoryConfig:
    """Return the repository that `configuration` makes."""
    return RepositoryConfig(name="local", url=f"file://{maint.repository}")


def whole_backups(config: RepositoryConfig) -> list[Backup]:
    """Return the backups of a repository, newest first, after comparing each byte of each with its manifest."""
    repository = open_repository(config)
    found = inventory.load([repository])
    assert not found.unavailable
    for backup in found.backups:
        assert backup.is_good, f"{backup.id}: {backup.reason}"
        manifest = inventory.fresh(repository, backup)
        assert manifest.id == backup.id
        assert manifest.dump.volumes
        for file in manifest.files:
            data = _read(repository, backup.place / file.name, file.version)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256), file.name
        _check_names(repository, backup, manifest)
    return list(found.backups)


def _read(repository: Repository, path: str, version: str | None = None) -> bytes:
    with repository.open(path, version=version) as reader:
        return b"".join(iter(lambda: reader.read(1 << 20), b""))


def _check_names(repository: Repository, backup: Backup, manifest: Manifest) -> None:
    names = {entry.path.removeprefix(backup.place.prefix) for entry in repository.list(backup.place.prefix)}
    assert {name for name in names if not records.proof_of(name)} - {STARTED} == {
        file.name for file in manifest.files
    } | {MANIFEST}


def ids(config: RepositoryConfig) -> list[str]:
    return [backup.id for backup in whole_backups(config)]


def nothing_half(config: RepositoryConfig) -> None:
    """Check that a repository holds nothing of maint's but whole backups."""
    repository = open_repository(config)
    found = inventory.load([repository])
    assert not found.unavailable
    assert [f"{remnant.place.prefix}: {remnant.reason}" for remnant in found.remnants] == []
    assert list(_invisible(repository)) == []


def _invisible(repository: Repository) -> Iterator[str]:
    """Yield what no listing shows: unfinished files, empty folders, uploads in parts, old versions."""
    if isinstance(repository, DirectoryRepository):
        for path in sorted(repository.root.rglob("*")):
            if path.name.startswith(".maint-") or (path.is_dir() and not any(path.iterdir())):
                yield str(path.relative_to(repository.root))
    if isinstance(repository, S3Repository):
        bucket = repository.bucket
        client: Any = bucket.client
        yield from (f"upload of {one['Key']}" for one in unfinished(bucket))
        if repository.versioned:
            listed = client.list_object_versions(Bucket=bucket.name)
            seen = {entry.version for entry in repository.list()}
            yield from (f"marker {one['Key']}" for one in listed.get("DeleteMarkers", ()))
            yield from (f"version {v['Key']}" for v in listed.get("Versions", ()) if v["VersionId"] not in seen)


def nothing_runs(maint: Maint, database: Database) -> None:
    """Check that no program, session or lock of maint's is left; a dying one may take a few seconds."""
    wait_until(lambda: not _programs(maint), "the end of its programs")
    wait_until(lambda: not _sessions(database), "the end of its sessions")
    with psycopg.connect(database.cluster.dsn(), autocommit=True) as connection:
        locks = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert locks == (0,)


def _programs(maint: Maint) -> list[str]:
    """Return the programs that have this maint's home."""
    home = f"HOME={maint.folder / 'home'}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if home in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def _sessions(database: Database) -> list[Any]:
    with psycopg.connect(database.cluster.dsn(), autocommit=True) as connection:
        query = "SELECT application_name, query FROM pg_stat_activity WHERE application_name ~ '^(maint|pg_)'"
        return connection.execute(query).fetchall()


def nothing_on_disk(maint: Maint) -> None:
    """Check that the state directory holds no work in progress."""
    for name in ("scratch", "uploads"):
        folder = maint.state / name
        assert not folder.is_dir() or list(folder.iterdir()) == []


def runs(maint: Maint) -> list[Run]:
    """Return the runs in the history, newest first."""
    with History.open(Config(state_dir=maint.state)) as history:
        return history.runs(limit=10_000)
