"""An S3 bucket, or part of one, as a repository: Amazon's or a compatible store."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maint.clock import Clock, SystemClock
from maint.config.model import RepositoryConfig
from maint.errors import Locked, NotFound, RepositoryDenied, RepositoryError
from maint.repository import Entry, Probe, Reader, Upload, check_path
from maint.repository.s3_client import UNSUPPORTED, Bucket, code_of
from maint.repository.s3_sweep import Registry, sweep

log = logging.getLogger(__name__)


class S3Repository:
    """Objects are keys below a prefix of one bucket.

    In a versioned bucket everything is addressed by version: deleting without one would only hide the bytes,
    and what somebody else hides with a delete marker is still found.
    """

    def __init__(self, config: RepositoryConfig, *, state_dir: Path | None = None, clock: Clock | None = None) -> None:
        self.name = config.name
        self.config = config
        self.bucket = Bucket(config)
        self.clock = clock or SystemClock()
        self.registry = Registry(state_dir, self.bucket)
        self.max_object_bytes: int | None = config.part_size * config.max_parts
        self._versioned: bool | None = None

    @property
    def versioned(self) -> bool:
        """Whether the bucket keeps versions. Who may not ask is taken to have none; given ids are used anyway."""
        if self._versioned is None:
            try:
                answer = self.bucket.call("get_bucket_versioning")
                self._versioned = answer.get("Status") in ("Enabled", "Suspended")
            except RepositoryError as error:
                if not isinstance(error, RepositoryDenied | NotFound) and code_of(error) not in UNSUPPORTED:
                    raise
                log.debug("%s: taken as not versioned: %s", self.name, error)
                self._versioned = False
        return self._versioned

    def list(self, prefix: str = "") -> Iterator[Entry]:
        key = self.bucket.key(prefix)
        if self.versioned:
            yield from self._list_versions(key)
            return
        for page in self.bucket.pages("list_objects_v2", Prefix=key):
            yield from (self._entry(found) for found in page.get("Contents", ()) if not found["Key"].endswith("/"))

    def _list_versions(self, prefix: str) -> Iterator[Entry]:
        """Yield of every key the present version, or the last one before a delete marker.

        Versions of one key come newest first, so that its marker is never on a later page.
        """
        hidden: set[str] = set()
        for page in self.bucket.pages("list_object_versions", Prefix=prefix):
            hidden |= {marker["Key"] for marker in page.get("DeleteMarkers", ()) if marker["IsLatest"]}
            for found in page.get("Versions", ()):
                if found["IsLatest"]:
                    yield self._entry(found)
                elif found["Key"] in hidden:
                    hidden.discard(found["Key"])
                    yield self._entry(found, hidden=True)

    def _entry(self, found: Any, *, hidden: bool = False) -> Entry:
        modified_at = found["LastModified"].astimezone(UTC)
        return Entry(self.bucket.path(found["Key"]), found["Size"], modified_at, found.get("VersionId"), hidden)

    def create(self, path: str, *, size_hint: int | None = None) -> Upload:
        from maint.repository.s3_upload import S3Upload

        if size_hint and size_hint > (self.max_object_bytes or 0):
            raise self.too_large(path)
        return S3Upload(self, check_path(path))

    def too_large(self, path: str) -> RepositoryError:
        return RepositoryError(
            f"{self.url_of(path)} would exceed {self.config.max_parts} parts of {self.config.part_size} bytes",
            hint=f"raise part_size of repository {self.name}",
        )

    def open(self, path: str, *, version: str | None = None, offset: int = 0) -> Reader:
        from maint.repository.s3_reader import S3Reader

        return S3Reader(self.bucket, self.bucket.key(check_path(path)), version, offset, self.clock)

    def delete(self, path: str, *, version: str | None = None) -> None:
        key = self.bucket.key(check_path(path))
        for each in [version] if version or not self.versioned else self._versions(key):
            self.delete_version(key, each)

    def _versions(self, key: str) -> Sequence[str]:
        """Return the ids of all versions of `key`, oldest first, so that none resurfaces; then its markers."""
        versions: list[str] = []
        markers: list[str] = []
        for page in self.bucket.pages("list_object_versions", Prefix=key):
            versions += [found["VersionId"] for found in page.get("Versions", ()) if found["Key"] == key]
            markers += [found["VersionId"] for found in page.get("DeleteMarkers", ()) if found["Key"] == key]
        return [*reversed(versions), *reversed(markers)]

    def delete_version(self, key: str, version: str | None) -> None:
        """Delete one version of a key; None where there are no versions. Absent = done."""
        try:
            self.bucket.call("delete_object", key, VersionId=version)
        except NotFound:
            return
        except RepositoryError as error:
            if not error.transient and code_of(error) != "NoSuchBucket":
                self._raise_if_locked(key, version, error)
            raise

    def _raise_if_locked(self, key: str, version: str | None, error: RepositoryError) -> None:
        head = self._head(key, version)
        until = head.get("ObjectLockRetainUntilDate")
        if until and until > self.clock.now():
            end = until.astimezone(UTC)
            raise Locked(f"{self.bucket.url(key)} is locked until {end:%Y-%m-%d %H:%M:%S} UTC") from error
        if head.get("ObjectLockLegalHoldStatus") == "ON":
            raise Locked(f"{self.bucket.url(key)} is under a legal hold") from error

    def locked_until(self, path: str, *, version: str | None = None) -> datetime | None:
        """Return when the lock ends; None without one, and where maint may not ask: deleting will tell then."""
        if not self.versioned and not version:
            return None  # there is no object lock without versions
        until: datetime | None = self._head(self.bucket.key(check_path(path)), version).get("ObjectLockRetainUntilDate")
        return until.astimezone(UTC) if until else None

    def _head(self, key: str, version: str | None) -> Any:
        """Return what the store says about an object; nothing if it is absent, hidden, or may not be read.

        It tells of locks too (to who has s3:GetObjectRetention), and unlike the request that is there for it,
        it is understood by every store.
        """
        try:
            return self.bucket.call("head_object", key, VersionId=version)
        except (NotFound, RepositoryDenied):
            return {}

    def sweep(self) -> Sequence[str]:
        return sweep(self.bucket, self.registry, self.clock)

    def free_bytes(self) -> int | None:
        return None

    def probe(self, *, write: bool = False) -> Iterator[Probe]:
        from maint.repository.s3_probe import probe

        return probe(self, write=write)

    def url_of(self, path: str) -> str:
        return self.bucket.url(self.bucket.key(path))
