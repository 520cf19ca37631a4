"""Uploads in parts that nobody will finish: invisible in listings, and billed.

S3 does not say which process began an upload. So maint notes each of its uploads in a small file of its state
directory while it runs: one whose process is dead is aborted at the next start. Without such a note (another
machine's, a lost state directory, an earlier boot) an upload is aborted when nothing was added to it for a day;
maint adds a part every few minutes, and ends a run that stands still much sooner. Both only below its own
prefix, and only under names that maint gives.
"""

import json
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from maint.clock import Clock
from maint.errors import NotFound, RepositoryError
from maint.owner import Owner, me
from maint.repository import RESERVED
from maint.repository.s3_client import Bucket

log = logging.getLogger(__name__)

#: without a new part for so long, an upload is given up
GRACE = timedelta(days=1)
#: the folder of a backup (`maint.backups.paths`), or a probe
_OURS = re.compile(rf"/\d{{8}}T\d{{6}}Z-[0-9a-f]{{4}}/|/{re.escape(RESERVED)}probe-")


class Registry:
    """The uploads that processes of this machine are working on, one small file each."""

    def __init__(self, state_dir: Path | None, bucket: Bucket) -> None:
        self._folder = state_dir / "uploads" if state_dir else None
        self._url = bucket.url(None)

    def add(self, key: str, upload: str) -> Path | None:
        """Note an upload; a note that cannot be written is no reason not to back up."""
        if self._folder is None:
            return None
        note = self._folder / f"{me()}-{secrets.token_hex(4)}.json"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            note.write_text(json.dumps({"url": self._url, "key": key, "upload": upload}))
        except OSError as error:
            log.warning("cannot note the upload of %s in %s: %s", key, self._folder, error)
            return None
        return note

    def abandoned(self) -> Iterator[tuple[Path, str, str]]:
        """Yield the note, key and upload id of each whose process is dead."""
        for note in sorted(self._folder.glob("*.json")) if self._folder else ():
            owner = Owner.parse(note.stem.rpartition("-")[0])
            if owner is None or owner.alive() is not False:
                continue
            with suppress(OSError, ValueError, KeyError):
                content = json.loads(note.read_text())
                if content["url"] == self._url:
                    yield note, content["key"], content["upload"]


def sweep(bucket: Bucket, registry: Registry, clock: Clock) -> list[str]:
    """Abort the uploads that nobody will finish; return their paths."""
    swept = []
    for note, key, upload in registry.abandoned():
        if _abort(bucket, key, upload):
            swept.append(bucket.path(key))
        note.unlink(missing_ok=True)
    try:
        for key, upload in _idle(bucket, clock.now()):
            if _abort(bucket, key, upload):
                swept.append(bucket.path(key))
    except RepositoryError as error:
        if error.transient:
            raise
        log.info("%s: unfinished uploads cannot be listed: %s", bucket.url(None), error)
    return swept


def _abort(bucket: Bucket, key: str, upload: str) -> bool:
    try:
        bucket.call("abort_multipart_upload", key, UploadId=upload)
    except NotFound:
        return False
    return True


def unfinished(bucket: Bucket) -> Iterator[Any]:
    """Yield every unfinished upload below the prefix; no such upload is an error at some stores, here it is none."""
    with suppress(NotFound):
        for page in bucket.pages("list_multipart_uploads", Prefix=bucket.key("")):
            yield from page.get("Uploads", ())


def _idle(bucket: Bucket, now: datetime) -> Iterator[tuple[str, str]]:
    for found in unfinished(bucket):
        if _OURS.search("/" + bucket.path(found["Key"])) and now - _touched_at(bucket, found) > GRACE:
            yield found["Key"], found["UploadId"]


def _touched_at(bucket: Bucket, found: Any) -> datetime:
    """Return when the upload was begun, or the newest of its parts was added."""
    latest: datetime = found["Initiated"]
    with suppress(NotFound):
        for page in bucket.pages("list_parts", found["Key"], UploadId=found["UploadId"]):
            latest = max([latest, *(part["LastModified"] for part in page.get("Parts", ()))])
    return latest
