"""Programs: what they are given, what is read from them, and how they end."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support import wait_until

from maint import owner
from maint.clock import Stop
from maint.errors import ProgramError, ProgramFailed, ProgramMissing, Stopped, TimedOut
from maint.process import Command, Program, can_become, run


def sh(script: str, **more: object) -> Command:
    return Command(("sh", "-c", script), **more)  # type: ignore[arg-type]


def lives(pid: int) -> bool:
    return owner.of(pid).start != 0 and owner.of(pid).alive() is True


def read_pid(path: Path) -> int:
    return int(wait_until(lambda: path.exists() and path.read_text().strip(), "a pid"))


class TestReading:
    def test_the_end_of_stdout_counts_only_with_exit_status_0(self, stop: Stop) -> None:
        with Program(sh("printf all"), stop=stop) as program:
            assert program.read(1000) == b"all"
            assert program.read(1000) == b""
            assert program.returncode == 0

    def test_a_program_that_fails_after_its_output_does_not_end_well(self, stop: Stop) -> None:
        with Program(sh("printf half; echo 'error: no more' >&2; echo bye >&2; exit 3"), stop=stop) as program:
            assert program.read(1000) == b"half"
            with pytest.raises(ProgramFailed, match="sh ended with exit status 3: error: no more") as caught:
                program.read(1000)
        assert caught.value.status == 3
        assert caught.value.tail == ("error: no more", "bye")

    def test_a_program_killed_halfway_does_not_end_well(self, stop: Stop) -> None:
        with Program(sh("printf half; kill -KILL $$"), stop=stop) as program:
            assert program.read(1000) == b"half"
            with pytest.raises(ProgramFailed, match="killed by signal 9"):
                program.read(1000)

    def test_a_program_that_closes_stdout_early_is_waited_for(self, stop: Stop) -> None:
        with Program(sh("printf all; exec >&-; sleep 0.2; exit 1"), stop=stop) as program:
            assert program.read(1000) == b"all"
            with pytest.raises(ProgramFailed):
                program.read(1000)

    def test_every_byte_arrives(self, stop: Stop) -> None:
        with Program(Command(("head", "-c", "5000000", "/dev/zero")), stop=stop) as program:
            total = sum(len(data) for data in iter(lambda: program.read(1 << 20), b""))
        assert total == 5_000_000

    @pytest.mark.skipif(not hasattr(fcntl, "F_GETPIPE_SZ"), reason="needs Linux")
    def test_the_pipe_holds_a_mebibyte(self, stop: Stop) -> None:
        with Program(sh("exec cat"), stop=stop) as program:
            size = fcntl.fcntl(program._stdout.fileno(), fcntl.F_GETPIPE_SZ)
        if size != 1 << 20:  # this user holds too many pipes already
            assert os.geteuid() != 0

    def test_only_the_last_25_lines_of_stderr_are_kept(self, stop: Stop) -> None:
        with Program(sh("seq 1 100 >&2; exit 1"), stop=stop) as program:
            with pytest.raises(ProgramFailed):
                program.read(1)
            assert program.tail == tuple(str(i) for i in range(76, 101))

    def test_an_endless_line_on_stderr_is_cut(self, stop: Stop) -> None:
        with Program(sh("head -c 1000000 /dev/zero | tr '\\0' x >&2"), stop=stop) as program:
            program.wait()
            assert max(len(line) for line in program.tail) == 64 * 1024

    def test_stderr_goes_to_the_log_with_the_name_once(self, stop: Stop, caplog: pytest.LogCaptureFixture) -> None:
        log = logging.getLogger("test.process")
        with caplog.at_level(logging.INFO), Program(sh("echo one >&2; echo sh: two >&2"), stop=stop, log=log) as p:
            p.wait()
        assert [record.getMessage() for record in caplog.records] == ["sh: one", "sh: two"]

    def test_output_that_nobody_reads_goes_to_the_log(self, stop: Stop, caplog: pytest.LogCaptureFixture) -> None:
        log = logging.getLogger("test.process")
        with caplog.at_level(logging.INFO), Program(sh("echo out; exit 2"), stop=stop, log=log) as program:
            with pytest.raises(ProgramFailed, match="exit status 2"):
                program.wait()
            assert program.tail == ()
        assert caplog.messages == ["sh: out"]


class TestRun:
    def test_returns_stdout(self, stop: Stop) -> None:
        assert run(Command(("cat",)), stop=stop, input=b"x" * 3_000_000) == "x" * 3_000_000

    def test_input_that_is_not_read_is_no_error(self, stop: Stop) -> None:
        assert run(sh("exec <&-; echo done"), stop=stop, input=b"x" * 3_000_000) == "done\n"

    def test_a_missing_program(self, stop: Stop) -> None:
        with pytest.raises(ProgramMissing, match="/nowhere/pg_dump does not exist"):
            run(Command(("/nowhere/pg_dump",)), stop=stop)

    def test_a_file_that_is_no_program(self, stop: Stop, tmp_path: Path) -> None:
        (tmp_path / "pg_dump").write_text("")
        with pytest.raises(ProgramError, match="cannot be started: Permission denied"):
            run(Command((str(tmp_path / "pg_dump"),)), stop=stop)

    def test_a_time_limit(self, stop: Stop) -> None:
        with pytest.raises(TimedOut, match=r"sleep has not ended within 0\.1 s"):
            run(Command(("sleep", "100")), stop=stop, timeout=0.1)
        assert not stop.is_set()


class TestEnvironment:
    def test_little_is_inherited(self, stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PGOPTIONS", "PGSERVICE", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "LANGUAGE"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("KRB5CCNAME", "cache")
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        text = run(Command(("env",), env={"PGPASSFILE": "given"}), stop=stop)
        given = dict(line.split("=", 1) for line in text.splitlines())
        assert {name for name in given if name.startswith("PG")} == {"PGPASSFILE"}
        assert "AWS_SECRET_ACCESS_KEY" not in given
        assert "LC_ALL" not in given
        assert given["LC_MESSAGES"] == "C"
        assert given["LANG"] == "C.UTF-8"
        assert given["KRB5CCNAME"] == "cache"
        assert given["PATH"] == os.environ["PATH"]

    def test_no_descriptor_is_inherited_but_those_given(self, stop: Stop) -> None:
        ours, given = os.pipe()
        with os.fdopen(ours, "rb") as reader, os.fdopen(given, "wb") as writer:
            os.set_inheritable(ours, True)
            with Program(sh(f"echo hello > /dev/fd/{given}; ls /dev/fd"), stop=stop, fds=[given]) as program:
                seen = program.read(1000).decode().split()
                program.wait()
            writer.close()
            assert reader.read() == b"hello\n"
        assert str(given) in seen
        assert str(ours) not in seen

    def test_niceness(self, stop: Stop) -> None:
        with Program(sh("read x; exec nice", nice=7), stop=stop, stdin=b"go\n") as program:
            assert program.read(10) == b"7\n"

    def test_no_terminal_can_be_asked(self, stop: Stop) -> None:
        with pytest.raises(ProgramFailed):
            run(sh("true < /dev/tty"), stop=stop)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_another_user(self, stop: Stop) -> None:
        assert can_become("nobody")
        script = "id -un; id -Gn; echo $USER; echo $HOME"
        user, groups, name, home = run(sh(script, user="nobody", cwd=Path("/")), stop=stop).splitlines()
        assert (user, groups, name) == ("nobody", "nogroup", "nobody")
        assert home != os.environ["HOME"]

    def test_a_user_that_does_not_exist(self) -> None:
        assert not can_become("no such user")


class TestEnding:
    def test_leaving_the_block_ends_the_whole_group(self, stop: Stop, tmp_path: Path) -> None:
        script = f"sleep 100 & echo $! > {tmp_path}/pid; wait"
        with Program(sh(script), stop=stop) as program:
            grandchild = read_pid(tmp_path / "pid")
        assert program.returncode == -signal.SIGTERM
        wait_until(lambda: not lives(grandchild))

    def test_what_a_program_leaves_behind_ends_with_it(self, stop: Stop, tmp_path: Path) -> None:
        with Program(sh(f"sleep 100 & echo $! > {tmp_path}/pid"), stop=stop) as program:
            program.wait()  # though the other one still holds its stdout
        wait_until(lambda: not lives(read_pid(tmp_path / "pid")))

    def test_what_a_program_leaves_behind_ends_when_its_output_does(self, stop: Stop, tmp_path: Path) -> None:
        with Program(sh(f"sleep 100 >&- 2>&- & echo $! > {tmp_path}/pid"), stop=stop) as program:
            assert program.read(1) == b""
            wait_until(lambda: not lives(read_pid(tmp_path / "pid")))

    def test_no_signal_is_sent_to_a_number_that_may_be_another_groups_by_now(
        self, stop: Stop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[tuple[int, int]] = []
        with Program(sh("exit 0"), stop=stop) as program:
            assert program.read(1) == b""
            monkeypatch.setattr(os, "killpg", lambda *signal: sent.append(signal))
            stop.set(Stopped("while what was read is still being stored"))
        assert sent == []

    def test_a_deaf_program_is_killed(self, stop: Stop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("maint.process._GRACE", 0.2)
        with Program(sh(f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 1; done"), stop=stop) as program:
            read_pid(tmp_path / "pid")
        assert program.returncode == -signal.SIGKILL

    def test_a_blocked_read_ends_with_the_run(self, stop: Stop) -> None:
        with Program(Command(("sleep", "100")), stop=stop) as program:
            threading.Timer(0.05, stop.set, (Stopped("shutdown"),)).start()
            with pytest.raises(Stopped, match="shutdown"):
                program.read(1)
            assert program.returncode == -signal.SIGTERM

    def test_a_suspended_program_ends_with_the_run(self, stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("maint.process._GRACE", 0.2)
        with Program(Command(("sleep", "100")), stop=stop) as program:
            os.kill(program.pid, signal.SIGSTOP)
            threading.Timer(0.05, stop.set, (Stopped("shutdown"),)).start()
            with pytest.raises(Stopped):
                program.wait()
            assert program.returncode == -signal.SIGKILL

    def test_nothing_starts_once_the_run_is_told_to_end(self, stop: Stop, tmp_path: Path) -> None:
        stop.set(Stopped("too late"))
        with pytest.raises(Stopped), Program(sh(f"touch {tmp_path}/ran"), stop=stop):
            pass
        assert not (tmp_path / "ran").exists()

    def test_an_error_in_the_block_ends_the_program(self, stop: Stop) -> None:
        with pytest.raises(ZeroDivisionError), Program(Command(("sleep", "100")), stop=stop) as program:
            raise ZeroDivisionError
        assert program.returncode == -signal.SIGTERM


SCRIPT = """
import sys
from maint.clock import Stop
from maint.process import Command, Program
command = Command(("sh", "-c", "echo $$ > program; sleep 1000 & echo $! > child; wait"))
with Program(command, stop=Stop()) as program:
    open("entered", "w").write("1")
    program.read(1)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_killed_maint_leaves_no_program_behind(tmp_path: Path, number: signal.Signals) -> None:
    maint = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=os.environ | python_path())
    try:
        program, child = read_pid(tmp_path / "program"), read_pid(tmp_path / "child")
        read_pid(tmp_path / "entered")
        assert lives(program)
        assert lives(child)
        maint.send_signal(number)
        assert maint.wait(10) == -number
        wait_until(lambda: not lives(program) and not lives(child), "the end of the programs")
    finally:
        maint.kill()
        maint.wait()


def test_a_forked_child_that_is_killed_leaves_no_program_behind(stop: Stop, tmp_path: Path) -> None:
    """Its parent, which also runs programs, lives on."""
    fork = f"""
import os, signal, time
from maint.clock import Stop
from maint.process import Command, Program, run
run(Command(("true",)), stop=Stop())
child = os.fork()
if child == 0:
    with Program(Command(("sh", "-c", "echo $$ > {tmp_path}/program; exec sleep 1000")), stop=Stop()) as program:
        program.read(1)
while not os.path.exists("{tmp_path}/program") or not open("{tmp_path}/program").read():
    time.sleep(0.01)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print("killed", flush=True)
input()
"""
    argv = [sys.executable, "-W", "ignore", "-c", fork]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=os.environ | python_path()) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        try:
            assert parent.stdout.readline() == b"killed\n"
            wait_until(lambda: not lives(read_pid(tmp_path / "program")), "the end of the program")
            assert parent.poll() is None
        finally:
            with suppress(BrokenPipeError):
                parent.communicate(b"\n")


def python_path() -> dict[str, str]:
    import maint

    return {"PYTHONPATH": str(Path(maint.__file__).parent.parent)}
