"""maint doctor against real servers: what it says of a role is what pg_dump then does, and its fixes work."""

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.maint import Answer, Maint, configuration
from support.postgres import Database

from maint import process
from maint.clock import Stop
from maint.errors import ProgramFailed


@dataclass(frozen=True)
class Reader:
    """A role of a test's own, and doctor asked with it."""

    name: str
    database: Database
    maint: Maint

    def doctor(self, *arguments: str) -> list[dict[str, Any]]:
        answer = self.maint("doctor", "--json", *arguments)
        assert answer.code in (0, 1, 3), answer
        lines: list[dict[str, Any]] = answer.json
        assert all(set(line) == {"status", "subject", "message", "fix"} for line in lines)
        return lines

    def about(self, subject: str) -> list[dict[str, Any]]:
        return [line for line in self.doctor() if line["subject"] == subject]

    def dump(self) -> str | None:
        """Dump the database with pg_dump as this role; return what it complains of."""
        bin_dir = self.database.cluster.installation.bin_dir
        argv = (str(bin_dir / "pg_dump"), f"--dbname={self.database.cluster.dsn(self.database.name, self.name)}")
        try:
            process.run(process.Command((*argv, "--format=custom", "--compress=0")), stop=Stop())
        except (ProgramFailed, UnicodeDecodeError) as error:
            return "\n".join(error.tail) if isinstance(error, ProgramFailed) else None
        return None

    def mend(self, lines: list[dict[str, Any]]) -> None:
        """Execute the fixes as they stand there."""
        for line in lines:
            self.database.execute(line["fix"])


def _literal(name: str) -> str:
    return sql.Identifier(name).as_string(None)


@pytest.fixture
def reader(database: Database, configured: Callable[..., Maint]) -> Iterator[Reader]:
    """A role that can dump the sample database, and nothing more."""
    role = f"reader {database.name}"
    database.execute(f"CREATE ROLE {_literal(role)} LOGIN; GRANT pg_read_all_data TO {_literal(role)}")
    for (oid,) in database.execute("SELECT oid FROM pg_largeobject_metadata"):
        database.execute(f"GRANT SELECT ON LARGE OBJECT {oid} TO {_literal(role)}")
    maint = configured()
    maint.write(configuration(maint.folder, [database]).replace("user='postgres'", f"user='{role}'"))
    assert role in maint.config.read_text()
    yield Reader(role, database, maint)
    database.execute(f"ALTER ROLE {_literal(role)} NOSUPERUSER; DROP OWNED BY {_literal(role)}")
    database.execute(f"DROP ROLE {_literal(role)}")


def test_a_role_that_can_read_everything_is_ok(reader: Reader) -> None:
    lines = reader.doctor()
    by = {line["subject"]: line for line in lines}
    assert not [line for line in lines if line["status"] == "FAIL"]
    assert by["server main"]["message"].startswith(f"PostgreSQL {reader.database.cluster.installation.major}")
    assert re.search(r"primary, 1 database, \d.* MB, as role reader", by["server main"]["message"])
    assert by["databases main"]["message"].startswith("10 tables, 2 sequences, 1 large object can be read whole")
    assert by["programs main"]["status"] == "OK"
    assert by["recovery main"]["status"] == "WARN"
    assert "up to 24 h of data can be lost" in by["recovery main"]["message"]
    assert by["clock"]["status"] == "OK"
    assert "backup to" in by["next runs"]["message"]
    assert reader.dump() is None


def test_screen_shows_the_same_and_sums_up(reader: Reader) -> None:
    lines = reader.doctor()
    answer = reader.maint("doctor")
    assert answer.code == 3
    count = {status: sum(line["status"] == status for line in lines) for status in ("FAIL", "WARN", "OK")}
    assert answer.out.splitlines()[-1] == ", ".join(f"{number} {status}" for status, number in count.items())
    heads = [line for line in answer.out.splitlines() if re.match(r"(OK|WARN|FAIL) ", line)]
    assert len(heads) == len(lines)
    [recovery] = [line for line in heads if "recovery" in line]
    assert recovery.index("recovery") == 6
    assert recovery.index("no WAL") == 27


NAMES = ["cards", "order", 'a "b"', "new\nline", "büro", "back\\slash", "tab\tand 'quote'", "x" * 63]


@pytest.mark.parametrize("name", NAMES)
def test_unreadable_table_of_any_name(reader: Reader, name: str) -> None:
    table = f"{_literal(name)}.{_literal(name)}"
    reader.database.execute(f"CREATE SCHEMA {_literal(name)}; CREATE TABLE {table} (i int)")
    reader.database.execute(f"REVOKE pg_read_all_data FROM {_literal(reader.name)}")
    _grant_all_but(reader, name)
    _is_told_and_mended(reader, "1 of 11 tables cannot be read")


def _grant_all_but(reader: Reader, schema: str) -> None:
    """Let the role read all schemas but one."""
    for (other,) in reader.database.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', %s)", schema
    ):
        for what in ("USAGE ON SCHEMA", "SELECT ON ALL TABLES IN SCHEMA", "SELECT ON ALL SEQUENCES IN SCHEMA"):
            reader.database.execute(f"GRANT {what} {_literal(other)} TO {_literal(reader.name)}")


def _is_told_and_mended(reader: Reader, message: str) -> dict[str, Any]:
    """What is told makes pg_dump fail; after the fixes as they stand there neither of the two complains."""
    subject = f"main/{reader.database.name}"
    assert reader.dump() is not None
    [line] = reader.about(subject)
    assert (line["status"], line["message"].startswith(message)) == ("FAIL", True), line
    assert line["fix"].replace("\n", "").isprintable()
    reader.mend([line])
    assert reader.about(subject) == []
    assert reader.about("databases main")[0]["status"] == "OK"
    assert reader.dump() is None
    return line


def test_many_unreadable_tables_are_granted_at_once(reader: Reader) -> None:
    reader.database.execute(f"REVOKE pg_read_all_data FROM {_literal(reader.name)}")
    tables, sequences = reader.about(f"main/{reader.database.name}")
    assert tables["message"].startswith("10 of 10 tables")
    assert tables["message"].endswith("and 7 more")
    assert tables["fix"] == f'GRANT pg_read_all_data TO "{reader.name}";'
    assert sequences["message"].startswith("2 of 2 sequences")
    reader.mend([tables])
    assert reader.about(f"main/{reader.database.name}") == []
    assert reader.dump() is None


def test_sequence_with_usage_only(reader: Reader) -> None:
    role = _literal(reader.name)
    reader.database.execute(f"REVOKE pg_read_all_data FROM {role}; CREATE SCHEMA s; CREATE SEQUENCE s.numbers")
    _grant_all_but(reader, "s")
    reader.database.execute(f"GRANT USAGE ON SCHEMA s TO {role}; GRANT USAGE ON SEQUENCE s.numbers TO {role}")
    line = _is_told_and_mended(reader, "1 of 3 sequences cannot be read")
    assert line["fix"].startswith(f"GRANT SELECT ON SEQUENCE s.numbers TO {role};")


def test_large_object_of_another_owner(reader: Reader) -> None:
    reader.database.execute("SELECT lo_from_bytea(0, 'abc')")
    _is_told_and_mended(reader, "1 of 2 large objects cannot be read")


def test_many_large_objects(reader: Reader) -> None:
    reader.database.execute("SELECT lo_from_bytea(0, 'abc') FROM generate_series(1, 30)")
    _is_told_and_mended(reader, "30 of 31 large objects cannot be read")


def test_large_objects_that_everybody_may_read(reader: Reader) -> None:
    reader.database.execute("GRANT SELECT ON LARGE OBJECT " + str(_new_large_object(reader)) + " TO PUBLIC")
    assert reader.about(f"main/{reader.database.name}") == []
    assert reader.dump() is None


def _new_large_object(reader: Reader) -> int:
    oid: int = reader.database.value("SELECT lo_from_bytea(0, 'abc')")
    return oid


def test_row_security(reader: Reader) -> None:
    reader.database.execute("ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY")
    reader.database.execute("ALTER TABLE sales.events ENABLE ROW LEVEL SECURITY")  # a partitioned parent: harmless
    line = _is_told_and_mended(reader, "1 table of 10 with row security that applies to this role")
    assert line["message"].endswith(": sales.orders")


def test_what_pg_dump_does_not_read_is_not_told(reader: Reader) -> None:
    reader.database.execute(f"REVOKE pg_read_all_data FROM {_literal(reader.name)}")
    _grant_all_but(reader, "")
    reader.database.execute(
        "CREATE SCHEMA closed; CREATE VIEW closed.v AS SELECT 1; CREATE FUNCTION closed.f() RETURNS int LANGUAGE sql "
        "AS 'SELECT 1'; CREATE EXTENSION pg_trgm; CREATE TABLE closed.member (i int); "
        "ALTER EXTENSION pg_trgm ADD TABLE closed.member"
    )
    assert reader.dump() is None
    assert reader.about(f"main/{reader.database.name}") == []


def test_configuration_table_of_an_extension(reader: Reader) -> None:
    reader.database.execute(f"REVOKE pg_read_all_data FROM {_literal(reader.name)}")
    _grant_all_but(reader, "")
    reader.database.execute(
        "CREATE EXTENSION pg_trgm; CREATE SCHEMA closed; CREATE TABLE closed.member (i int); "
        "ALTER EXTENSION pg_trgm ADD TABLE closed.member; "
        "UPDATE pg_extension SET extconfig = ARRAY['closed.member'::regclass::oid], extcondition = ARRAY[''] "
        "WHERE extname = 'pg_trgm'"
    )
    _is_told_and_mended(reader, "1 of 11 tables cannot be read")


def test_database_that_may_not_be_entered(reader: Reader) -> None:
    reader.database.execute(f"REVOKE CONNECT ON DATABASE {_literal(reader.database.name)} FROM PUBLIC")
    [line] = reader.about(f"main/{reader.database.name}")
    assert line["status"] == "FAIL"
    assert "may not connect" in line["message"]
    reader.mend([line])
    assert reader.about(f"main/{reader.database.name}") == []


def test_what_a_dump_lacks_and_what_it_shows(reader: Reader) -> None:
    reader.database.execute(
        "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'h'); "
        "CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'u', password 'very secret')"
    )
    reader.database.execute("CREATE SUBSCRIPTION s CONNECTION 'host=h password=x' PUBLICATION p WITH (connect = false)")
    try:
        [line] = reader.about("main")
        assert line["status"] == "WARN"
        assert "1 subscription" in line["message"]
        assert "1 user-mapping option" in line["message"]
        assert "role password" in line["message"]
        assert "hold, not encrypted" not in str(reader.doctor())
        reader.mend([line])
        assert reader.about("main") == []
        [shown] = [line for line in reader.about("repository local") if "hold, not encrypted" in line["message"]]
        assert shown["status"] == "WARN"
        assert "1 user-mapping option" in shown["message"]
        assert "1 subscription password" in shown["message"]
        assert "very secret" not in str(reader.doctor())
        reader.maint.add('encrypt_to = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]\n')
        assert "hold, not encrypted" not in str(reader.doctor())
    finally:
        reader.database.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)")
        reader.database.execute("DROP SUBSCRIPTION s")


def test_password_hashes_of_a_superuser(database: Database, configured: Callable[..., Maint]) -> None:
    maint = configured(database)
    held = [line for line in maint.json("doctor") if "role password hash" in line["message"]]
    assert [line["subject"] for line in held] == ["repository local"]  # the cluster's superuser has a password
    maint.job("backup", "[options]\nglobals = false\n")
    assert "role password hash" not in str(maint.json("doctor"))


def test_a_server_that_is_down_hides_nothing_else(reader: Reader) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        reader.maint.add(f'\n[server.far]\ndsn = "host=127.0.0.1 port={taken.getsockname()[1]} password=geheim"\n')
        [line] = reader.about("server far")
    assert line["status"] == "FAIL"
    assert "refused" in line["message"]
    assert "pg_isready" in line["fix"]
    assert "geheim" not in str(line)
    assert reader.about("databases main")[0]["status"] == "OK"
    assert [line["subject"] for line in reader.doctor("--server", "main") if "far" in line["subject"]] == []
    assert reader.about("next runs")[0]["status"] == "OK"


def test_a_server_that_never_answers(reader: Reader) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        reader.maint.add(f'\n[server.far]\ndsn = "host=127.0.0.1 port={silent.getsockname()[1]}"\n')
        [line] = reader.about("server far")
    assert line["status"] == "FAIL"
    assert "timeout" in line["message"]


def test_a_role_that_does_not_exist(reader: Reader) -> None:
    reader.maint.write(reader.maint.config.read_text().replace(reader.name, "nobody at all"))
    [line] = reader.about("server main")
    assert line["status"] == "FAIL"
    assert 'role "nobody at all" does not exist' in line["message"]
    assert "dsn" in line["fix"]


def test_a_locked_catalog_does_not_hang(reader: Reader) -> None:
    with reader.database.connect() as other, other.transaction():
        other.execute("LOCK TABLE pg_largeobject_metadata IN ACCESS EXCLUSIVE MODE")
        [line] = reader.about(f"main/{reader.database.name}")
    assert line["status"] == "FAIL"
    assert "lock" in line["message"]


def test_databases_by_patterns(reader: Reader, make_database: Callable[..., Database]) -> None:
    other = make_database()
    patterns = json.dumps([reader.database.name, other.name, f"!{other.name}", "gone"])
    text = reader.maint.config.read_text()
    reader.maint.write(re.sub(r"databases = .*", f"databases = {patterns}", text))
    lines = reader.doctor()
    assert other.name not in str([line for line in lines if line["subject"].startswith("databases")])
    [gone] = [line for line in lines if "does not exist" in line["message"]]
    assert (gone["status"], gone["subject"]) == ("WARN", "server main")


def test_database_that_takes_no_connections(reader: Reader) -> None:
    name = _literal(reader.database.name)
    postgres = Database(reader.database.cluster, "postgres")
    postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        [line] = reader.about(f"main/{reader.database.name}")
        assert (line["status"], "does not allow connections" in line["message"]) == ("WARN", True)
        assert f"!{reader.database.name}" in line["fix"]
    finally:
        postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_no_pg_dump_that_fits(reader: Reader, tmp_path: Path) -> None:
    program = tmp_path / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.4'\n")
    program.chmod(0o755)
    text = reader.maint.config.read_text()
    reader.maint.write(text.replace("[server.main]", f'[server.main]\nbin_dir = "{tmp_path}"'))
    [line] = reader.about("programs main")
    assert line["status"] == "FAIL"
    assert "13.4" in line["message"]
    assert "bin_dir" in line["fix"]


def test_repository_that_cannot_be_written(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    text = re.sub(r'url = "file://.*"', f'url = "file://{tmp_path}/file/repository"', reader.maint.config.read_text())
    reader.maint.write(text)
    assert "FAIL" in {line["status"] for line in reader.about("repository local")}
    assert reader.about("databases main")[0]["status"] == "OK"


def test_repository_alone(reader: Reader) -> None:
    lines = reader.doctor("--repository", "local")
    assert "repository local" in {line["subject"] for line in lines}
    assert not [line for line in lines if line["subject"].startswith(("server", "databases", "recovery"))]


@pytest.mark.parametrize("option", ["--server", "--repository"])
def test_unknown_names(reader: Reader, option: str) -> None:
    answer = reader.maint("doctor", option, "lokal")
    assert answer.code == 2
    assert "there is no" in answer.err


def test_nothing_configured(configured: Callable[..., Maint]) -> None:
    maint = configured()
    maint.write("")
    answer = maint("doctor", "--json")
    assert answer.code == 1
    assert {line["subject"] for line in answer.json if line["status"] == "FAIL"} == {"servers", "repositories"}


def test_a_machine_that_only_verifies(configured: Callable[..., Maint], tmp_path: Path) -> None:
    maint = configured()
    maint.write(f'[repository.local]\nurl = "file://{tmp_path}/repository"\n')
    answer = maint("doctor", "--json")
    assert answer.code == 3
    assert [line["subject"] for line in answer.json if line["status"] == "WARN"] == ["servers"]


def test_server_that_no_job_backs_up(reader: Reader) -> None:
    reader.maint.job("backup", "enabled = false\n")
    lines = reader.about("server main")
    assert ("FAIL", "no enabled job makes backups of it") in {(line["status"], line["message"]) for line in lines}
    assert "backup" not in reader.about("next runs")[0]["message"]
    [recovery] = reader.about("recovery main")
    assert "24 h" not in recovery["message"]


def test_secret_that_everybody_may_read(reader: Reader) -> None:
    reader.maint.write(reader.maint.config.read_text().replace("user=", "password=verysecret user="))
    reader.maint.config.chmod(0o644)
    [line] = reader.about("configuration")
    assert line["status"] == "WARN"
    process.run(process.Command(("sh", "-c", line["fix"])), stop=Stop())
    assert reader.maint.config.stat().st_mode & 0o777 == 0o640
    assert [line["status"] for line in reader.about("configuration")] == ["OK"]


def test_configuration_without_a_secret_may_be_read(reader: Reader) -> None:
    reader.maint.config.chmod(0o644)
    assert [line["status"] for line in reader.about("configuration")] == ["OK"]
    reader.maint.config.chmod(0o666)
    assert [line["status"] for line in reader.about("configuration")] == ["FAIL"]


def test_password_file_that_libpq_ignores(reader: Reader, tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text("*:*:*:*:x\n")
    file.chmod(0o644)
    text = reader.maint.config.read_text()
    reader.maint.write(text.replace("[server.main]", f'[server.main]\npassword_file = "{file}"'))
    [line, _] = reader.about("server main")
    assert (line["status"], line["fix"]) == ("FAIL", f"chmod 600 {file}")
    file.chmod(0o600)
    assert [line["status"] for line in reader.about("server main")] == ["OK"]


def test_history_that_cannot_be_used(reader: Reader) -> None:
    (reader.maint.state / "maint.db").write_bytes(b"this is no database, whatever its name says" * 100)
    assert [line["status"] for line in reader.about("history")] == ["FAIL"]


def test_history_before_and_after_the_first_run(reader: Reader) -> None:
    assert reader.about("history")[0]["message"].startswith("none yet")
    assert not list(reader.maint.state.iterdir())  # doctor makes nothing
    reader.maint("history")
    reader.maint.job("hello", 'task = "sql"\n[options]\ndatabase = "postgres"\nstatements = ["SELECT 1"]\n')
    assert reader.maint("run", "hello").code == 0
    assert reader.about("history")[0]["message"].endswith("can be read and written")


def _keys() -> tuple[str, str]:
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def test_keys(reader: Reader, tmp_path: Path) -> None:
    (private, public), (other, _) = _keys(), _keys()
    file = tmp_path / "age.key"
    reader.maint.add(f'encrypt_to = ["{public}"]\nidentity_file = "{file}"\n')

    def told() -> list[tuple[str, str]]:
        lines = reader.about("repository local")
        return [(line["status"], line["message"]) for line in lines if str(file) in line["message"]]

    assert [status for status, _ in told()] == ["FAIL"]
    file.write_text(other)
    file.chmod(0o644)
    assert [status for status, _ in told()] == ["FAIL", "FAIL"]
    assert "can be read by others" in told()[0][1]
    assert "does not open" in told()[1][1]
    file.write_text(f"# rotated\n{other}\n{private}\n")
    file.chmod(0o600)
    assert [status for status, _ in told()] == ["OK"]
    file.write_text("nonsense")
    assert [status for status, _ in told()] == ["FAIL"]


def test_standby(standby: Any, configured: Callable[..., Maint]) -> None:
    primary, replica = standby
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
    Database(primary, "sample").execute("SELECT pg_switch_wal()")
    _wait_until_there(Database(replica, "sample"), "SELECT 1 FROM pg_roles WHERE rolname = 'reader'")
    maint = configured()
    dsn = configuration(maint.folder, [Database(replica, "sample")]).replace("user='postgres'", "user='reader'")
    maint.write(dsn)
    answer = maint("doctor", "--json")
    server, cancelled = (line for line in answer.json if line["subject"] == "server main")
    assert "standby, 1 database" in server["message"]
    assert (cancelled["status"], "cancelled" in cancelled["message"]) == ("WARN", True)
    tables, *_ = [line for line in answer.json if line["subject"] == "main/sample"]
    Database(primary, "sample").execute(tables["fix"])
    _wait_until_there(Database(replica, "sample"), "SELECT 1 WHERE pg_has_role('reader', 'pg_read_all_data', 'USAGE')")
    left = [line for line in maint("doctor", "--json").json if line["subject"] == "main/sample"]
    assert [line["message"].split(" cannot")[0] for line in left] == ["1 of 1 large objects"]


def _wait_until_there(database: Database, statement: str) -> None:
    for _ in range(500):
        if database.execute(statement):
            return
        Stop().wait(0.02)
    raise AssertionError(statement)


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [("true", "OK", "WAL archiving works"), ("false", "WARN", "WAL archiving fails: 0000000")],
)
def test_archiving(
    own_cluster: Callable[..., Any], configured: Callable[..., Maint], command: str, status: str, message: str
) -> None:
    cluster = own_cluster(settings={"archive_mode": "on", "archive_command": command, "wal_level": "replica"})
    database = Database(cluster, "postgres")
    maint = configured(database)

    def told() -> dict[str, Any]:
        [line] = [line for line in maint("doctor", "--json").json if line["subject"] == "recovery main"]
        return dict(line)

    assert (told()["status"], "nothing has been archived yet" in told()["message"]) == ("WARN", True)
    database.execute("CREATE TABLE t (i int)")
    database.execute(told()["fix"])
    _wait_until_there(database, "SELECT 1 FROM pg_stat_archiver WHERE archived_count + failed_count > 0")
    assert (told()["status"], told()["message"][: len(message)]) == (status, message)


def test_screen_of_hostile_names(reader: Reader, make_database: Callable[..., Database]) -> None:
    reader.database.execute('CREATE SCHEMA "\x1b[31mred"; CREATE TABLE "\x1b[31mred".t (i int)')
    reader.database.execute(f"REVOKE pg_read_all_data FROM {_literal(reader.name)}")
    _grant_all_but(reader, "\x1b[31mred")
    answer: Answer = reader.maint("doctor")
    assert answer.code == 1
    assert answer.out.replace("\n", "").isprintable()
    [grant] = [line for line in answer.out.splitlines() if "GRANT SELECT" in line]
    [usage] = [line for line in answer.out.splitlines() if "GRANT USAGE" in line]
    for line in (usage, grant):  # copied from the screen
        reader.database.execute(line.removeprefix("      fix").strip())
    assert reader.about(f"main/{reader.database.name}") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_is_not_the_service(reader: Reader) -> None:
    os.chown(reader.maint.state, 65534, 65534)
    [line] = reader.about("user")
    assert line["status"] == "WARN"
    assert line["fix"].startswith("sudo -u ")
