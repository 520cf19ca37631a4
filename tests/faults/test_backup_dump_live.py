"""A database that others work on while it is dumped: counts equal what is in the dump, and nobody waits for ever."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support import wait_until
from support.dumps import BIG, Gate, backup_job, counted, counts, folder_of, left_in, manifest, restore
from support.maint import Maint
from support.postgres import Database

from maint.backups import counts as dump_counts
from maint.backups import dump
from maint.backups.manifest import DatabaseManifest

Configured = Callable[..., Maint]


@pytest.fixture
def big(database: Database) -> Database:
    database.execute(BIG)
    return database


@contextmanager
def meanwhile(database: Database, *statements: str, **options: Any) -> Iterator[threading.Thread]:
    """Run statements in another session and a thread; they must have ended well with the block."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            with database.connect(**options) as connection:
                for statement in statements:
                    connection.execute(statement)  # type: ignore[call-overload]
        except psycopg.Error as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
    assert not thread.is_alive()
    assert errors == []


def waiting(database: Database) -> int:
    """Count the sessions that wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return int(database.value(query))


def same_as_restored(made: DatabaseManifest, restored: dict[tuple[str, str], int]) -> None:
    """Every count that is there is right; what could not be counted says why."""
    for table in made.contents.tables:
        assert table.rows == restored[table.schema_, table.name] or (table.rows is None and table.why), table
    assert len(made.contents.tables) == len(restored)


def test_what_others_commit_meanwhile_is_not_in_the_dump_nor_counted(
    big: Database, configured: Configured, tmp_path: Path
) -> None:
    gate = Gate.middle(tmp_path / "gate", big.cluster.installation)
    maint = configured(big, server=gate.line)
    backup_job(maint)
    before = counts(big)
    child = maint.start("run", "backup")
    gate.wait()
    big.execute("INSERT INTO public.nothing SELECT generate_series(1, 100)")
    big.execute("DELETE FROM sales.orders WHERE id % 2 = 0; UPDATE public.big SET filler = 'y' WHERE i % 3 = 0")
    big.execute("DELETE FROM public.parent; CREATE TABLE public.new AS SELECT 1 AS one")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        big.execute("SET lock_timeout = '100ms'; TRUNCATE sales.events")
    gate.open()
    assert child.wait().code == 0
    assert counted(manifest(maint)) == before
    assert counts(restore(folder_of(maint), big)) == before


@pytest.mark.parametrize("format_", ["custom", "directory"])
def test_counts_equal_the_dump_while_others_write_without_a_pause(
    big: Database, configured: Configured, format_: str
) -> None:
    maint = configured(big)
    backup_job(maint, f'format = "{format_}"\nparallel = 2')
    enough = threading.Event()

    def write() -> None:
        with big.connect() as connection:
            while not enough.is_set():
                connection.execute("INSERT INTO public.nothing SELECT coalesce(max(id), 0) + 1 FROM public.nothing")
                connection.execute("DELETE FROM sales.orders WHERE id = (SELECT min(id) FROM sales.orders)")
                connection.execute("UPDATE public.big SET filler = 'y' WHERE i = (random() * 40000)::int")

    writers = [threading.Thread(target=write)]
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: big.value("SELECT count(*) FROM public.nothing") > 5, "the writers")
        answer = maint("run", "backup")
    finally:
        enough.set()
        for writer in writers:
            writer.join()
    assert answer.code == 0, answer
    made = manifest(maint)
    at_the_end = counts(big)
    restored = counts(restore(folder_of(maint), big))
    assert counted(made) == restored
    assert 5 < restored["public", "nothing"] <= at_the_end["public", "nothing"]


def test_a_schema_change_that_waits_behind_the_dump(big: Database, configured: Configured, tmp_path: Path) -> None:
    gate = Gate.middle(tmp_path / "gate", big.cluster.installation)
    maint = configured(big, server=gate.line)
    backup_job(maint)
    before = counts(big)
    child = maint.start("run", "backup")
    gate.wait()
    with meanwhile(big, "ALTER TABLE public.big ADD COLUMN more float DEFAULT random()"):
        wait_until(lambda: waiting(big), "the ALTER behind the dump")
        with pytest.raises(psycopg.errors.LockNotAvailable):  # and all that queues behind it
            big.execute("SET lock_timeout = '100ms'; SELECT count(*) FROM public.big")
        gate.open()
        assert child.wait(60).code == 0
    same_as_restored(manifest(maint), before)
    assert counts(restore(folder_of(maint), big)) == before


CHANGES = {
    "add": "ALTER TABLE sales.orders ADD COLUMN more float DEFAULT random()",  # rewrites the table
    "type": "ALTER TABLE public.nothing ALTER COLUMN id TYPE bigint",  # and its index, which pg_dump then misses
    "truncate": "TRUNCATE sales.orders",  # seen by snapshots older than itself
}


@pytest.mark.parametrize("queued", [False, True], ids=["through", "queued"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_schema_change_between_the_snapshot_and_the_locks(
    database: Database, configured: Configured, tmp_path: Path, change: str, queued: bool
) -> None:
    gate = Gate.before(tmp_path / "gate", database.cluster.installation)
    maint = configured(database, server=gate.line)
    backup_job(maint, retries=1, retry_delay="1s")
    child = maint.start("run", "backup", "--json")
    gate.wait()
    with meanwhile(database, CHANGES[change]) as changing:
        # queued: pg_dump behind the change, and the change behind what maint holds for a moment
        wait_until(lambda: not changing.is_alive() or (queued and waiting(database)), "the change")
        gate.open()
        answer = child.wait(60)
    assert answer.code == 0, answer
    same_as_restored(manifest(maint), counts(restore(folder_of(maint), database)))


def test_a_table_dropped_between_the_snapshot_and_the_locks_is_tried_again(
    database: Database, configured: Configured, tmp_path: Path
) -> None:
    gate = Gate.before(tmp_path / "gate", database.cluster.installation)
    maint = configured(database, server=gate.line)
    backup_job(maint, retries=1, retry_delay="1s")
    child = maint.start("run", "backup", "--json")
    gate.wait()
    database.execute("DROP TABLE public.nothing")
    gate.open()
    answer = child.wait()
    assert (answer.code, answer.json["attempt"]) == (0, 2), answer
    assert 'relation "public.nothing" does not exist' in maint.json("show", "1")["error"]
    assert counted(manifest(maint)) == counts(database)


def test_who_waits_long_behind_the_dump_is_a_finding(
    big: Database, configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump, "WAITING_TOO_LONG", 1)
    monkeypatch.setattr(dump, "_LOOK", 0.1)
    gate = Gate.middle(tmp_path / "gate", big.cluster.installation)
    maint = configured(big, server=gate.line)
    backup_job(maint)
    child = maint.start("run", "backup", "--json")
    gate.wait()
    with meanwhile(big, "ALTER TABLE public.big ADD COLUMN more int", application_name="the deployment"):
        wait_until(lambda: "waits behind" in child.err or _waits(big) > 1.5, "a long wait")
        gate.open()
        answer = child.wait()
    assert answer.code == 3, answer
    (finding,) = answer.json["findings"]
    assert finding["check"] == "backup.blocking"
    assert "the deployment" in finding["message"]
    assert "ALTER TABLE public.big" in finding["message"]
    assert counted(manifest(maint))["public", "big"] == 40000


def test_a_count_that_outlives_the_locks_of_the_dump_is_thrown_away(
    big: Database, configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = dump_counts._count

    def late(connection: Any, table: Any) -> Any:
        (tmp_path / "counting").touch()
        wait_until((tmp_path / "changed").exists)
        return count(connection, table)

    monkeypatch.setattr(dump_counts, "_count", late)
    monkeypatch.setattr(dump_counts, "_SECURED_TABLES", 0)  # as if there were too many to lock
    gate = Gate.after(tmp_path / "gate", big.cluster.installation)
    maint = configured(big, server=gate.line)
    backup_job(maint)
    before = counts(big)
    child = maint.start("run", "backup")
    wait_until((tmp_path / "counting").exists, "the first count")
    gate.pass_middle()
    gate.wait()  # pg_dump is through, and its locks are gone
    big.execute("TRUNCATE sales.orders")
    (tmp_path / "changed").touch()
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'maint run % (maint)'"
    wait_until(lambda: big.value(sessions) == 2, "the end of the counts")  # the others hold the snapshot and look on
    gate.open()
    answer = child.wait()
    assert answer.code == 0, answer
    assert {(table.rows, table.why) for table in manifest(maint).contents.tables} == {(None, "the dump ended first")}
    assert counts(restore(folder_of(maint), big)) == before


def _waits(database: Database) -> float:
    query = "SELECT max(extract(epoch FROM clock_timestamp() - query_start)) FROM pg_stat_activity"
    return float(database.value(query + " WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER%'") or 0)


def test_a_locked_table_is_waited_for(database: Database, configured: Configured) -> None:
    maint = configured(database)
    backup_job(maint)
    before = counts(database)
    with database.connect() as holder:
        with holder.transaction():
            holder.execute("LOCK TABLE sales.orders")
            child = maint.start("run", "backup")
            wait_until(lambda: waiting(database), "pg_dump behind the lock")
            assert not [path for path in left_in(maint.repository) if path.endswith("manifest.json")]
        answer = child.wait()
    assert answer.code == 0, answer
    same_as_restored(manifest(maint), before)
