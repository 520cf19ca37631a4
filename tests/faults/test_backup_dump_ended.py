"""Runs that are ended from outside, runs that meet another one, runs whose history does not work."""

import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from support import wait_until
from support.dumps import BIG, NEWEST, Gate, backup_job, counted, counts, manifest, manifests, nothing_is_left
from support.maint import Maint
from support.postgres import Database

pytestmark = NEWEST

MakeDatabase = Callable[..., Database]
Configured = Callable[..., Maint]


@pytest.fixture
def big(database: Database) -> Database:
    database.execute(BIG)
    return database


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_leaves_nothing(
    big: Database, configured: Configured, tmp_path: Path, number: signal.Signals
) -> None:
    gate = Gate.middle(tmp_path / "gate", big.cluster.installation)
    maint = configured(big, server=gate.line)
    backup_job(maint, retries=2)
    child = maint.start("run", "backup", "--json")
    gate.wait()
    child.send(number)
    answer = child.wait(30)
    assert answer.code == 5
    assert nothing_is_left(maint, big.cluster)
    assert answer.json["outcome"] == "stopped"
    assert answer.json["error"] == f"stopped by {number.name}"
    (run,) = maint.json("history")  # and not tried again
    assert run["outcome"] == "stopped"
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert wait_until(lambda: big.value(sessions) == 0, "the end of all sessions")


def test_the_directory_format_can_be_stopped(big: Database, configured: Configured) -> None:
    maint = configured(big)
    backup_job(maint, 'format = "directory"\nlock_wait = "1h"')
    with big.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE public.big")
        child = maint.start("run", "backup", "--json")
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        wait_until(lambda: big.value(waits), "pg_dump behind the lock")
        child.send(signal.SIGINT)
        assert child.wait(30).code == 5
        assert nothing_is_left(maint, big.cluster)


def test_what_a_stopped_run_did_not_reach_comes_first(
    make_database: MakeDatabase, configured: Configured, tmp_path: Path
) -> None:
    first, second, third = sorted((make_database() for _ in range(3)), key=lambda database: database.name)
    second.execute(BIG)
    gate = Gate.middle(tmp_path / "gate", first.cluster.installation, only=f"'{second.name}'")
    maint = configured(first, second, third, server=gate.line)
    backup_job(maint)
    child = maint.start("run", "backup", "--json")
    gate.wait()
    child.send(signal.SIGTERM)
    answer = child.wait(30)
    assert answer.code == 5
    assert len(answer.json["backups"]) == 1
    assert set(manifests(maint)) == {first.name}
    assert order(maint, 1) == [(first.name, "done"), (second.name, "not_reached"), (third.name, "not_reached")]
    gate.open()
    assert maint("run", "backup").code == 0
    assert order(maint, 2) == [(second.name, "done"), (third.name, "done"), (first.name, "done")]


def order(maint: Maint, run: int) -> list[tuple[str, str]]:
    """Return what became of the backups of a run, in order."""
    steps = maint.json("show", str(run))["steps"]
    return [(step["object"], step["outcome"]) for step in steps if step["verb"] == "backup"]


def test_two_backups_of_one_database_at_once(big: Database, configured: Configured, tmp_path: Path) -> None:
    gate = Gate.middle(tmp_path / "gate", big.cluster.installation)
    one = configured(big, server=gate.line)
    # another installation: the server itself keeps the two apart
    other = configured(big, name="other")
    backup_job(one)
    backup_job(other, wait="0s")
    child = one.start("run", "backup", "--json")
    gate.wait()
    busy = other("run", "backup", "--json")
    assert busy.code == 4
    assert busy.json["outcome"] == "skipped"
    assert busy.json["backups"] == []
    (finding,) = busy.json["findings"]
    assert finding["message"].startswith(f"backup of {big.name} was skipped: maint run 1 from ")
    assert manifests(other) == {}
    backup_job(other, wait="1h")
    waiting = other.start("run", "backup")
    wait_until(lambda: "busy" in waiting.err or _locks(big) > 1, "the second maint")
    gate.open()
    assert child.wait().code == 0
    assert waiting.wait().code == 0
    assert counted(manifest(one)) == counted(manifest(other)) == counts(big)


def _locks(database: Database) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'maint run % (lock)'"
    return int(database.value(query))


def test_one_database_that_is_busy_does_not_stop_the_others(
    make_database: MakeDatabase, configured: Configured, tmp_path: Path
) -> None:
    held, free = make_database(), make_database()
    held.execute(BIG)
    gate = Gate.middle(tmp_path / "gate", held.cluster.installation)
    one, other = configured(held, server=gate.line), configured(held, free, name="other")
    backup_job(one)
    backup_job(other, wait="0s")
    child = one.start("run", "backup")
    gate.wait()
    answer = other("run", "backup", "--json")
    gate.open()
    assert answer.code == 3
    assert set(manifests(other)) == {free.name}
    assert child.wait().code == 0


def test_a_wait_for_another_backup_can_be_stopped(big: Database, configured: Configured, tmp_path: Path) -> None:
    gate = Gate.middle(tmp_path / "gate", big.cluster.installation)
    one, other = configured(big, server=gate.line), configured(big, name="other")
    for maint in (one, other):
        backup_job(maint, wait="1h")
    child = one.start("run", "backup")
    gate.wait()
    waiting = other.start("run", "backup", "--json")
    wait_until(lambda: _locks(big) > 1, "the second maint")
    waiting.send(signal.SIGINT)
    assert waiting.wait(20).code == 5
    gate.open()
    assert child.wait().code == 0


@pytest.mark.parametrize("broken", ["garbage", "folder"])
def test_a_history_that_does_not_open_stops_no_backup(database: Database, configured: Configured, broken: str) -> None:
    maint = configured(database)
    backup_job(maint)
    path = maint.state / "maint.db"
    if broken == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"this is no database " * 500)
    maint.job("hello", 'task = "sql"\n[options]\ndatabase = "postgres"\nstatements = ["SELECT 1"]\n')
    answer = maint("run", "backup", "--json")
    assert answer.code == 3, answer
    (finding,) = answer.json["findings"]
    assert (finding["check"], finding["severity"]) == ("history.unwritable", "critical")
    assert counted(manifest(maint)) == counts(database)
    assert manifest(maint).slot == answer.json["slot"]
    # without which nobody would know whether it ran: other jobs wait
    other = maint("run", "hello", "--json")
    assert other.code == 1
    assert "history" in other.err
    assert "Traceback" not in other.err


def test_a_history_that_breaks_in_the_middle_stops_no_backup(
    big: Database, configured: Configured, tmp_path: Path
) -> None:
    gate = Gate.middle(tmp_path / "gate", big.cluster.installation)
    maint = configured(big, server=gate.line)
    backup_job(maint)
    child = maint.start("run", "backup", "--json")
    gate.wait()
    with sqlite3.connect(maint.state / "maint.db") as history:
        for (name,) in history.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            history.execute(f'DROP TABLE IF EXISTS "{name}"') if not name.startswith("sqlite_") else None
    history.close()
    gate.open()
    answer = child.wait()
    assert answer.code == 3, answer
    assert answer.json["findings"][-1]["check"] == "history.unwritable"
    assert counted(manifest(maint)) == counts(big)


def test_a_killed_maint_takes_pg_dump_along_and_the_next_one_clears_up(
    big: Database, configured: Configured, tmp_path: Path
) -> None:
    gate = Gate.middle(tmp_path / "gate", big.cluster.installation)
    maint = configured(big, server=gate.line)
    backup_job(maint)
    child = maint.start("run", "backup")
    dumping = gate.wait()
    assert child.kill().code == -signal.SIGKILL
    wait_until(lambda: not Path(f"/proc/{dumping}").exists(), "the end of pg_dump")
    assert manifests(maint) == {}
    gate.open()
    answer = maint("run", "backup", "--json")
    assert answer.code == 0, answer
    assert set(manifests(maint)) == {big.name}
    assert [run["outcome"] for run in maint.json("history")] == ["succeeded", "lost"]
    (backup,) = maint.json("backups")
    assert [path.name for path in (maint.repository / "main" / big.name).iterdir()] == [backup["id"]]
