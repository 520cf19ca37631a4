"""S3 repositories on real servers: over HTTP and TLS, with and without versions, with locks."""

import hashlib
import os
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.s3 import MIB, SECRET_KEY, Proxy, Store, replaces, says

from maint.config.model import RepositoryConfig
from maint.errors import Locked, NotFound, RepositoryError
from maint.repository import Repository, Stored, open_repository
from maint.repository.s3 import S3Repository

BACKUP = "main/sh%C3%B6p%2F+@=~/20261120T020003Z-7f3a"


@pytest.fixture(params=["rclone", "rclone_tls", "moto", "moto_tls"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def put(repo: Repository, path: str, *pieces: bytes) -> Stored:
    with repo.create(path) as upload:
        for piece in pieces:
            upload.write(piece)
        return upload.commit()


def get(repo: Repository, path: str, version: str | None = None, offset: int = 0) -> bytes:
    with repo.open(path, version=version, offset=offset) as reader:
        return b"".join(iter(lambda: reader.read(100_000), b""))


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1, 17 * MIB + 12345])
def test_what_is_written_is_read(store: Store, size: int) -> None:
    repo = open_repository(store.config(store.bucket()))
    data = os.urandom(size)
    stored = put(repo, f"{BACKUP}/dump.000", *(data[i : i + 300_000] for i in range(0, size, 300_000)))
    assert stored.size == size
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert stored.confirmed_by == ("store's checksum" if store.name == "rclone" else "read back")
    assert get(repo, stored.path) == data
    assert get(repo, stored.path, offset=size // 2) == data[size // 2 :]
    assert get(repo, stored.path, offset=size) == b""
    [entry] = repo.list("main/")
    assert (entry.path, entry.size, entry.version, entry.hidden) == (stored.path, size, None, False)
    assert abs(entry.modified_at - datetime.now(UTC)) < timedelta(minutes=1)
    repo.delete(stored.path)
    repo.delete(stored.path)  # absent = done
    assert list(repo.list()) == []
    with pytest.raises(NotFound):
        repo.open(stored.path)


def test_many_small_pieces_and_one_large(rclone: Store) -> None:
    repo = open_repository(rclone.config(rclone.bucket()))
    data = os.urandom(11 * MIB)
    stored = put(repo, "a", *(data[i : i + 1000] for i in range(0, 6 * MIB, 1000)), data[6291000 + 1000 :])
    assert stored.size == 11 * MIB
    assert get(repo, "a") == data


def test_memory_is_bounded_by_parts_not_by_size(rclone: Store) -> None:
    repo = open_repository(rclone.config(rclone.bucket()))
    put(repo, "first", b"1")  # imports and tables of botocore
    tracemalloc.start()
    try:
        with repo.create("main/b") as upload:
            for _ in range(100):
                upload.write(bytes(MIB))
            upload.commit()
        assert tracemalloc.get_traced_memory()[1] < 30 * MIB  # one part being filled, three on their way
    finally:
        tracemalloc.stop()


def test_nothing_is_visible_before_commit_and_nothing_stays_without(store: Store) -> None:
    bucket = store.bucket()
    repo = open_repository(store.config(bucket))
    with pytest.raises(ZeroDivisionError), repo.create(f"{BACKUP}/dump.000") as upload:  # noqa: PT012
        upload.write(os.urandom(12 * MIB))
        assert list(repo.list()) == []
        raise ZeroDivisionError
    assert list(repo.list()) == []
    assert not store.client().list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_only_the_prefix_is_seen(rclone: Store) -> None:
    bucket = rclone.bucket()
    put(open_repository(rclone.config(bucket, url=f"s3://{bucket}/some/prefix2")), "a/b", b"1")
    put(open_repository(rclone.config(bucket, url=f"s3://{bucket}/some")), "a/b", b"1")
    repo = open_repository(rclone.config(bucket))
    assert list(repo.list()) == []
    assert repo.url_of("a/b") == f"s3://{bucket}/some/prefix/a/b"


def test_an_object_never_exceeds_max_parts(rclone: Store) -> None:
    bucket = rclone.bucket()
    repo = open_repository(rclone.config(bucket, max_parts=3))
    assert repo.max_object_bytes == 15 * MIB
    assert put(repo, "main/a", bytes(15 * MIB)).size == 15 * MIB
    with pytest.raises(RepositoryError, match="exceed 3 parts") as caught, repo.create("main/b") as upload:
        upload.write(bytes(15 * MIB + 1))
    assert "part_size" in (caught.value.hint or "")
    assert [entry.path for entry in repo.list()] == ["main/a"]
    with pytest.raises(RepositoryError, match="exceed"):
        repo.create("main/b", size_hint=16 * MIB)


def test_a_store_that_verifies_is_not_read_back(before_rclone: Proxy) -> None:
    config = before_rclone.config(before_rclone.store.bucket())
    assert put(open_repository(config), "a", b"1").confirmed_by == "store's checksum"
    assert "get" not in before_rclone.seen
    read_back = config.model_copy(update={"read_back": True})
    assert put(open_repository(read_back), "a", b"1").confirmed_by == "read back"
    assert "get" in before_rclone.seen


def test_a_store_that_does_not_verify_is_read_back_unless_forbidden(before_moto: Proxy) -> None:
    config = before_moto.config(before_moto.store.bucket())
    assert put(open_repository(config), "a", b"1").confirmed_by == "read back"
    forbidden = config.model_copy(update={"read_back": False})
    assert put(open_repository(forbidden), "a", b"1").confirmed_by == "size"


def test_the_store_is_asked_once_for_its_digests(before_rclone: Proxy) -> None:
    repo = open_repository(before_rclone.config(before_rclone.store.bucket()))
    for path in ("a", "b", "c"):
        put(repo, path, b"1")
    assert before_rclone.seen.count("part") == 2
    assert before_rclone.seen.count("abort") == 1


def test_empty_etags(before_moto: Proxy) -> None:
    before_moto.plan("put", replaces(b"ETag", b""))
    before_moto.plan("complete", replaces(b"ETag", b""))
    repo = open_repository(before_moto.config(before_moto.store.bucket()))
    assert get(repo, put(repo, "a", b"1").path) == b"1"
    assert put(repo, "b", bytes(6 * MIB)).size == 6 * MIB


# -- what was asked for, and whether the store did it --------------------------------------------------------


def test_encryption_and_storage_class_are_confirmed(moto: Store) -> None:
    bucket = moto.bucket()
    repo = open_repository(moto.config(bucket, sse="AES256", storage_class="STANDARD_IA"))
    for path, size in (("a", 1), ("b", 6 * MIB)):
        put(repo, path, bytes(size))
        head = moto.client().head_object(Bucket=bucket, Key=f"some/prefix/{path}")
        assert (head["ServerSideEncryption"], head["StorageClass"]) == ("AES256", "STANDARD_IA")


def test_a_store_that_ignores_encryption_is_refused(rclone: Store) -> None:
    repo = open_repository(rclone.config(rclone.bucket(), sse="AES256"))
    with pytest.raises(RepositoryError, match="ignored sse"):
        put(repo, "a", b"secret")
    assert list(repo.list()) == []


def test_a_store_that_ignores_the_storage_class_is_refused(before_moto: Proxy) -> None:
    before_moto.plan("head", replaces(b"x-amz-storage-class", b"STANDARD"))
    repo = open_repository(before_moto.config(before_moto.store.bucket(), storage_class="STANDARD_IA"))
    with pytest.raises(RepositoryError, match="ignored storage_class"):
        put(repo, "a", b"1")
    assert list(repo.list()) == []


def test_a_store_that_ignores_the_lock_is_refused(rclone: Store) -> None:
    repo = open_repository(rclone.config(rclone.bucket(), lock=timedelta(days=1)))
    with pytest.raises(RepositoryError, match="lock"):
        put(repo, "a", b"1")
    assert list(repo.list()) == []


# -- versions ------------------------------------------------------------------------------------------------


@pytest.fixture
def versioned(moto: Store) -> RepositoryConfig:
    bucket = moto.bucket()
    moto.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return moto.config(bucket)


def bucket_of(config: RepositoryConfig) -> str:
    return config.url.split("/")[2]


def test_versions_are_recorded_read_and_deleted(versioned: RepositoryConfig, moto: Store) -> None:
    repo = open_repository(versioned)
    first = put(repo, "main/a", b"first")
    second = put(repo, "main/a", b"second")
    assert first.version
    assert first.version != second.version
    assert get(repo, "main/a") == b"second"
    assert get(repo, "main/a", first.version) == b"first"
    assert [entry.version for entry in repo.list()] == [second.version]
    repo.delete("main/a", version=second.version)
    assert get(repo, "main/a") == b"first"
    put(repo, "main/a", b"third")
    repo.delete("main/a")
    assert list(repo.list()) == []
    left = moto.client().list_object_versions(Bucket=bucket_of(versioned))
    assert "Versions" not in left
    assert "DeleteMarkers" not in left


def test_large_objects_have_versions_too(versioned: RepositoryConfig) -> None:
    repo = open_repository(versioned)
    stored = put(repo, "main/a", bytes(6 * MIB))
    assert [entry.version for entry in repo.list()] == [stored.version]
    assert len(get(repo, "main/a", stored.version)) == 6 * MIB


def test_what_a_delete_marker_hides_is_found(versioned: RepositoryConfig, moto: Store) -> None:
    repo = open_repository(versioned)
    old = put(repo, "main/a", b"old")
    new = put(repo, "main/a", b"new!")
    put(repo, "main/ab", b"seen")
    moto.client().delete_object(Bucket=bucket_of(versioned), Key="some/prefix/main/a")
    found = {(entry.path, entry.version, entry.size, entry.hidden) for entry in repo.list() if entry.hidden}
    assert found == {("main/a", new.version, 4, True)}
    assert [entry.path for entry in repo.list() if not entry.hidden] == ["main/ab"]
    with pytest.raises(NotFound):
        repo.open("main/a")
    assert get(repo, "main/a", old.version) == b"old"
    repo.delete("main/a")
    assert [entry.path for entry in repo.list()] == ["main/ab"]


def test_who_may_not_ask_for_versions_uses_those_it_is_given(before_moto: Proxy) -> None:
    bucket = before_moto.store.bucket()
    before_moto.store.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    before_moto.plan("other", says(403, "AccessDenied"), 1000)
    repo = open_repository(before_moto.config(bucket))
    first, second = put(repo, "main/a", b"first"), put(repo, "main/a", b"second")
    assert get(repo, "main/a", first.version) == b"first"
    assert [(entry.path, entry.version) for entry in repo.list()] == [("main/a", None)]
    for stored in (second, first):
        repo.delete("main/a", version=stored.version)
    assert "Versions" not in before_moto.store.client().list_object_versions(Bucket=bucket)


# -- object lock ---------------------------------------------------------------------------------------------


@pytest.fixture
def lockable(moto: Store) -> RepositoryConfig:
    return moto.config(moto.bucket(ObjectLockEnabledForBucket=True))


@pytest.mark.parametrize("size", [10, 6 * MIB])
def test_every_object_is_locked(lockable: RepositoryConfig, moto: Store, size: int) -> None:
    repo = open_repository(lockable.model_copy(update={"lock": timedelta(days=3), "lock_mode": "COMPLIANCE"}))
    stored = put(repo, "main/a", bytes(size))
    until = repo.locked_until("main/a", version=stored.version)
    assert until
    assert abs(until - datetime.now(UTC) - timedelta(days=3)) < timedelta(minutes=1)
    with pytest.raises(Locked, match=f"until {until:%Y-%m-%d %H}"):
        repo.delete("main/a", version=stored.version)
    with pytest.raises(Locked):
        repo.delete("main/a")
    assert get(repo, "main/a") == bytes(size)
    head = moto.client().head_object(Bucket=bucket_of(lockable), Key="some/prefix/main/a")
    assert head["ObjectLockMode"] == "COMPLIANCE"


def test_a_legal_hold(lockable: RepositoryConfig, moto: Store) -> None:
    repo = open_repository(lockable)
    stored = put(repo, "main/a", b"1")
    moto.client().put_object_legal_hold(
        Bucket=bucket_of(lockable), Key="some/prefix/main/a", LegalHold={"Status": "ON"}
    )
    assert repo.locked_until("main/a", version=stored.version) is None
    with pytest.raises(Locked, match="legal hold"):
        repo.delete("main/a", version=stored.version)


def test_after_the_lock_it_is_deleted(lockable: RepositoryConfig) -> None:
    repo = open_repository(lockable.model_copy(update={"lock": timedelta(seconds=3)}))
    stored = put(repo, "main/a", b"1")
    until = repo.locked_until("main/a", version=stored.version)
    assert until
    while datetime.now(UTC) <= until + timedelta(seconds=1):
        time.sleep(0.1)
    repo.delete("main/a", version=stored.version)
    assert list(repo.list()) == []


def test_no_lock(lockable: RepositoryConfig, rclone: Store) -> None:
    repo = open_repository(lockable)
    put(repo, "main/a", b"1")
    assert repo.locked_until("main/a") is None
    assert open_repository(rclone.config(rclone.bucket())).locked_until("main/a") is None


# -- doctor --------------------------------------------------------------------------------------------------


def statuses(repo: Repository, **options: Any) -> list[str]:
    return [line.status for line in repo.probe(**options)]


def test_doctor_tries_everything_and_leaves_nothing(store: Store) -> None:
    bucket = store.bucket()
    repo = open_repository(store.config(bucket))
    found = list(repo.probe())
    assert {line.status for line in found} == {"OK"}, found
    digests = "refuses bytes" if store.name == "rclone" else "read back after writing"
    assert digests in found[-1].message
    assert list(repo.list()) == []
    assert not store.client().list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_doctor_writes_nothing_into_a_bucket_with_default_lock(lockable: RepositoryConfig, moto: Store) -> None:
    moto.client().put_object_lock_configuration(
        Bucket=bucket_of(lockable),
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 7}},
        },
    )
    repo = open_repository(lockable)
    found = list(repo.probe())
    assert any("7 days (GOVERNANCE)" in line.message for line in found)
    assert any("--write" in (line.fix or "") for line in found)
    assert "Versions" not in moto.client().list_object_versions(Bucket=bucket_of(lockable))
    assert any("locked until" in line.message for line in repo.probe(write=True))
    assert "Versions" in moto.client().list_object_versions(Bucket=bucket_of(lockable))


def test_doctor_says_that_the_bucket_takes_no_locks(versioned: RepositoryConfig) -> None:
    repo = open_repository(versioned.model_copy(update={"lock": timedelta(days=1)}))
    assert "FAIL" in statuses(repo)


def test_doctor_says_that_encryption_is_ignored(rclone: Store) -> None:
    repo = open_repository(rclone.config(rclone.bucket(), sse="AES256"))
    assert any("ignores sse" in line.message for line in repo.probe())


# -- Amazon itself -------------------------------------------------------------------------------------------


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[RepositoryConfig]:
    """Amazon's own address, answered inside this process: what is sent there is otherwise never tried."""
    import boto3
    from moto import mock_aws

    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="ours")
        yield RepositoryConfig(
            name="amazon", url="s3://ours/some/prefix", access_key="k", secret_key=SECRET_KEY, part_size=5 * MIB
        )


def test_amazon_gets_sha256_and_is_not_read_back(amazon: RepositoryConfig) -> None:
    repo = open_repository(amazon)
    assert isinstance(repo, S3Repository)
    sent: list[Any] = []
    repo.bucket.client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request))
    for path, size in (("a", 10), ("b", 6 * MIB)):
        assert put(repo, path, bytes(size)).confirmed_by == "store's checksum"
        assert get(repo, path) == bytes(size)
    bodies = [request for request in sent if request.method == "PUT"]
    assert len(bodies) == 3
    assert all("x-amz-checksum-sha256" in request.headers for request in bodies)
