"""What a whole backup costs beside the bare dump: dump, exact counts, zstd, SHA-256, store, read back, manifest.

Run: pytest -m bench -s tests/bench/bench_backup.py      (MAINT_BENCH_GB: size of the database, default 2)

Limits on two cores, ratio to ``pg_dump -Fc -Z0 > /dev/null``: 1.25 into a directory, 1.5 into S3 on loopback, 0.15
more with age; at least 4 times faster than ``pg_dump | gzip``, and not larger; at most 200 MB of memory.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyrage
import pytest
from support import postgres
from support.maint import Maint, configuration
from support.postgres import Database
from support.s3 import ACCESS_KEY, SECRET_KEY, Store

pytestmark = pytest.mark.bench

_GIGABYTES = float(os.environ.get("MAINT_BENCH_GB", "2"))
_ROUNDS = int(os.environ.get("MAINT_BENCH_ROUNDS", "3"))

#: rows of about 150 bytes: ids, times, numbers, words, hexadecimal noise, text that repeats
_FILL = """
SELECT setseed(0.5);
CREATE TABLE events (id bigint, at timestamptz, user_id int, kind text, amount numeric(12,2), payload text);
INSERT INTO events
SELECT g, '2026-01-01'::timestamptz + g * interval '1 second', (random() * 1e6)::int,
       (array['view', 'click', 'buy', 'return'])[1 + (random() * 3)::int], (random() * 1000)::numeric(12,2),
       md5(random()::text) || repeat('lorem ipsum dolor ', 1 + (random() * 6)::int)
FROM generate_series(1, {rows}) g;
CREATE TABLE users AS SELECT g AS id, 'user' || g || '@example.com' AS email, md5(g::text) AS hash,
       '2026-01-01'::timestamptz - random() * interval '1000 days' AS created
FROM generate_series(1, {rows} / 8) g;
"""


@dataclass
class Series:
    """The runs of one way to back up."""

    seconds: list[float] = field(default_factory=list)
    bytes: int = 0
    peak_kb: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@pytest.fixture(scope="module")
def big() -> Iterator[Database]:
    newest = postgres.oldest_and_newest()[-1]
    with postgres.make(newest, settings={"shared_buffers": "256MB"}) as cluster:
        database = postgres.clone(cluster, "big", "template0")
        database.execute(_FILL.format(rows=round(_GIGABYTES * 5_900_000)))
        database.execute("VACUUM ANALYZE")
        yield database


def _timed(series: Series, work: Callable[[], int]) -> None:
    began = time.perf_counter()
    series.bytes = work()
    series.seconds.append(time.perf_counter() - began)


def _shell(database: Database, line: str) -> None:
    pg_dump = database.cluster.installation.bin_dir / "pg_dump"
    subprocess.run(["bash", "-ec", f"set -o pipefail; {line.format(pg_dump=pg_dump, dsn=database.dsn)}"], check=True)


def _backup(maint: Maint, job: str, series: Series) -> int:
    """Run the real executable; return the bytes stored."""
    argv = (sys.executable, "-m", "maint", "run", job, "--json")
    with subprocess.Popen(argv, env=maint.environment, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    series.peak_kb = max(series.peak_kb, usage.ru_maxrss)
    newest = maint.json("backups")[0]
    return int(newest["size_bytes"])


def _job(repository: str) -> str:
    return f'task = "backup"\n[options]\ncpu = "all"\nrepositories = ["{repository}"]\n'


def test_whole_backup(big: Database, rclone: Store, tmp_path: Path) -> None:
    maint = Maint(tmp_path / "maint")
    key = pyrage.x25519.Identity.generate().to_public()
    bucket = rclone.bucket()
    maint.write(configuration(maint.folder, [big]))
    maint.add(f'[repository.age]\nurl = "file://{tmp_path}/age"\nencrypt_to = ["{key}"]\n')
    maint.add(
        f'[repository.s3]\nurl = "s3://{bucket}/bench"\nendpoint = "{rclone.endpoint}"\n'
        f'access_key = "{ACCESS_KEY}"\nsecret_key = "{SECRET_KEY}"\n'
    )
    for name in ("local", "age", "s3"):
        maint.job(name, _job(name))
    gz = tmp_path / "dump.gz"
    ways: dict[str, Callable[[Series], int]] = {
        "pg_dump -Fc -Z0 > /dev/null": lambda _: (_shell(big, '{pg_dump} -Fc -Z0 -d "{dsn}" > /dev/null'), 0)[1],
        "maint, directory": lambda series: _backup(maint, "local", series),
        "maint, directory with age": lambda series: _backup(maint, "age", series),
        "maint, S3 on loopback": lambda series: _backup(maint, "s3", series),
        "pg_dump | gzip > file": lambda _: (
            _shell(big, '{pg_dump} -d "{dsn}" | gzip > ' + str(gz)),
            gz.stat().st_size,
        )[1],
    }
    found = {name: Series() for name in ways}
    for _ in range(_ROUNDS):
        for name, work in ways.items():
            _timed(found[name], lambda name=name, work=work: work(found[name]))  # type: ignore[misc]
    _show(found)


def _show(found: dict[str, Series]) -> None:
    bare = next(iter(found.values())).median
    print(f"\n{_GIGABYTES:g} GB, {os.cpu_count()} cores, medians of {_ROUNDS}")
    for name, series in found.items():
        size = f"{series.bytes / 1e6:7.0f} MB" if series.bytes else " " * 10
        peak = f"peak {series.peak_kb / 1024:.0f} MB" if series.peak_kb else ""
        print(f"{name:30} {series.median / bare:6.2f} x  {size}  {peak}")
