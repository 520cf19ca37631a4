"""S3 repositories when the store, the network or this process fails."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.retries.standard import ExponentialBackoff
from support import wait_until
from support.s3 import (
    MIB,
    Authority,
    Exchange,
    Fault,
    Proxy,
    Store,
    changes_answer,
    changes_request,
    cut_after,
    cut_answer,
    cut_before,
    free_port,
    replaces,
    says,
    slow,
)

from maint.clock import SystemClock
from maint.config.model import RepositoryConfig
from maint.errors import (
    Damaged,
    NotFound,
    RepositoryDenied,
    RepositoryError,
    RepositoryFull,
    RepositoryUnavailable,
)
from maint.repository import Repository, open_repository, s3_client, s3_reader, s3_sweep
from maint.repository.s3 import S3Repository

DUMP = "main/shop/20261120T020003Z-7f3a/dump.000"
ALWAYS = 1000


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attempts instead of four, and shorter waits."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.01)
    monkeypatch.setattr(s3_client, "ATTEMPTS", 2)
    monkeypatch.setattr(s3_client, "READ_TIMEOUT", 1)
    monkeypatch.setattr(s3_client, "CONNECT_TIMEOUT", 2)
    monkeypatch.setattr(s3_reader, "BACK_OFF", (0.01, 0.02, 0.03))


@pytest.fixture(params=["http", "tls"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    found: Proxy = request.getfixturevalue("before_rclone" if request.param == "http" else "before_rclone_tls")
    return found


@pytest.fixture
def config(proxy: Proxy, authority: Authority) -> RepositoryConfig:
    return proxy.config(proxy.store.bucket(), ca_file=authority.ca_file)


def put(repo: Repository, data: bytes, path: str = DUMP) -> None:
    with repo.create(path) as upload:
        for start in range(0, len(data), MIB):
            upload.write(data[start : start + MIB])
        upload.commit()


def get(repo: Repository, path: str = DUMP) -> bytes:
    with repo.open(path) as reader:
        return b"".join(iter(lambda: reader.read(100_000), b""))


def unfinished(store: Store, config: RepositoryConfig) -> list[Any]:
    return list(s3_sweep.unfinished(s3_client.Bucket(store.config(bucket_of(config)))))


def bucket_of(config: RepositoryConfig) -> str:
    return config.url.split("/")[2]


#: every request that writing, reading and deleting an object of two parts makes
_OPERATIONS = ["begin", "part", "complete", "head", "get", "delete", "list", "put"]


@pytest.mark.parametrize("operation", _OPERATIONS)
@pytest.mark.parametrize(
    "fault",
    [says(500, "InternalError"), says(503, "SlowDown"), cut_before, cut_after],
    ids=["500", "503", "cut", "lost"],
)
def test_one_failure_is_survived(before_rclone: Proxy, operation: str, fault: Fault) -> None:
    repo = open_repository(before_rclone.config(before_rclone.store.bucket()))
    data = os.urandom(6 * MIB)
    before_rclone.plan(operation, fault)
    put(repo, data)
    put(repo, b"{}", "main/shop/20261120T020003Z-7f3a/manifest.json")
    assert get(repo) == data
    assert len(list(repo.list())) == 2
    repo.delete(DUMP)
    assert len(list(repo.list())) == 1


@pytest.mark.parametrize("operation", ["begin", "part", "complete", "head"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (says(500, "InternalError"), RepositoryUnavailable),
        (says(503, "SlowDown"), RepositoryUnavailable),
        (says(403, "AccessDenied"), RepositoryDenied),
        (says(507, "InsufficientStorage"), RepositoryFull),
        (cut_before, RepositoryUnavailable),
    ],
    ids=["500", "503", "403", "507", "cut"],
)
def test_a_lasting_failure_of_a_large_upload_leaves_nothing(
    before_rclone: Proxy, operation: str, fault: Fault, expected: type[RepositoryError]
) -> None:
    proxy = before_rclone
    config = proxy.config(proxy.store.bucket())
    repo = open_repository(config)
    proxy.plan(operation, fault, ALWAYS)
    with pytest.raises(expected) as caught:
        put(repo, bytes(12 * MIB))
    assert DUMP in str(caught.value)
    proxy.heal()
    assert list(repo.list()) == []
    assert unfinished(proxy.store, config) == []


@pytest.mark.parametrize("fault", [says(503, "SlowDown"), cut_before], ids=["503", "cut"])
def test_a_lasting_failure_over_tls_leaves_nothing(
    before_rclone_tls: Proxy, authority: Authority, fault: Fault
) -> None:
    proxy = before_rclone_tls
    config = proxy.config(proxy.store.bucket(), ca_file=authority.ca_file)
    proxy.plan("part", fault, ALWAYS)
    with pytest.raises(RepositoryUnavailable):
        put(open_repository(config), bytes(12 * MIB))
    assert unfinished(proxy.store, config) == []


@pytest.mark.parametrize("operation", ["put", "list", "get", "delete"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [(says(503, "SlowDown"), RepositoryUnavailable), (says(403, "AccessDenied"), RepositoryDenied)],
    ids=["503", "403"],
)
def test_a_lasting_failure_of_a_small_object(
    config: RepositoryConfig, proxy: Proxy, operation: str, fault: Fault, expected: type[RepositoryError]
) -> None:
    repo = open_repository(config)
    put(repo, b"old", "main/old")
    uses: dict[str, Callable[[], object]] = {
        "put": lambda: put(repo, b"1"),
        "list": lambda: list(repo.list()),
        "get": lambda: get(repo, "main/old"),
        "delete": lambda: repo.delete("main/old"),
    }
    proxy.plan(operation, fault, ALWAYS)
    with pytest.raises(expected) as caught:
        uses[operation]()
    assert caught.value.transient == (expected is RepositoryUnavailable)
    if expected is RepositoryDenied:
        assert "allow s3:" in (caught.value.hint or "")
    proxy.heal()
    assert [entry.path for entry in repo.list()] == ["main/old"]


@pytest.mark.parametrize("operation", ["put", "part", "get"])
def test_silence_ends(config: RepositoryConfig, proxy: Proxy, operation: str) -> None:
    repo = open_repository(config)
    put(repo, b"old", "main/old")
    proxy.plan(operation, slow(1.3), ALWAYS)
    uses: dict[str, Callable[[], object]] = {"put": lambda: put(repo, b"1"), "get": lambda: get(repo, "main/old")}
    with pytest.raises(RepositoryUnavailable):
        uses.get(operation, lambda: put(repo, bytes(6 * MIB)))()


def test_a_slow_store_is_waited_for(config: RepositoryConfig, proxy: Proxy) -> None:
    repo = open_repository(config)
    for operation in ("begin", "part", "complete", "head"):
        proxy.plan(operation, slow(0.3))
    put(repo, bytes(6 * MIB))
    assert len(get(repo)) == 6 * MIB


# -- bytes that are lost or changed ---------------------------------------------------------------------------


def test_cut_answers_are_continued(config: RepositoryConfig, proxy: Proxy) -> None:
    repo = open_repository(config)
    data = os.urandom(3 * MIB)
    put(repo, data)
    for at in (MIB, 700_000, 0, 1):
        proxy.plan("get", cut_answer(at))
    proxy.plan("get", cut_before)
    assert get(repo) == data


def test_an_object_that_always_ends_early_is_damaged(config: RepositoryConfig, proxy: Proxy) -> None:
    repo = open_repository(config)
    put(repo, os.urandom(MIB))
    proxy.plan("get", cut_answer(500_000))
    proxy.plan("get", cut_answer(0), ALWAYS)
    with repo.open(DUMP) as reader, pytest.raises(Damaged, match="ends early"):
        reader.read()


def test_a_store_that_stays_away_while_it_is_read(config: RepositoryConfig, proxy: Proxy) -> None:
    repo = open_repository(config)
    put(repo, os.urandom(MIB))
    proxy.plan("get", cut_answer(500_000))
    proxy.plan("get", cut_before, ALWAYS)
    with repo.open(DUMP) as reader, pytest.raises(RepositoryUnavailable):
        reader.read()


def test_an_object_replaced_while_it_is_read(config: RepositoryConfig, proxy: Proxy) -> None:
    repo = open_repository(config)
    put(repo, bytes(MIB))
    proxy.plan("get", cut_answer(500_000))
    with repo.open(DUMP) as reader:
        put(repo, b"1" * MIB)  # rclone ignores If-Match
        with pytest.raises(Damaged, match="changed while"):
            reader.read()


@pytest.mark.parametrize("size", [1000, 6 * MIB])
def test_a_bit_changed_on_the_way_is_refused_by_a_store_that_verifies(
    config: RepositoryConfig, proxy: Proxy, size: int
) -> None:
    repo = open_repository(config)
    proxy.plan("put", changes_request, ALWAYS)
    proxy.plan("part", changes_request, ALWAYS)
    with pytest.raises(RepositoryUnavailable, match="BadDigest"):
        put(repo, bytes(size))
    proxy.heal()
    assert list(repo.list()) == []


@pytest.mark.parametrize("size", [1000, 6 * MIB])
def test_a_bit_changed_on_the_way_is_found_by_reading_back(before_moto: Proxy, size: int) -> None:
    repo = open_repository(before_moto.config(before_moto.store.bucket()))
    before_moto.plan("put", changes_request)
    before_moto.plan("part", changes_request)
    with pytest.raises(Damaged, match="read back"):
        put(repo, bytes(size))
    assert list(repo.list()) == []


def test_a_bit_changed_when_read_back(config: RepositoryConfig, proxy: Proxy) -> None:
    repo = open_repository(config.model_copy(update={"read_back": True}))
    proxy.plan("get", changes_answer)
    with pytest.raises(Damaged, match="read back"):
        put(repo, bytes(1000))
    assert list(repo.list()) == []


@pytest.mark.parametrize("size", [1000, 6 * MIB])
def test_an_object_cut_after_the_upload(config: RepositoryConfig, proxy: Proxy, size: int) -> None:
    def cut_object(exchange: Exchange) -> None:
        key = f"some/prefix/{DUMP}"
        proxy.store.client().put_object(Bucket=bucket_of(config), Key=key, Body=bytes(500))
        exchange.answer(*exchange.forward(b""))

    proxy.plan("head", cut_object)
    repo = open_repository(config)
    with pytest.raises(Damaged, match=f"500 bytes are stored, {size} were sent"):
        put(repo, bytes(size))
    assert list(repo.list()) == []


def test_a_completion_whose_answer_is_lost_for_good_counts_if_the_object_is_there(
    config: RepositoryConfig, proxy: Proxy
) -> None:
    repo = open_repository(config)
    proxy.plan("complete", cut_after, ALWAYS)
    put(repo, bytes(6 * MIB))
    assert len(get(repo)) == 6 * MIB


def test_etags_of_parts_are_passed_on_as_they_came(config: RepositoryConfig, proxy: Proxy) -> None:
    proxy.plan("part", replaces(b"ETag", b'"0123"'))
    with pytest.raises(RepositoryError):
        put(open_repository(config), bytes(6 * MIB))
    assert unfinished(proxy.store, config) == []


# -- never reached --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"secret_key": "wrong"}, {"access_key": "nobody"}])
def test_wrong_keys(config: RepositoryConfig, changes: dict[str, Any]) -> None:
    repo = open_repository(RepositoryConfig(**(config.model_dump() | changes)))
    for use in (lambda: list(repo.list()), lambda: put(repo, b"1")):
        with pytest.raises(RepositoryDenied) as caught:
            use()
        assert "access_key" in (caught.value.hint or "")
    assert [line.status for line in repo.probe()] == ["FAIL"]


def test_missing_bucket(rclone: Store) -> None:
    repo = open_repository(rclone.config("no-such-bucket"))
    for use in (lambda: list(repo.list()), lambda: put(repo, b"1"), lambda: put(repo, bytes(6 * MIB))):
        with pytest.raises(RepositoryError, match="NoSuchBucket") as caught:
            use()
        assert not isinstance(caught.value, NotFound)
        assert "no-such-bucket" in (caught.value.hint or "")


def test_nobody_listens(rclone: Store) -> None:
    repo = open_repository(rclone.config("bucket", endpoint=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(RepositoryUnavailable):
        list(repo.list())


def test_a_certificate_of_nobody_known(rclone_tls: Store) -> None:
    repo = open_repository(rclone_tls.config("bucket", ca_file=None))
    with pytest.raises(RepositoryError, match="certificate") as caught:
        list(repo.list())
    assert not caught.value.transient
    assert "ca_file" in (caught.value.hint or "")


def test_no_credentials(rclone: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    repo = open_repository(rclone.config("bucket", access_key=None, secret_key=None))
    with pytest.raises(RepositoryDenied) as caught:
        list(repo.list())
    assert "access_key" in (caught.value.hint or "")


@pytest.mark.parametrize("operation", ["put", "head", "get", "list", "delete", "begin", "abort"])
def test_doctor_names_what_is_not_allowed(before_rclone: Proxy, operation: str) -> None:
    before_rclone.plan(operation, says(403, "AccessDenied"), ALWAYS)
    found = list(open_repository(before_rclone.config(before_rclone.store.bucket())).probe())
    bad = [line for line in found if line.status != "OK"]
    assert [line.status for line in bad] == ["WARN" if operation == "delete" else "FAIL"]
    assert "allow s3:" in (bad[0].fix or "")


# -- killed ---------------------------------------------------------------------------------------------------


_WRITER = """
import sys, time
from pathlib import Path
from maint.config.model import RepositoryConfig
from maint.repository import open_repository
url, endpoint, key, secret, state = sys.argv[1:]
config = RepositoryConfig(
    name="offsite", url=url, endpoint=endpoint, access_key=key, secret_key=secret, part_size=5 << 20
)
repo = open_repository(config, state_dir=Path(state) if state else None)
with repo.create("main/shop/20261120T020003Z-7f3a/dump.000") as upload:
    upload.write(bytes(15 << 20))
    print("written", flush=True)
    time.sleep(60)
"""


class Later(SystemClock):
    """A clock that is 25 hours ahead."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(hours=25)


@pytest.mark.parametrize("noted", [True, False])
def test_killed_while_uploading_then_swept(rclone: Store, tmp_path: Path, *, noted: bool) -> None:
    config = rclone.config(rclone.bucket())
    state = tmp_path if noted else None
    repo = open_repository(config, state_dir=state)
    access, secret = config.access_key, config.secret_key
    assert access
    assert secret
    argv = [config.url, str(config.endpoint), access.get_secret_value(), secret.get_secret_value(), str(state or "")]
    with subprocess.Popen([sys.executable, "-c", _WRITER, *argv], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"written\n"
        assert repo.sweep() == []  # it lives
        writer.kill()
    assert len(unfinished(rclone, config)) == 1
    assert list(repo.list()) == []
    if not noted:
        assert repo.sweep() == []  # for all that can be known, somebody works on it
        repo = S3Repository(config, clock=Later())
    wait_until(lambda: repo.sweep() == [DUMP], "the unfinished upload")
    assert unfinished(rclone, config) == []
    assert list(tmp_path.rglob("*.json")) == []


def test_uploads_of_others_are_never_swept(rclone: Store) -> None:
    bucket = rclone.bucket()
    client = rclone.client()
    for key in ("some/prefix/their/file", "elsewhere/main/shop/20261120T020003Z-7f3a/dump.000"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    assert S3Repository(rclone.config(bucket), clock=Later()).sweep() == []


def test_a_finished_or_aborted_upload_leaves_no_note(rclone: Store, tmp_path: Path) -> None:
    repo = open_repository(rclone.config(rclone.bucket()), state_dir=tmp_path)
    with repo.create(DUMP) as upload:
        upload.write(bytes(6 * MIB))
        assert len(list(tmp_path.rglob("*.json"))) == 1
    put(repo, bytes(6 * MIB))
    assert list(tmp_path.rglob("*.json")) == []


def test_an_abort_that_fails_is_left_to_sweep(before_rclone: Proxy, tmp_path: Path) -> None:
    config = before_rclone.config(before_rclone.store.bucket())
    repo = open_repository(config, state_dir=tmp_path)
    before_rclone.plan("abort", says(403, "AccessDenied"), ALWAYS)
    with repo.create(DUMP) as upload:
        upload.write(bytes(6 * MIB))
    assert len(unfinished(before_rclone.store, config)) == 1
    assert len(list(tmp_path.rglob("*.json"))) == 1
