"""Whole backups into a directory: full, read-only, not ours; shared with others; one of two that fails."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from support import aftermath
from support.maint import Maint
from support.postgres import Database
from support.repositories import write_with

from maint.backups import records
from maint.config.model import RepositoryConfig
from maint.owner import me


@pytest.fixture
def maint(configured: Callable[..., Maint]) -> Maint:
    found = configured()
    found.job("backup", "retries = 0\n[options]\nkeep = { last = 1 }\n")
    return found


def at(folder: Path, name: str = "local", **more: bool) -> RepositoryConfig:
    return RepositoryConfig(name=name, url=f"file://{folder}", **more)  # type: ignore[arg-type]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    mounted = subprocess.run(argv, capture_output=True, check=False, text=True)
    if mounted.returncode:
        pytest.skip(f"needs to mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_disk_full(small_disk: Path, maint: Maint, sample: Database, bulky: Database) -> None:
    write_with(maint, sample, at(small_disk))
    assert maint("run", "backup").code == 0
    good = aftermath.ids(at(small_disk))
    write_with(maint, bulky, at(small_disk))
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"], report["backups"]) == (1, "failed", [])
    assert "No space left on device" in report["error"]
    assert "prune" in report["hint"]
    aftermath.nothing_half(at(small_disk))
    aftermath.nothing_runs(maint, bulky)
    assert aftermath.ids(at(small_disk)) == good
    write_with(maint, sample, at(small_disk))
    assert maint("run", "backup").code == 0
    assert len(aftermath.ids(at(small_disk))) == 1


def test_read_only(small_disk: Path, maint: Maint, sample: Database) -> None:
    write_with(maint, sample, at(small_disk))
    assert maint("run", "backup").code == 0
    good = aftermath.ids(at(small_disk))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"]) == (1, "failed")
    assert "Read-only file system" in report["error"]
    assert "remount,rw" in report["hint"]
    assert aftermath.ids(at(small_disk)) == good
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert maint("run", "backup").code == 0
    aftermath.nothing_half(at(small_disk))


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """A folder that nobody may write into, not even root; and how to allow it again."""
    folder = tmp_path / "forbidden"
    folder.mkdir()

    def change(flag: str) -> bool:
        if os.geteuid() != 0:
            folder.chmod(0o500 if flag == "+i" else 0o700)
            return True
        return subprocess.run(["chattr", flag, str(folder)], capture_output=True, check=False).returncode == 0

    if not change("+i"):
        pytest.skip("this file system knows no immutable folders, and root may write into all others")
    yield folder, lambda: change("-i")
    change("-i")


def test_not_writable(forbidden: tuple[Path, Callable[[], bool]], maint: Maint, sample: Database) -> None:
    folder, allow = forbidden
    write_with(maint, sample, at(folder))
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"], report["backups"]) == (1, "failed", [])
    assert "not permitted" in report["error"] or "Permission denied" in report["error"]
    assert "chown" in report["hint"]
    assert list(folder.iterdir()) == []
    allow()
    assert maint("run", "backup").code == 0
    assert len(aftermath.ids(at(folder))) == 1


def test_a_mount_that_is_missing(maint: Maint, sample: Database) -> None:
    write_with(maint, sample, at(maint.folder / "mnt" / "backups"))
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"]) == (1, "failed")
    assert "mount" in report["hint"]
    assert not (maint.folder / "mnt").exists()


def test_an_optional_second_repository_that_is_not_there(
    tmp_path: Path, maint: Maint, sample: Database, bulky: Database
) -> None:
    write_with(maint, sample, at(tmp_path / "no mount" / "here", "offsite", required=False), at(maint.repository))
    maint.write(maint.config.read_text().replace(f'"{sample.name}"', f'"{sample.name}", "{bulky.name}"'))
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"], report["error"]) == (3, "warned", None), answer
    assert len(report["backups"]) == 2
    told = [finding["message"] for finding in report["findings"]]
    assert [text.partition(":")[0] for text in told] == [  # each once, not for every database
        "offsite could not be cleared",
        "the repository offsite left the pass",
    ]


@pytest.mark.parametrize("required", [True, False], ids=["required", "optional"])
def test_a_second_disk_that_is_full(required: bool, small_disk: Path, maint: Maint, bulky: Database) -> None:
    write_with(maint, bulky, at(small_disk, "small", required=required), at(maint.repository))
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"]) == ((1, "failed") if required else (3, "warned"))
    assert [finding["object"] for finding in report["findings"]] == ["repository small"]
    assert aftermath.ids(at(maint.repository)) == report["backups"]
    assert aftermath.ids(at(small_disk)) == []
    aftermath.nothing_half(at(small_disk))


# -- shared with others ---------------------------------------------------------------------------------------


def _began(installation: str) -> bytes:
    """Return the mark of a backup whose process is dead."""
    dead = replace(me(), pid=4_194_300, start=1)
    return json.dumps(asdict(records.Owner(installation, 1, "here", str(dead)))).encode()


def test_what_is_somebody_elses_stays_as_it_is(maint: Maint, sample: Database) -> None:
    write_with(maint, sample, at(maint.repository))
    assert maint("run", "backup").code == 0
    (mine,) = aftermath.whole_backups(at(maint.repository))
    like_a_backup = f"main/{sample.name}/20200101T000000Z-abcd"
    theirs = {
        "readme.txt": b"1",
        "main/notes": b"2",
        "other/shop/dump.000": b"3",
        f"main/{sample.name}/keep.me": b"4",
        f"{like_a_backup}/dump.000": b"5",
        f"main/{sample.name}/20200101T000000Z-abce/started.json": _began("another"),
        f".maint-{'0' * 12}-1-1-abcd.part": b"6",
    }
    for name, data in theirs.items():
        path = maint.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    beside = maint.repository / mine.place.prefix / "put-here-by-somebody"
    beside.write_bytes(b"7")
    for _ in range(2):
        assert maint("run", "backup").code == 0
    assert {name: (maint.repository / name).read_bytes() for name in theirs} == theirs
    assert beside.read_bytes() == b"7"
    assert mine.id not in [one["id"] for one in maint("backups", "--json").json]


def test_two_installations_in_one_repository(
    configured: Callable[..., Maint], sample: Database, tmp_path: Path
) -> None:
    shared = at(tmp_path / "shared")
    made = []
    for name in ("one", "two"):
        maint = configured(name=name)
        maint.job("backup", "retries = 0\n[options]\nkeep = { last = 1 }\n")
        write_with(maint, sample, shared)
        maint.write(maint.config.read_text().replace('installation = "test"', f'installation = "{name}"'))
        made.append(maint)
    one, two = made
    for maint in (one, two, one, two):
        assert maint("run", "backup").code == 0
    assert sorted(b.summary.installation for b in aftermath.whole_backups(shared)) == ["one", "two"]
    answer = one("backups")
    assert "two installations write backups of server main" in answer.out + answer.err
