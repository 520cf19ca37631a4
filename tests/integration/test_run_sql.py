"""``maint run`` of jobs with the user's own SQL, on real servers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.maint import Maint
from support.postgres import Database

from maint.cluster import Cluster

Configured = Callable[..., Maint]


@pytest.fixture
def job(database: Database, configured: Configured) -> Callable[..., Maint]:
    """Configure a maint with a job "mine"."""

    def make(keys: str = "", **options: Any) -> Maint:
        maint = configured(database)
        lines = [f"{name} = {json.dumps(value)}" for name, value in {"database": database.name, **options}.items()]
        maint.job("mine", "\n".join(['task = "sql"', keys, "[options]", *lines]))
        return maint

    return make


def steps(maint: Maint, run: int = 1) -> list[tuple[str, str]]:
    return [(step["outcome"], step["note"]) for step in maint.json("show", str(run))["steps"]]


def test_each_statement_is_a_step_with_the_servers_own_word(job: Callable[..., Maint], database: Database) -> None:
    maint = job(
        statements=[
            "UPDATE sales.orders SET amount = 0 WHERE id <= 10",
            "UPDATE sales.orders SET amount = 0 WHERE id < 0",
            "SELECT 1 WHERE false",
            "VACUUM public.customers",  # outside of a transaction
        ]
    )
    answer = maint("run", "mine", "--json")
    assert answer.code == 0, answer
    assert answer.json["summary"] == "3 done, 1 no effect"
    assert steps(maint) == [
        ("done", "UPDATE 10"),
        ("no_effect", "UPDATE 0"),
        ("done", "SELECT 0"),
        ("done", "VACUUM"),
    ]
    assert database.value("SELECT count(*) FROM sales.orders WHERE amount = 0") == 10


def test_a_statement_that_fails_is_named_and_the_others_run(job: Callable[..., Maint], database: Database) -> None:
    maint = job(statements=["DELETE FROM ONLY public.parent", "DELETE FROM no_such_table", "DELETE FROM public.child"])
    answer = maint("run", "mine", "--json")
    assert answer.code == 1
    says = f'run of {database.name}/statement 2: relation "no_such_table" does not exist'
    assert answer.json["error"] == says
    assert [outcome for outcome, _ in steps(maint)] == ["done", "failed", "done"]
    assert database.value("SELECT count(*) FROM public.parent") == 0


def test_one_transaction_is_all_or_nothing(job: Callable[..., Maint], database: Database) -> None:
    statements = ["DELETE FROM ONLY public.parent", "SELECT 1 / 0"]
    maint = job(statements=statements, single_transaction=True)
    answer = maint("run", "mine", "--json")
    assert answer.code == 1
    assert "division by zero" in answer.json["error"]
    assert database.value("SELECT count(*) FROM ONLY public.parent") == 3
    maint = job(statements=statements[:1], single_transaction=True)
    assert maint("run", "mine").code == 0
    assert database.value("SELECT count(*) FROM ONLY public.parent") == 0


def test_statements_see_what_any_session_of_the_role_sees(job: Callable[..., Maint], database: Database) -> None:
    database.execute(f'ALTER DATABASE "{database.name}" SET search_path = sales')
    maint = job(statements=["UPDATE orders SET amount = 1 WHERE id = 1"])
    assert maint("run", "mine").code == 0
    assert steps(maint) == [("done", "UPDATE 1")]


def test_vacuum_without_the_privilege_had_no_effect(job: Callable[..., Maint], database: Database, plain: str) -> None:
    maint = job(statements=["VACUUM public.customers"])
    maint.write(maint.config.read_text().replace("user='postgres'", f"user='{plain}'"))
    assert maint("run", "mine").code == 0
    ((outcome, note),) = steps(maint)
    assert outcome == "no_effect"
    assert "WARNING: permission denied to vacuum" in note or "skipping" in note


@pytest.fixture
def plain(cluster: Cluster) -> Iterator[str]:
    server = Database(cluster, "postgres")
    server.execute("CREATE ROLE plain_sql LOGIN")
    yield "plain_sql"
    server.execute("DROP ROLE plain_sql")


def test_a_file_is_run_by_psql(job: Callable[..., Maint], database: Database, tmp_path: Path) -> None:
    file = tmp_path / "it's a file.sql"
    file.write_text(
        "\\set n 3\nDELETE FROM public.customers c WHERE false;\nDELETE FROM ONLY public.parent;\n\\echo well\n"
    )
    maint = job(file=str(file))
    answer = maint("run", "mine", "--json")
    assert answer.code == 0, answer
    assert database.value("SELECT count(*) FROM ONLY public.parent") == 0
    log = maint("show", "1", "--log").out
    assert "psql: DELETE 3" in log
    assert "psql: well" in log


@pytest.mark.parametrize("single", [False, True])
def test_a_file_with_an_error_ends_there(
    job: Callable[..., Maint], database: Database, tmp_path: Path, single: bool
) -> None:
    file = tmp_path / "file.sql"
    file.write_text("DELETE FROM ONLY public.parent;\nSELECT broken;\nDELETE FROM public.child;\n")
    maint = job(file=str(file), single_transaction=single)
    answer = maint("run", "mine", "--json")
    assert answer.code == 1
    assert "psql ended with exit status 3" in answer.json["error"]
    assert 'column "broken" does not exist' in answer.json["error"]
    assert database.value("SELECT count(*) FROM ONLY public.parent") == (3 if single else 0)
    assert database.value("SELECT count(*) FROM public.child") == 4


def test_a_missing_file_is_one_clear_line(job: Callable[..., Maint], tmp_path: Path) -> None:
    maint = job(file=str(tmp_path / "gone.sql"))
    answer = maint("run", "mine", "--json")
    assert answer.code == 1
    assert "gone.sql: No such file or directory" in answer.json["error"]


def test_a_statement_that_takes_too_long_is_ended(job: Callable[..., Maint], database: Database) -> None:
    maint = job('timeout = "2s"', statements=["SELECT pg_sleep(600)", "DELETE FROM public.parent"])
    answer = maint("run", "mine", "--json")
    assert (answer.code, answer.json["outcome"]) == (6, "timed_out")
    assert [outcome for outcome, _ in steps(maint)] == ["not_reached", "not_reached"]
    assert database.value("SELECT count(*) FROM ONLY public.parent") == 3
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
    assert database.value(sleeping) == 0


def test_the_deadline_of_one_server_is_not_that_of_the_next(job: Callable[..., Maint], database: Database) -> None:
    only_there = "SELECT pg_sleep(CASE WHEN current_setting('application_name') = 'maint run 1' THEN 600 ELSE 0 END)"
    maint = job('timeout = "2s"', statements=[only_there])
    maint.add(f"[server.second]\ndsn = {json.dumps(database.cluster.dsn())}\n")
    answer = maint("run", "mine", "--json")
    assert [(run["server"], run["outcome"]) for run in answer.json_lines] == [
        ("main", "timed_out"),
        ("second", "succeeded"),
    ]
    assert answer.code == 6


def test_dry_run_prints_what_is_executed_and_does_nothing(job: Callable[..., Maint], database: Database) -> None:
    statements = ["DELETE FROM ONLY public.parent", "ALTER ROLE postgres PASSWORD 'never shown'"]
    maint = job(statements=statements)
    (plan,) = maint("run", "mine", "--dry-run", "--json").json_lines
    assert database.value("SELECT count(*) FROM ONLY public.parent") == 3
    assert maint.json("history") == []
    answer = maint("run", "mine")
    assert answer.code == 0
    done = [step["commands"] for step in maint.json("show", "1")["steps"]]
    assert [action["commands"] for action in plan["actions"]] == done
    assert done == [statements[:1], ["ALTER ROLE postgres PASSWORD ***"]]
    assert b"never shown" not in b"".join(path.read_bytes() for path in maint.state.rglob("*") if path.is_file())


def test_a_database_that_is_not_there(job: Callable[..., Maint]) -> None:
    maint = job(database="no such", statements=["SELECT 1"])
    answer = maint("run", "mine", "--json")
    assert answer.code == 1
    assert 'database "no such" does not exist' in answer.json["error"]
