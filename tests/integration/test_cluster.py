"""Throw-away servers: made, used, stopped, removed; and what a killed maint leaves is cleared."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from support import wait_until
from support.postgres import installation

import maint
from maint.clock import Stop
from maint.cluster import Cluster, server_user, sweep
from maint.errors import ProgramError, Stopped, UsageError
from maint.owner import me


def ask(dsn: str, statement: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
        assert row is not None
        return str(row[0])


@pytest.fixture
def base(open_folder: Path) -> Path:
    return open_folder


class TestMake:
    def test_it_answers_and_leaves_nothing(self, major: int) -> None:
        with Cluster.make(installation(major), stop=Stop()) as cluster:
            assert ask(cluster.dsn(), "SHOW server_version_num").startswith(str(major))
            assert ask(cluster.dsn(), "SHOW server_encoding") == "UTF8"
            assert ask(cluster.dsn(), "SHOW fsync") == "off"
            assert ask(cluster.dsn(), "SHOW listen_addresses") == ""
            pid = cluster.pid
        assert pid is not None
        assert cluster.pid is None
        assert not cluster.folder.exists()
        assert not Path(f"/proc/{pid}").exists()

    def test_locale_encoding_and_settings(self, major: int) -> None:
        settings = {"work_mem": "7MB", "fsync": "on", "application_name": 'it\'s \\ "odd"'}
        with Cluster.make(
            installation(major), stop=Stop(), locale="POSIX", encoding="LATIN1", settings=settings
        ) as cluster:
            assert ask(cluster.dsn(), "SHOW server_encoding") == "LATIN1"
            assert ask(cluster.dsn(), "SHOW work_mem") == "7MB"
            assert ask(cluster.dsn(), "SHOW fsync") == "on"
            assert ask(cluster.dsn(), "SELECT reset_val FROM pg_settings WHERE name = 'application_name'")

    def test_nobody_else_gets_at_the_socket(self, cluster: Cluster) -> None:
        assert cluster.folder.stat().st_mode & 0o077 == 0

    def test_over_tcp_a_password_is_needed(self, major: int) -> None:
        with Cluster.make(installation(major), stop=Stop(), tcp=True) as cluster:
            assert ask(cluster.tcp_dsn(), "SELECT inet_server_addr()") == "127.0.0.1"
            assert cluster.password
            wrong = cluster.tcp_dsn().replace(cluster.password, "wrong")
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                ask(wrong, "SELECT 1")

    def test_names_with_quotes_in_the_dsn(self, cluster: Cluster) -> None:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("""CREATE DATABASE "it's \\ odd" """)
            try:
                assert ask(cluster.dsn("it's \\ odd"), "SELECT current_database()") == "it's \\ odd"
            finally:
                connection.execute("""DROP DATABASE "it's \\ odd" """)

    @pytest.mark.skipif(os.geteuid() != 0, reason="servers run as this user")
    def test_as_root_it_runs_as_another_user(self, cluster: Cluster) -> None:
        assert server_user() in {"postgres", "nobody"}
        assert Path(f"/proc/{cluster.pid}").stat().st_uid != 0

    def test_stop_and_start_again(self, own_cluster: Callable[..., Cluster]) -> None:
        cluster = own_cluster()
        first = cluster.pid
        cluster.restart()
        assert cluster.pid not in (None, first)
        cluster.stop()
        assert cluster.pid is None
        with pytest.raises(psycopg.OperationalError):
            ask(cluster.dsn(), "SELECT 1")
        cluster.configure({"work_mem": "9MB"})
        cluster.start()
        assert ask(cluster.dsn(), "SHOW work_mem") == "9MB"


class TestFailing:
    def test_a_server_that_does_not_start_says_why(self, major: int, base: Path) -> None:
        with pytest.raises(ProgramError, match='unrecognized configuration parameter "nonsense"'):
            Cluster.make(installation(major), stop=Stop(), base=base, settings={"nonsense": "1"})
        assert not list(base.iterdir())

    def test_a_locale_that_does_not_exist(self, major: int, base: Path) -> None:
        with pytest.raises(ProgramError, match=r'cannot make a server: .*invalid locale name "xx_XX"'):
            Cluster.make(installation(major), stop=Stop(), base=base, locale="xx_XX")
        assert not list(base.iterdir())

    def test_a_path_too_long_for_a_socket(self, major: int, base: Path) -> None:
        long = base / ("x" * 100)
        long.mkdir()
        with pytest.raises(UsageError, match="too long for a socket"):
            Cluster.make(installation(major), stop=Stop(), base=long)
        assert not list(long.iterdir())

    @pytest.mark.skipif(os.geteuid() != 0, reason="servers run as this user")
    def test_a_folder_that_the_server_cannot_enter(self, major: int, base: Path) -> None:
        base.chmod(0o700)
        with pytest.raises(ProgramError) as caught:
            Cluster.make(installation(major), stop=Stop(), base=base)
        assert str(base) in (caught.value.hint or str(caught.value))
        assert not list(base.iterdir())

    def test_told_to_end_while_it_is_made(self, major: int, base: Path) -> None:
        stop = Stop()
        stop.set(Stopped("shutdown"))
        with pytest.raises(Stopped):
            Cluster.make(installation(major), stop=stop, base=base)
        assert not list(base.iterdir())


SCRIPT = """
import sys
from pathlib import Path
from maint import programs
from maint.clock import Stop
from maint.cluster import Cluster
with Cluster.make(programs.server_installation(int(sys.argv[1])), base=Path(sys.argv[2]), stop=Stop()) as cluster:
    print(cluster.pid, flush=True)
    sys.stdin.read()
"""


class TestSweep:
    def killed(self, major: int, base: Path) -> int:
        """Kill a process that runs a server; return the server's pid."""
        argv = [sys.executable, "-c", SCRIPT, str(major), str(base)]
        path = str(Path(maint.__file__).parent.parent)
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=os.environ | {"PYTHONPATH": path}) as process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            process.kill()
        return pid

    def test_the_server_of_a_killed_maint_ends_and_its_folder_is_swept(self, major: int, base: Path) -> None:
        pid = self.killed(major, base)
        wait_until(lambda: not (next(base.iterdir()) / "data/postmaster.pid").exists(), "the server's end")
        wait_until(lambda: not running(pid), "the server's end")
        (folder,) = base.iterdir()
        assert sweep(base) == [str(folder)]
        assert not list(base.iterdir())
        assert sweep(base) == []

    def test_a_server_that_still_runs_is_stopped(self, major: int, base: Path) -> None:
        with Cluster.make(installation(major), stop=Stop(), base=base) as cluster:
            pid = cluster.pid
            assert pid is not None
            (cluster.folder / "owner").write_text(f"{me().place}-{me().pid}-1")  # of a process that is gone
            assert sweep(base) == [str(cluster.folder)]
            assert not running(pid)

    def test_one_in_use_is_left_alone(self, major: int, base: Path) -> None:
        with Cluster.make(installation(major), stop=Stop(), base=base) as cluster:
            assert sweep(base) == []
            assert ask(cluster.dsn(), "SELECT 1") == "1"

    def test_another_process_with_the_number_of_the_postmaster_lives_on(self, base: Path) -> None:
        folder = base / "maint-cluster-1-x"
        (folder / "data").mkdir(parents=True)
        (folder / "owner").write_text(f"{me().place}-{me().pid}-1")
        with subprocess.Popen(["sleep", "100"]) as innocent:
            try:
                (folder / "data" / "postmaster.pid").write_text(f"{innocent.pid}\n")
                assert sweep(base) == [str(folder)]
                assert innocent.poll() is None
            finally:
                innocent.kill()

    def test_what_maint_has_not_made_is_left_alone(self, base: Path, tmp_path: Path) -> None:
        (base / "other").mkdir()
        (base / "maint-cluster-link").symlink_to(tmp_path)
        assert sweep(base) == []
        assert len(list(base.iterdir())) == 2

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
    def test_what_another_user_has_made_is_left_alone(self, base: Path) -> None:
        folder = base / "maint-cluster-999999999-x"
        folder.mkdir()
        os.chown(folder, 12345, 12345)
        assert sweep(base) == []

    def test_one_killed_before_it_could_say_whose_it_is(self, base: Path) -> None:
        (base / "maint-cluster-999999999-x").mkdir()
        (base / f"maint-cluster-{os.getpid()}-x").mkdir()
        assert sweep(base) == [str(base / "maint-cluster-999999999-x")]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_standby_follows(standby: tuple[Cluster, Cluster]) -> None:
    primary, replica = standby
    assert ask(replica.dsn(), "SELECT pg_is_in_recovery()") == "True"
    ask(primary.dsn("sample"), "INSERT INTO nothing VALUES (1) RETURNING 1")
    wait_until(lambda: ask(replica.dsn("sample"), "SELECT count(*) FROM nothing") == "1", "replication")
