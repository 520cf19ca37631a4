"""More than one object holds: several volumes, and memory that does not grow with the database."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from support import aftermath, postgres
from support.maint import Maint
from support.postgres import Database
from support.repositories import write_with
from support.s3 import MIB, Store

from maint.backups import inventory
from maint.cluster import Cluster
from maint.repository import open_repository


def _grow(database: Database, table: str, megabytes: int) -> None:
    """Fill a table with text that zstd makes half as long."""
    text = " || ".join(["md5(random()::text)"] * 8)  # 256 bytes
    database.execute(f"CREATE TABLE {table} AS SELECT {text} AS text FROM generate_series(1, {megabytes * 4000}) AS i")


@pytest.fixture
def large(newest: Cluster) -> Iterator[Database]:
    found = postgres.clone(newest)
    yield found
    postgres.drop(found)


def test_volumes(rclone: Store, configured: Callable[..., Maint], large: Database, tmp_path: Path) -> None:
    _grow(large, "bulk", 70)
    maint = configured()
    offsite = rclone.config(rclone.bucket(), part_size=5 * MIB, max_parts=3)
    write_with(maint, large, offsite)
    assert maint("run", "backup").code == 0
    (backup,) = aftermath.whole_backups(offsite)
    manifest = inventory.fresh(open_repository(offsite), backup)
    assert manifest.dump.volumes == ("dump.000", "dump.001", "dump.002")
    sizes = {file.name: file.size for file in manifest.files}
    assert [sizes[name] for name in manifest.dump.volumes[:2]] == [15 * MIB] * 2
    folder = (rclone.root or Path()) / offsite.url.removeprefix("s3://") / backup.place.prefix
    archive = tmp_path / "archive"
    with archive.open("wb") as target:  # cat dump.* | zstd -d
        packed = b"".join((folder / name).read_bytes() for name in manifest.dump.volumes)
        target.write(zstandard.ZstdDecompressor().decompressobj().decompress(packed))
    restored = postgres.clone(large.cluster, template="template0")
    try:
        pg_restore = large.cluster.installation.bin_dir / "pg_restore"
        argv = [str(pg_restore), "--exit-on-error", "--no-owner", f"--dbname={restored.dsn}", str(archive)]
        subprocess.run(argv, check=True)
        counted = "SELECT count(*), md5(string_agg(text, '' ORDER BY text COLLATE \"C\")) FROM bulk"
        assert restored.execute(counted) == large.execute(counted)
        assert restored.value("SELECT count(*) FROM sales.orders") == 500
    finally:
        postgres.drop(restored)


#: measured from a small process: what a program's parent had in memory counts as its own until it is executed
_MEASURE = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "maint", *sys.argv[1:]], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _peak(maint: Maint, *arguments: str) -> int:
    """Run the real executable; return the most memory that it, or a program of its, had: bytes."""
    argv = (sys.executable, "-c", _MEASURE, *arguments)
    done = subprocess.run(argv, env=maint.environment, stdout=subprocess.PIPE, check=True)
    return int(done.stdout) * 1024


@pytest.mark.slow
@pytest.mark.parametrize("where", ["directory", "s3"])
def test_memory_does_not_grow_with_the_database(
    where: str, rclone: Store, configured: Callable[..., Maint], large: Database
) -> None:
    _grow(large, "bulk", 400)
    maint = configured()
    repository = rclone.config(rclone.bucket(), part_size=32 * MIB) if where == "s3" else aftermath.local(maint)
    write_with(maint, large, repository)
    assert _peak(maint, "run", "backup") < 200 * MIB
    (backup,) = aftermath.whole_backups(repository)
    assert backup.summary.raw_bytes > 300 * MIB
