"""Whole backups into S3 when the store or the network fails: through the command line, on real servers."""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support import aftermath
from support.maint import Answer, Maint
from support.postgres import Database
from support.repositories import write_with
from support.s3 import (
    Authority,
    Exchange,
    Fault,
    Proxy,
    Store,
    changes_request,
    cut_after,
    cut_before,
    proxy_before,
    says,
    slow,
)

from maint.config.model import RepositoryConfig
from maint.repository import s3_client

ALWAYS = 1000

FAULTS: dict[str, Fault] = {
    "500": says(500, "InternalError"),
    "503": says(503, "SlowDown"),
    "403": says(403, "AccessDenied"),
    "507": says(507, "InsufficientStorage"),
    "cut": cut_before,
    "lost": cut_after,
    "slow": slow(0.3),
    "silent": slow(3),
}

#: every kind of request that a run with retention makes
OPERATIONS = ("list", "other", "put", "head", "begin", "part", "complete", "get", "delete", "abort")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attempts instead of four, and shorter waits; the forked child inherits them."""
    monkeypatch.setattr(s3_client, "ATTEMPTS", 2)
    monkeypatch.setattr(s3_client, "READ_TIMEOUT", 2)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)


@pytest.fixture
def proxy(scheme: str, rclone: Store, authority: Authority) -> Iterator[Proxy]:
    with proxy_before(rclone, authority if scheme == "tls" else None) as found:
        yield found


@pytest.fixture
def offsite(proxy: Proxy, authority: Authority) -> RepositoryConfig:
    return proxy.config(proxy.store.bucket(), ca_file=authority.ca_file)


@pytest.fixture
def maint(configured: Callable[..., Maint]) -> Maint:
    found = configured()
    found.job("backup", "retries = 0\n[options]\nkeep = { last = 1 }\n")
    return found


def direct(proxy: Proxy, offsite: RepositoryConfig) -> RepositoryConfig:
    """Return the same repository without the proxy in between."""
    return offsite.model_copy(update={"endpoint": proxy.store.endpoint})


def check_failed(answer: Answer, *words: str) -> None:
    """Check that a run says in one clear line why it failed."""
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"], report["backups"]) == (1, "failed", [])
    assert len(report["error"].splitlines()) == 1
    for word in words:
        assert word in report["error"]
    assert "Traceback" not in answer.err


def check_next_run(maint: Maint, repository: RepositoryConfig) -> None:
    """Check that nothing half is left, and that the next run finds nothing in its way."""
    aftermath.nothing_half(repository)
    aftermath.nothing_on_disk(maint)
    before = aftermath.ids(repository)
    answer = maint("run", "backup")
    assert answer.code == 0, answer.out + answer.err
    after = aftermath.ids(repository)
    assert len(after) == 1
    assert after[0] not in before
    aftermath.nothing_half(repository)


def over(default: set[tuple[str, ...]], cases: Iterable[tuple[str, ...]]) -> list[Any]:
    """Return all cases over HTTP and TLS, for `parametrize`: those in `default` are always run."""
    both = [(scheme, *case) for case in cases for scheme in ("http", "tls")]
    assert default <= set(both)
    return [pytest.param(*case, marks=() if case in default else pytest.mark.slow) for case in both]


_SURVIVED = {("http", "503"), ("tls", "cut"), ("http", "lost")}


@pytest.mark.parametrize(
    ("scheme", "fault"), over(_SURVIVED, [(fault,) for fault in ("500", "503", "cut", "lost", "slow")])
)
def test_one_failure_of_each_request_is_survived(
    fault: str, proxy: Proxy, offsite: RepositoryConfig, maint: Maint, bulky: Database
) -> None:
    write_with(maint, bulky, offsite)
    assert maint("run", "backup").code == 0  # so that the next one deletes
    proxy.seen.clear()
    for operation in OPERATIONS:
        if (operation, fault) != ("begin", "lost"):  # an upload nobody knows of: cleared after a day
            proxy.plan(operation, FAULTS[fault])
    answer = maint("run", "backup")
    assert answer.code == 0, answer.out + answer.err
    assert set(OPERATIONS) <= set(proxy.seen)
    proxy.heal()
    check_next_run(maint, direct(proxy, offsite))


_FOR_GOOD = ("500", "503", "403", "507", "cut", "silent")
_LASTING = {
    ("http", "part", "503"),
    ("tls", "part", "cut"),
    ("tls", "complete", "500"),
    ("http", "head", "403"),
}


@pytest.mark.parametrize(
    ("scheme", "operation", "fault"),
    over(_LASTING, product(("begin", "part", "complete", "head"), _FOR_GOOD)),
)
def test_a_lasting_failure_of_the_dump(
    operation: str, fault: str, proxy: Proxy, offsite: RepositoryConfig, maint: Maint, bulky: Database
) -> None:
    write_with(maint, bulky, offsite)
    proxy.plan(operation, FAULTS[fault], ALWAYS, skip={"begin": 1, "part": 3, "complete": 0, "head": 1}[operation])
    answer = maint("run", "backup", "--json")
    check_failed(answer, "s3://")
    proxy.heal()
    check_next_run(maint, direct(proxy, offsite))


@pytest.mark.parametrize(
    ("written", "fault"),
    [(0, "403"), (1, "503"), (2, "507"), (3, "403"), (4, "503"), (5, "500"), (0, "lost"), (1, "lost"), (5, "lost")],
)
def test_a_lasting_failure_after_some_objects(
    written: int, fault: str, before_rclone: Proxy, maint: Maint, sample: Database
) -> None:
    """The mark, the dump, what goes along, the manifest: whichever cannot be written, nothing of them stays."""
    offsite = before_rclone.config(before_rclone.store.bucket())
    write_with(maint, sample, offsite)
    before_rclone.plan("put", FAULTS[fault], ALWAYS, skip=written)
    check_failed(maint("run", "backup", "--json"), "s3://", "put object")
    before_rclone.heal()
    check_next_run(maint, direct(before_rclone, offsite))


def test_what_cannot_be_removed_is_cleared_by_the_next_run(before_rclone: Proxy, maint: Maint, bulky: Database) -> None:
    offsite = before_rclone.config(before_rclone.store.bucket())
    write_with(maint, bulky, offsite)
    before_rclone.plan("complete", FAULTS["503"], ALWAYS)
    before_rclone.plan("delete", FAULTS["503"], ALWAYS)
    before_rclone.plan("abort", FAULTS["503"], ALWAYS, skip=1)  # of the probe
    answer = maint("run", "backup", "--json")
    check_failed(answer, "complete multipart upload")
    assert "stays behind" in answer.err
    before_rclone.heal()
    assert aftermath.whole_backups(direct(before_rclone, offsite)) == []
    answer = maint("run", "backup")
    assert answer.code == 0
    assert "cleared" in answer.out
    aftermath.nothing_half(direct(before_rclone, offsite))
    assert len(aftermath.ids(direct(before_rclone, offsite))) == 1


@pytest.mark.parametrize("fault", ["503", "403"])
def test_retention_that_cannot_delete_is_no_failed_backup(
    fault: str, before_rclone: Proxy, maint: Maint, sample: Database
) -> None:
    offsite = before_rclone.config(before_rclone.store.bucket())
    write_with(maint, sample, offsite)
    assert maint("run", "backup").code == 0
    before_rclone.plan("delete", FAULTS[fault], ALWAYS)
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"], len(report["backups"])) == (3, "warned", 1)
    assert [finding["check"] for finding in report["findings"]] == ["backup.prune"]
    assert len(aftermath.ids(direct(before_rclone, offsite))) == 2
    before_rclone.heal()
    check_next_run(maint, direct(before_rclone, offsite))


def test_a_later_attempt_of_the_same_run(before_rclone: Proxy, maint: Maint, bulky: Database) -> None:
    offsite = before_rclone.config(before_rclone.store.bucket())
    write_with(maint, bulky, offsite)
    maint.job("backup", 'retries = 1\nretry_delay = "1s"\n')
    before_rclone.plan("complete", FAULTS["503"], s3_client.ATTEMPTS)
    answer = maint("run", "backup", "--json")
    assert answer.code == 0, answer.out + answer.err
    assert [run.outcome for run in aftermath.runs(maint)] == ["succeeded", "failed"]
    assert answer.json_lines[-1]["attempt"] == 2
    assert aftermath.ids(direct(before_rclone, offsite)) == answer.json_lines[-1]["backups"]
    aftermath.nothing_half(direct(before_rclone, offsite))


# -- what is stored is not what was sent ----------------------------------------------------------------------


@pytest.mark.parametrize("size", ["sample", "bulky"])
def test_a_dump_cut_after_its_upload(
    size: str, before_rclone: Proxy, maint: Maint, request: pytest.FixtureRequest
) -> None:
    offsite = before_rclone.config(before_rclone.store.bucket())
    write_with(maint, request.getfixturevalue(size), offsite)
    client, bucket = before_rclone.store.client(), offsite.url.split("/")[2]

    def cut_object(exchange: Exchange) -> None:
        (key,) = (one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"] if "dump.000" in one["Key"])
        client.put_object(Bucket=bucket, Key=key, Body=bytes(500))
        exchange.answer(*exchange.forward(b""))

    before_rclone.plan("head", cut_object, skip=1)
    check_failed(maint("run", "backup", "--json"), "dump.000: 500 bytes are stored")
    check_next_run(maint, direct(before_rclone, offsite))


@pytest.mark.parametrize("operation", ["put", "part"])
def test_a_bit_that_changed_on_the_way_into_a_store_that_verifies_nothing(
    operation: str, before_moto: Proxy, maint: Maint, sample: Database, bulky: Database
) -> None:
    offsite = before_moto.config(before_moto.store.bucket())
    write_with(maint, bulky if operation == "part" else sample, offsite)
    before_moto.plan(operation, changes_request, skip=2 if operation == "part" else 1)  # after probe and mark
    check_failed(maint("run", "backup", "--json"), "dump.000: what was read back differs")
    check_next_run(maint, direct(before_moto, offsite))


def test_a_change_after_the_backup_is_found_by_check(rclone: Store, maint: Maint, sample: Database) -> None:
    offsite = rclone.config(rclone.bucket())
    write_with(maint, sample, offsite)
    assert maint("run", "backup").code == 0
    (file,) = ((rclone.root or Path()) / offsite.url.removeprefix("s3://")).rglob("dump.000")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert maint("backups", "check", sample.name).code in (1, 3)
    (shown,) = maint("backups", "--json").json
    assert shown["trust"] == "damaged"


# -- never reached --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"secret_key": "wrong"}, ("SignatureDoesNotMatch",)),
        ({"access_key": "nobody"}, ("InvalidAccessKeyId",)),
        ({"url": "s3://no-such-bucket/maint"}, ("NoSuchBucket",)),
        ({"endpoint": "http://127.0.0.1:9"}, ("Could not connect",)),
    ],
    ids=["secret", "key", "bucket", "endpoint"],
)
def test_a_repository_that_cannot_be_used(
    changes: dict[str, str], words: tuple[str, ...], rclone: Store, maint: Maint, sample: Database
) -> None:
    write_with(maint, sample, rclone.config(rclone.bucket(), **changes))
    answer = maint("run", "backup", "--json")
    check_failed(answer, *words)
    assert answer.json_lines[0]["hint"] or "endpoint" in changes
    for secret in ("wrong", "not-a-secret-at-all"):
        assert secret not in answer.out + answer.err
    aftermath.nothing_runs(maint, sample)


# -- two repositories -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "required"),
    [
        ("part", True),
        ("complete", False),
        pytest.param("part", False, marks=pytest.mark.slow),
        pytest.param("complete", True, marks=pytest.mark.slow),
        pytest.param("head", True, marks=pytest.mark.slow),
        pytest.param("head", False, marks=pytest.mark.slow),
    ],
)
def test_a_second_repository_that_dies_halfway(
    operation: str, required: bool, before_rclone: Proxy, maint: Maint, bulky: Database
) -> None:
    local = aftermath.local(maint)
    offsite = before_rclone.config(before_rclone.store.bucket(), required=required)
    write_with(maint, bulky, offsite, local)
    before_rclone.plan(operation, cut_before, ALWAYS, skip=0 if operation == "complete" else 3)
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"]) == ((1, "failed") if required else (3, "warned"))
    assert [finding["object"] for finding in report["findings"]] == ["repository offsite"]
    assert not required or "not in offsite" in report["error"]
    assert aftermath.ids(local) == report["backups"]
    assert len(report["backups"]) == 1
    before_rclone.heal()
    assert aftermath.whole_backups(direct(before_rclone, offsite)) == []
    check_next_run(maint, direct(before_rclone, offsite))
    aftermath.nothing_half(local)


def test_no_repository_is_left(before_rclone: Proxy, before_moto: Proxy, maint: Maint, bulky: Database) -> None:
    first = before_rclone.config(before_rclone.store.bucket(), required=False)
    second = before_moto.config(before_moto.store.bucket(), name="other", required=False)
    write_with(maint, bulky, first, second)
    for proxy in (before_rclone, before_moto):
        proxy.plan("part", FAULTS["503"], ALWAYS, skip=2)
    check_failed(maint("run", "backup", "--json"))
    for proxy, config in ((before_rclone, first), (before_moto, second)):
        proxy.heal()
        aftermath.nothing_half(direct(proxy, config))
