"""Programs in pg_dump's place that lie: short or empty streams with exit status 0, full ones with 1, secrets."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import postgres
from support.dumps import (
    BIG,
    NEWEST,
    backup_job,
    counted,
    counts,
    left_in,
    manifests,
    nothing_is_left,
    stand_in,
)
from support.maint import Maint
from support.postgres import Database

pytestmark = NEWEST

Configured = Callable[..., Maint]


@pytest.fixture
def dumping_with(database: Database, configured: Configured, tmp_path: Path) -> Callable[..., Maint]:
    """Configure a maint whose pg_dump is a script."""

    def make(script: str, options: str = "", **more: str) -> Maint:
        bin_dir = stand_in(tmp_path / "bin", database.cluster.installation, script, **more)
        maint = configured(database, server=f'bin_dir = "{bin_dir}"')
        backup_job(maint, options)
        return maint

    return make


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit 0", "pg_dump wrote no archive: nothing at all"),
        ("echo hello", "pg_dump wrote no archive: its head is not PGDMP"),
        ("head -c 3000000 /dev/urandom", "pg_dump wrote no archive: its head is not PGDMP"),
        ('"$REAL" "$@" | head -c 3', "pg_dump wrote no archive: its head is not PGDMP"),
        ('"$REAL" "$@" | head -c 4000', "the archive cannot be read: pg_restore ended with exit status 1"),
        ("printf PGDMP; head -c 3000000 /dev/zero", "the archive cannot be read: pg_restore ended with exit status 1"),
    ],
)
def test_a_stream_that_is_no_archive_fails(
    database: Database, dumping_with: Callable[..., Maint], script: str, says: str
) -> None:
    maint = dumping_with(script)
    answer = maint("run", "backup", "--json")
    assert answer.code == 1, answer
    assert answer.json["error"].startswith(f"backup of {database.name}: {says}"), answer.json
    assert nothing_is_left(maint, database.cluster)
    assert maint.json("backups") == []


def test_a_folder_that_was_never_written_fails(database: Database, dumping_with: Callable[..., Maint]) -> None:
    maint = dumping_with("exit 0", 'format = "directory"')
    answer = maint("run", "backup", "--json")
    assert answer.code == 1
    assert "pg_dump wrote no archive" in answer.json["error"]
    assert answer.json["summary"] == "0 of 1 database"
    assert nothing_is_left(maint, database.cluster)


def test_exit_status_1_after_the_whole_stream_fails(database: Database, dumping_with: Callable[..., Maint]) -> None:
    maint = dumping_with('"$REAL" "$@"; echo "pg_dump: error: the last byte" >&2; exit 1')
    answer = maint("run", "backup", "--json")
    assert answer.code == 1
    assert answer.json["error"] == f"backup of {database.name}: pg_dump ended with exit status 1: error: the last byte"
    assert nothing_is_left(maint, database.cluster)


def test_a_dump_under_half_of_the_usual_size_is_told(database: Database, dumping_with: Callable[..., Maint]) -> None:
    database.execute(BIG)
    cut = 'if [ -e "$(dirname "$0")/cut" ]; then "$REAL" "$@" | head -c 1500000; else exec "$REAL" "$@"; fi'
    maint = dumping_with(cut)
    assert maint("run", "backup").code == 0
    usual = manifests(maint)[database.name].dump.raw_bytes
    assert usual > 4_000_000
    (maint.folder.parent / "bin" / "cut").touch()
    answer = maint("run", "backup", "--json")
    assert answer.code == 3, answer
    (finding,) = answer.json["findings"]
    assert (finding["check"], finding["object"]) == ("backup.small", database.name)
    assert finding["value"] == "1500000 bytes"
    assert len(answer.json["backups"]) == 1


def test_a_database_that_shrank_a_little_is_not_told(database: Database, dumping_with: Callable[..., Maint]) -> None:
    database.execute(BIG)
    maint = dumping_with('exec "$REAL" "$@"')
    assert maint("run", "backup").code == 0
    database.execute("DELETE FROM public.big WHERE i % 3 = 0")
    assert maint("run", "backup").code == 0


@pytest.mark.parametrize("format_", ["custom", "directory"])
def test_no_data_although_rows_were_counted_is_told(
    database: Database, dumping_with: Callable[..., Maint], format_: str
) -> None:
    maint = dumping_with('exec "$REAL" --schema-only "$@"', f'format = "{format_}"')
    answer = maint("run", "backup", "--json")
    assert answer.code == 3, answer
    finding = next(one for one in answer.json["findings"] if one["check"] == "backup.missing")
    assert finding["severity"] == "critical"
    assert finding["message"] == "rows were counted but the dump has no data"
    assert counted(manifests(maint)[database.name]) == {}


def test_one_table_without_its_data_is_named(database: Database, dumping_with: Callable[..., Maint]) -> None:
    maint = dumping_with('exec "$REAL" --exclude-table-data=sales.orders "$@"')
    answer = maint("run", "backup", "--json")
    assert answer.code == 3
    (finding,) = maint.json("show", "1")["findings"]
    assert finding["message"] == "tables with rows are not in the dump"
    assert finding["examples"] == [f"{database.name}/sales.orders"]
    expected = counts(database)
    expected.pop(("sales", "orders"))
    assert counted(manifests(maint)[database.name]) == expected


def test_a_retry_counts_what_an_earlier_attempt_has_made(
    make_database: Callable[..., Database], configured: Configured, tmp_path: Path
) -> None:
    first, second = make_database(), make_database()
    script = (
        f'case "$*" in *{second.name}*) if mkdir "$(dirname "$0")/once" 2>/dev/null; then'
        ' echo "pg_dump: error: server closed the connection unexpectedly" >&2; exit 1; fi;; esac; "$REAL" "$@"'
    )
    bin_dir = stand_in(tmp_path / "bin", first.cluster.installation, script)
    maint = configured(first, second, server=f'bin_dir = "{bin_dir}"')
    backup_job(maint, retries=1, retry_delay="1s")
    answer = maint("run", "backup", "--json")
    assert answer.code == 0, answer
    assert answer.json["attempt"] == 2
    assert answer.json["summary"].startswith("2 databases (1 by an earlier attempt), ")
    assert sorted(answer.json["backups"]) == sorted(backup["id"] for backup in maint.json("backups"))
    assert len(answer.json["backups"]) == 2


def test_secrets_that_a_program_prints_are_redacted(database: Database, configured: Configured, tmp_path: Path) -> None:
    secret = "correct horse'battery\\staple"
    script = (
        'echo "connecting as $PGPASSWORD" >&2; echo "postgresql://u:other-secret@host/db" >&2;'
        'tr "\\0" " " < /proc/$$/cmdline > "$(dirname "$0")/argv"; "$REAL" "$@" || exit; [ ! -e "$(dirname "$0")/bad" ]'
    )
    bin_dir = stand_in(tmp_path / "bin", database.cluster.installation, script)
    maint = configured(database, server=f'bin_dir = "{bin_dir}"')
    escaped = secret.replace("\\", "\\\\").replace("'", "\\'").replace("\\", "\\\\")
    maint.write(maint.config.read_text().replace("user='postgres'", f"user='postgres' password='{escaped}'"))
    backup_job(maint)
    good = maint("run", "backup", "--json")
    assert good.code == 0, good
    (bin_dir / "bad").touch()
    bad = maint("run", "backup", "--json")
    assert bad.code == 1
    shown = maint("show", "2")
    assert "connecting as ***" in shown.out
    assert "postgresql://u:***@host/db" in shown.out
    said = [answer.out + answer.err for answer in (good, bad, shown, maint("config", "show"), maint("run", "backup"))]
    written = [path.read_bytes().decode(errors="replace") for path in _files(maint.state, maint.repository)]
    argv = (bin_dir / "argv").read_text()
    assert "--format=custom" in argv
    for text in (*said, *written, argv):
        assert secret not in text
        assert "battery" not in text
        assert "other-secret" not in text


def _files(*folders: Path) -> list[Path]:
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "maint.db" for path in found)
    assert any(path.name == "manifest.json" for path in found)
    return found


@pytest.mark.parametrize("version", ["9.6.24", "13.1 (Debian 13.1-1)"])
def test_a_server_newer_than_the_configured_pg_dump(
    database: Database, dumping_with: Callable[..., Maint], version: str
) -> None:
    maint = dumping_with("echo never run >&2; exit 70", version=version)
    answer = maint("run", "backup", "--json")
    assert answer.code == 1
    major = database.cluster.installation.major
    assert f"is of version {version.split()[0]}, older than the server's {major}" in answer.json["error"]
    assert answer.json["hint"] == f"let the server's bin_dir point to version {major} or newer, or remove it"
    assert left_in(maint.repository) == []
    assert maint.json("history")[0]["outcome"] == "failed"


@pytest.mark.skipif(len(postgres.found()) < 2, reason="needs two majors")
def test_a_server_newer_than_a_real_pg_dump(database: Database, configured: Configured) -> None:
    older = next(iter(postgres.found().values()))
    maint = configured(database, server=f'bin_dir = "{older.bin_dir}"')
    backup_job(maint)
    answer = maint("run", "backup")
    assert answer.code == 1
    assert f"older than the server's {database.cluster.installation.major}" in answer.err
    assert "Traceback" not in answer.err
