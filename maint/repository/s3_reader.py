"""Reading one S3 object to its end, through cut connections."""

import logging
from contextlib import suppress
from http.client import HTTPException
from types import TracebackType
from typing import Any, Self

from maint.clock import Clock, Stop
from maint.errors import Damaged, RepositoryError, RepositoryUnavailable
from maint.repository.s3_client import Bucket, status_of, version_of

log = logging.getLogger(__name__)

#: seconds before each new try after a cut; they begin anew whenever bytes arrived
BACK_OFF = (0.5, 1.0, 2.0, 4.0)
_BLOCK = 1 << 20


class S3Reader:
    """One object, from `offset`. A connection that ends early is followed by a request for the rest.

    Only of the same object: some stores ignore If-Match, so its ETag and size are compared here.
    """

    def __init__(self, bucket: Bucket, key: str, version: str | None, offset: int, clock: Clock) -> None:
        self._bucket = bucket
        self._key = key
        self._version = version
        self._clock = clock
        self._position = offset
        self._etag: str | None = None
        self._size: int | None = None
        self._body: Any = None
        self._request()

    def _request(self) -> None:
        """Ask for the bytes from the present position on."""
        since = f"bytes={self._position}-" if self._position else None
        try:
            answer = self._bucket.call(
                "get_object", self._key, VersionId=self._version, Range=since, IfMatch=self._etag or None
            )
        except Damaged as error:
            if status_of(error) != 416 or not self._is_at_end():
                raise
            return
        try:
            self._compare(answer, ranged=since is not None)
        except RepositoryError:
            answer["Body"].close()
            raise
        self._body = answer["Body"]
        self._version = self._version or version_of(answer)

    def _is_at_end(self) -> bool:
        size = self._bucket.call("head_object", self._key, VersionId=self._version)["ContentLength"]
        self._size = size if self._size is None else self._size
        return bool(size == self._size == self._position)

    def _compare(self, answer: Any, *, ranged: bool) -> None:
        if ranged and not str(answer.get("ContentRange", "")).startswith(f"bytes {self._position}-"):
            raise RepositoryError(f"{self._bucket.url(self._key)}: the store cannot read from the middle")
        etag, size = answer.get("ETag"), self._position + answer["ContentLength"]
        if self._size is not None and (etag, size) != (self._etag, self._size):
            raise Damaged(f"{self._bucket.url(self._key)} was changed while it was read")
        self._etag, self._size = etag, size

    def read(self, n: int = -1, /) -> bytes:
        if n < 0:
            return b"".join(iter(lambda: self.read(_BLOCK), b""))
        data = self._read(n)
        for seconds in BACK_OFF:
            if isinstance(data, bytes):
                break
            log.info("%s: %s; asking for the rest", self._bucket.url(self._key), data)
            self._clock.wait(Stop(), seconds)
            data = self._read(n)
        if not isinstance(data, bytes):
            raise data
        self._position += len(data)
        return data

    def _read(self, n: int) -> bytes | RepositoryError:
        """Return the next bytes, b"" at the end, or why there are none, ready to be asked for anew."""
        if n == 0 or self._position == self._size:
            return b""
        data, failure = self._attempt(min(n, (self._size or 0) - self._position))
        if failure:
            self._close()
        return failure or data

    def _attempt(self, n: int) -> tuple[bytes, RepositoryError | None]:
        try:
            if self._body is None:
                self._request()
            data: bytes = self._body.read(n)
        except RepositoryUnavailable as error:
            return b"", error
        except (OSError, HTTPException) as error:
            return b"", RepositoryUnavailable(self._text(str(error)))
        except Exception as error:
            if not type(error).__module__.startswith(("botocore.", "urllib3.")):
                raise
            return b"", self._interrupted(error)
        return data, None if data else Damaged(self._text(f"ends early, at byte {self._position} of {self._size}"))

    def _interrupted(self, error: Exception) -> RepositoryError:
        """Tell an orderly end that came too early, again and again, from a connection that broke."""
        if "IncompleteRead" in f"{type(error).__name__} {error}":
            return Damaged(self._text(f"ends early, at byte {self._position} of {self._size}"))
        return RepositoryUnavailable(self._text(str(error)))

    def _text(self, what: str) -> str:
        return f"{self._bucket.url(self._key)}: {what}"

    def _close(self) -> None:
        if self._body is not None:
            with suppress(OSError):
                self._body.close()
        self._body = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
