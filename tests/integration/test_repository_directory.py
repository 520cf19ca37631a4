"""A folder as a repository."""

import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maint.config.model import RepositoryConfig
from maint.errors import Damaged, NotFound, RepositoryError, UsageError
from maint.repository import open_repository
from maint.repository.directory import DirectoryRepository
from maint.repository.directory_upload import STEP

BACKUP = "main/sh%C3%B6p%2F/20261120T020003Z-7f3a"


def repository(root: Path, **changes: object) -> DirectoryRepository:
    found = open_repository(RepositoryConfig(name="local", url=f"file://{root}", **changes))
    assert isinstance(found, DirectoryRepository)
    return found


def put(repo: DirectoryRepository, path: str, data: bytes) -> None:
    with repo.create(path) as upload:
        upload.write(data)
        upload.commit()


@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, 3 * STEP + 12345])
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    repo = repository(tmp_path / "repo")
    data = os.urandom(1 << 20) * (size // (1 << 20) + 1)
    with repo.create(f"{BACKUP}/dump.000") as upload:
        for start in range(0, size, 300_000):
            upload.write(data[start : min(start + 300_000, size)])
        stored = upload.commit()
    assert (stored.size, stored.confirmed_by, stored.version) == (size, "read back", None)
    assert stored.sha256 == hashlib.sha256(data[:size]).hexdigest()
    with repo.open(stored.path) as reader:
        assert b"".join(iter(lambda: reader.read(77_777), b"")) == data[:size]
    with repo.open(stored.path, offset=size // 2) as reader:
        assert reader.read() == data[size // 2 : size]


def test_modes_are_private(tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo")
    put(repo, f"{BACKUP}/manifest.json", b"{}")
    for path in [tmp_path / "repo", *(tmp_path / "repo").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_is_visible_before_commit_and_nothing_stays_without(tmp_path: Path) -> None:
    repo = repository(tmp_path)
    with pytest.raises(ZeroDivisionError), repo.create(f"{BACKUP}/dump.000") as upload:  # noqa: PT012
        upload.write(b"x" * (STEP + 1))
        assert list(repo.list()) == []
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_new_object_replaces_the_old_only_when_it_is_complete(tmp_path: Path) -> None:
    repo = repository(tmp_path)
    put(repo, "a/b/pin", b"old")
    with repo.create("a/b/pin") as upload:
        upload.write(b"new")
    assert (tmp_path / "a/b/pin").read_bytes() == b"old"
    put(repo, "a/b/pin", b"new")
    assert (tmp_path / "a/b/pin").read_bytes() == b"new"


def test_listing(tmp_path: Path) -> None:
    repo = repository(tmp_path)
    for path in ("main/shop/1/a", "main/shop/1/proof/x.json", "main/shop2/1/a", "other/shop/1/a"):
        put(repo, path, path.encode())
    (tmp_path / "main/shop/1/.maint-leftover.part").write_bytes(b"half")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "#12").touch()
    (tmp_path / "main/link").symlink_to("/etc")
    assert [entry.path for entry in repo.list()] == [
        "main/shop/1/a", "main/shop/1/proof/x.json", "main/shop2/1/a", "other/shop/1/a",
    ]  # fmt: skip
    assert [entry.path for entry in repo.list("main/shop/")] == ["main/shop/1/a", "main/shop/1/proof/x.json"]
    assert [entry.path for entry in repo.list("main/sh")] == [p.path for p in repo.list("main/")]
    assert list(repo.list("none/such")) == []
    entry = next(repo.list())
    assert entry.size == len("main/shop/1/a")
    assert abs(entry.modified_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_many_backups_are_listed_in_one_walk(tmp_path: Path) -> None:
    repo = repository(tmp_path)
    for number in range(500):
        folder = tmp_path / f"main/db{number % 50}/2026{number:04}"
        folder.mkdir(parents=True)
        for name in ("SHA256SUMS", "dump.000", "globals.sql", "manifest.json", "pin"):
            (folder / name).touch()
    assert sum(1 for _ in repo.list()) == 2500


def test_deleting_removes_empty_folders_up_to_the_root(tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo")
    put(repo, "main/shop/1/a", b"1")
    put(repo, "main/blog/1/a", b"1")
    repo.delete("main/shop/1/a")
    repo.delete("main/shop/1/a")  # absent = done
    assert [p.name for p in (tmp_path / "repo/main").iterdir()] == ["blog"]
    repo.delete("main/blog/1/a")
    assert list((tmp_path / "repo").iterdir()) == []


def test_an_absent_object(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        repository(tmp_path).open("main/shop/1/a")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../../b", "..", "a//b", "a/", ".maint-x/a", "a b", "a\nb", "ä"])
def test_paths_that_are_none(tmp_path: Path, path: str) -> None:
    repo = repository(tmp_path)
    for use in (repo.create, repo.open, repo.delete):
        with pytest.raises(RepositoryError, match="cannot name"):
            use(path)


def test_no_symbolic_link_leads_out(tmp_path: Path) -> None:
    (tmp_path / "outside/1").mkdir(parents=True)
    (tmp_path / "outside/1/a").write_text("dear")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/main").symlink_to(tmp_path / "outside")
    repo = repository(tmp_path / "repo")
    for use in (repo.create, repo.open, repo.delete):
        with pytest.raises(RepositoryError, match="leads out"):
            use("main/1/a")
    assert (tmp_path / "outside/1/a").read_text() == "dear"


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "repo").symlink_to(tmp_path / "disk")
    put(repository(tmp_path / "repo"), "main/1/a", b"1")
    assert (tmp_path / "disk/main/1/a").read_bytes() == b"1"


def test_a_missing_root_is_made_but_not_its_parent(tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo")
    assert list(repo.list()) == []
    assert repo.free_bytes()
    put(repo, "a", b"1")
    lost = repository(tmp_path / "mnt/repo")
    with pytest.raises(RepositoryError, match="does not exist"):
        list(lost.list())
    with pytest.raises(RepositoryError, match="does not exist"), lost.create("a"):
        pass
    assert not (tmp_path / "mnt").exists()


def test_a_size_known_beforehand_that_cannot_fit_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="bytes"):
        repository(tmp_path).create("a", size_hint=1 << 60)


def test_without_reading_back(tmp_path: Path) -> None:
    with repository(tmp_path, read_back=False).create("a") as upload:
        upload.write(b"1")
        assert upload.commit().confirmed_by == "size"


def test_doctor_tries_it(tmp_path: Path) -> None:
    found = list(repository(tmp_path / "repo").probe())
    assert [line.status for line in found] == ["OK", "OK"], found
    assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o755)
    assert next(line.status for line in repository(tmp_path).probe()) == "WARN"
    assert next(line.status for line in repository(tmp_path / "a/b").probe()) == "FAIL"


def test_a_bucket_without_prefix_is_refused() -> None:
    with pytest.raises(UsageError, match="prefix"):
        open_repository(RepositoryConfig.model_construct(name="x", url="s3://bucket"))


def test_damage_is_noticed_when_reading(tmp_path: Path) -> None:
    repo = repository(tmp_path)
    put(repo, "a", b"x" * 100_000)
    with repo.open("a") as reader:
        reader.read(10)
        os.truncate(tmp_path / "a", 1000)
        with pytest.raises(Damaged, match="cut"):  # noqa: PT012
            while reader.read(5000):
                pass
