"""How long do short commands take? Limits: `maint --version` 0.15 s; `maint run` of SELECT 1 at most 1.5 times
the import of the libraries it stands on.

Run: pytest -m bench -s tests/bench/bench_startup.py      (MAINT_BENCH_ROUNDS, default 15)
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.maint import Maint
from support.postgres import Database

from maint.cluster import Cluster

pytestmark = pytest.mark.bench

_ROUNDS = max(7, int(os.environ.get("MAINT_BENCH_ROUNDS", "15")))
_IMPORT = "import click, pydantic, sqlalchemy, psycopg"
_JOB = 'task = "sql"\n[options]\ndatabase = "{}"\nstatements = ["SELECT 1"]\n'


def seconds(maint: Maint, argv: tuple[str, ...]) -> tuple[float, float]:
    """Return the wall time of a process, and its CPU time, which says more on a busy machine."""
    began = time.perf_counter()
    with subprocess.Popen(argv, env=maint.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, argv
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def test_startup(configured: Callable[..., Maint], newest: Cluster) -> None:
    maint = configured(Database(newest, "postgres"))
    maint.job("one", _JOB.format("postgres"))
    executable = str(Path(sys.executable).with_name("maint"))
    ways = {
        _IMPORT: (sys.executable, "-c", _IMPORT),
        "maint --version": (executable, "--version"),
        "maint config check": (executable, "config", "check"),
        "maint run, SELECT 1": (executable, "run", "one"),
    }
    for argv in ways.values():  # the history is made, files are cached
        seconds(maint, argv)
    rounds = [{name: seconds(maint, argv) for name, argv in ways.items()} for _ in range(_ROUNDS)]
    walls, cpus = ({name: statistics.median(one[name][i] for one in rounds) for name in ways} for i in (0, 1))
    print(f"\nmedians of {_ROUNDS} alternating runs; ratio to the import; CPU alone")
    for name in ways:
        print(
            f"{name:45} {walls[name]:5.3f} s {walls[name] / walls[_IMPORT]:5.2f} x {cpus[name] / cpus[_IMPORT]:8.2f} x"
        )
