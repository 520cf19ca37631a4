"""The door to one bucket: the client, its limits, and what its errors mean."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

from maint.config.model import RepositoryConfig
from maint.errors import (
    Damaged,
    NotFound,
    RepositoryDenied,
    RepositoryError,
    RepositoryFull,
    RepositoryUnavailable,
    UsageError,
)

#: Nothing may hang for ever: seconds until a connection stands, and of silence on one.
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
#: times one request is sent; botocore waits up to 1, 2, 4 s between them
ATTEMPTS = 4

#: what must be allowed for what; the rest is called like the operation
_PERMISSIONS = {
    "upload_part": "PutObject",
    "create_multipart_upload": "PutObject",
    "complete_multipart_upload": "PutObject",
    "head_object": "GetObject",
    "list_objects_v2": "ListBucket",
    "list_object_versions": "ListBucketVersions",
    "list_multipart_uploads": "ListBucketMultipartUploads",
    "list_parts": "ListMultipartUploadParts",
    "get_object_lock_configuration": "GetBucketObjectLockConfiguration",
}
_VERSIONED = {"get_object", "head_object", "delete_object"}

_DENIED = {"AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidToken", "NotSignedUp", "AccountProblem"}
_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"}
_MISSING = {"NoSuchKey", "NoSuchVersion", "NoSuchUpload", "404", "NotFound", "405", "MethodNotAllowed"}
_BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded", "InternalError"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity"}
_WRONG_DIGEST = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
#: answers of stores that lack versioning or object lock, or of buckets without it
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "InvalidRequest", "InvalidBucketState"}
_CHANGED = {"PreconditionFailed", "412", "InvalidRange", "416"}


def code_of(error: BaseException) -> str:
    """Return the store's own word for the error; "" if it gave no answer."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def version_of(answer: Any) -> str | None:
    """Return the version an answer names. Without versions some stores say "null", and do not take it back."""
    version: str = answer.get("VersionId", "null")
    return None if version == "null" else version


def status_of(error: BaseException) -> int:
    """Return the HTTP status of the store's answer; 0 if it gave none."""
    response = getattr(error.__cause__, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


class Bucket:
    """One bucket and prefix. The client is made at the first call; it may be used by several threads."""

    def __init__(self, config: RepositoryConfig) -> None:
        self._config = config
        self.name, _, prefix = config.url.removeprefix("s3://").partition("/")
        self.prefix = prefix.strip("/")
        if not self.prefix:
            raise UsageError(
                f"repository {config.name}: {config.url} has no prefix",
                hint=f"buckets are shared: give maint a prefix of its own, s3://{self.name}/maint",
            )
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def client(self) -> Any:
        with self._lock, self._translated("connect", None):
            if self._client is None:
                self._client = _connect(self._config)
            return self._client

    @property
    def is_amazon(self) -> bool:
        """Whether this is the original: it verifies the SHA-256 of what it is sent."""
        host = urlsplit(self.client.meta.endpoint_url).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    def key(self, path: str) -> str:
        return f"{self.prefix}/{path}"

    def path(self, key: str) -> str:
        return key.removeprefix(f"{self.prefix}/")

    def url(self, key: str | None) -> str:
        return f"s3://{self.name}/{self.prefix if key is None else key}"

    def call(self, operation: str, key: str | None = None, **parameters: Any) -> Any:
        """Send one request about the bucket or one key of it; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        if key is not None:
            given["Key"] = key
        with self._translated(operation, key, versioned="VersionId" in given):
            return getattr(self.client, operation)(Bucket=self.name, **given)

    def pages(self, operation: str, key: str | None = None, **parameters: Any) -> Iterator[Any]:
        """Yield every page of a listing."""
        if key is not None:
            parameters["Key"] = key
        with self._translated(operation, key):
            yield from self.client.get_paginator(operation).paginate(Bucket=self.name, **parameters)

    @contextmanager
    def _translated(self, operation: str, key: str | None, *, versioned: bool = False) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not type(error).__module__.startswith(("botocore.", "boto3.", "urllib3.")):
                raise
            self.fail(error, operation, key, versioned=versioned)

    def fail(self, error: Exception, operation: str, key: str | None, *, versioned: bool = False) -> NoReturn:
        """Raise what `error`, met in `operation`, means."""
        from botocore.exceptions import ClientError

        where = f"{operation.replace('_', ' ')} on {self.url(key)}"
        if isinstance(error, ClientError):
            raise self._refused(error, operation, where, versioned=versioned) from error
        raise self._broken(error, where) from error

    def _refused(self, error: Any, operation: str, where: str, *, versioned: bool) -> RepositoryError:
        """Return the meaning of an answer of the store that is an error."""
        details = error.response.get("Error", {})
        code, status = details.get("Code", ""), error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        text = f"{where}: {code} {details.get('Message', '')}".rstrip()
        kind, hint = _meaning(code, status)
        if kind is RepositoryDenied and not hint:
            hint = self._permission(operation, versioned=versioned)
        if code == "NoSuchBucket":
            hint = f"make the bucket {self.name}, or correct url and endpoint of repository {self._config.name}"
        return kind(text, hint=hint)

    def _permission(self, operation: str, *, versioned: bool) -> str:
        action = _PERMISSIONS.get(operation, "".join(word.title() for word in operation.split("_")))
        if versioned and operation in _VERSIONED:
            action += "Version"
        about_bucket = operation.startswith(("list_object", "list_multi", "get_bucket", "get_object_lock"))
        return f"allow s3:{action} on arn:aws:s3:::{self.name}{'' if about_bucket else f'/{self.prefix}/*'}"

    def _broken(self, error: Exception, where: str) -> RepositoryError:
        """Return the meaning of having no answer at all."""
        kind = type(error).__name__
        text = f"{where}: {error}"
        if "Credentials" in kind or kind in ("ProfileNotFound", "TokenRetrievalError", "SSOTokenLoadError"):
            name = self._config.name
            return RepositoryDenied(text, hint=f"give repository {name} access_key and secret_key, or a profile")
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return RepositoryError(text, hint="name the authority that signed the certificate as ca_file")
        if kind in ("ParamValidationError", "InvalidEndpoint", "InvalidRegionError", "NoRegionError"):
            return RepositoryError(text, hint="correct url, endpoint and region of the repository")
        return RepositoryUnavailable(text)


def _meaning(code: str, status: int) -> tuple[type[RepositoryError], str | None]:
    if code in _KEYS:
        return RepositoryDenied, "check access_key, secret_key and region of the repository"
    if code == "RequestTimeTooSkewed":
        return RepositoryDenied, "the clock of this machine is wrong: set it (timedatectl set-ntp true)"
    for codes, kind in (
        (_MISSING, NotFound), (_BUSY, RepositoryUnavailable), (_FULL, RepositoryFull), (_CHANGED, Damaged),
    ):  # fmt: skip
        if code in codes:
            return kind, None
    if code in _WRONG_DIGEST:
        return RepositoryUnavailable, "the bytes changed on their way, and the store refused them: check the network"
    if code in _DENIED or status in (401, 403):
        return RepositoryDenied, None
    if status in (301, 307):
        return RepositoryError, "set the region of the bucket, or the endpoint"
    if status == 507:
        return RepositoryFull, None
    if status == 501 or code in UNSUPPORTED:
        return RepositoryError, None
    return (RepositoryUnavailable if status >= 500 or status == 429 else RepositoryError), None


def _instant(text: Any) -> datetime:
    """Read a timestamp; botocore's own parser takes two thirds of the time of a long listing."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):  # an HTTP date, in headers
        found: datetime = parse_timestamp(text)
        return found


def _connect(config: RepositoryConfig) -> Any:
    import boto3
    import botocore.session
    from botocore.config import Config

    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_instant)
    secret, token = config.secret_key, config.session_token
    session = boto3.session.Session(
        aws_access_key_id=config.access_key.get_secret_value() if config.access_key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        aws_session_token=token.get_secret_value() if token else None,
        profile_name=config.profile,
        botocore_session=core,
    )
    path_style = config.path_style if config.path_style is not None else config.endpoint is not None
    return session.client(
        "s3",
        endpoint_url=config.endpoint,
        region_name=config.region or session.region_name or "us-east-1",
        verify=str(config.ca_file) if config.ca_file else None,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            tcp_keepalive=True,
            s3={"addressing_style": "path" if path_style else "auto"},
            # The defaults of boto3 >= 1.36 (trailers, CRC64) break many S3-compatible stores, over TLS above
            # all; maint sends its own digests: `maint.repository.s3_upload`.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
