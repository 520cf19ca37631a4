"""The SQLite history when something is wrong: each fault is one clear error, and nothing acknowledged is lost."""

import fcntl
import logging
import os
import pwd
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from maint.clock import SystemClock
from maint.config.model import Config, HistoryConfig
from maint.errors import HistoryError
from maint.history import History, engine
from maint.history.schema import REVISION
from maint.history.upgrade import revision
from maint.model import Action, Outcome, Result, Step
from maint.owner import me
from maint.runner.journal import Journal

NOW = datetime(2026, 11, 20, 2, 0, 3, tzinfo=UTC)
ROOT = os.geteuid() == 0


def claim(history: History) -> int:
    run = history.claim(job="backup", task="backup", server="main", slot=None, owner=me(), host="db1", now=NOW)
    return run.id


def step(name: str) -> Step:
    return Step(Action("run", name), Result(), NOW, 1.0)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(state_dir=tmp_path / "state")


def file_of(config: Config) -> Path:
    return config.state_dir / "maint.db"


def test_the_file_is_private(config: Config) -> None:
    old = os.umask(0)
    try:
        with History.open(config) as history:
            claim(history)
            modes = {path.name: path.stat().st_mode & 0o777 for path in config.state_dir.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"maint.db": 0o600, "maint.db-wal": 0o600, "maint.db-shm": 0o600}
    assert config.state_dir.stat().st_mode & 0o777 == 0o700


def test_commits_survive_a_power_cut(config: Config) -> None:
    with History.open(config) as history, history._write() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


_OPEN = """
import sys
from pathlib import Path
from maint.config.model import Config
from maint.history import History
History.open(Config(state_dir=Path(sys.argv[1]))).close()
print("alembic" in sys.modules)
"""


def test_only_one_process_at_a_time_switches_to_wal(config: Config) -> None:
    # the second one of two would fail at once, without waiting
    config.state_dir.mkdir(mode=0o700)
    folder = os.open(config.state_dir, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    thread = threading.Thread(target=lambda: History.open(config).close())
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    os.close(folder)
    thread.join()
    assert History.exists(config)


def test_alembic_is_loaded_only_to_migrate(config: Config) -> None:
    loaded = [
        subprocess.run([sys.executable, "-c", _OPEN, config.state_dir], check=True, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert [result.stdout for result in loaded] == ["True\n", "False\n"]


def test_the_newest_migration_is_the_one_that_the_code_knows(config: Config) -> None:
    with History.open(config) as history, history._read() as connection:
        assert revision(connection) == REVISION
    folder = Path(engine.__file__).parent / "migrations" / "versions"
    assert max(path.name[:4] for path in folder.glob("*.py")) == REVISION


def test_not_a_database(config: Config) -> None:
    config.state_dir.mkdir()
    file_of(config).write_bytes(b"something else entirely\n" * 100)
    with pytest.raises(HistoryError, match="not a database") as caught:
        History.open(config)
    assert f"move {file_of(config)} aside" in (caught.value.hint or "")
    with pytest.raises(HistoryError, match="not a database"):
        History.exists(config)


def test_a_damaged_page(config: Config) -> None:
    with History.open(config) as history:
        run = claim(history)
        for number in range(2000):
            history.record(run, step(f"object {number}"))
    with file_of(config).open("r+b") as file:
        file.seek(4096 * 2)
        file.write(os.urandom(file_of(config).stat().st_size - 4096 * 2))
    with pytest.raises(HistoryError, match=r"malformed|not a database") as caught:
        _read_all(config, run)
    assert "aside" in (caught.value.hint or "")


def _read_all(config: Config, run: int) -> None:
    with History.open(config) as history:
        history.steps(run)
        history.runs()


def test_an_empty_file_is_a_new_history(config: Config) -> None:
    config.state_dir.mkdir()
    file_of(config).touch()
    assert not History.exists(config)
    with History.open(config) as history:
        assert claim(history) == 1


def test_locked_for_too_long(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    with History.open(config) as history:
        run = claim(history)
        other = sqlite3.connect(file_of(config), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="locked") as caught:
            history.record(run, step("a"))
        assert f"fuser -v {file_of(config)}" in (caught.value.hint or "")
        assert len(history.runs()) == 1  # readers do not wait
        other.execute("ROLLBACK")
        other.close()
        history.record(run, step("a"))


def test_how_a_run_ended_is_written_once_the_history_works_again(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    with History.open(config) as history:
        run = history.run(claim(history))
        journal = Journal(history, run, SystemClock(), logging.getLogger("test"))
        other = sqlite3.connect(file_of(config), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        journal.step(step("a"))
        other.execute("ROLLBACK")
        other.close()
        assert journal.trouble() is not None  # what was not written is told
        journal.finish(Outcome.WARNED, "1 done", None, None)
        assert history.run(run.id).outcome is Outcome.WARNED  # not lost, as it would look


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = Config(state_dir=tmp_path / "file")
    assert not History.exists(config)
    with pytest.raises(HistoryError, match="cannot be opened") as caught:
        History.open(config)
    assert "state_dir" in (caught.value.hint or "")


@pytest.mark.parametrize("url", ["mysql://a:hunter2@b/c", "sqlite:///relative.db", "nonsense", "postgresql"])
def test_urls_that_are_not_understood(tmp_path: Path, url: str) -> None:
    config = Config(state_dir=tmp_path, history=HistoryConfig(url=SecretStr(url)))
    with pytest.raises(HistoryError, match="not understood") as caught:
        History.open(config)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "conninfo"),
    [
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgres://u@h1,h2/d?sslmode=require", "postgresql://u@h1,h2/d?sslmode=require"),
        ("postgresql+psycopg://h/d", "postgresql://h/d"),
        ("host=/run/x dbname='a b'", "host=/run/x dbname='a b'"),
        ("service=team", "service=team"),
    ],
)
def test_urls_of_postgresql(tmp_path: Path, url: str, conninfo: str) -> None:
    config = Config(state_dir=tmp_path, history=HistoryConfig(url=SecretStr(url)))
    assert engine.place_of(config).conninfo == conninfo


def test_an_unreachable_postgresql_is_told_without_its_password(tmp_path: Path) -> None:
    url = SecretStr(f"postgresql://maint:hunter2@/shop?host={tmp_path}")
    config = Config(state_dir=tmp_path, history=HistoryConfig(url=url))
    with pytest.raises(HistoryError) as caught:
        History.open(config)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert "\n" not in str(caught.value)


# -- killed --

_WRITE = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from maint.config.model import Config
from maint.history import History
from maint.model import Action, Result, Step
from maint.owner import me
now = datetime.now(UTC)
with History.open(Config(state_dir=Path(sys.argv[1]))) as history:
    run = history.claim(job="j", task="t", server="s", slot=None, owner=me(), host="h", now=now)
    for number in range(10**9):
        history.record(run.id, Step(Action("run", str(number)), Result(), now, 1.0))
        history.log(run.id, f"{number}\\n")
        print(number, flush=True)
"""


def _killed_after(count: int, config: Config) -> int:
    """Kill a process that writes, once it has acknowledged `count` writes; return the last one."""
    command = [sys.executable, "-c", _WRITE, str(config.state_dir)]
    acknowledged = -1
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged == count:
                child.kill()
    return acknowledged


def test_killed_in_the_middle_of_writes(config: Config) -> None:
    for _ in range(3):
        acknowledged = _killed_after(40, config)
        with History.open(config) as history:
            (run,) = history.lost(NOW)
            names = [row.object for row in history.steps(run.id)]
            assert names == [str(number) for number in range(len(names))]
            assert len(names) >= acknowledged + 1
            assert len(history.log_text(run.id).splitlines()) >= acknowledged + 1
            with history._read() as connection:
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05])
def test_killed_while_it_is_made(config: Config, delay: float) -> None:
    from maint.clock import Stop, SystemClock

    config.state_dir.mkdir(mode=0o700)
    child = subprocess.Popen([sys.executable, "-c", _OPEN, config.state_dir], stdout=subprocess.DEVNULL)
    while not file_of(config).exists() and child.poll() is None:
        SystemClock().wait(Stop(), 0.001)
    SystemClock().wait(Stop(), delay)
    child.kill()
    child.wait()
    with History.open(config) as history:
        assert claim(history) == 1


# -- the disk --


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of two megabytes."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "maint-test", str(mount)]
    if not ROOT or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs to mount a tmpfs: root only")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def _fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return ballast


def test_disk_full(small_disk: Path) -> None:
    config = Config(state_dir=small_disk)
    with History.open(config) as history:
        run = claim(history)
        history.record(run, step("before"))
        ballast = _fill(small_disk)
        with pytest.raises(HistoryError, match=r"full|disk I/O error") as caught:
            history.log(run, "y" * 1_000_000)
        assert str(small_disk) in (caught.value.hint or "")
        assert [row.object for row in history.steps(run)] == ["before"]  # it can still be read
        ballast.unlink()
        history.record(run, step("after"))
        assert [row.object for row in history.steps(run)] == ["before", "after"]


def test_disk_full_from_the_start(small_disk: Path) -> None:
    _fill(small_disk)
    with pytest.raises(HistoryError) as caught:
        History.open(Config(state_dir=small_disk / "state"))
    assert caught.value.hint


def test_read_only_file_system(small_disk: Path) -> None:
    config = Config(state_dir=small_disk)
    History.open(config).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(HistoryError, match=r"[Rr]ead-only"):
        History.open(config)


# -- other users --

_DENIED = """
import os, sys
from maint.cli import main

def call():
    try:
        main(["--config", sys.argv[1], *sys.argv[2:]])
    except SystemExit as error:
        print("exit", error.code)

call()
os.setgid(65534)
os.setuid(65534)  # only now: as that user the modules may be out of reach
call()
"""


@pytest.mark.skipif(not ROOT, reason="needs to become another user: root only")
@pytest.mark.parametrize("command", ["history --limit 1", "run backup"])
def test_another_user_is_told_exactly_what_to_type(config: Config, tmp_path: Path, command: str) -> None:
    History.open(config).close()
    (config.state_dir / "scratch").mkdir()
    toml = tmp_path / "maint.toml"
    toml.write_text(f'state_dir = "{config.state_dir}"\n[server.main]\ndsn = "host=/nowhere"\n')
    for folder in (tmp_path, *tmp_path.parents):  # pytest makes its own private
        if "pytest-" in str(folder):
            folder.chmod(0o755)
    argv = [sys.executable, "-c", _DENIED, toml, *command.split()]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert shown.stdout.endswith("exit 1\n")
    root = pwd.getpwuid(0).pw_name
    assert shown.stderr.splitlines()[-2:] == [
        f"maint: the history belongs to {root}: {config.state_dir}/maint.db",
        f"hint: sudo -u {root} maint --config {toml} {command}",
    ]


@pytest.mark.skipif(not ROOT, reason="needs to give a folder away: root only")
def test_root_leaves_no_file_that_the_service_cannot_open(config: Config) -> None:
    config.state_dir.mkdir(mode=0o700)
    os.chown(config.state_dir, 65534, 65534)
    with History.open(config) as history:
        claim(history)
        owners = {path.stat().st_uid for path in config.state_dir.iterdir()}
    assert owners == {65534}


# -- speed --


def test_no_question_scans_a_million_runs(config: Config) -> None:
    from sqlalchemy import event

    seen: list[tuple[str, object]] = []
    with History.open(config) as history:
        run = claim(history)
        listener = lambda _c, _cursor, sql, parameters, *_: seen.append((sql, parameters))  # noqa: E731
        event.listen(history._engine, "before_cursor_execute", listener)
        history.runs()
        history.runs(job="a")
        history.runs(server="a")
        history.runs(job="a", server="b")
        history.runs(outcome=Outcome.FAILED)
        history.runs(since=NOW)
        history.runs(unfinished=True)
        history.last_bad()
        history.not_reached("a", "b")
        history.durations("a", "b", "c")
        history.recent("a", "b", "c")
        history.steps(run)
        history.findings(run)
        history.samples(run)
        history.log_text(run)
        history.lost(NOW)
        event.remove(history._engine, "before_cursor_execute", listener)
        with history._read() as connection:
            for sql, parameters in [entry for entry in seen if entry[0].startswith("SELECT")]:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()  # type: ignore[arg-type]
                details = [row.detail for row in plan]
                scans = [d for d in details if d.startswith("SCAN") and "INDEX" not in d]
                assert not scans, (sql, details)
                sorts = [d for d in details if "TEMP B-TREE" in d]
                # unfinished runs are few; so are the latest twenty whose steps are asked for
                assert not sorts or "outcome IS NULL" in sql or "run_id IN (SELECT" in sql, (sql, details)
    assert len(seen) > 15
