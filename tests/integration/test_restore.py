"""maint restore into new and empty databases: rows, owners, what is left out, what is refused, what is left."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from support import wait_until
from support.dumps import NEWEST, backup_job, counts, folder_of
from support.maint import Maint
from support.postgres import Database
from support.repositories import write_with
from support.restores import (
    add_server,
    backed_up,
    databases,
    flip,
    nothing_beside,
    volumes,
)
from support.s3 import Store

from maint import owner

MakeDatabase = Callable[..., Database]
Configured = Callable[..., Maint]
Target = Callable[..., Database]

WAYS = pytest.mark.parametrize(("format_", "jobs"), [("custom", 1), ("custom", 2), ("directory", 1), ("directory", 2)])


@WAYS
def test_into_a_new_database(
    database: Database, configured: Configured, target: Target, format_: str, jobs: int
) -> None:
    maint, copy = backed_up(configured(database), f'format = "{format_}"'), target()
    before = counts(database)
    answer = maint("restore", database.name, "--to", copy.name, f"--jobs={jobs}", "--json")
    assert answer.code == 0, answer.err
    assert counts(copy) == before
    said = answer.json
    assert (said["tables_compared"], said["rows_compared"]) == (len(before), sum(before.values()))
    assert said.items() >= {"problems": [], "differing": [], "left_out": [], "exit_code": 0}.items()
    assert copy.value("SELECT count(*) FROM pg_largeobject_metadata") == 1
    assert copy.value("SELECT total FROM sales.totals WHERE customer_id = 7") is not None
    assert copy.value("SELECT reltuples FROM pg_class WHERE relname = 'orders'") == 500  # it was analysed
    assert nothing_beside(maint, database.cluster)


@NEWEST
def test_into_an_empty_database_that_is_there(
    database: Database, make_database: MakeDatabase, configured: Configured
) -> None:
    maint, empty = backed_up(configured(database)), make_database(template="template0")
    empty.execute(f"COMMENT ON DATABASE \"{empty.name}\" IS 'mine'; CREATE EXTENSION hstore")
    answer = maint("restore", database.name, "--to", f"main/{empty.name}")
    assert answer.code == 0, answer.err
    assert counts(empty) == counts(database)
    assert answer.out.splitlines()[-1].startswith("restored ")
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    assert empty.value(comment) == "mine"


@NEWEST
@pytest.mark.parametrize(
    "something",
    [
        "CREATE TABLE public.mine ()",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE public.mine AS ENUM ('a')",
        "SELECT lo_create(0)",
    ],
)
def test_one_that_holds_something_is_refused(
    database: Database, make_database: MakeDatabase, configured: Configured, something: str
) -> None:
    maint, other = backed_up(configured(database)), make_database(template="template0")
    other.execute(something)
    answer = maint("restore", database.name, "--to", other.name)
    assert answer.code == 2
    assert "holds something: 1 " in answer.err
    assert "--replace" in answer.err
    assert counts(other).keys() <= {("public", "mine")}


@NEWEST
def test_what_belongs_to_the_database_itself(database: Database, configured: Configured, target: Target) -> None:
    name = database.name
    database.execute(
        f'CREATE ROLE owns; CREATE ROLE "It\'s app"; ALTER DATABASE {name} OWNER TO owns;'
        f'ALTER DATABASE {name} SET search_path = sales, "Odd, one"; ALTER DATABASE {name} CONNECTION LIMIT 7;'
        f"ALTER ROLE \"It's app\" IN DATABASE {name} SET work_mem = '9MB';"
        f"COMMENT ON DATABASE {name} IS 'it''s; a \"shop\"'; GRANT TEMP ON DATABASE {name} TO \"It's app\";"
    )
    copy = target("A copy; of 'it'")
    try:
        maint = backed_up(configured(database))
        assert maint("restore", name, "--to", copy.name).code == 0
        assert _itself(copy) == _itself(database)
    finally:
        for one in (database, copy):
            one.execute(
                f'ALTER DATABASE "{one.name}" OWNER TO postgres; REVOKE ALL ON DATABASE "{one.name}" FROM "It\'s app"'
            )
        database.execute('DROP ROLE owns; DROP ROLE "It\'s app"')


def _itself(database: Database) -> list[tuple[object, ...]]:
    return database.execute(
        "SELECT pg_get_userbyid(datdba), datconnlimit, datacl::text, shobj_description(d.oid, 'pg_database'),"
        " (SELECT array_agg((setrole, setconfig)::text ORDER BY 1) FROM pg_db_role_setting WHERE setdatabase = d.oid)"
        " FROM pg_database d WHERE datname = current_database()"
    )


LEFT_OUT = """
CREATE PUBLICATION sells FOR TABLE sales.orders;
COMMENT ON PUBLICATION sells IS 'to others';
CREATE SUBSCRIPTION buys CONNECTION 'host=nowhere.invalid' PUBLICATION p WITH (connect = false, slot_name = NONE);
COMMENT ON SUBSCRIPTION buys IS 'from others';
"""


@NEWEST
def test_publications_and_subscriptions_are_left_out_and_named(
    database: Database, configured: Configured, target: Target
) -> None:
    database.execute(LEFT_OUT)
    maint, without, with_ = backed_up(configured(database)), target(), target()
    try:
        answer = maint("restore", database.name, "--to", without.name, "--json")
        assert (answer.code, answer.json["problems"]) == (0, []), answer.err
        assert answer.json["left_out"] == ["PUBLICATION sells postgres", "SUBSCRIPTION buys postgres"]
        assert _replication(without) == (0, 0)
        switches = ("--with-publications", "--with-subscriptions")
        answer = maint("restore", database.name, "--to", with_.name, *switches, "--json")
        assert (answer.code, answer.json["left_out"]) == (0, []), answer.err
        assert _replication(with_) == (1, 1)
    finally:
        for one in (database, with_):
            one.execute("DROP SUBSCRIPTION buys")


def _replication(database: Database) -> tuple[object, ...]:
    own = "subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
    query = "SELECT (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_subscription WHERE " + own + ")"
    return database.execute(query)[0]


@NEWEST
def test_tablespaces(database: Database, configured: Configured, target: Target, open_folder: Path) -> None:
    folder = open_folder / "fast"
    folder.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    database.execute(f"CREATE TABLESPACE fast LOCATION '{folder}'")
    try:
        database.execute("ALTER TABLE public.customers SET TABLESPACE fast")
        maint, without, with_ = backed_up(configured(database)), target(), target()
        answer = maint("restore", database.name, "--to", without.name)
        assert answer.code == 0, answer.err
        assert "left out    TABLESPACE fast" in answer.out
        assert _tablespace(without) == 0
        assert maint("restore", database.name, "--to", with_.name, "--with-tablespaces").code == 0
        assert _tablespace(with_) != 0
        for one in (database, with_):
            one.execute("ALTER TABLE public.customers SET TABLESPACE pg_default")
        database.execute("DROP TABLESPACE fast")
        lost = maint("restore", database.name, "--to", target().name, "--with-tablespaces")
        assert lost.code == 2
        assert "lacks the tablespace fast" in lost.err
        assert "--with-tablespaces" in lost.err
    finally:
        database.execute("DROP TABLESPACE IF EXISTS fast")


def _tablespace(database: Database) -> int:
    return int(database.value("SELECT reltablespace::int FROM pg_class WHERE oid = 'public.customers'::regclass"))


BROKEN = """
SET session_replication_role = replica;
SET shop.n = 2;
INSERT INTO sales.orders (customer_id, state, amount) VALUES (4711, 'open', 1);
RESET session_replication_role;
CREATE FUNCTION public.n() RETURNS int LANGUAGE sql AS 'SELECT current_setting(''shop.n'')::int';
CREATE MATERIALIZED VIEW public.of_a_setting AS SELECT public.n();
"""


@NEWEST
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_cannot_be_made_of_the_rows_is_named(
    database: Database, configured: Configured, target: Target, jobs: int
) -> None:
    database.execute(BROKEN)
    maint, copy = backed_up(configured(database)), target()
    answer = maint("restore", database.name, "--to", copy.name, f"--jobs={jobs}", "--json")
    assert answer.code == 3, answer.err
    problems = {one["entry"]: one["error"] for one in answer.json["problems"]}
    refresh, key = sorted(problems, reverse=True)
    assert refresh == "REFRESH MATERIALIZED VIEW public.of_a_setting"
    assert key.startswith("ALTER TABLE ONLY sales.orders ADD CONSTRAINT orders_customer_id_fkey FOREIGN KEY")
    assert "violates foreign key" in problems[key]
    assert "shop.n" in problems[refresh]
    assert counts(copy) == counts(database)
    text = maint("restore", database.name, "--to", target().name)
    assert text.code == 3
    assert "not made    REFRESH MATERIALIZED VIEW public.of_a_setting: " in text.out


HOSTILE = [
    "two\nlines\tand a tab",
    "a=b 'c' \"d\"",
    "postgresql://evil/name",
    "größe-数据-🐘",
    "é" * 31,
    "--clean",
    "x\x1e1; 2 3 TABLE y",
]


@NEWEST
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(make_database: MakeDatabase, configured: Configured, target: Target, name: str) -> None:
    database, copy = make_database("source", "template0"), target(name)
    quoted = '"' + name.replace('"', '""') + '"'
    database.execute(
        f"CREATE ROLE {quoted}; CREATE SCHEMA {quoted} AUTHORIZATION {quoted};"
        f"CREATE TABLE {quoted}.{quoted} ({quoted} int PRIMARY KEY); ALTER TABLE {quoted}.{quoted} OWNER TO {quoted};"
        f"INSERT INTO {quoted}.{quoted} SELECT generate_series(1, 7); CREATE SCHEMA other; CREATE TABLE other.t ()"
    )
    try:
        maint = backed_up(configured(database))
        answer = maint("restore", "main/source", "--to", f"main/{name}", "--json")
        assert answer.code == 0, answer.err
        assert answer.json["database"] == name
        assert counts(copy) == {(name, name): 7, ("other", "t"): 0}
        part = target()
        answer = maint("restore", "main/source", "--to", part.name, f"--schema={name}", "--json")
        assert answer.code == 0, answer.err
        assert counts(part) == {(name, name): 7}
        assert (
            part.value(
                "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname = %s", name
            )
            == 1
        )
    finally:
        for one in (database, copy, *([part] if "part" in locals() else [])):
            one.execute(f"DROP SCHEMA IF EXISTS {quoted} CASCADE")
        database.execute(f"DROP ROLE {quoted}")


def test_a_standby_takes_nothing(standby: tuple, configured: Configured) -> None:
    primary, replica = standby
    maint = backed_up(configured(Database(primary, "sample")))
    add_server(maint, "replica", replica)
    answer = maint("restore", "sample", "--to", "replica/copy")
    assert answer.code == 2
    assert "is a standby" in answer.err


@NEWEST
def test_encrypted(database: Database, configured: Configured, target: Target) -> None:
    database.execute("CREATE ROLE extra; ALTER TABLE public.nothing OWNER TO extra")
    try:
        key, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
        maint = configured(database)
        maint.add(f'encrypt_to = ["{key.to_public()}"]\n')
        plain = maint.config.read_text()
        backed_up(maint)
        copy = target()
        none = maint("restore", database.name, "--to", copy.name)
        _write_key(maint, other)
        maint.write(plain + f'identity_file = "{maint.folder}/key"\n')
        wrong = maint("restore", database.name, "--to", copy.name)
        for answer in (none, wrong):
            assert answer.code == 1, answer.err
            assert answer.err.splitlines()[-2].endswith(
                "is encrypted: there is no key here" if answer is none else "is encrypted: the key here does not fit"
            )
            assert "hint: set identity_file in [repository.local]" in answer.err
            assert copy.name not in databases(database.cluster)
            assert nothing_beside(maint, database.cluster)
        _write_key(maint, key)
        assert maint("restore", database.name, "--to", copy.name).code == 0
        assert counts(copy) == counts(database)
        copy.execute("ALTER TABLE public.nothing OWNER TO postgres")
    finally:
        database.execute("ALTER TABLE public.nothing OWNER TO postgres; DROP ROLE extra")


def _write_key(maint: Maint, key: object) -> None:
    path = maint.folder / "key"
    path.write_text(str(key))
    path.chmod(0o600)


@NEWEST
@pytest.mark.parametrize("damage", ["flipped", "first byte", "cut", "missing"])
@pytest.mark.parametrize(("format_", "jobs"), [("custom", 1), ("custom", 2), ("directory", 2)])
def test_damaged(
    database: Database, configured: Configured, target: Target, damage: str, format_: str, jobs: int
) -> None:
    maint, copy = backed_up(configured(database), f'format = "{format_}"'), target()
    folder = folder_of(maint)
    volume = volumes(folder)[-1]
    if damage == "flipped":
        flip(volume)
    elif damage == "first byte":
        flip(volume, 0)
    elif damage == "cut":
        volume.write_bytes(volume.read_bytes()[:-100])
    else:
        volume.unlink()
    answer = maint("restore", folder.name, "--to", copy.name, f"--jobs={jobs}")
    assert answer.code == 1, answer.err
    said = [line for line in answer.err.splitlines() if line.startswith("maint: ")]
    assert len(said) == 1, answer.err
    assert "damaged" in said[0], answer.err
    assert copy.name not in databases(database.cluster)
    assert nothing_beside(maint, database.cluster)


@NEWEST
def test_an_empty_database_is_empty_again_where_the_rows_cannot_be_restored(
    database: Database, make_database: MakeDatabase, configured: Configured
) -> None:
    taken = "CREATE OR REPLACE FUNCTION public.taken(int) RETURNS bool LANGUAGE sql AS 'SELECT {}';"
    database.execute(
        taken.format("true") + "CREATE TABLE public.zz (i int CHECK (public.taken(i)));"
        "INSERT INTO public.zz VALUES (1);" + taken.format("false")
    )
    maint, empty = backed_up(configured(database)), make_database(template="template0")
    answer = maint("restore", database.name, "--to", empty.name)
    assert answer.code == 1, answer.err
    assert 'relation "zz" violates check constraint' in answer.err
    assert "half restored" not in answer.err
    assert counts(empty) == {}
    assert empty.value("SELECT count(*) FROM pg_largeobject_metadata") == 0
    several = maint("restore", database.name, "--to", empty.name, "--jobs=2")
    assert several.code == 1
    assert f"{empty.name} is left half restored (" in several.err


@NEWEST
def test_as_somebody_who_is_no_superuser(database: Database, configured: Configured, target: Target) -> None:
    database.execute("CREATE ROLE plain LOGIN CREATEDB; CREATE EXTENSION hstore")
    try:
        maint, copy = backed_up(configured(database)), target()
        add_server(maint, "as_plain", database.cluster, "plain")
        refused = maint("restore", database.name, "--to", f"as_plain/{copy.name}")
        assert refused.code == 1, refused.err
        assert "--no-owner" in refused.err
        assert copy.name not in databases(database.cluster)
        answer = maint("restore", database.name, "--to", f"as_plain/{copy.name}", "--no-owner", "--no-privileges")
        assert answer.code == 0, answer.err + answer.out
        assert counts(copy) == counts(database)
        assert copy.value("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'sales'") == "plain"
        assert nothing_beside(maint, database.cluster)
    finally:
        copy.execute("DROP OWNED BY plain CASCADE")
        from support import postgres

        postgres.drop(copy)
        database.execute("DROP ROLE plain")


@NEWEST
def test_dry_run_changes_nothing_and_says_the_same_words(
    database: Database, configured: Configured, target: Target
) -> None:
    maint, copy = backed_up(configured(database)), target()
    planned = maint("restore", database.name, "--to", copy.name, "--dry-run", "--json").json
    assert planned["dry_run"] is True
    assert copy.name not in databases(database.cluster)
    done = maint("restore", database.name, "--to", copy.name)
    said = [_unnumbered(json.loads(line)["message"]) for line in done.err.splitlines()]
    steps = [_unnumbered(step) for step in planned["steps"]]
    assert len(steps) == 4
    assert [line for line in said if line in steps] == steps
    text = maint("restore", database.name, "--to", target().name, "--dry-run")
    assert text.out.splitlines()[-1] == "Nothing was changed: this is a dry run."


def _unnumbered(text: str) -> str:
    return re.sub(r"maint_restore_[0-9a-f-]+_[0-9a-f]{4}", "maint_restore_", text)


@NEWEST
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "nowhere/x"], "no server nowhere is configured"),
        (["--to", "main/"], "--to names no database"),
        (["--to", "main/" + "é" * 32], "63 bytes"),
        ([], "where to?"),
        (["--to", "x", "--to-folder", "/tmp/x"], "where to?"),
        (["--to", "x", "--yes", "x"], "--yes goes with --replace"),
        (["--to", "x", "--disconnect"], "--disconnect goes with --replace"),
        (["--to", "x", "--with-owners"], "--with-owners goes with --to-folder"),
        (["--to", "x", "--replace", "--schema", "sales", "--yes", "x"], "--replace takes the whole backup"),
        (["--to", "x", "--table", "nobody"], "the backup holds no table nobody"),
        (["--to", "x", "--schema", "nobody"], "the backup holds no schema nobody"),
        (["--to-folder", "/tmp/x/y"], "is a backup of a database"),
    ],
)
def test_called_wrongly(database: Database, configured: Configured, arguments: list[str], says: str) -> None:
    maint = backed_up(configured(database))
    answer = maint("restore", database.name, *arguments)
    assert answer.code == 2, answer.err
    assert says in answer.err
    assert "x" not in databases(database.cluster)
    assert nothing_beside(maint, database.cluster)
    as_json = maint("restore", database.name, *arguments, "--json")
    assert says in as_json.err
    assert as_json.out == ""


@NEWEST
def test_the_copy_that_is_whole_is_read(database: Database, configured: Configured, target: Target) -> None:
    maint, copy = configured(database), target()
    maint.add(f'[repository.second]\nurl = "file://{maint.folder}/second"\n')
    backed_up(maint)
    flip(volumes(folder_of(maint))[-1])
    bad = maint("restore", database.name, "--to", copy.name)
    assert bad.code == 1
    assert "--repository" in bad.err
    assert maint("restore", database.name, "--to", copy.name, "--repository", "second").code == 0


@NEWEST
def test_a_database_that_was_set_to_be_read_only_or_slow(
    database: Database, configured: Configured, target: Target
) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    maint, copy = backed_up(configured(database)), target()
    backup_job(maint)
    answer = maint("restore", database.name, "--to", copy.name)
    assert answer.code == 0, answer.err + answer.out
    assert copy.value("SHOW default_transaction_read_only") == "on"


@NEWEST
def test_what_a_killed_restore_left_is_told_by_doctor_and_removed_by_the_next(
    database: Database, make_database: MakeDatabase, configured: Configured, target: Target
) -> None:
    maint, copy = backed_up(configured(database)), target()
    left = make_database(_dead("0001"), "template0")
    running = make_database(f"maint_restore_{owner.me()}_0002", "template0")
    elsewhere = make_database("maint_restore_0123456789ab-12-34_0003", "template0")
    lines = {line["subject"]: line for line in maint("doctor", "--json").json if "maint_restore_" in str(line)}
    assert set(lines) == {f"main/{left.name}", f"main/{elsewhere.name}"}
    assert "was left by a restore that was killed" in str(lines[f"main/{left.name}"])
    assert "another machine" in str(lines[f"main/{elsewhere.name}"])
    answer = maint("restore", database.name, "--to", copy.name)
    assert answer.code == 0, answer.err
    there = databases(database.cluster)
    assert left.name not in there
    assert {running.name, elsewhere.name} <= there
    assert f"{elsewhere.name} may be left of a restore elsewhere" in answer.err


def _dead(number: str) -> str:
    """Name a database of a process of this machine that is gone."""
    with subprocess.Popen(["true"]) as child:
        made_by = owner.of(child.pid)
    return f"maint_restore_{made_by}_{number}"


@NEWEST
def test_a_database_that_is_being_restored_is_not_backed_up(
    database: Database, make_database: MakeDatabase, configured: Configured
) -> None:
    being = make_database(f"maint_restore_{owner.me()}_0002", "template0")
    maint = configured(database, being)
    maint.write(maint.config.read_text().replace('databases = ["', 'databases = ["maint_restore_*", "'))
    backed_up(maint)
    assert [row["database"] for row in maint.json("backups")] == [database.name]


def test_of_files_into_a_folder(configured: Configured, tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "to"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "one.conf").write_text("port = 5432\n")
    maint = configured()
    maint.write(f'installation = "test"\n[repository.local]\nurl = "file://{maint.repository}"\n')
    maint.job("files", f'enabled = true\n[options]\npaths = ["{source}"]\n')
    assert maint("run", "files").code == 0
    (row,) = maint.json("backups")
    assert maint("restore", row["id"], "--to", "main/x").code == 2
    answer = maint("restore", row["id"], "--to-folder", str(folder), "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["files"], answer.json["left_out"]) == (1, [])
    (restored,) = folder.rglob("one.conf")
    assert restored.read_text() == "port = 5432\n"
    again = maint("restore", row["id"], "--to-folder", str(folder))
    assert again.code == 2
    assert "is not empty" in again.err
    text = maint("restore", "files", "--to-folder", str(tmp_path / "another"))
    assert text.out.startswith(f"restored {row['id']} into ")


@NEWEST
def test_from_s3_in_several_volumes(database: Database, configured: Configured, target: Target, rclone: Store) -> None:
    database.execute(
        "CREATE TABLE public.bulk AS SELECT i, md5(i::text) || md5((i * 7)::text) || random() AS text"
        " FROM generate_series(1, 150000) AS i"
    )
    bucket, copy = rclone.bucket(), target()
    maint = configured(database)
    write_with(maint, database, rclone.config(bucket, max_parts=1))
    backed_up(maint)
    assert maint("restore", database.name, "--to", copy.name).code == 0
    assert counts(copy) == counts(database)
    assert rclone.root is not None
    found = volumes(folder_of(maint, rclone.root / bucket))
    assert len(found) > 1
    flip(found[0], -1)
    another = target()
    answer = maint("restore", database.name, "--to", another.name)
    assert answer.code == 1
    assert "the backup is damaged: dump.000" in answer.err
    assert nothing_beside(maint, database.cluster)


@NEWEST
def test_the_room_for_files_is_looked_at_beforehand(database: Database, configured: Configured, target: Target) -> None:
    maint, copy = backed_up(configured(database)), target()
    path = folder_of(maint) / "manifest.json"
    found = json.loads(path.read_text())
    found["dump"]["raw_bytes"] = 1 << 60
    path.write_text(json.dumps(found))
    answer = maint("restore", database.name, "--to", copy.name, "--jobs=2")
    assert answer.code == 1
    assert "the dump takes 1" in answer.err
    assert "one job needs no room here" in answer.err
    assert nothing_beside(maint, database.cluster)


@NEWEST
def test_ctrl_c_while_rows_are_restored(
    database: Database, configured: Configured, make_database: MakeDatabase, target: Target
) -> None:
    """A CHECK takes its time, for one row that was stored before it was so slow."""
    slow = "CREATE OR REPLACE FUNCTION public.slow(int) RETURNS bool LANGUAGE sql AS 'SELECT {} IS NOT NULL';"
    database.execute(
        slow.format("$1") + "CREATE TABLE public.slowly (i int CHECK (public.slow(i)));"
        "INSERT INTO public.slowly VALUES (1);" + slow.format("pg_sleep(30)")
    )
    maint, copy, empty = backed_up(configured(database)), target(), make_database(template="template0")
    for to in (copy.name, empty.name):
        child = maint.start("restore", database.name, "--to", to)
        wait_until(lambda: _restoring(database), "pg_restore", seconds=30)
        child.send(signal.SIGINT)
        answer = child.wait(20)
        assert answer.code == 5, answer.err
        assert nothing_beside(maint, database.cluster)
    assert copy.name not in databases(database.cluster)
    assert counts(empty) == {}


def _restoring(database: Database) -> bool:
    return bool(database.value("SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'COPY public.slowly%'"))
