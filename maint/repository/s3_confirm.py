"""Does the store have what it was sent? Size, digest, and everything the configuration asks for."""

import hashlib
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

from maint.errors import Damaged, RepositoryError
from maint.owner import me
from maint.repository import RESERVED, Stored
from maint.repository.s3_client import Bucket, status_of, version_of
from maint.repository.s3_part import content_md5

if TYPE_CHECKING:
    from maint.repository.s3 import S3Repository

log = logging.getLogger(__name__)

_BLOCK = 1 << 20


def confirm(
    repository: "S3Repository", path: str, version: str | None, size: int, digest: str, encryption: str | None
) -> Stored:
    """Compare what is stored with what was sent; raise `Damaged`, or `RepositoryError` if a wish was ignored.

    `encryption` is what the store said when it was given the bytes: None = nothing that counts, so ask now.
    """
    head = repository.bucket.call("head_object", repository.bucket.key(path), VersionId=version)
    url = repository.url_of(path)
    if head["ContentLength"] != size:
        raise Damaged(f"{url}: {head['ContentLength']} bytes are stored, {size} were sent")
    _check_wishes(repository, path, head, encryption)
    version = version or version_of(head)
    by = _how(repository)
    if by == "read back":
        _read_back(repository, path, version, digest)
    return Stored(path, size, digest, version, by)


def _how(repository: "S3Repository") -> str:
    wish = repository.config.read_back
    if wish or (wish is None and not verifies_digests(repository.bucket)):
        return "read back"
    return "size" if wish is False and not verifies_digests(repository.bucket) else "store's checksum"


def _read_back(repository: "S3Repository", path: str, version: str | None, digest: str) -> None:
    found = hashlib.sha256()
    with repository.open(path, version=version) as reader:
        while data := reader.read(_BLOCK):
            found.update(data)
    if found.hexdigest() != digest:
        raise Damaged(f"{repository.url_of(path)}: what was read back differs from what was sent")


def _check_wishes(repository: "S3Repository", path: str, head: Any, encryption: str | None) -> None:
    """Compare what the store says about the object with what the configuration asks for.

    For an object sent in one request only the answer to that request counts for encryption: there is a store
    that keeps the header as a note, shows it ever after, and encrypts nothing.
    """
    config, url = repository.config, repository.url_of(path)
    said = head.get("ServerSideEncryption") if encryption is None else encryption
    if config.sse and said != config.sse:
        raise _ignored(url, f"sse = {config.sse}", said)
    if config.storage_class and (found := head.get("StorageClass", "STANDARD")) != config.storage_class:
        raise _ignored(url, f"storage_class = {config.storage_class}", found)
    if config.lock and not _is_locked(repository, head) and not _lock(repository, path, version_of(head)):
        hint = "make a bucket with object lock, and allow s3:GetObjectRetention, or drop lock"
        raise _ignored(url, "lock", "no lock", hint)


def _ignored(url: str, wish: str, found: str | None, hint: str = "") -> RepositoryError:
    hint = hint or "use a store that offers it, or drop it"
    return RepositoryError(f"{url}: the store ignored {wish} and has {found or 'nothing'}", hint=hint)


def _is_locked(repository: "S3Repository", head: Any) -> bool:
    """Return whether a lock holds; without versions there is none, whatever the store repeats of what it was told."""
    until = head.get("ObjectLockRetainUntilDate")
    return bool(version_of(head) and until and until > repository.clock.now())


def _lock(repository: "S3Repository", path: str, version: str | None) -> bool:
    """Lock an object afterwards: there are stores that forget it for uploads in parts."""
    config, key = repository.config, repository.bucket.key(path)
    if not version or not config.lock:
        return False
    retention = {"Mode": config.lock_mode, "RetainUntilDate": repository.clock.now() + config.lock}
    repository.bucket.call("put_object_retention", key, VersionId=version, Retention=retention)
    return _is_locked(repository, repository.bucket.call("head_object", key, VersionId=version))


#: answers of the stores asked so far, by endpoint and bucket
_answers: dict[tuple[str, str], bool] = {}


def verifies_digests(bucket: Bucket) -> bool:
    """Return whether the store refuses bytes that changed on their way to it.

    Amazon's does. Any other is asked, once per process, by two small parts of an upload that is never completed
    (so it leaves nothing even in a locked bucket): one as it should be, one changed after it was signed.
    A store that cannot be asked does not.
    """
    if bucket.is_amazon:
        return True
    place = (bucket.client.meta.endpoint_url, bucket.name)
    if place not in _answers:
        try:
            _answers[place] = _ask(bucket)
        except RepositoryError as error:
            log.info("%s: taken as not verifying digests: %s", bucket.url(None), error)
            return False
    return _answers[place]


def _ask(bucket: Bucket) -> bool:
    key = bucket.key(f"{RESERVED}probe-{me()}-{secrets.token_hex(4)}")
    good, bad = secrets.token_bytes(64), secrets.token_bytes(64)
    upload = bucket.call("create_multipart_upload", key)["UploadId"]
    try:
        _send(bucket, key, upload, 1, good)
        with _changed_on_the_way(bucket.client, good, bad):
            return _refuses(bucket, key, upload, good)
    finally:
        with suppress(RepositoryError):  # sweep knows its name
            bucket.call("abort_multipart_upload", key, UploadId=upload)


def _refuses(bucket: Bucket, key: str, upload: str, data: bytes) -> bool:
    try:
        _send(bucket, key, upload, 2, data)
    except RepositoryError as error:
        if 400 <= status_of(error) < 500:
            return True
        raise
    return False


def _send(bucket: Bucket, key: str, upload: str, number: int, data: bytes) -> None:
    md5 = content_md5(data)
    bucket.call("upload_part", key, UploadId=upload, PartNumber=number, Body=data, ContentMD5=md5)


@contextmanager
def _changed_on_the_way(client: Any, good: bytes, bad: bytes) -> Iterator[None]:
    """Replace the body `good` by `bad` after its request was signed, and no other body."""

    def change(request: Any, **_: Any) -> None:
        if isinstance(request.body, BytesIO) and request.body.getvalue() == good:  # botocore wraps bytes
            request.body = BytesIO(bad)

    client.meta.events.register("before-send.s3.UploadPart", change)
    try:
        yield
    finally:
        client.meta.events.unregister("before-send.s3.UploadPart", change)
