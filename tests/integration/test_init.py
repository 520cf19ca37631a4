"""``maint init`` against real servers; what it writes passes its check, what it prints can be run."""

import stat
import tomllib
from collections.abc import Callable

import pytest
from support.maint import Maint

from maint.cli import lookaround
from maint.clock import Stop
from maint.cluster import Cluster
from maint.config.model import ServerConfig
from maint.postgres import connect


@pytest.fixture
def maint(configured: Callable[..., Maint]) -> Maint:
    return configured()


def init(maint: Maint, *arguments: str) -> tuple[int, str, str]:
    answer = maint("--config", str(maint.config), "init", *arguments)
    return answer.code, answer.out, answer.err


def run(cluster: Cluster, *statements: str) -> None:
    with connect(ServerConfig(name="main", dsn=cluster.dsn()), stop=Stop()) as connection:
        for statement in statements:
            connection.execute(statement)


def test_what_is_written_works(maint: Maint, cluster: Cluster) -> None:
    url = f"file://{maint.repository}"
    code, out, err = init(maint, "--dsn", cluster.dsn(), "--repository", url)
    assert (code, err) == (0, "")
    assert stat.S_IMODE(maint.config.stat().st_mode) == 0o600
    written = tomllib.loads(maint.config.read_text())
    assert written["server"]["main"]["dsn"] == cluster.dsn()
    assert written["repository"]["local"]["url"] == url
    assert out.splitlines()[-1] == f"Next: maint --config {maint.config} doctor"
    assert maint("config", "check").code == 0


def test_the_statements_are_those_of_the_version_and_can_be_run(
    maint: Maint, own_cluster: Callable[..., Cluster]
) -> None:
    cluster = own_cluster()
    run(cluster, 'CREATE DATABASE "My ""shop"', 'REVOKE CONNECT ON DATABASE "My ""shop" FROM PUBLIC')
    code, out, _ = init(maint, "--dsn", cluster.dsn())
    assert code == 0
    indented = [line.strip() for line in out.splitlines() if line.startswith("  ")]
    statements = [line.partition("  --")[0] for line in indented if line.startswith(("CREATE", "GRANT"))]
    assert 'GRANT CONNECT ON DATABASE "My ""shop" TO maint;' in statements
    assert ("GRANT pg_maintain TO maint;" in statements) == (cluster.installation.major >= 17)
    run(cluster, *statements)
    as_maint = ServerConfig(name="main", dsn=cluster.dsn(user="maint"))
    with connect(as_maint, 'My "shop') as connection:
        (role,) = connection.query("describe_role")
    assert (role.superuser, role.reads_all_data, role.monitors) == (False, True, True)
    again = init(maint, "--dsn", cluster.dsn(), "--force")[1]
    assert "CREATE ROLE" not in again


def test_an_existing_file_is_kept(maint: Maint, newest: Cluster) -> None:
    maint.write("# mine")
    code, out, err = init(maint, "--dsn", newest.dsn())
    assert (code, out) == (2, "")
    assert "exists already" in err
    assert maint.config.read_text() == "# mine"
    assert init(maint, "--dsn", newest.dsn(), "--force")[0] == 0
    assert "[server.main]" in maint.config.read_text()
    assert {path.name for path in maint.folder.iterdir() if path.is_file()} == {"maint.toml"}, "no draft is left"


def test_a_server_that_does_not_answer(maint: Maint) -> None:
    dsn = "host=/nowhere password='a$${b} \"c\"' user=maint"
    code, out, _ = init(maint, "--dsn", dsn)
    assert code == 3
    assert "FAIL  host=/nowhere password=*** user=maint" in out
    assert "a$${b}" not in out
    assert maint("config", "check").code == 0
    from maint.config import load
    from maint.tasks import OPTIONS

    assert load(maint.config, options=OPTIONS).server["main"].dsn.get_secret_value() == dsn, "nothing is replaced in it"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--dsn", "secretword"), "--dsn: not a libpq connection string"),
        (("--repository", "/var/backups"), "--repository: not a repository"),
        (("--repository", "s3://bucket"), "--repository: needs a prefix"),
    ],
)
def test_what_is_refused_before_anything_is_written(maint: Maint, arguments: tuple[str, ...], reason: str) -> None:
    code, _, err = init(maint, *arguments)
    assert code == 2
    assert reason in err
    assert "secretword" not in err
    assert not maint.config.exists()


def test_a_place_that_cannot_be_written(maint: Maint) -> None:
    answer = maint("--config", "/proc/maint/maint.toml", "init", "--dsn", "host=/nowhere")
    assert answer.code == 2
    assert "cannot write /proc/maint/maint.toml" in answer.err


def test_a_socket_is_found_and_asked_as_postgres_too(
    maint: Maint, newest: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookaround, "SOCKET_FOLDERS", (newest.socket_dir, maint.folder / "none"))
    code, out, _ = init(maint)
    assert code == 0
    dsn = tomllib.loads(maint.config.read_text())["server"]["main"]["dsn"]
    socket = f"host={newest.socket_dir} port={newest.port}"
    assert dsn in (socket, f"{socket} user=postgres"), "the second where no role is named as the system's user is"
    assert f"OK    {dsn} (socket)" in out


def test_nothing_is_found(maint: Maint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookaround, "SOCKET_FOLDERS", ())
    code, out, _ = init(maint)
    assert code == 3
    assert out.startswith("No server found")
    assert maint("config", "check").code == 0


def test_a_service_file_and_the_environment_are_looked_at(
    maint: Maint, newest: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookaround, "SOCKET_FOLDERS", ())
    services = maint.folder / "services.conf"
    services.write_text(f"# shop\n[prod]\nhost={newest.socket_dir}\nport={newest.port}\nuser=postgres\n")
    maint.environment |= {"PGSERVICEFILE": str(services), "PGHOST": "/nowhere"}
    code, out, _ = init(maint)
    assert code == 0
    assert f"OK    service=prod ({services})" in out
    assert "FAIL  libpq defaults (environment: PGHOST)" in out
    assert tomllib.loads(maint.config.read_text())["server"]["main"]["dsn"] == "service=prod"
