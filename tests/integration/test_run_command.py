"""``maint run`` of jobs that are any program."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import wait_until
from support.maint import Maint


@pytest.fixture
def job(configured: Callable[..., Maint]) -> Callable[..., Maint]:
    """Configure a maint without servers and with a job "mine"."""

    def make(*argv: str, keys: str = "", env: dict[str, str] | None = None, **options: Any) -> Maint:
        maint = configured()
        maint.write("")
        lines = [f"{name} = {json.dumps(value)}" for name, value in {"argv": argv, **options}.items()]
        more = ["[options.env]", *(f"{name} = {json.dumps(value)}" for name, value in (env or {}).items())]
        text = "\n".join(['task = "command"', keys, "[options]", *lines, *(more if env else [])])
        maint.job("mine", text.replace("$", "$$"))  # a single one begins ${env:NAME}
        return maint

    return make


def test_a_program_gets_its_arguments_as_they_are(job: Callable[..., Maint], tmp_path: Path) -> None:
    arguments = ["a b", "$HOME", "`id`", "it's", "*", "", "ü\n2"]
    write = f"import json, sys; json.dump(sys.argv[1:], open({str(tmp_path / 'got')!r}, 'w'))"
    answer = job(sys.executable, "-c", write, *arguments)("run", "mine", "--json")
    assert answer.code == 0, answer
    assert answer.json["summary"] == "1 done"
    assert json.loads((tmp_path / "got").read_text()) == arguments


def test_its_exit_status_and_last_words_are_told(job: Callable[..., Maint]) -> None:
    maint = job("/bin/sh", "-c", "echo to stdout; echo 'error: no disk' >&2; exit 7")
    answer = maint("run", "mine", "--json")
    assert answer.code == 1
    assert answer.json["error"] == "run of sh: sh ended with exit status 7: error: no disk"
    log = maint("show", "1", "--log").out
    assert "sh: to stdout" in log
    assert "sh: error: no disk" in log


def test_a_program_that_is_not_there_is_one_clear_line(job: Callable[..., Maint]) -> None:
    answer = job("/no/such/program")("run", "mine", "--json")
    assert answer.code == 1
    assert answer.json["error"] == "run of program: /no/such/program does not exist"
    assert "Traceback" not in answer.err


def test_its_environment_is_small_and_what_was_asked_for(job: Callable[..., Maint], tmp_path: Path) -> None:
    script = 'env; pwd; echo "calling with $API_TOKEN"'
    maint = job("/bin/sh", "-c", script, env={"MODE": "nightly", "API_TOKEN": "s3cr3t-token"}, cwd=str(tmp_path))
    answer = maint("run", "mine", env={"PGPASSWORD": "of the caller", "OTHER": "of the caller"})
    assert answer.code == 0
    log = maint("show", "1", "--log").out
    assert "MODE=nightly" in log
    assert f"sh: {tmp_path}" in log
    assert "of the caller" not in log
    assert "calling with ***" in log
    assert "s3cr3t-token" not in log + answer.out + answer.err
    assert b"s3cr3t-token" not in b"".join(path.read_bytes() for path in maint.state.rglob("*") if path.is_file())
    assert "s3cr3t-token" not in maint("jobs", "show", "mine").out


def test_the_timeout_ends_the_whole_group(job: Callable[..., Maint], tmp_path: Path) -> None:
    # the child of the child too, and one that does not listen
    script = f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; wait; sleep 1000"
    maint = job("/bin/sh", "-c", script, keys='timeout = "1s"')
    answer = maint("run", "mine", "--json", seconds=40)
    assert (answer.code, answer.json["outcome"]) == (6, "timed_out")
    for name in ("child", "self"):
        assert not _runs(int((tmp_path / name).read_text())), name


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_silence_is_not_idle_for_a_program_without_idle_timeout(job: Callable[..., Maint]) -> None:
    assert job("/bin/sleep", "2", keys='timeout = "30s"')("run", "mine").code == 0


def test_stopping_the_run_ends_the_program(job: Callable[..., Maint], tmp_path: Path) -> None:
    import signal

    maint = job("/bin/sh", "-c", f"echo $$ > {tmp_path}/self; exec sleep 1000")
    child = maint.start("run", "mine", "--json")
    pid = int(wait_until(lambda: (tmp_path / "self").exists() and (tmp_path / "self").read_text(), "the program"))
    child.send(signal.SIGTERM)
    answer = child.wait(20)
    assert (answer.code, answer.json["outcome"]) == (5, "stopped")
    assert not _runs(pid)


def test_dry_run_prints_the_command_and_runs_nothing(job: Callable[..., Maint], tmp_path: Path) -> None:
    maint = job("/usr/bin/touch", str(tmp_path / "it's done"))
    printed = maint("run", "mine", "--dry-run")
    (plan,) = maint("run", "mine", "--dry-run", "--json").json_lines
    assert printed.code == 0
    assert not (tmp_path / "it's done").exists()
    (action,) = plan["actions"]
    assert action["commands"][0] in printed.out
    assert maint("run", "mine").code == 0
    assert (tmp_path / "it's done").exists()
    assert maint.json("show", "1")["steps"][0]["commands"] == action["commands"]


def test_a_program_that_prints_without_end_is_no_trouble(job: Callable[..., Maint]) -> None:
    maint = job("/bin/sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done")
    assert maint("run", "mine").code == 0
    assert "line 4999" in maint("show", "1", "--log").out
    assert (maint.state / "maint.db").stat().st_size < 4_000_000


def test_on_a_terminal_progress_makes_room_for_what_is_told(job: Callable[..., Maint]) -> None:
    maint = job("/bin/sleep", "2")
    master, slave = os.openpty()
    with subprocess.Popen(
        (sys.executable, "-m", "maint", "run", "mine"), env=maint.environment, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        said = b""
        with suppress(OSError):  # the other end is closed
            while data := os.read(master, 4096):
                said += data
    os.close(master)
    assert process.returncode == 0
    assert b"\r\x1b[Ksleep  " in said
    # what is left of each line after its last erasure
    left = [line.rpartition("\x1b[K")[2] for line in said.decode().replace("\r\n", "\n").split("\n")]
    assert left == ["sleep  done  exit status 0", "succeeded: 1 done (run 1)", ""]


def test_output_that_is_no_text(job: Callable[..., Maint]) -> None:
    maint = job("/bin/sh", "-c", "printf 'a\\377\\000b\\033[31m\\n' >&2; exit 1")
    answer = maint("run", "mine", "--json")
    assert answer.code == 1
    assert "\x1b" not in maint("show", "1", "--log").out
