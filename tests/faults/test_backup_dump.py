"""What happens to a dump while it runs: it is killed, it hangs, the server goes, a role may not."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import wait_until
from support.dumps import (
    BIG,
    NEWEST,
    Gate,
    backup_job,
    counted,
    counts,
    folder_of,
    left_in,
    manifest,
    manifests,
    nothing_is_left,
    restore,
    running,
)
from support.maint import Answer, Maint
from support.postgres import Database

from maint.cluster import Cluster

pytestmark = NEWEST

MakeDatabase = Callable[..., Database]
Configured = Callable[..., Maint]


@pytest.fixture
def gate(cluster: Cluster, tmp_path: Path) -> Gate:
    return Gate.middle(tmp_path / "gate", cluster.installation)


@pytest.fixture
def big(database: Database) -> Database:
    database.execute(BIG)
    return database


def steps(maint: Maint, run: int = 1) -> dict[str, str]:
    """Return what became of each backup of a run, by database."""
    shown = maint.json("show", str(run))["steps"]
    return {step["object"]: step["outcome"] for step in shown if step["verb"] == "backup"}


def test_pg_dump_killed_halfway(big: Database, configured: Configured, gate: Gate) -> None:
    maint = configured(big, server=gate.line)
    backup_job(maint)
    child = maint.start("run", "backup", "--json")
    os.kill(gate.wait(), signal.SIGKILL)
    gate.open()
    answer = child.wait()
    assert answer.code == 1
    assert answer.json["outcome"] == "failed"
    assert answer.json["error"] == f"backup of {big.name}: pg_dump was killed by signal 9"
    assert answer.json["backups"] == []
    assert nothing_is_left(maint, big.cluster)
    assert maint.json("backups") == []
    assert maint("run", "backup").code == 0
    assert counted(manifest(maint)) == counts(big)


def test_what_killed_pg_dump_may_pass(big: Database, configured: Configured, gate: Gate) -> None:
    maint = configured(big, server=gate.line)
    backup_job(maint, retries=1, retry_delay="1s")
    child = maint.start("run", "backup", "--json")
    os.kill(gate.wait(), signal.SIGKILL)
    gate.open()
    answer = child.wait()
    assert answer.code == 0, answer.err
    assert answer.json["attempt"] == 2
    assert answer.json["slot"] == "manual:1"
    assert [(run["attempt"], run["outcome"]) for run in maint.json("history")] == [(2, "succeeded"), (1, "failed")]
    assert counted(manifest(maint)) == counts(big)


def test_a_server_that_restarts_immediately_fails_the_attempt_not_the_slot(
    own_cluster: Callable[..., Cluster], configured: Configured, tmp_path: Path
) -> None:
    cluster = own_cluster()
    database = Database(cluster, "postgres")
    database.execute(BIG)
    gate = Gate.middle(tmp_path / "gate", cluster.installation)
    maint = configured(database, server=gate.line)
    backup_job(maint, retries=2, retry_delay="2s")
    child = maint.start("run", "backup", "--json")
    gate.wait()
    cluster.stop("immediate")
    gate.open()
    wait_until(lambda: "attempt 1 failed" in child.err, "the first attempt")
    assert left_in(maint.repository) == []
    cluster.start()
    answer = child.wait()
    assert answer.code == 0, answer.err
    assert answer.json["attempt"] > 1
    assert counted(manifest(maint)) == counts(database)
    outcomes = [run["outcome"] for run in maint.json("history")]
    assert outcomes[0] == "succeeded"
    assert set(outcomes[1:]) == {"failed"}


def test_a_server_that_is_gone_is_one_clear_line(own_cluster: Callable[..., Cluster], configured: Configured) -> None:
    cluster = own_cluster()
    maint = configured(Database(cluster, "postgres"))
    backup_job(maint)
    cluster.stop("fast")
    answer = maint("run", "backup", "--json")
    assert answer.code == 1
    assert answer.json["error"].startswith("server main: ")
    assert answer.json["hint"] == "is the server up and reachable? maint doctor"
    assert left_in(maint.repository) == []


def test_a_pg_dump_that_waits_for_a_lock_gives_up(database: Database, configured: Configured) -> None:
    maint = configured(database)
    backup_job(maint, 'lock_wait = "1s"')
    with database.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE sales.orders")
        answer = maint("run", "backup", "--json")
    assert answer.code == 1
    assert "timeout" in answer.json["error"]
    assert answer.json["hint"].startswith("somebody holds or awaits an exclusive lock on a table")
    assert nothing_is_left(maint, database.cluster)


@pytest.mark.parametrize("limit", ["timeout", "idle_timeout"])
def test_a_pg_dump_that_waits_for_a_lock_is_ended(database: Database, configured: Configured, limit: str) -> None:
    maint = configured(database)
    backup_job(maint, 'lock_wait = "1h"', **{limit: "3s"})
    with database.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE sales.orders")
        answer = maint("run", "backup", "--json", seconds=40)
        assert nothing_is_left(maint, database.cluster)
    _is_timed_out(maint, answer, limit)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert wait_until(lambda: database.value(sessions) == 0, "the end of all sessions")
    assert maint("run", "backup").code == 0


@pytest.mark.parametrize("limit", [pytest.param("timeout", marks=pytest.mark.slow), "idle_timeout"])
def test_a_pg_dump_that_hangs_is_ended(big: Database, configured: Configured, gate: Gate, limit: str) -> None:
    maint = configured(big, server=gate.line)
    backup_job(maint, **{limit: "3s"})
    child = maint.start("run", "backup", "--json")
    os.kill(gate.wait(), signal.SIGSTOP)
    answer = child.wait(40)
    assert nothing_is_left(maint, big.cluster)
    _is_timed_out(maint, answer, limit)


def _is_timed_out(maint: Maint, answer: Answer, limit: str) -> None:
    assert answer.code == 6, answer
    assert answer.json["outcome"] == "timed_out"
    assert limit in answer.json["error"]
    assert answer.json["hint"]
    (run,) = maint.json("history")
    assert run["outcome"] == "timed_out"
    assert set(steps(maint).values()) == {"not_reached"}


@pytest.mark.parametrize("format_", ["custom", "directory"])
def test_an_unreadable_table_is_named_with_the_grant(
    database: Database, configured: Configured, role: str, format_: str
) -> None:
    database.execute(
        f'GRANT USAGE ON SCHEMA sales TO "{role}"; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"'
    )
    database.execute(f'GRANT SELECT ON sales.orders TO "{role}"')
    maint = _as(role, configured(database))
    backup_job(maint, f'format = "{format_}"')
    answer = maint("run", "backup", "--json")
    assert answer.code == 1
    assert "permission denied for table events" in answer.json["error"]
    assert "GRANT" in answer.json["hint"]
    assert nothing_is_left(maint, database.cluster)


def test_row_security_fails_and_never_filters(database: Database, configured: Configured, role: str) -> None:
    database.execute(f'GRANT pg_read_all_data TO "{role}"')
    database.execute("ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY")
    database.execute(
        "CREATE POLICY few ON sales.orders USING (id < 5); SELECT lo_unlink(oid) FROM pg_largeobject_metadata"
    )
    maint = _as(role, configured(database))
    backup_job(maint)
    answer = maint("run", "backup", "--json")
    assert answer.code == 1
    assert "row-level security" in answer.json["error"]
    assert "orders" in answer.json["error"]
    assert "BYPASSRLS" in answer.json["hint"]
    assert nothing_is_left(maint, database.cluster)
    database.execute(f'ALTER ROLE "{role}" BYPASSRLS')
    assert maint("run", "backup").code == 0
    assert counted(manifest(maint))["sales", "orders"] == 500


@pytest.fixture
def role(cluster: Cluster) -> Iterator[str]:
    """A role that may log in and nothing else."""
    server = Database(cluster, "postgres")
    name = f"plain {os.getpid()}"
    server.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'not checked here'")
    yield name
    for (database,) in server.execute("SELECT datname FROM pg_database WHERE datallowconn"):
        Database(cluster, database).execute(f'DROP OWNED BY "{name}"')
    server.execute(f'DROP ROLE "{name}"')


def _as(role: str, maint: Maint) -> Maint:
    maint.write(maint.config.read_text().replace("user='postgres'", f"user='{role}'"))
    return maint


def test_a_plain_role_backs_up_and_says_what_is_lacking(database: Database, configured: Configured, role: str) -> None:
    database.execute(f'GRANT pg_read_all_data TO "{role}"; SELECT lo_unlink(oid) FROM pg_largeobject_metadata')
    database.execute("CREATE EXTENSION postgres_fdw; CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw")
    database.execute("CREATE USER MAPPING FOR postgres SERVER other OPTIONS (password 'secret of fdw')")
    maint = _as(role, configured(database))
    backup_job(maint)
    answer = maint("run", "backup", "--json")
    assert answer.code == 0, answer.err
    made = manifest(maint)
    assert counted(made) == counts(database)
    logins = database.value("SELECT count(*) FROM pg_roles WHERE rolcanlogin")
    assert made.lacks == ("1 user-mapping option", f"{logins} role passwords")
    globals_ = Path(folder_of(maint), "globals.sql.zst").read_bytes()
    import zstandard

    text = zstandard.ZstdDecompressor().stream_reader(globals_).read().decode()
    assert f'CREATE ROLE "{role}"' in text
    assert "PASSWORD" not in text
    assert counts(restore(folder_of(maint), database))["sales", "orders"] == 500


def test_one_database_that_fails_does_not_stop_the_others(
    make_database: MakeDatabase, configured: Configured, role: str
) -> None:
    good, bad, good_too = make_database(), make_database(), make_database()
    for database in (good, bad, good_too):
        grants = f'GRANT USAGE ON SCHEMA sales TO "{role}"; SELECT lo_unlink(oid) FROM pg_largeobject_metadata;'
        grants += f'GRANT SELECT ON ALL TABLES IN SCHEMA public, sales TO "{role}";'
        grants += f'GRANT SELECT ON ALL SEQUENCES IN SCHEMA public, sales TO "{role}"'
        database.execute(grants)
    bad.execute(f'REVOKE ALL ON public.nothing FROM "{role}"')
    maint = _as(role, configured(good, bad, good_too))
    backup_job(maint)
    answer = maint("run", "backup", "--json")
    assert answer.code == 1
    assert answer.json["error"].startswith(f"backup of {bad.name}: ")
    assert "nothing" in answer.json["error"]
    assert answer.json["summary"].startswith("2 of 3 databases, ")
    assert len(answer.json["backups"]) == 2
    assert set(manifests(maint)) == {good.name, good_too.name}
    assert steps(maint) == {good.name: "done", bad.name: "failed", good_too.name: "done"}
    printed = maint("run", "backup").out
    assert f"{bad.name}  failed  " in printed


def test_a_database_that_is_not_there(database: Database, configured: Configured) -> None:
    maint = configured(database, Database(database.cluster, "gone"))
    backup_job(maint)
    answer = maint("run", "backup", "--json")
    assert answer.code == 3
    (finding,) = answer.json["findings"]
    assert (finding["check"], finding["object"]) == ("backup.gone", "gone")
    assert set(manifests(maint)) == {database.name}


def test_patterns_that_match_nothing(database: Database, configured: Configured) -> None:
    maint = configured(Database(database.cluster, "no_such_*"))
    backup_job(maint)
    answer = maint("run", "backup", "--json")
    assert answer.code == 3
    (finding,) = answer.json["findings"]
    assert (finding["check"], finding["severity"]) == ("backup.nothing", "critical")


def test_a_database_that_allows_no_connections_is_told(make_database: MakeDatabase, configured: Configured) -> None:
    open_, closed = make_database(), make_database()
    maint = configured(open_, closed)
    backup_job(maint)
    Database(open_.cluster, "postgres").execute(f"ALTER DATABASE {closed.name} ALLOW_CONNECTIONS false")
    answer = maint("run", "backup")
    assert answer.code == 3, answer
    assert f"fix: ALTER DATABASE {closed.name} ALLOW_CONNECTIONS true" in answer.out
    assert f"{closed.name}  skipped  the database does not allow connections" in answer.out
    assert steps(maint) == {open_.name: "done", closed.name: "skipped"}
    assert set(manifests(maint)) == {open_.name}


def test_nothing_runs_on_after_a_success(database: Database, configured: Configured) -> None:
    maint = configured(database)
    backup_job(maint, 'format = "directory"\nparallel = 2')
    assert maint("run", "backup").code == 0
    assert running(database.cluster) == []
    assert left_in(maint.state / "scratch") == []
