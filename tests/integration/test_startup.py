"""Which modules a command imports: a short one must not wait for what others need. Real processes; no times here."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import postgres
from support.maint import Maint
from support.postgres import Database

from maint.cluster import Cluster

Configured = Callable[..., Maint]

#: runs main as the executable does, and leaves the names of all modules in the file argv[1]
_MAIN = """
import atexit, sys
from pathlib import Path
report = Path(sys.argv.pop(1))
atexit.register(lambda: report.write_text("\\n".join(sys.modules)))
from maint.cli import main
main()
"""

#: only for a store, a migration, a backup, or a history that is kept in PostgreSQL
RARE = {
    *("alembic", "boto3", "botocore", "jinja2", "pyrage", "tabulate", "zstandard"),
    *("maint.backups.inventory", "maint.backups.make", "maint.demo", "maint.doctor", "maint.repository.s3"),
    *("maint.tasks.backup.work", "maint.tasks.files.work", "maint.tasks.verify.work"),
    "sqlalchemy.dialects.postgresql",
}

SELECT_1 = 'task = "sql"\n[options]\ndatabase = "{}"\nstatements = ["SELECT 1"]\n'


def imported(maint: Maint, *arguments: str) -> set[str]:
    """Return the modules imported at the end of a command, beyond those of Python itself and its start."""
    report = maint.folder / "modules"
    argv = [sys.executable, "-c", _MAIN, str(report), *arguments]
    done = subprocess.run(argv, env=maint.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    bare = subprocess.check_output([sys.executable, "-c", "import sys; print(*sys.modules)"], text=True).split()
    own = {*bare, *sys.stdlib_module_names}
    names = report.read_text().splitlines()
    # _sysconfigdata… belongs to Python too, and is named after the machine
    return {name for name in names if name.partition(".")[0] not in own and not name.startswith("_")}


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.fixture
def database(newest: Cluster) -> Iterator[Database]:
    made = postgres.clone(newest)
    yield made
    postgres.drop(made)


@pytest.fixture
def ready(configured: Configured, database: Database) -> Maint:
    """A maint whose history exists, with a job of each of two kinds."""
    maint = configured(database)
    maint.job("one", SELECT_1.format(database.name))
    assert maint("run", "one").code == 0
    return maint


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("run", "--help")])
def test_click_is_all_that_help_needs(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    found = imported(Maint(tmp_path), *arguments)
    assert packages(found) == {"click", "maint"}


def test_the_version_imports_no_command(tmp_path: Path) -> None:
    found = imported(Maint(tmp_path), "--version")
    assert {name for name in found if name.startswith("maint")} <= {"maint", "maint.cli", "maint.errors"}


def test_to_read_the_configuration_needs_no_history(ready: Maint) -> None:
    found = imported(ready, "config", "check")
    assert not found & RARE
    assert not packages(found) & {"sqlalchemy"}


def test_a_small_job_needs_little(ready: Maint) -> None:
    found = imported(ready, "run", "one")
    assert not found & RARE
    assert {"click", "pydantic", "sqlalchemy", "psycopg"} <= packages(found)


def test_a_backup_imports_its_own_work_alone(ready: Maint) -> None:
    found = imported(ready, "run", "backup")
    assert {"maint.tasks.backup.work", "maint.backups.make", "zstandard"} <= found
    assert not found & {"alembic", "boto3", "maint.tasks.verify.work", "sqlalchemy.dialects.postgresql"}


def test_a_history_in_postgresql_imports_its_dialect(ready: Maint, database: Database) -> None:
    cluster = database.cluster
    place = f"{database.name}?host={cluster.socket_dir}&port={cluster.port}&user=postgres"
    ready.add(f'[history]\nurl = "postgresql:///{place}"\n')
    found = imported(ready, "run", "one")
    assert {"sqlalchemy.dialects.postgresql", "alembic"} <= found
    assert "alembic" not in imported(ready, "run", "one")
