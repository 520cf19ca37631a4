"""A folder as a repository, when the disk or the process fails."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import wait_until

from maint.config.model import RepositoryConfig
from maint.errors import Damaged, RepositoryDenied, RepositoryFull
from maint.owner import me
from maint.repository import Repository, open_repository
from maint.repository.directory_upload import STEP

MIB = 1 << 20


def repository(root: Path) -> Repository:
    return open_repository(RepositoryConfig(name="local", url=f"file://{root}"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_disk_full(small_disk: Path) -> None:
    repo = repository(small_disk)
    with pytest.raises(RepositoryFull) as caught, repo.create("main/shop/1/dump.000") as upload:  # noqa: PT012
        for _ in range(10):
            upload.write(os.urandom(MIB))
        upload.commit()
    assert caught.value.hint
    assert list(small_disk.iterdir()) == []
    with repo.create("main/shop/1/dump.000") as upload:
        upload.write(b"small enough")
        upload.commit()


def test_read_only(small_disk: Path) -> None:
    repo = repository(small_disk)
    with repo.create("a") as upload:
        upload.write(b"1")
        upload.commit()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RepositoryDenied, match="Read-only"), repo.create("main/b"):
        pass
    with pytest.raises(RepositoryDenied, match="Read-only"):
        repo.delete("a")
    assert [entry.path for entry in repo.list()] == ["a"]
    assert next(iter(repo.probe())).status == "FAIL"


def test_not_permitted(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(RepositoryDenied), repository(tmp_path).create("a/b"):
        pass
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("size", [1000, STEP + 1000])
@pytest.mark.parametrize("change", ["flipped", "cut"])
def test_what_reached_the_disk_is_not_what_was_sent(tmp_path: Path, size: int, change: str) -> None:
    repo = repository(tmp_path)
    with pytest.raises(Damaged) as caught, repo.create("main/a") as upload:  # noqa: PT012
        upload.write(bytes(size))
        _damage(next((tmp_path / "main").glob(".maint-*")), size, change)
        upload.commit()
    assert "dmesg" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def _damage(file: Path, size: int, change: str) -> None:
    if change == "cut":
        return os.truncate(file, size - 1)
    with file.open("r+b") as part:
        part.seek(size - 5)
        part.write(b"\1")
    return None


def test_a_step_read_back_behind_the_writer_is_compared_too(tmp_path: Path) -> None:
    with pytest.raises(Damaged), repository(tmp_path).create("a") as upload:  # noqa: PT012
        upload.write(bytes(STEP - 1))
        with next(tmp_path.glob(".maint-*")).open("r+b") as part:
            part.write(b"\1")
        upload.write(bytes(5 * MIB))
        upload.commit()


_WRITER = """
import sys, time
from maint.config.model import RepositoryConfig
from maint.repository import open_repository
with open_repository(RepositoryConfig(name="local", url="file://" + sys.argv[1])).create("main/shop/1/dump") as upload:
    upload.write(b"x" * 100)
    print("written", flush=True)
    time.sleep(60)
"""


def test_killed_while_writing_then_swept(tmp_path: Path) -> None:
    repo = repository(tmp_path)
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"written\n"
        assert repo.sweep() == []  # it lives
        writer.kill()
    assert list(repo.list()) == []
    wait_until(lambda: len(repo.sweep()) == 1, "the unfinished file")
    assert list(tmp_path.iterdir()) == []


def test_unfinished_files_of_other_machines_are_left_alone_for_a_day(tmp_path: Path) -> None:
    repo = repository(tmp_path)
    foreign = tmp_path / f".maint-{'0' * 12}-1-1-abcd.part"
    mine = tmp_path / f".maint-{me()}-abcd.part"
    for file in (foreign, mine):
        file.touch()
    assert repo.sweep() == []
    long_ago = (datetime.now(UTC) - timedelta(hours=25)).timestamp()
    for file in (foreign, mine):
        os.utime(file, (long_ago, long_ago))
    assert repo.sweep() == [foreign.name]
    assert mine.exists()
