"""What doctor tries on an S3 repository: everything maint will ask of it, with small objects."""

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from maint.errors import Locked, RepositoryDenied, RepositoryError
from maint.repository import RESERVED, Probe
from maint.repository.s3_client import version_of
from maint.repository.s3_confirm import verifies_digests
from maint.repository.s3_part import content_md5
from maint.repository.s3_sweep import unfinished

if TYPE_CHECKING:
    from maint.repository.s3 import S3Repository

#: S3 refuses requests whose clock differs by 15 minutes
_SKEW_SECONDS = 60


def probe(repository: "S3Repository", *, write: bool) -> Iterator[Probe]:
    """Reach the bucket; tell clock, versions and lock; put, head, list, get, delete; parts and digests."""
    try:
        yield from _reach(repository)
        yield _versions(repository)
        default = _default_lock(repository)
        yield from _lock(repository, default)
    except RepositoryError as error:
        yield _failure(error)
        return
    if default and not write:
        yield Probe("WARN", f"nothing was written: {default}", "to write one small object all the same: --write")
    else:
        yield from _round_trip(repository)
    yield from _parts(repository)


def _failure(error: RepositoryError, status: str = "FAIL") -> Probe:
    return Probe(status, str(error), error.hint)


def _reach(repository: "S3Repository") -> Iterator[Probe]:
    bucket = repository.bucket
    answer = bucket.call("list_objects_v2", Prefix=bucket.key(""), MaxKeys=1)
    yield Probe("OK", f"{bucket.url(None)}: reached, and may be listed")
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not date:
        return
    skew = abs((repository.clock.now() - parsedate_to_datetime(date).astimezone(UTC)).total_seconds())
    if skew > _SKEW_SECONDS:
        fix = "set the clock: timedatectl set-ntp true"
        yield Probe("WARN", f"the clock here and that of the store differ by {skew:.0f} seconds", fix)


def _versions(repository: "S3Repository") -> Probe:
    if repository.versioned:
        return Probe("OK", "the bucket keeps versions: what somebody deletes can still be found")
    return Probe("OK", "the bucket keeps no versions")


def _default_lock(repository: "S3Repository") -> str:
    """Return the lock that the bucket gives every new object, in words; "" if none is seen."""
    answer = _lock_configuration(repository)
    retention = answer.get("Rule", {}).get("DefaultRetention", {})
    if not retention:
        return ""
    period = f"{retention['Days']} days" if "Days" in retention else f"{retention.get('Years')} years"
    return f"the bucket locks every new object for {period} ({retention.get('Mode')})"


def _lock_configuration(repository: "S3Repository") -> Any:
    if not repository.versioned:
        return {}
    try:
        answer = repository.bucket.call("get_object_lock_configuration")
    except RepositoryDenied:
        return {}
    except RepositoryError as error:
        if error.transient:
            raise
        return {}
    return answer.get("ObjectLockConfiguration", {})


def _lock(repository: "S3Repository", default: str) -> Iterator[Probe]:
    if default:
        yield Probe("OK", default)
    if not repository.config.lock:
        return
    if _lock_configuration(repository).get("ObjectLockEnabled") == "Enabled":
        yield Probe("OK", "the bucket takes object locks")
    else:
        yield Probe(
            "FAIL",
            f"lock is set for repository {repository.name}, but object lock is not seen on the bucket",
            "make a bucket with object lock, or allow s3:GetBucketObjectLockConfiguration",
        )


def _round_trip(repository: "S3Repository") -> Iterator[Probe]:
    bucket = repository.bucket
    key = bucket.key(f"{RESERVED}probe-{secrets.token_hex(8)}")
    sent = secrets.token_bytes(512)
    try:
        answer = _put(repository, key, sent)
    except RepositoryError as error:
        yield _failure(error)
        return
    version = version_of(answer)
    done = Probe("OK", "put, head, list and get work")
    try:
        yield from _wishes(repository, answer)
        _look_again(repository, key, version, sent)
    except RepositoryError as error:
        done = _failure(error)
    yield done
    yield _try_delete(repository, key, version)


def _put(repository: "S3Repository", key: str, data: bytes) -> Any:
    config = repository.config
    return repository.bucket.call(
        "put_object",
        key,
        Body=data,
        ContentMD5=content_md5(data),
        ServerSideEncryption=config.sse,
        SSEKMSKeyId=config.sse_kms_key,
        StorageClass=config.storage_class,
    )


def _wishes(repository: "S3Repository", answer: Any) -> Iterator[Probe]:
    wish = repository.config.sse
    if not wish:
        return
    if answer.get("ServerSideEncryption") == wish:
        yield Probe("OK", f"the store encrypts: {wish}")
    else:
        yield Probe("FAIL", f"the store ignores sse = {wish}", "encrypt before sending (encrypt_to), and drop sse")


def _look_again(repository: "S3Repository", key: str, version: str | None, sent: bytes) -> None:
    bucket = repository.bucket
    path = bucket.path(key)
    if bucket.call("head_object", key, VersionId=version)["ContentLength"] != len(sent):
        raise RepositoryError(f"{bucket.url(key)}: not all bytes are stored")
    if path not in (entry.path for entry in repository.list(path)):
        raise RepositoryError(f"{bucket.url(key)}: was stored, but is not listed")
    if bucket.call("get_object", key, VersionId=version)["Body"].read() != sent:
        raise RepositoryError(f"{bucket.url(key)}: other bytes are stored than were sent")


def _try_delete(repository: "S3Repository", key: str, version: str | None) -> Probe:
    try:
        repository.delete_version(key, version)
    except Locked as error:
        return Probe("OK", f"{error}, as it should be")
    except RepositoryError as error:
        why = f"{error}; prune will delete nothing, and {repository.bucket.url(key)} stays"
        return Probe("WARN", why, error.hint)
    return Probe("OK", "delete works")


def _parts(repository: "S3Repository") -> Iterator[Probe]:
    bucket = repository.bucket
    key = bucket.key(f"{RESERVED}probe-{secrets.token_hex(8)}")
    yield from _try(lambda: _abort(repository, key), "uploads in parts can be begun and aborted", "FAIL")
    listing = _try(lambda: list(unfinished(bucket)), "", "WARN")
    yield from (found for found in listing if found.status != "OK")
    if verifies_digests(bucket):
        yield Probe("OK", "the store refuses bytes that changed on their way")
    elif repository.config.read_back is False:
        fix = "remove read_back = false"
        yield Probe("WARN", "the store does not check what it is sent, and nothing is read back", fix)
    else:
        yield Probe("OK", "the store does not check what it is sent: every object is read back after writing")


def _abort(repository: "S3Repository", key: str) -> None:
    upload = repository.bucket.call("create_multipart_upload", key)["UploadId"]
    repository.bucket.call("abort_multipart_upload", key, UploadId=upload)


def _try(step: Callable[[], object], success: str, failed: str) -> Iterator[Probe]:
    try:
        step()
    except RepositoryError as error:
        yield _failure(error, failed)
    else:
        yield Probe("OK", success)
