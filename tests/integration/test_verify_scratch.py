"""Verification on a configured scratch server: in a database of maint's own, and never in anything else."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.dumps import NEWEST, backup_job
from support.maint import Maint
from support.postgres import Database
from support.proofs import before_comparing, verified, verify, verify_job

pytestmark = NEWEST

MARK = "made by maint to verify a backup, and dropped by it"


@pytest.fixture
def maint(database: Database, configured: Callable[..., Maint], open_folder: Path) -> Maint:
    """A maint with one backup and a scratch server, which is the same one."""
    one = configured(database)
    one.environment["TMPDIR"] = str(open_folder)
    backup_job(one, servers=["main"])
    verify_job(one, 'scratch = "scratch"', servers=["main"])
    scratch(one, database.cluster.dsn())
    assert one("run", "backup").code == 0
    return one


def scratch(maint: Maint, dsn: str) -> None:
    text = maint.config.read_text().split("[server.scratch]")[0]
    maint.write(f"{text}[server.scratch]\ndsn = {json.dumps(dsn)}\n")


def names(database: Database) -> list[str]:
    """Return every database and role of the server."""
    query = "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles ORDER BY 1"
    return [name for (name,) in database.execute(query)]


def test_a_database_is_made_for_it_and_dropped(maint: Maint, database: Database) -> None:
    before = names(database)
    (one,) = verified(maint, code=0)
    assert one["result"] == "proven"
    assert names(database) == before
    assert database.value("SELECT count(*) FROM public.customers") == 100


def test_the_restoring_role_is_a_plain_one_of_its_own(maint: Maint, database: Database) -> None:
    (one,) = verified(maint, first=before_comparing("CREATE ROLE more"), code=None) or [{}]
    assert one == {}
    assert "permission denied to create role" in maint.json("show", "2")["error"]


def test_a_role_that_may_create_databases_is_enough(maint: Maint, database: Database) -> None:
    database.execute("CREATE ROLE verify_maker LOGIN CREATEDB")
    try:
        scratch(maint, database.cluster.dsn(user="verify_maker"))
        before = names(database)
        (one,) = verified(maint, code=0)
        assert one["result"] == "proven"
        assert names(database) == before
    finally:
        database.execute("DROP ROLE verify_maker")


@pytest.fixture
def leftovers(database: Database) -> Iterator[dict[str, str]]:
    from maint import owner

    me = owner.me()
    gone = f"maint_scratch_{me.place}-{me.pid}-{me.start + 1}_00aa"  # this pid, another process
    kept = {
        "living": f"maint_scratch_{me}_00ab",
        "elsewhere": "maint_scratch_000000000000-1-1_00ac",
        "marked": f"maint_scratch_{me.place}-{me.pid}-{me.start + 1}_00ad",
        "alike": "maint_scratch_customers",
    }
    for name in (gone, *kept.values()):
        database.execute(f'CREATE DATABASE "{name}"')
    database.execute(f'CREATE ROLE "{gone}"')
    database.execute(f"COMMENT ON DATABASE \"{gone}\" IS '{MARK}'")
    database.execute(f"COMMENT ON DATABASE \"{kept['living']}\" IS '{MARK}'")
    database.execute(f"COMMENT ON DATABASE \"{kept['marked']}\" IS 'mine, do not touch'")
    yield {"gone": gone, **kept}
    for name in (gone, *kept.values()):
        database.execute(f'DROP DATABASE IF EXISTS "{name}"')
    database.execute(f'DROP ROLE IF EXISTS "{gone}"')


def test_only_what_a_dead_maint_has_left_is_dropped(
    maint: Maint, database: Database, leftovers: dict[str, str]
) -> None:
    before = names(database)
    shown = maint.json("run", "verify", "--server", "main", "--dry-run")
    clear = [action for action in shown["actions"] if action["verb"] == "clear"]
    assert [action["object"] for action in clear] == [leftovers["gone"]]
    assert names(database) == before
    verified(maint, code=0)
    assert names(database) == [name for name in before if name != leftovers["gone"]]


def test_a_scratch_server_that_is_gone_or_unknown(maint: Maint) -> None:
    scratch(maint, "host=/nowhere")
    answer, said = verify(maint)
    assert (answer.code, said["verified"]) == (1, [])
    verify_job(maint, 'scratch = "nothing"', servers=["main"])
    answer, _ = verify(maint)
    assert answer.code in (1, 3)
