"""How long does it take to list 5,000 backups, the first time and again? Limits: 5 s, then 1 s.

Run: pytest -m bench -s tests/bench/bench_inventory.py
"""

import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.backups import T0, store
from support.maint import Maint
from support.s3 import ACCESS_KEY, SECRET_KEY, Store

from maint.backups.manifest import Contents, Table
from maint.config.model import RepositoryConfig
from maint.repository import open_repository

pytestmark = pytest.mark.bench

BACKUPS = 5000
TABLES = 200  #: in each manifest


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with 5,000 backups of 10 databases: one is stored, the others are its edited copies."""
    root = tmp_path_factory.mktemp("crowd") / "prefix"
    repository = open_repository(RepositoryConfig(name="local", url=f"file://{root}"))
    tables = tuple(Table(schema="public", name=f"table_number_{n}", rows=n) for n in range(TABLES))
    place = store(repository, contents=Contents(tables=tables))
    first = root / place.prefix
    manifest = json.loads((first / "manifest.json").read_text())
    for n in range(1, BACKUPS):
        at = T0 - timedelta(hours=2 * n)
        database, name = f"db{n % 10}", f"{at:%Y%m%dT%H%M%SZ}-{n:04x}"
        folder = root / "main" / database / name
        shutil.copytree(first, folder)
        stamp = at.isoformat().replace("+00:00", "Z")
        edited = manifest | {"id": name, "database": database, "created_at": stamp}
        (folder / "manifest.json").write_text(json.dumps(edited, indent=1))
    yield root
    shutil.rmtree(root)


def seconds(maint: Maint, *arguments: str) -> tuple[float, int]:
    """Return the wall time of a real process, and the number of backups it listed."""
    began = time.perf_counter()
    answer = maint.real(*arguments)
    took = time.perf_counter() - began
    assert answer.code == 0, answer.err
    return took, len(answer.json)


def measure(maint: Maint, where: str) -> None:
    maint.job("begin", 'task = "command"\n[options]\nargv = ["true"]\n')
    assert maint.real("run", "begin").code == 0  # the history is the cache
    start = statistics.median(seconds(maint, "history", "--json")[0] for _ in range(3))
    first, n = seconds(maint, "backups", "--json")
    again = [seconds(maint, "backups", "--json")[0] for _ in range(5)]
    assert n == BACKUPS
    print(
        f"\n{where}: {n} backups of {TABLES} tables, first {first:.2f} s, again {statistics.median(again):.2f} s"
        f" (an empty listing: {start:.2f} s)"
    )


def test_directory(crowd: Path, configured: Callable[..., Maint]) -> None:
    maint = configured()
    maint.write(f'installation = "test"\n[repository.local]\nurl = "file://{crowd}"\n')
    measure(maint, "directory")


def test_s3(crowd: Path, configured: Callable[..., Maint], rclone: Store) -> None:
    bucket = rclone.bucket()
    assert rclone.root is not None
    shutil.copytree(crowd, rclone.root / bucket / "prefix", dirs_exist_ok=True)
    maint = configured()
    maint.write(
        f"""installation = "test"
[repository.offsite]
url = "s3://{bucket}/prefix"
endpoint = "{rclone.endpoint}"
access_key = "{ACCESS_KEY}"
secret_key = "{SECRET_KEY}"
"""
    )
    measure(maint, "S3 (rclone on loopback)")
