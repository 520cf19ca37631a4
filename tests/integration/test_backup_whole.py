"""Whole backups of real servers: what is written, what the manifest says of it, and that stock tools restore it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyrage
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
    instructions,
    left_in,
    manifest,
    manifests,
    restore,
)
from support.maint import Maint
from support.postgres import Database

from maint.cluster import Cluster
from maint.repository.directory import DirectoryRepository

MakeDatabase = Callable[..., Database]
Configured = Callable[..., Maint]

FORMATS = pytest.mark.parametrize("format_", ["custom", "directory"])


@FORMATS
def test_a_backup_is_counted_exactly_and_restores_with_stock_tools(
    database: Database, configured: Configured, format_: str
) -> None:
    maint = configured(database)
    backup_job(maint, f'format = "{format_}"\nparallel = 3')
    before = counts(database)
    answer = maint("run", "backup", "--json")
    assert answer.code == 0, answer.err
    made = manifest(maint)
    assert counted(made) == before
    assert made.contents.rows == sum(before.values())
    assert made.contents.large_objects == 1
    assert before["sales", "events_2026"] == 187  # leaf partitions singly; not their parent, not the view
    assert ("sales", "totals") not in before
    assert counts(restore(folder_of(maint), database)) == before
    assert database.value("SELECT count(*) FROM pg_largeobject_metadata") == 1
    assert database.value("SELECT total FROM sales.totals WHERE customer_id = 7") is not None


def test_the_run_as_json(make_database: MakeDatabase, configured: Configured) -> None:
    one, two = make_database(), make_database()
    maint = configured(one, two)
    (said,) = maint.real("run", "backup", "--json").json_lines
    assert said.items() >= {"job": "backup", "server": "main", "outcome": "succeeded", "exit_code": 0}.items()
    assert said["error"] is None
    assert said["run_id"] == 1
    assert said["slot"] == "manual:1"
    assert said["summary"].startswith("2 databases, ")
    assert sorted(said["backups"]) == sorted(found.id for found in manifests(maint).values())


def test_the_manifest_says_where_it_came_from(database: Database, configured: Configured, major: int) -> None:
    database.execute("CREATE EXTENSION hstore; CREATE ROLE reader; GRANT SELECT ON public.customers TO reader")
    maint = configured(database)
    backup_job(maint)
    assert maint("run", "backup").code == 0
    made = manifest(maint)
    source = made.source
    assert source.server_version == database.value("SHOW server_version").split()[0]
    assert source.version_num // 10000 == major
    assert not source.standby
    assert (source.encoding, source.locale_provider) == ("UTF8", "libc")
    assert source.collate == database.value("SELECT datcollate FROM pg_database WHERE datname = current_database()")
    assert source.system_identifier == database.value("SELECT system_identifier::text FROM pg_control_system()")
    assert {extension.name for extension in source.extensions} == {"hstore", "plpgsql"}
    assert source.roles == ("postgres", "reader")
    assert made.lacks == ()
    assert made.tools["pg_dump"] == database.cluster.installation.version
    database.execute("DROP OWNED BY reader; DROP ROLE reader")


def test_files_are_private_and_as_the_manifest_says(database: Database, configured: Configured) -> None:
    maint = configured(database)
    backup_job(maint)
    assert maint("run", "backup").code == 0
    made, folder = manifest(maint), folder_of(maint)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sizes.pop("manifest.json")
    assert sizes.pop("started.json")
    assert sizes == {file.name: file.size for file in made.files}
    assert made.size_bytes == sum(sizes.values())
    modes = {path.stat().st_mode & 0o777 for path in maint.repository.rglob("*")}
    assert modes == {0o600, 0o700}


HOSTILE = [
    "Upper Case",
    'it\'s "quoted"',
    "back\\slash = 'x' $HOME `id`",
    "two\nlines\tand a tab",
    "größe-数据-🐘",
    "é" * 31 + "x",  # 63 bytes
    "\x1b[31m \u0085 'é\\",
    "-starts-with-a-dash",
    "a=b",
    "postgresql://evil/name",
    "%2e%2F..",
    "..",
]


@NEWEST
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(make_database: MakeDatabase, configured: Configured, name: str) -> None:
    database = make_database(name, "template0")
    quoted = '"' + name.replace('"', '""') + '"'
    database.execute(
        f"CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} ({quoted} int);"
        f"INSERT INTO {quoted}.{quoted} SELECT generate_series(1, 7)"
    )
    maint = configured(database)
    backup_job(maint)
    answer = maint("run", "backup", "--json")
    assert answer.code == 0, answer.err
    made = manifest(maint)
    assert made.database == name
    assert counted(made) == {(name, name): 7}
    relative = folder_of(maint).relative_to(maint.repository)
    assert len(relative.parts) == 3
    assert relative.parts[0] == "main"
    assert counts(restore(folder_of(maint), database)) == {(name, name): 7}


def test_names_are_printed_on_one_line(make_database: MakeDatabase, configured: Configured) -> None:
    maint = configured(make_database("two\nlines \x1b[31m", "template0"))
    backup_job(maint)
    answer = maint("run", "backup")
    assert answer.code == 0
    assert "\x1b" not in answer.out + answer.err
    assert any(line.startswith(r"two\nlines \x1b[31m") for line in answer.out.splitlines())


@FORMATS
def test_an_empty_database(make_database: MakeDatabase, configured: Configured, format_: str) -> None:
    database = make_database(template="template0")
    maint = configured(database)
    backup_job(maint, f'format = "{format_}"')
    answer = maint("run", "backup", "--json")
    assert (answer.code, answer.json["findings"]) == (0, []), answer.err
    assert (counted(manifest(maint)), manifest(maint).contents.large_objects) == ({}, 0)
    assert counts(restore(folder_of(maint), database)) == {}


def test_a_thousand_small_tables_are_all_counted(make_database: MakeDatabase, configured: Configured) -> None:
    database = make_database(template="template0")
    database.execute(
        "DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE t%s AS SELECT generate_series(1, %s) AS n',"
        " i, i % 7); END LOOP; END $$"
    )
    maint = configured(database)
    backup_job(maint)
    assert maint("run", "backup").code == 0
    found = counted(manifest(maint))
    assert found == {("public", f"t{i}"): i % 7 for i in range(1, 1001)}


def test_more_tables_than_are_locked_at_once(make_database: MakeDatabase, configured: Configured) -> None:
    database = make_database(template="template0")
    database.execute(
        "DO $$ BEGIN FOR i IN 1..1200 LOOP EXECUTE format('CREATE TABLE t%s (n int)', i); END LOOP; END $$;"
        "CREATE TABLE big AS SELECT i, repeat('x', 100) AS filler FROM generate_series(1, 300000) AS i"
    )
    maint = configured(database)
    backup_job(maint)
    assert maint("run", "backup").code == 0
    tables = manifest(maint).contents.tables
    assert len(tables) == 1201
    # nothing is claimed that was not counted while the dump still held its locks
    assert all(table.rows == (300000 if table.name == "big" else 0) for table in tables if table.rows is not None)
    assert {table.why for table in tables if table.rows is None} <= {"the dump ended first"}


def test_identity_and_generated_columns_and_sequences(database: Database, configured: Configured) -> None:
    database.execute("CREATE SEQUENCE sales.unused; CREATE SEQUENCE sales.used; SELECT nextval('sales.used')")
    maint = configured(database)
    backup_job(maint)
    assert maint("run", "backup").code == 0
    values = {(one.schema_, one.name): one.last_value for one in manifest(maint).contents.sequences}
    assert values == {
        ("public", "customers_id_seq"): 100,
        ("sales", "orders_id_seq"): 500,
        ("sales", "unused"): None,
        ("sales", "used"): 1,
    }
    restore(folder_of(maint), database)
    assert database.value("INSERT INTO public.customers (name, email) VALUES ('x', 'x') RETURNING id") == 101
    assert database.value("SELECT upper FROM public.customers WHERE id = 5") == "CUSTOMER 5"


def test_configuration_tables_of_extensions_are_not_counted(database: Database, configured: Configured) -> None:
    name = f"maint_test_{os.getpid()}"
    made = _extension(database, name)
    try:
        database.execute(f"CREATE EXTENSION {name}; INSERT INTO settings VALUES (1, 'shipped'), (2, 'mine')")
        maint = configured(database)
        backup_job(maint)
        answer = maint("run", "backup")
        assert answer.code == 0, answer.err
        (settings,) = (table for table in manifest(maint).contents.tables if table.name == "settings")
        assert (settings.rows, settings.why) == (None, "belongs to an extension, dumped by its filter")
        assert "1 tables not counted" in answer.out
        restore(folder_of(maint), database)
        assert database.value("SELECT string_agg(what, ' ') FROM settings") == "mine"
    finally:
        database.execute(f"DROP EXTENSION IF EXISTS {name}")
        for path in made:
            path.unlink()


def _extension(database: Database, name: str) -> list[Path]:
    """Put an extension with a configuration table where the server looks for them; skip where that is not allowed."""
    folder = database.cluster.installation.bin_dir.parent / "share" / "extension"
    if not folder.is_dir():
        folder = database.cluster.installation.bin_dir.parent / "share" / "postgresql" / "extension"
    if not os.access(folder, os.W_OK):
        pytest.skip("extensions cannot be added here")
    script = "CREATE TABLE settings (id int, what text);\n"
    script += "SELECT pg_catalog.pg_extension_config_dump('settings', 'WHERE id > 1');\n"
    files = {f"{name}.control": "default_version = '1'\nrelocatable = true\n", f"{name}--1.sql": script}
    for file, text in files.items():
        (folder / file).write_text(text)
    return [folder / file for file in files]


@FORMATS
def test_one_dump_feeds_a_plain_and_an_encrypted_repository(
    database: Database, configured: Configured, tmp_path: Path, format_: str
) -> None:
    key = pyrage.x25519.Identity.generate()
    maint = configured(database)
    maint.add(f'[repository.safe]\nurl = "file://{tmp_path}/safe"\nencrypt_to = ["{key.to_public()}"]\n')
    backup_job(maint, f'format = "{format_}"')
    before = counts(database)
    assert maint("run", "backup").code == 0
    plain, sealed = manifest(maint), manifest(maint, tmp_path / "safe")
    assert (plain.id, plain.encrypted, sealed.encrypted) == (sealed.id, False, True)
    assert plain.contents == sealed.contents
    assert sealed.recipients == (str(key.to_public()),)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "safe").rglob("*") if path.is_file())
    assert b"customer 1" not in stored
    assert str(key) not in stored.decode(errors="replace")
    assert counts(restore(folder_of(maint), database)) == before
    assert counts(restore(folder_of(maint, tmp_path / "safe"), database, str(key))) == before


@FORMATS
def test_a_dump_in_several_volumes(
    database: Database, configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    database.execute("CREATE TABLE noise AS SELECT i, md5(i::text) FROM generate_series(1, 40000) AS i")
    monkeypatch.setattr(DirectoryRepository, "max_object_bytes", 200_000)  # of S3: max_parts * part_size
    key = pyrage.x25519.Identity.generate()
    maint = configured(database)
    maint.add(f'[repository.safe]\nurl = "file://{tmp_path}/safe"\nencrypt_to = ["{key.to_public()}"]\n')
    backup_job(maint, f'format = "{format_}"')
    before = counts(database)
    assert maint("run", "backup").code == 0
    for repository in (maint.repository, tmp_path / "safe"):
        made = manifest(maint, repository)
        sizes = {file.name: file.size for file in made.files if file.name in made.dump.volumes}
        assert len(sizes) >= 3
        assert list(sizes) == [f"dump.{number:03}" for number in range(len(sizes))]
        assert {*sizes.values()} - {sizes[made.dump.volumes[-1]]} == {200_000}
        assert made.dump.stored_bytes == sum(sizes.values())
        assert counts(restore(folder_of(maint, repository), database, str(key))) == before


def test_a_password_reaches_pg_dump_and_nobody_else(
    own_cluster: Callable[..., Cluster], configured: Configured, tmp_path: Path
) -> None:
    cluster = own_cluster(tcp=True)
    database = Database(cluster, "postgres")
    database.execute(BIG)
    gate = Gate.middle(tmp_path / "gate", cluster.installation)
    maint = configured(database, server=gate.line)
    maint.write(maint.config.read_text().replace(json.dumps(cluster.dsn()), json.dumps(cluster.tcp_dsn())))
    backup_job(maint)
    child = maint.start("run", "backup", "--json")
    gate.wait()
    seen = [line for path in Path("/proc").glob("[0-9]*/cmdline") if (line := _read(path))]
    assert any(b"pg_dump" in line for line in seen)
    assert not any(cluster.password.encode() in line for line in seen)
    gate.open()
    answer = child.wait()
    assert answer.code == 0, answer
    files = [path for folder in (maint.state, maint.repository) for path in folder.rglob("*") if path.is_file()]
    for text in (answer.out, answer.err, *(path.read_bytes().decode(errors="replace") for path in files)):
        assert cluster.password not in text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended in the meantime
        return b""


def test_several_databases_two_at_a_time(make_database: MakeDatabase, configured: Configured) -> None:
    made = [make_database() for _ in range(4)]
    for number, database in enumerate(made):
        database.execute(f"INSERT INTO public.nothing SELECT generate_series(1, {number})")
    maint = configured(*made)
    backup_job(maint, parallel=2)
    answer = maint("run", "backup", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["summary"].startswith("4 databases, ")
    found = manifests(maint)
    assert {name: counted(one)["public", "nothing"] for name, one in found.items()} == {
        database.name: number for number, database in enumerate(made)
    }


def test_patterns_choose_the_databases(make_database: MakeDatabase, configured: Configured) -> None:
    kept, scratch = make_database("chosen_one"), make_database("chosen_scratch")
    maint = configured(kept, scratch)
    maint.write(maint.config.read_text().replace('"chosen_one", "chosen_scratch"', '"chosen_*", "!*_scratch"'))
    backup_job(maint)
    assert maint("run", "backup").code == 0
    assert set(manifests(maint)) == {"chosen_one"}


def test_a_standby_is_a_source(standby: tuple[Cluster, Cluster], configured: Configured) -> None:
    primary, replica = standby
    expected = counts(Database(primary, "sample"))
    _wait_for_replay(Database(primary, "postgres"), Database(replica, "postgres"))
    maint = configured(Database(replica, "sample"))
    # unlogged tables cannot be read there, and pg_dump leaves their rows out
    expected.pop(("public", "scratch"))
    for format_ in ("custom", "directory"):
        backup_job(maint, f'format = "{format_}"')
        answer = maint("run", "backup")
        assert answer.code == 0, answer.err
        made = manifest(maint)
        assert made.source.standby
        assert counted(made) == expected
        shutil.rmtree(maint.repository)


def _wait_for_replay(primary: Database, replica: Database) -> None:
    position = primary.value("SELECT pg_current_wal_lsn()::text")
    wait_until(lambda: replica.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position), "the replica")


def test_dry_run_changes_nothing_and_shows_what_is_executed(
    database: Database, configured: Configured, major: int
) -> None:
    maint = configured(database)
    backup_job(maint)
    planned = maint("run", "backup", "--dry-run", "--json").json["actions"]
    assert not maint.repository.exists() or left_in(maint.repository) == []
    assert maint.json("history") == []
    printed = maint("run", "backup", "--dry-run")
    assert printed.code == 0
    assert "dry run" in printed.out
    assert maint("run", "backup").code == 0
    shown = maint.json("show", "1")
    steps = {(step["verb"], step["object"]): step["commands"] for step in shown["steps"]}
    assert {(one["verb"], one["object"]): one["commands"] for one in planned} == steps
    assert [one["verb"] for one in planned] == ["clear", "backup"]


def test_restore_md_holds_one_command_per_line(database: Database, configured: Configured) -> None:
    maint = configured(database)
    backup_job(maint)
    assert maint("run", "backup").code == 0
    first_words = [line.split()[0] for line in instructions(folder_of(maint))]
    assert first_words == ["sha256sum", "cat", "createdb", "cat", "vacuumdb"]
    assert json.loads((folder_of(maint) / "manifest.json").read_text())["maint"] == 1
