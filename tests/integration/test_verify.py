"""Backups are restored, compared and proven; or it is said why not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest
from support.dumps import BIG, NEWEST, backup_job, counts, manifest
from support.maint import Maint
from support.postgres import Database
from support.proofs import before_comparing, edit_manifest, verified, verify, verify_job

from maint.repository.directory import DirectoryRepository

MakeDatabase = Callable[..., Database]
MaintOf = Callable[..., Maint]


@pytest.fixture
def maint_of(configured: Callable[..., Maint], open_folder: Path) -> MaintOf:
    """Configure a maint that makes its throw-away servers in `open_folder`."""

    def make(*databases: Database, **lines: str) -> Maint:
        maint = configured(*databases, **lines)
        maint.environment["TMPDIR"] = str(open_folder)
        backup_job(maint)
        verify_job(maint)
        return maint

    return make


def backed_up(maint: Maint) -> Maint:
    """Make a backup, then lose the server: verification has to do without."""
    answer = maint("run", "backup")
    assert answer.code in (0, 3), answer
    text = maint.config.read_text()
    dsn = next(line for line in text.splitlines() if line.startswith("dsn"))
    maint.write(text.replace(dsn, 'dsn = "host=/nowhere"'))
    return maint


def the_only(maint: Maint, **more: Any) -> dict[str, Any]:
    (found,) = verified(maint, **more)
    return found


def by_database(maint: Maint, **more: Any) -> dict[str, dict[str, Any]]:
    return {found["database"]: found for found in verified(maint, **more)}


@pytest.mark.parametrize("format_", ["custom", "directory"])
def test_every_row_of_every_copy_is_proven(
    database: Database, maint_of: MaintOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    database.execute("CREATE TABLE noise AS SELECT i, md5(i::text) FROM generate_series(1, 40000) AS i")
    monkeypatch.setattr(DirectoryRepository, "max_object_bytes", 200_000)
    key = pyrage.x25519.Identity.generate()
    (tmp_path / "age.key").write_text(str(key))
    maint = maint_of(database)
    maint.add(
        f'[repository.safe]\nurl = "file://{tmp_path}/safe"\n'
        f'encrypt_to = ["{key.to_public()}"]\nidentity_file = "{tmp_path}/age.key"\n'
    )
    backup_job(maint, f'format = "{format_}"')
    verify_job(maint, f'backup = "{database.name}"')  # every copy of its newest backup
    expected = counts(database)
    backed_up(maint)
    assert len(manifest(maint).dump.volumes) >= 3
    found = {one["repository"]: one for one in verified(maint, code=0)}
    assert set(found) == {"local", "safe"}
    for one in found.values():
        assert one["result"] == "proven", one
        assert (one["tables_compared"], one["rows_compared"]) == (len(expected), sum(expected.values()))
        assert one["seconds"] > 0
        assert one["reason"] is None
        assert one["not_compared"] == ["materialised view sales.totals: refreshed on restore"]
    (record,) = (tmp_path / "safe").rglob("proof/*-proven.json")
    said = json.loads(record.read_text())
    assert said["rows_compared"] == sum(expected.values())
    assert said["settings"]["fsync"] == "off"
    assert {one["trust"] for one in maint.json("backups")} == {"proven"}


PECULIAR = """
CREATE EXTENSION hstore;
CREATE EXTENSION postgres_fdw;
CREATE SCHEMA apart;
CREATE EXTENSION citext SCHEMA apart;
CREATE TABLE kept (id int PRIMARY KEY, h hstore, c apart.citext);
INSERT INTO kept VALUES (1, 'a=>1', 'X');
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1');
CREATE USER MAPPING FOR verify_reader SERVER far OPTIONS (user 'x', password 'y');
CREATE FOREIGN TABLE elsewhere (id int) SERVER far;
CREATE TABLE hidden (id int);
INSERT INTO hidden VALUES (1), (2);
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY partly ON hidden TO verify_reader USING (id = 1);
CREATE TABLE placed (id int) TABLESPACE verify_space;
INSERT INTO placed VALUES (1);
CREATE PUBLICATION out FOR ALL TABLES;
CREATE SUBSCRIPTION inward CONNECTION 'host=192.0.2.1' PUBLICATION p WITH (connect = false);
CREATE TABLE not_checked (id int CHECK (id > 0));
INSERT INTO not_checked VALUES (1);
ALTER TABLE not_checked ADD CONSTRAINT later CHECK (id > 5) NOT VALID;
CREATE TABLE "With Space" ("An Id" int CONSTRAINT "A Key" PRIMARY KEY);
INSERT INTO "With Space" SELECT generate_series(1, 3);
CREATE SEQUENCE down INCREMENT -1;
SELECT nextval('down'), nextval('down');
COMMENT ON SCHEMA public IS 'ours';
"""


@pytest.fixture
def peculiar(make_database: MakeDatabase) -> Any:
    database = make_database()
    space = database.cluster.folder / "space"
    space.mkdir()
    if database.cluster.user:
        import shutil

        shutil.chown(space, database.cluster.user)
    database.execute("CREATE ROLE verify_reader")
    database.execute(f"CREATE TABLESPACE verify_space LOCATION '{space}'")
    database.execute(PECULIAR)
    yield database
    for statement in (
        "ALTER SUBSCRIPTION inward DISABLE",
        "ALTER SUBSCRIPTION inward SET (slot_name = NONE)",
        "DROP SUBSCRIPTION inward",
        "DROP TABLE placed",
        "DROP TABLESPACE verify_space",
        "DROP OWNED BY verify_reader",
        "DROP ROLE verify_reader",
    ):
        database.execute(statement)


def test_what_a_plain_role_cannot_make_is_made_for_it_or_left_out(peculiar: Database, maint_of: MaintOf) -> None:
    maint = maint_of(peculiar)
    one = the_only(backed_up(maint), code=0)
    assert one["result"] == "proven", one["reason"]
    assert one["tables_compared"] == len(manifest(maint).contents.tables)
    left = "\n".join(one["not_compared"])
    for what in ("SUBSCRIPTION inward", "PUBLICATION out", "foreign table public.elsewhere"):
        assert what in left


@NEWEST
def test_an_event_trigger_needs_a_superuser(database: Database, maint_of: MaintOf) -> None:
    database.execute(
        "CREATE FUNCTION tell() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER telling ON ddl_command_end EXECUTE FUNCTION tell()"
    )
    maint = backed_up(maint_of(database))
    one = the_only(maint, code=3)
    assert one["result"] == "restored"
    assert "CREATE EVENT TRIGGER telling" in one["reason"]
    assert "permission denied" in one["reason"]
    verify_job(maint, f'trusted = true\nbackup = "{database.name}"')
    assert the_only(maint, code=0)["result"] == "proven"


@NEWEST
def test_objects_that_cannot_be_made_again(database: Database, maint_of: MaintOf) -> None:
    database.execute(
        "SET session_replication_role = replica; INSERT INTO sales.orders (customer_id, amount) VALUES (999, 1)"
    )
    database.execute(
        "CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.customers';"
        "CREATE MATERIALIZED VIEW lost AS SELECT total();"
        "CREATE OR REPLACE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM customers'"
    )
    maint = backed_up(maint_of(database))
    answer, said = verify(maint)
    assert answer.code == 3
    (one,) = said["verified"]
    assert one["result"] == "restored"
    assert one["tables_compared"] == len(manifest(maint).contents.tables)
    assert "orders_customer_id_fkey" in one["reason"]
    assert "REFRESH MATERIALIZED VIEW public.lost: relation" in one["reason"]
    (finding,) = said["findings"]
    assert (finding["check"], finding["severity"]) == ("verify.restored", "warning")
    (shown,) = maint.json("backups")
    assert shown["trust"] == "restored"


def hostile(database: Database) -> None:
    """Make a function that is harmless until everything is there that calls it; and what an index may call."""
    database.execute("CREATE FUNCTION public.deed(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'")
    database.execute(
        "CREATE FUNCTION public.evil(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql"
        " AS 'BEGIN RETURN public.deed(i); END'"
    )


def armed(database: Database, canary: Path) -> None:
    program = f"COPY (SELECT 1) TO PROGRAM 'touch {canary}'"
    database.execute(
        "CREATE OR REPLACE FUNCTION public.deed(int) RETURNS int LANGUAGE plpgsql AS $$"
        f"BEGIN EXECUTE $x${program}$x$; RETURN 1; END $$"
    )


@NEWEST
def test_a_dump_cannot_run_programs(make_database: MakeDatabase, maint_of: MaintOf, tmp_path: Path) -> None:
    canary = Path("/tmp", f"canary-{tmp_path.name}-{id(maint_of)}")  # where any user can write
    checks, indexes = make_database(), make_database()
    for database in (checks, indexes):
        hostile(database)
        database.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)")
    checks.execute("ALTER TABLE t ADD CHECK (public.deed(id) = 1)")
    indexes.execute("CREATE INDEX by_evil ON t (public.evil(id))")
    indexes.execute("CREATE VIEW seen AS SELECT public.evil(id) FROM t")
    indexes.execute("CREATE MATERIALIZED VIEW kept AS SELECT public.evil(id) FROM t")
    for database in (checks, indexes):
        armed(database, canary)
    maint = backed_up(maint_of(checks, indexes))
    try:
        found = by_database(maint, code=3)
        assert not canary.exists()
        assert found[checks.name]["result"] == "cannot_verify"
        assert (
            "needs a superuser: COPY failed" in found[checks.name]["reason"]
            or "permission denied" in (found[checks.name]["reason"])
        )
        assert found[indexes.name]["result"] == "restored"
        for what in ("by_evil", "REFRESH MATERIALIZED VIEW public.kept", "permission denied to COPY"):
            assert what in found[indexes.name]["reason"]
        verify_job(maint, f'trusted = true\nbackup = "{indexes.name}"')
        verified(maint)
        assert canary.exists(), "the trap is none"
    finally:
        canary.unlink(missing_ok=True)


def no_such_extension() -> None:
    """The extension is not installed where the backup is restored."""
    from maint.restore import place

    inner = place._make_extension
    place._make_extension = lambda connection, extension: inner(
        connection, extension.model_copy(update={"name": "not_installed_here"})
    )


@NEWEST
def test_what_keeps_it_from_being_verified(database: Database, maint_of: MaintOf, tmp_path: Path) -> None:
    database.execute("CREATE EXTENSION hstore")
    maint = backed_up(maint_of(database))
    verify_job(maint, f'backup = "{database.name}"')
    one = the_only(maint, first=no_such_extension, code=3)
    assert one["result"] == "cannot_verify"
    assert "the extension hstore" in one["reason"] or "not_installed_here" in one["reason"]
    edit_manifest(maint, lambda m: m["source"].update(collate="xx_XX.UTF-8", ctype="xx_XX.UTF-8"))
    answer, said = verify(maint)
    (one,) = said["verified"]
    assert (answer.code, one["result"]) == (3, "cannot_verify")
    assert "no locale xx_XX.UTF-8" in one["reason"]
    (finding,) = said["findings"]
    assert (finding["check"], finding["severity"]) == ("verify.cannot", "warning")
    verify_job(maint, f'backup = "{database.name}"\ncollation = "substitute"')
    one = the_only(maint, code=3)
    assert (one["result"], one["reason"]) == ("restored", "restored under C: the recorded locale is not here")
    edit_manifest(maint, lambda m: m["source"].update(version_num=990001))
    one = the_only(maint, code=3)
    assert one["result"] == "cannot_verify"
    assert "no PostgreSQL 99 server" in one["reason"]
    edit_manifest(maint, lambda m: m["source"].update(size_bytes=1 << 60))
    one = the_only(maint, code=3)
    assert (one["result"], one["reason"][:6]) == ("cannot_verify", "space:")
    assert len(list(maint.repository.rglob("proof/*.json"))) == 1, "only one of them says something of the backup"


@NEWEST
def test_keys(database: Database, maint_of: MaintOf, tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    maint = maint_of(database)
    maint.add(f'encrypt_to = ["{key.to_public()}"]\n')
    backed_up(maint)
    verify_job(maint, f'backup = "{database.name}"')
    assert the_only(maint, code=3)["reason"] == "key: there is none here"
    path = tmp_path / "age.key"
    maint.add(f'identity_file = "{path}"\n')
    for text in (str(pyrage.x25519.Identity.generate()), "no key", str(key)):
        path.write_text(text)
        one = the_only(maint)
        assert one["result"] == ("proven" if text == str(key) else "cannot_verify"), one
        assert one["result"] == "proven" or one["reason"].startswith("key: ")


@NEWEST
def test_the_next_ones_are_others(database: Database, maint_of: MaintOf) -> None:
    maint = maint_of(database)
    maint.add(f'encrypt_to = ["{pyrage.x25519.Identity.generate().to_public()}"]\n')  # fast: no key, no restore
    backup_job(maint, "keep = { last = 10 }")
    made = [maint("run", "backup", "--json").json["backups"][0] for _ in range(4)]
    taken = [[one["id"] for one in verified(maint, code=3)] for _ in range(4)]
    assert taken == [[made[3], made[2]], [made[1]], [made[0]], [made[3]]]
    shown = maint.json("run", "verify", "--dry-run")
    assert [made[2] in action["object"] for action in shown["actions"]] == [True]


@NEWEST
def test_what_was_counted_decides(database: Database, maint_of: MaintOf) -> None:
    maint = backed_up(maint_of(database))
    # where only the repository is known
    maint.write(f'[repository.local]\nurl = "file://{maint.repository}"\n')
    verify_job(maint, f'backup = "{database.name}"')

    def orders(m: Any) -> Any:
        return next(table for table in m["contents"]["tables"] if table["name"] == "orders")

    edit_manifest(maint, lambda m: orders(m).update(rows=None, why="the dump ended first"))
    one = the_only(maint, code=3)
    assert (one["result"], one["tables_compared"]) == ("restored", 8)
    assert one["reason"] == "only 8 of 9 tables were counted when it was made"
    assert "sales.orders: not counted: the dump ended first" in one["not_compared"]
    verify_job(maint, f'backup = "{database.name}"\nproven_share = 0.8')
    assert the_only(maint, code=0)["result"] == "proven"
    edit_manifest(maint, lambda m: m["contents"]["sequences"][0].update(last_value=10**9))
    one = the_only(maint, code=3)
    assert one["result"] == "restored"
    assert "had reached 1000000000" in one["reason"]
    edit_manifest(maint, lambda m: orders(m).update(rows=501) or m["contents"].update(large_objects=2))
    answer, said = verify(maint)
    (one,) = said["verified"]
    assert (answer.code, one["result"]) == (3, "damaged")
    assert one["reason"] == "sales.orders: 500 of 501 rows; large objects: 1 of 2"
    assert [finding["severity"] for finding in said["findings"]] == ["critical"]
    (shown,) = maint.json("backups")
    assert shown["trust"] == "damaged"


@NEWEST
def test_assertions(database: Database, maint_of: MaintOf) -> None:
    maint = backed_up(maint_of(database))
    true = [
        "SELECT count(*) = 100 FROM customers",
        "SELECT current_setting('maint.created_at')::timestamptz > now() - interval '1 hour'",
    ]
    wrong = [
        "SELECT count(*) = 99 FROM customers",
        "SELECT nonsense",
        "SELECT true FROM customers",
        "DELETE FROM customers RETURNING true",
        "SELECT NULL::boolean",
    ]
    verify_job(maint, f'backup = "{database.name}"\nassertions = {{ "{database.name}" = {json.dumps(true)} }}')
    assert the_only(maint, code=0)["result"] == "proven"
    verify_job(maint, f'backup = "{database.name}"\nassertions = {{ "*" = {json.dumps(wrong)} }}')
    one = the_only(maint, code=3)
    assert one["result"] == "restored"
    for what in ("answered False", 'column "nonsense" does not', "answered 100 rows", "read-only", "answered None"):
        assert what in one["reason"]
    verify_job(maint, f'backup = "{database.name}"\nassertions = {{ other = ["SELECT false"] }}')
    assert the_only(maint, code=0)["result"] == "proven"


@NEWEST
def test_an_index_that_is_not_valid_and_constraints_that_are_gone(database: Database, maint_of: MaintOf) -> None:
    maint = backed_up(maint_of(database))
    spoil = before_comparing(
        "ALTER TABLE sales.orders DROP CONSTRAINT orders_customer_id_fkey",
        "DROP INDEX sales.orders_customer_id_idx",
        "CREATE INDEX half ON ONLY sales.events (id)",
        "ALTER TABLE public.nothing DROP CONSTRAINT nothing_pkey",
    )
    one = the_only(maint, first=spoil, code=3)
    assert one["result"] == "restored"
    for what in (
        "missing: FK CONSTRAINT sales orders orders_customer_id_fkey",
        "missing: INDEX sales orders_customer_id_idx",
        "missing: CONSTRAINT public nothing nothing_pkey",
        "index sales.half is not valid",
    ):
        assert what in one["reason"]


@NEWEST
def test_nothing_to_verify_is_told(database: Database, maint_of: MaintOf) -> None:
    answer, said = verify(maint_of(database))
    assert answer.code == 3
    assert said["verified"] == []
    assert [finding["check"] for finding in said["findings"]] == ["verify.nothing"]


@pytest.mark.matrix
@pytest.mark.parametrize("major", [14], scope="session")
@pytest.mark.parametrize("into", [15, 16, 17, 18])
def test_a_backup_of_an_older_major(database: Database, maint_of: MaintOf, into: int) -> None:
    database.execute(BIG)
    maint = backed_up(maint_of(database))

    def only(major: int = into) -> None:
        from maint import programs

        inner = programs.installations
        programs.installations = lambda: tuple(one for one in inner() if one.major >= major)

    one = the_only(maint, first=only, code=0)
    assert one["result"] == "proven", one
    (record,) = maint.repository.rglob("proof/*-proven.json")
    assert json.loads(record.read_text())["settings"]["server_version"].startswith(str(into))
