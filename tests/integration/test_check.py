"""Reading backups again: real archives, and every way in which one can be damaged."""

import io
import logging
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pyrage
import pytest
from support.backups import put, store, tools
from support.postgres import Database, clone, drop
from support.s3 import MIB, Store, proxy_before, says

from maint.backups import check, inventory, readthrough
from maint.backups.paths import Place
from maint.backups.records import Proof
from maint.clock import Stop
from maint.cluster import Cluster
from maint.config.model import RepositoryConfig
from maint.errors import Damaged, RepositoryUnavailable, Stopped
from maint.model import Trust
from maint.repository import Repository, open_repository


@pytest.fixture
def local(tmp_path: Path) -> Repository:
    return open_repository(RepositoryConfig(name="local", url=f"file://{tmp_path / 'repository'}"))


@pytest.fixture(scope="module")
def sample(newest: Cluster) -> Any:
    database = clone(newest)
    yield database
    drop(database)


def dump(database: Database, *options: str) -> bytes:
    argv = (str(database.cluster.installation.bin_dir / "pg_dump"), *options, "--dbname", database.dsn)
    return subprocess.run(argv, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def archive(sample: Database) -> bytes:
    return dump(sample, "--format=custom", "--compress=0")


@pytest.fixture(scope="module")
def version(sample: Database) -> dict[str, str]:
    return {"pg_dump": sample.cluster.installation.version}


def look(repository: Repository, place: Place, identity: Path | None = None, stop: Stop | None = None) -> Proof:
    (backup,) = inventory.load([repository]).backups
    assert backup.place == place
    return check.check(repository, backup, identity=identity, tools=tools(stop))


def file_of(repository: Repository, place: Place, name: str = "dump.000") -> Path:
    return Path(repository.url_of(place / name))


def flip(path: Path, at: int = -100) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_good_backup_is_checked_to_its_last_byte(local: Repository, archive: bytes, version: dict[str, str]) -> None:
    place = store(local, raw=archive, tools=version, volume_bytes=2_000)
    proof = look(local, place)
    assert (proof.result, proof.reason) == (Trust.CHECKED, None)
    assert proof.compared[0].startswith("size and SHA-256 of ")
    assert proof.compared[1] == f"read whole by pg_restore {version['pg_dump']}"


def test_progress_reaches_the_whole(local: Repository) -> None:
    place = store(local, raw=bytes(100), compression="none", format="directory")
    seen: list[tuple[int, int]] = []
    (backup,) = inventory.load([local]).backups
    lent = check.Tools(
        Stop(), tools().clock, logging.getLogger("tests"), lambda done, total: seen.append((done, total))
    )
    check.check(local, backup, identity=None, tools=lent)
    assert seen[-1][0] == seen[-1][1] > 100
    assert place == backup.place


@pytest.mark.parametrize("name", ["dump.000", "dump.001", "RESTORE.md"])
def test_one_bit_is_found(local: Repository, archive: bytes, version: dict[str, str], name: str) -> None:
    place = store(local, raw=archive, tools=version, volume_bytes=2_000)
    flip(file_of(local, place, name), at=3)
    proof = look(local, place)
    assert (proof.result, proof.reason) == (Trust.DAMAGED, f"{name}: digest differs")


def test_every_damaged_file_is_named(local: Repository, archive: bytes, version: dict[str, str]) -> None:
    place = store(local, raw=archive, tools=version, volume_bytes=2_000)
    file_of(local, place, "dump.001").unlink()
    flip(file_of(local, place, "dump.000"))
    path = file_of(local, place, "RESTORE.md")
    path.write_bytes(b"")
    assert look(local, place).reason == "dump.000: digest differs; dump.001: missing; RESTORE.md: 0 of 6 bytes"


def test_a_store_that_does_not_answer_is_no_damage(moto: Store) -> None:
    with proxy_before(moto) as proxy:
        repository = open_repository(proxy.config(bucket := moto.bucket()))
        store(repository)
        proxy.plan("get", says(503, "SlowDown"), times=1000)
        (backup,) = inventory.load([open_repository(moto.config(bucket))]).backups
        with pytest.raises(RepositoryUnavailable):
            check.check(repository, backup, identity=None, tools=tools())


def test_an_overwritten_manifest_is_damage(local: Repository) -> None:
    place = store(local)
    (backup,) = inventory.load([local]).backups
    put(local, place / "manifest.json", b"{}")
    with pytest.raises(Damaged):
        inventory.fresh(local, backup)
    proof = check.check(local, backup, identity=None, tools=tools())
    assert proof.result is Trust.DAMAGED
    assert "not a manifest" in (proof.reason or "")


# -- whole files, but no dump ------------------------------------------------------------------------------


def test_what_pg_restore_cannot_read_is_damage(local: Repository, archive: bytes, version: dict[str, str]) -> None:
    place = store(local, raw=archive[: len(archive) // 2], tools=version)
    proof = look(local, place)
    assert proof.result is Trust.DAMAGED
    assert (proof.reason or "").startswith("the dump cannot be read by pg_restore: ")


def test_another_length_than_the_manifest_says(local: Repository, archive: bytes, version: dict[str, str]) -> None:
    from maint.backups.manifest import Dump

    counted = Dump(volumes=("dump.000",), raw_bytes=len(archive) + 1, stored_bytes=1)
    place = store(local, raw=archive, tools=version, dump=counted)
    assert f"the dump unpacks to {len(archive)} bytes" in (look(local, place).reason or "")


def test_what_is_not_compressed_as_the_manifest_says(local: Repository) -> None:
    raw = b"PGDMP" * 100
    place = store(local, raw=raw, compression="none")
    path = file_of(local, place, "manifest.json")
    path.write_text(path.read_text().replace('"compression": "none"', '"compression": "zstd:3"'))
    assert "the dump cannot be decompressed" in (look(local, place).reason or "")


def test_a_program_that_is_missing_or_too_old_is_no_damage(
    local: Repository, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = store(local, raw=archive, tools={"pg_dump": "99.1"})
    proof = look(local, place)
    assert proof.result is Trust.CHECKED
    assert proof.compared[1].startswith("not read by pg_restore: ")


def test_an_archive_of_the_future_is_no_damage(local: Repository, archive: bytes, version: dict[str, str]) -> None:
    future = archive[:5] + bytes([1, 99, 0]) + archive[8:]  # the version in the head
    proof = look(local, store(local, raw=future, tools=version))
    assert proof.result is Trust.CHECKED
    assert proof.compared[1].endswith("is too old for this archive")


def test_stopped_in_the_middle(local: Repository, archive: bytes, version: dict[str, str]) -> None:
    place = store(local, raw=archive, tools=version)
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        look(local, place, stop=stop)


# -- directory format --------------------------------------------------------------------------------------


def tar(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as whole:
        for path in sorted(folder.iterdir()):
            whole.add(path, path.name)
    return out.getvalue()


def test_the_directory_format_is_read_as_a_tar(local: Repository, sample: Database, tmp_path: Path) -> None:
    dump(sample, "--format=directory", "--file", str(tmp_path / "dump"))
    whole = tar(tmp_path / "dump")
    place = store(local, raw=whole, format="directory", compression="none", volume_bytes=7_000)
    proof = look(local, place)
    assert proof.result is Trust.CHECKED
    assert proof.compared[1].startswith("read whole as a tar of ")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"x" * 2000, "cannot be read as a tar"), (bytes(10240), "holds no toc.dat")],
)
def test_a_tar_that_is_none(local: Repository, raw: bytes, reason: str) -> None:
    place = store(local, raw=raw, format="directory", compression="none")
    assert reason in (look(local, place).reason or "")


def test_a_tar_that_is_cut(local: Repository, tmp_path: Path) -> None:
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "toc.dat").write_bytes(bytes(100_000))
    place = store(local, raw=tar(tmp_path / "dump")[:50_000], format="directory", compression="none")
    assert "cannot be read as a tar" in (look(local, place).reason or "")


# -- encrypted ---------------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> tuple[str, Path]:
    identity = pyrage.x25519.Identity.generate()
    path = tmp_path / "age.key"
    path.write_text(f"# a comment\n{identity}\n")
    return str(identity.to_public()), path


def test_with_the_key_it_is_decrypted(
    local: Repository, archive: bytes, version: dict[str, str], key: tuple[str, Path]
) -> None:
    place = store(local, raw=archive, tools=version, recipients=[key[0]], volume_bytes=2_000)
    proof = look(local, place, key[1])
    assert proof.result is Trust.CHECKED
    assert proof.compared[1:] == ("decrypted", f"read whole by pg_restore {version['pg_dump']}")


def test_without_the_key_its_digests_are_compared(local: Repository, archive: bytes, key: tuple[str, Path]) -> None:
    place = store(local, raw=archive, recipients=[key[0]])
    proof = look(local, place)
    assert proof.result is Trust.CHECKED
    assert proof.compared[1:] == ("not decrypted: there is no key here (identity_file)",)


def test_with_another_key(local: Repository, archive: bytes, key: tuple[str, Path]) -> None:
    other = str(pyrage.x25519.Identity.generate().to_public())
    place = store(local, raw=archive, recipients=[other], volume_bytes=2_000)
    proof = look(local, place, key[1])
    assert (proof.result, proof.reason) == (Trust.CHECKED, None)
    assert proof.compared[1:] == ("not decrypted: the key here does not fit",)


@pytest.mark.parametrize("at", [20, 5000, -1])
def test_one_bit_of_an_encrypted_dump(local: Repository, archive: bytes, key: tuple[str, Path], at: int) -> None:
    place = store(local, raw=archive, recipients=[key[0]])
    flip(file_of(local, place), at)
    assert look(local, place, key[1]).reason == "dump.000: digest differs"


def test_stored_as_it_was_but_not_encrypted(local: Repository, archive: bytes, key: tuple[str, Path]) -> None:
    place = store(local, raw=archive, encrypted=True)
    assert "the dump cannot be decrypted" in (look(local, place, key[1]).reason or "")


# -- memory ------------------------------------------------------------------------------------------------


def test_a_gibibyte_of_nothing_is_unpacked_in_pieces(local: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 MiB of zeros are one chunk when compressed."""
    largest = 0
    feed = readthrough.Piped.feed

    def measured(self: Any, data: bytes) -> None:
        nonlocal largest
        largest = max(largest, len(data))
        feed(self, data)

    monkeypatch.setattr(readthrough.Piped, "feed", measured)
    place = store(local, raw=bytes(200 * MIB), format="directory")
    assert look(local, place).reason == "the dump holds no toc.dat"
    assert 0 < largest <= MIB
