"""Files that change, vanish or may not be read while they are backed up; runs that are killed."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import aftermath
from support.doors import Doors
from support.maint import Maint
from support.trees import back_up, below, bring_back, look, write

from maint.config.model import RepositoryConfig
from maint.model import Trust

MIB = 1 << 20


@pytest.fixture
def config(tmp_path: Path) -> RepositoryConfig:
    return RepositoryConfig(name="local", url=f"file://{tmp_path / 'repository'}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def once(work: Callable[[], object]) -> Callable[..., None]:
    """Do `work` when the first bytes have been read."""
    left = [work]

    def progress(*_args: Any, **_numbers: Any) -> None:
        if left:
            left.pop()()

    return progress


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: os.truncate(path, 5 * MIB), "was cut while it was read"),
        (lambda path: append(path, b"more"), "changed while it was read"),
        (lambda path: os.utime(path, (1, 1)), "changed while it was read"),
    ],
)
def test_a_file_that_changes_is_named(
    config: RepositoryConfig, source: Path, tmp_path: Path, change: Callable[[Path], Any], why: str
) -> None:
    path = source / "busy"
    path.write_bytes(os.urandom(40 * MIB))
    made = back_up(config, tmp_path / "scratch", source, progress=once(lambda: change(path)))
    (finding,) = made.findings
    assert (finding.check, finding.value, finding.examples) == ("files.changed", "1", (f"{path}: {why}",))
    assert look(config).result is Trust.CHECKED
    back = bring_back(config, tmp_path / "back")
    assert [(left.path, left.why) for left in back.torn] == [(str(path).lstrip("/"), why)]
    assert (back.exit_code, (below(tmp_path / "back", path)).stat().st_size) == (3, 40 * MIB)


def test_files_that_vanish_are_named(config: RepositoryConfig, source: Path, tmp_path: Path) -> None:
    for number in range(3):
        (source / str(number)).write_bytes(os.urandom(20 * MIB))
    made = back_up(
        config, tmp_path / "scratch", source, progress=once(lambda: [path.unlink() for path in source.iterdir()])
    )
    found = {finding.check: finding.value for finding in made.findings}
    assert found["files.vanished"] in ("1", "2")
    assert look(config).result is Trust.CHECKED


def test_a_link_in_the_place_of_a_file_is_not_followed(config: RepositoryConfig, source: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"not yours")
    for number in range(3):
        (source / str(number)).write_bytes(os.urandom(20 * MIB))

    def swap() -> None:
        for path in source.iterdir():
            path.unlink()
            path.symlink_to(secret)

    back_up(config, tmp_path / "scratch", source, progress=once(swap))
    bring_back(config, tmp_path / "back", outside_links=True)
    found = [path for path in below(tmp_path / "back", source).iterdir() if not path.is_symlink()]
    assert b"not yours" not in {path.read_bytes() for path in found}


@contextmanager
def as_nobody(*folders: Path) -> Iterator[None]:
    """Be somebody who may not read everything, if root."""
    if os.geteuid() != 0:
        yield
        return
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_that_may_not_be_read_are_named(open_folder: Path) -> None:
    source, scratch = open_folder / "source", open_folder / "scratch"
    config = RepositoryConfig(name="local", url=f"file://{open_folder / 'repository'}")
    write(source, [b"open", b"closed", b"locked/inside"])
    scratch.mkdir()
    with as_nobody(open_folder):
        (source / "closed").chmod(0)
        (source / "locked").chmod(0)
        made = back_up(config, scratch, source)
        assert look(config).result is Trust.CHECKED
        (source / "locked").chmod(0o700)
    (finding,) = made.findings
    assert (finding.check, finding.value) == ("files.unreadable", "2")
    assert sorted(finding.examples) == [f"{source}/closed: Permission denied", f"{source}/locked: Permission denied"]
    assert made.manifest.lacks == ("2 that could not be read",)


def test_more_folders_deep_than_files_may_be_open(config: RepositoryConfig, source: Path, tmp_path: Path) -> None:
    import resource

    at = os.open(source, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=at)
        below_ = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below_
    os.close(at)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        made = back_up(config, tmp_path / "scratch", source)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "files.unreadable" in {finding.check for finding in made.findings}
    assert look(config).result is Trust.CHECKED


def test_memory_does_not_grow_with_the_files(tmp_path: Path, configured: Callable[..., Maint]) -> None:
    """20,000 files: their names alone would take 20 MB in tarfile's memory."""
    maint = ready(configured, tmp_path)
    for number in range(20_000):
        (tmp_path / "source" / f"{number:05}").touch()

    def limited() -> None:
        import resource
        import threading

        threading.stack_size(256 << 10)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (192 << 20),) * 2)

    answer = maint.start("run", "files", first=limited).wait()
    assert answer.code == 0, answer.err


def ready(configured: Callable[..., Maint], tmp_path: Path) -> Maint:
    maint = configured()
    source = tmp_path / "source"
    source.mkdir()
    maint.write(f'installation = "test"\n[repository.local]\nurl = "file://{maint.repository}"\n')
    maint.job("files", f'enabled = true\nretry_delay = "1s"\n[options]\npaths = ["{source}"]\nkeep = {{ last = 2 }}\n')
    return maint


def test_killed_anywhere_and_run_again(tmp_path: Path, configured: Callable[..., Maint]) -> None:
    maint = ready(configured, tmp_path)
    write(tmp_path / "source", [b"a", b"b/c"])
    (tmp_path / "source" / "large").write_bytes(os.urandom(3 * MIB))
    assert maint("run", "files").code == 0
    local = aftermath.local(maint)
    doors = Doors(tmp_path / "doors")
    assert maint.start("run", "files", first=doors.install).wait().code == 0
    crossings = len(doors.crossed)
    for at in sorted(random.Random(7).sample(range(1, crossings), 10)):
        before = set(aftermath.ids(local))
        killed = Doors(tmp_path / "doors", at)
        assert maint.start("run", "files", first=killed.install).wait().code == -9, killed.crossed[-1:]
        assert before & set(aftermath.ids(local)), killed.crossed[-1:]
        again = maint("run", "files", "--json")
        assert again.code == 0, (killed.crossed[-1:], again)
        aftermath.nothing_half(local)
        assert not list((maint.state / "scratch").iterdir())
        made = again.json["backups"][0]
        assert made == aftermath.ids(local)[0]
