"""Retention through the command line: what is never deleted, and that nothing is deleted unannounced."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from support import aftermath, postgres
from support.backups import store
from support.maint import Maint
from support.postgres import Database

from maint.cluster import Cluster
from maint.repository import open_repository

KEEP_ALL = "retries = 0\n[options]\nkeep = { last = 100 }\n"
KEEP_ONE = "retries = 0\n[options]\nkeep = { last = 1 }\n"


#: pg_dump cannot make a statement of this view
_UNREADABLE = """
CREATE VIEW public.broken AS SELECT 1 AS one;
UPDATE pg_rewrite SET ev_action = '' WHERE ev_class = 'public.broken'::regclass;
"""


@pytest.fixture
def other(newest: Cluster) -> Iterator[Database]:
    found = postgres.clone(newest)
    yield found
    postgres.drop(found)


@pytest.fixture
def maint(configured: Callable[..., Maint], sample: Database, other: Database) -> Maint:
    found = configured(sample, other)
    found.job("backup", KEEP_ONE)
    return found


def ids_of(maint: Maint, database: Database) -> list[str]:
    return [one.id for one in aftermath.whole_backups(aftermath.local(maint)) if one.database == database.name]


def test_a_database_whose_backup_failed_keeps_what_it_has(maint: Maint, sample: Database, other: Database) -> None:
    maint.job("backup", KEEP_ALL)
    for _ in range(3):
        assert maint("run", "backup").code == 0
    maint.job("backup", KEEP_ONE)
    had = ids_of(maint, sample)
    assert len(had) == 3
    sample.execute(
        "CREATE ROLE poor LOGIN; CREATE TABLE public.unreadable (id int); REVOKE ALL ON SCHEMA sales FROM public"
    )
    maint.write(maint.config.read_text().replace("user=postgres", "user=poor").replace("user='postgres'", "user=poor"))
    try:
        other.execute("GRANT pg_read_all_data TO poor")
        other.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
        sample.execute("REVOKE pg_read_all_data FROM poor")
        answer = maint("run", "backup", "--json")
        (report,) = answer.json_lines
        assert answer.code == 1
        assert sample.name in report["error"]
        assert ids_of(maint, sample) == had
    finally:
        sample.execute("DROP OWNED BY poor")
        other.execute("DROP OWNED BY poor")
        sample.execute("DROP ROLE poor")


def test_dry_run_prints_the_deletions_that_then_happen(maint: Maint, sample: Database, other: Database) -> None:
    maint.job("backup", KEEP_ALL)
    for _ in range(3):
        assert maint("run", "backup").code == 0
    maint.job("backup", KEEP_ONE)
    before = {*ids_of(maint, sample), *ids_of(maint, other)}
    (planned,) = maint("run", "backup", "--dry-run", "--json").json_lines
    assert {*ids_of(maint, sample), *ids_of(maint, other)} == before  # a dry run does nothing
    deletions = [(one["object"], one["commands"]) for one in planned["actions"] if one["verb"] == "delete"]
    shown = maint("run", "backup", "--dry-run").out
    answer = maint("run", "backup")
    assert answer.code == 0
    after = {*ids_of(maint, sample), *ids_of(maint, other)}
    assert {f"{id_} in local" for id_ in before - after} == {object_ for object_, _ in deletions}
    assert len(deletions) == 6
    for object_, commands in deletions:
        assert f"delete {object_}" in shown
        assert all(command in shown for command in commands)
        assert f"{object_}  deleted" in answer.out


def test_more_than_max_delete_at_once_is_none(maint: Maint, sample: Database) -> None:
    maint.job("backup", KEEP_ALL)
    for _ in range(4):
        assert maint("run", "backup").code == 0
    maint.job("backup", KEEP_ONE)
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"]) == (3, "warned")
    assert {finding["check"] for finding in report["findings"]} == {"backup.prune"}
    assert len(ids_of(maint, sample)) == 5
    maint.job("backup", KEEP_ONE + "max_delete = 5\n")
    assert maint("run", "backup").code == 0
    assert len(ids_of(maint, sample)) == 1


def test_months_of_outage_and_then_one_run(maint: Maint, sample: Database) -> None:
    """Nothing is deleted for its age alone: what an outage of months leaves is kept by its classes."""
    repository = open_repository(aftermath.local(maint))
    long_ago = datetime.now(UTC) - timedelta(days=200)
    old = [store(repository, long_ago - timedelta(days=n), database=sample.name, mark=f"{n:04}").id for n in range(5)]
    maint.job("backup", "retries = 0\n[options]\nkeep = { last = 3, daily = 7, weekly = 4, monthly = 12 }\n")
    answer = maint("run", "backup")
    assert answer.code == 0, answer.out
    assert [id_ for id_ in ids_of(maint, sample) if id_ in old] == old
    maint.job("backup", KEEP_ONE)
    assert maint("run", "backup").code == 3  # too many at once: rather told than done
    assert set(old) <= set(ids_of(maint, sample))
