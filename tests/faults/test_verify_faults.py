"""Damaged backups, places that fail, programs that die: what verification says then, and what it leaves."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import wait_until
from support.doors import die, press_ctrl_c, run_through
from support.dumps import backup_job, folder_of
from support.maint import Maint
from support.postgres import Database
from support.proofs import (
    bases,
    before_comparing,
    edit_manifest,
    no_server,
    nothing_left,
    server_processes,
    verified,
    verify,
    verify_job,
)

from maint.model import Outcome

Prepared = Callable[[str], Maint]


@pytest.fixture
def maint(sample: Database, configured: Callable[..., Maint], open_folder: Path) -> Maint:
    """A maint with one backup, that verifies it."""
    sample.execute("CREATE TABLE noise AS SELECT i, md5(i::text) FROM generate_series(1, 20000) AS i")
    one = configured(sample)
    one.environment["TMPDIR"] = str(open_folder)
    backup_job(one)
    assert one("run", "backup").code == 0
    verify_job(one)
    return one


def the_only(maint: Maint, **more: Any) -> dict[str, Any]:
    (found,) = verified(maint, **more)
    return found


def trust(maint: Maint) -> str:
    (backup,) = maint.json("backups")
    return str(backup["trust"])


def test_rows_that_are_missing_in_the_copy(maint: Maint) -> None:
    spoil = before_comparing("DELETE FROM sales.events_2026 WHERE id = (SELECT max(id) FROM sales.events_2026)")
    answer, said = verify(maint, first=spoil)
    (one,) = said["verified"]
    assert (answer.code, one["result"]) == (3, "damaged")
    assert one["reason"] == "sales.events_2026: 186 of 187 rows"
    assert [(f["check"], f["severity"]) for f in said["findings"]] == [("verify.damaged", "critical")]
    assert trust(maint) == "damaged"


def flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["dump.000", "globals.sql.zst"])
def test_one_flipped_bit(maint: Maint, name: str) -> None:
    flip(folder_of(maint) / name)
    one = the_only(maint, code=3)
    assert (one["result"], one["reason"]) == ("damaged", f"{name}: digest differs")
    assert trust(maint) == "damaged"


def test_a_volume_is_missing_or_cut(maint: Maint) -> None:
    path = folder_of(maint) / "dump.000"
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(data[:-1000])
    one = the_only(maint, code=3)
    assert (one["result"], one["reason"]) == ("damaged", f"dump.000: {len(data) - 1000} of {len(data)} bytes")
    path.unlink()
    verify_job(maint, f'backup = "{one["id"]}"')
    one = the_only(maint, code=3)
    assert (one["result"], one["reason"]) == ("damaged", "dump.000: missing")
    assert trust(maint) == "damaged"


def test_a_manifest_that_was_edited(maint: Maint) -> None:
    edit_manifest(maint, lambda m: m["dump"].update(volumes=["dump.000", "dump.001"]))
    one = the_only(maint, code=3)
    assert (one["result"], one["reason"]) == ("damaged", "manifest.json: does not list dump.001")
    edit_manifest(maint, lambda m: m.update(format="tarball"))
    answer, said = verify(maint)
    (one,) = said["verified"]
    assert (answer.code, one["result"]) == (3, "damaged")
    assert "the manifest is not a manifest this maint understands" in one["reason"]
    assert {f["severity"] for f in said["findings"]} == {"critical", "warning"}


def misread_once() -> None:
    """The first time the dump is read a bit is wrong: memory or the network, not what is stored."""
    from maint.restore import stream

    inner = stream._verified

    def outer(backup: Any, file: Any, stop: Any) -> Iterator[bytes]:
        for data in inner(backup, file, stop):
            yield bytes([data[0] ^ 1]) + data[1:]

    stream._verified = outer


def test_what_reads_well_the_second_time_is_not_damaged(maint: Maint) -> None:
    answer, said = verify(maint, first=misread_once)
    assert (answer.code, said["verified"]) == (1, [])
    assert "read again, every byte was as it was stored" in said["error"]
    assert trust(maint) == "stored"


def pg_restore_is(maint: Maint, script: str) -> Callable[[], None]:
    """Return a hook that puts a script before the true pg_restore, which is "$REAL"."""
    path = maint.folder / "pg_restore"

    def hook() -> None:
        from maint import programs

        inner = programs.find

        def find(program: str, **more: Any) -> tuple[Path, str]:
            real, version = inner(program, **more)
            if program != "pg_restore":
                return real, version
            path.write_text(f'#!/bin/bash\nREAL="{real}"\n{script}\nexec "$REAL" "$@"\n')
            path.chmod(0o755)
            return path, version

        programs.find = find

    return hook


@pytest.mark.parametrize("section", ["pre-data", "data", "post-data"])
def test_pg_restore_is_killed(maint: Maint, section: str) -> None:
    killed = pg_restore_is(maint, f'case "$*" in *section={section}*) kill -9 $$ ;; esac')
    answer, said = verify(maint, first=killed)
    assert (answer.code, said["outcome"]) == (1, "failed")
    assert "pg_restore was killed by signal 9" in said["error"]
    assert said["verified"] == []
    assert trust(maint) == "stored"
    assert the_only(maint, code=0)["result"] == "proven"


def test_pg_restore_hangs(maint: Maint) -> None:
    verify_job(maint, timeout="8s")
    answer, said = verify(maint, first=pg_restore_is(maint, 'case "$*" in *section=data*) exec sleep 600 ;; esac'))
    assert (answer.code, said["outcome"]) == (6, "timed_out")
    assert said["verified"] == []
    assert no_server(bases(maint))
    assert trust(maint) == "stored"


def test_the_scratch_server_dies(maint: Maint) -> None:
    script = 'case "$*" in *section=data*) kill -QUIT $(head -1 "$PGHOST/../data/postmaster.pid"); sleep 1 ;; esac'
    answer, said = verify(maint, first=pg_restore_is(maint, script))
    assert (answer.code, said["outcome"]) == (1, "failed")
    assert "the scratch server went away" in said["error"]
    assert trust(maint) == "stored"


@pytest.fixture
def small_disk(open_folder: Path) -> Iterator[Path]:
    folder = open_folder / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", folder), capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount")
    yield folder
    subprocess.run(("umount", "--lazy", folder), check=True)


def test_the_disk_is_full(maint: Maint, small_disk: Path, sample: Database) -> None:
    sample.execute("CREATE TABLE filler AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 60000) AS i")
    assert maint("run", "backup").code == 0
    edit = {"size_bytes": 1}  # as if it had been small when the space was looked at
    (newest, *_) = sorted(maint.repository.rglob("manifest.json"), reverse=True)
    for path in maint.repository.rglob("manifest.json"):
        if path != newest:
            path.unlink()
    edit_manifest(maint, lambda m: m["source"].update(edit))
    maint.environment["TMPDIR"] = str(small_disk)
    verify_job(maint, "scratch_limit = 1.0")

    def small() -> None:
        from maint.tasks.verify import places

        places.wal_bytes = lambda _size: 32 << 20

    one = the_only(maint, first=small, code=3)
    assert one["result"] == "cannot_verify"
    assert one["reason"].startswith("space: ")
    assert "No space left on device" in one["reason"]


def test_the_repository_does_not_answer(maint: Maint) -> None:
    def hook() -> None:
        from maint.errors import RepositoryUnavailable
        from maint.repository.directory import DirectoryRepository

        inner = DirectoryRepository.open

        def opened(self: Any, path: str, **more: Any) -> Any:
            if "/dump." in path:
                raise RepositoryUnavailable("cut off")
            return inner(self, path, **more)

        DirectoryRepository.open = opened  # type: ignore[method-assign]

    answer, said = verify(maint, first=hook)
    assert (answer.code, said["outcome"], said["verified"]) == (1, "failed", [])
    assert "cut off" in said["error"]
    assert trust(maint) == "stored"


def test_what_a_killed_one_leaves_is_cleared_by_the_next_start(maint: Maint) -> None:
    """Killed while pg_restore runs: the server ends with it, its folder goes at the next start of any job."""
    gate = maint.folder / "reached"
    script = f'case "$*" in *section=data*) touch "{gate}"; sleep 600 ;; esac'
    child = maint.start("run", "verify", first=pg_restore_is(maint, script))
    wait_until(gate.exists, "pg_restore", seconds=60)
    assert server_processes(bases(maint))
    stranger = bases(maint) / "maint-cluster-mine"
    stranger.mkdir()
    (stranger / "owner").write_text(f"000000000000-{os.getpid()}-1")  # of another machine: not to be judged from here
    child.send(signal.SIGKILL)
    child.wait()
    assert no_server(bases(maint))
    assert [path for path in bases(maint).iterdir() if path != stranger], "nothing to clear: what was tried?"
    assert maint("run", "backup").code == 0
    assert list(bases(maint).iterdir()) == [stranger]
    assert list((maint.state / "scratch").iterdir()) == []
    (stranger / "owner").unlink()
    stranger.rmdir()
    runs = maint.json("history")
    assert [run["outcome"] for run in runs if run["job"] == "verify"] == [Outcome.LOST]
    verified(maint, code=0)


def test_killed_or_interrupted_at_some_crossings(maint: Maint) -> None:
    answer, crossed = run_through(maint, 0, die, "run", "verify")
    assert answer.code == 0
    for number, act in enumerate((die, press_ctrl_c, die, press_ctrl_c)):
        at = 5 + len(crossed) * (2 * number + 1) // 8
        verify_job(maint, f'backup = "{folder_of(maint).name}"')
        answer, _ = run_through(maint, at, act, "run", "verify")
        if act is press_ctrl_c:
            assert answer.code in (0, 5), answer
            assert nothing_left(maint)
        else:
            assert answer.code == -9
        assert no_server(bases(maint))
        assert trust(maint) == "proven"
    assert the_only(maint, code=0)["result"] == "proven"
