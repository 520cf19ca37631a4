"""Writing one S3 object: one request, or parts of a fixed size, then compared with what the store has."""

import hashlib
import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from maint.errors import NotFound, RepositoryError, RepositoryUnavailable
from maint.repository import Stored
from maint.repository.s3_client import version_of
from maint.repository.s3_confirm import confirm
from maint.repository.s3_part import Part

if TYPE_CHECKING:
    from maint.repository.s3 import S3Repository

log = logging.getLogger(__name__)

#: Bytes one upload keeps in memory: the part being filled and those on their way (one at least).
_MEMORY = 64 << 20
_MOST_IN_FLIGHT = 3


class S3Upload:
    """One object being written. Parts travel in the background while the next one is filled."""

    def __init__(self, repository: "S3Repository", path: str) -> None:
        self._repository = repository
        self._bucket = repository.bucket
        self._path = path
        self._key = repository.bucket.key(path)
        self._part_size = repository.config.part_size
        self._digest = hashlib.sha256()
        self._size = 0
        self._part = Part()
        self._upload: str | None = None  # its id, once it is one of parts
        self._note: Path | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._in_flight: deque[tuple[Part, Future[dict[str, Any]]]] = deque()
        self._sent: list[dict[str, Any]] = []
        self._encryption: str | None = None  # as the store said

    def __enter__(self) -> Self:
        return self

    def write(self, data: bytes, /) -> None:
        view = memoryview(data if isinstance(data, bytes) else bytes(data))
        self._size += len(view)
        if self._size > (self._repository.max_object_bytes or 0):
            raise self._repository.too_large(self._path)
        self._digest.update(view)
        while view:
            if len(self._part) == self._part_size:
                self._send_part()
            room = self._part_size - len(self._part)
            self._part.add(view[:room])
            view = view[room:]

    def commit(self) -> Stored:
        version = self._complete() if self._upload else self._put()
        digest = self._digest.hexdigest()
        try:
            return confirm(self._repository, self._path, version, self._size, digest, self._encryption)
        except BaseException:
            with suppress(RepositoryError):
                self._bucket.call("delete_object", self._key, VersionId=version)
            raise

    def _options(self) -> dict[str, Any]:
        """Return what the configuration asks for each object, as parameters."""
        config = self._repository.config
        until = self._repository.clock.now() + (config.lock or timedelta())
        return {
            "ServerSideEncryption": config.sse,
            "SSEKMSKeyId": config.sse_kms_key,
            "StorageClass": config.storage_class,
            "ObjectLockMode": config.lock_mode if config.lock else None,
            "ObjectLockRetainUntilDate": until if config.lock else None,
        }

    def _body(self, part: Part) -> dict[str, Any]:
        """Return a part and its digest, of the kind the store is likeliest to verify (object lock needs one)."""
        if self._bucket.is_amazon:
            return {"Body": part, "ChecksumSHA256": part.digest("sha256")}
        return {"Body": part, "ContentMD5": part.digest("md5")}

    def _put(self) -> str | None:
        answer = self._bucket.call("put_object", self._key, **self._body(self._part), **self._options())
        self._encryption = answer.get("ServerSideEncryption", "")
        return version_of(answer)

    def _begin(self) -> None:
        algorithm = "SHA256" if self._bucket.is_amazon else None
        self._note = self._repository.registry.add(self._key)
        answer = self._bucket.call("create_multipart_upload", self._key, ChecksumAlgorithm=algorithm, **self._options())
        self._upload = answer["UploadId"]
        self._encryption = answer.get("ServerSideEncryption")
        self._repository.registry.name(self._note, answer["UploadId"])
        self._threads = ThreadPoolExecutor(self._most_in_flight, thread_name_prefix="upload")

    @property
    def _most_in_flight(self) -> int:
        return max(1, min(_MOST_IN_FLIGHT, _MEMORY // self._part_size - 1))

    def _send_part(self) -> None:
        if self._threads is None:
            self._begin()
        while len(self._in_flight) >= self._most_in_flight:
            self._collect()
        assert self._threads is not None  # noqa: S101 - made by _begin
        number = len(self._sent) + len(self._in_flight) + 1
        self._in_flight.append((self._part, self._threads.submit(self._upload_part, number, self._part)))
        self._part = Part()

    def _upload_part(self, number: int, part: Part) -> dict[str, Any]:
        body = self._body(part)
        answer = self._bucket.call("upload_part", self._key, UploadId=self._upload, PartNumber=number, **body)
        sent = {"PartNumber": number, "ETag": answer["ETag"]}
        return sent | ({"ChecksumSHA256": body["ChecksumSHA256"]} if "ChecksumSHA256" in body else {})

    def _collect(self) -> None:
        """Wait for the oldest part on its way."""
        self._sent.append(self._in_flight[0][1].result())
        self._in_flight.popleft()

    def _complete(self) -> str | None:
        self._send_part()
        while self._in_flight:
            self._collect()
        parts = {"Parts": self._sent}
        try:
            answer = self._bucket.call(
                "complete_multipart_upload", self._key, UploadId=self._upload, MultipartUpload=parts
            )
        except (RepositoryUnavailable, NotFound) as error:
            answer = self._completed_after_all(error)
        self._encryption = self._encryption or answer.get("ServerSideEncryption")
        self._forget()
        return version_of(answer)

    def _completed_after_all(self, error: RepositoryError) -> Any:
        """Return what is stored if only the answer was lost: the request, sent again, finds no upload then."""
        try:
            answer = self._bucket.call("head_object", self._key)
        except RepositoryError:
            raise error from None
        if answer["ContentLength"] != self._size:
            raise error
        log.info("%s was completed, although the store said: %s", self._bucket.url(self._key), error)
        return answer

    def _forget(self) -> None:
        self._upload = None
        if self._note:
            self._note.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in (self._part, *(part for part, _ in self._in_flight)):
            part.aborted = True
        if self._threads:  # a part that arrives after the abort would stay
            self._threads.shutdown(wait=True, cancel_futures=True)
        if self._upload:
            self._abort(self._upload)
        elif self._note:
            self._forget()

    def _abort(self, upload: str) -> None:
        try:
            self._bucket.call("abort_multipart_upload", self._key, UploadId=upload)
        except NotFound:
            pass
        except RepositoryError as error:  # its note stays: sweep tries again
            log.warning("an unfinished upload stays behind for now: %s", error)
            return
        self._forget()
