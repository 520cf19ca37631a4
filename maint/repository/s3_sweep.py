"""Uploads in parts that nobody will finish: invisible in listings, and billed.

S3 does not say which process began an upload. So maint notes each of its uploads, before it begins, in a small
file of its state directory while it runs: one whose process is dead is aborted at the next start. Without such a
note (another machine's, a lost state directory, an earlier boot) an upload is aborted when nothing was added to it
for a day; maint adds a part every few minutes, and ends a run that stands still much sooner. Both only below its
own prefix, and only under names that maint gives.
"""

import json
import logging
import re
import secrets
from collections.abc import Collection, Iterator
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

    def add(self, key: str) -> Path | None:
        """Note an upload that is about to begin; a note that cannot be written is no reason not to back up."""
        if self._folder is None:
            return None
        note = self._folder / f"{me()}-{secrets.token_hex(4)}.json"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            note.write_text(json.dumps({"url": self._url, "key": key}) + "\n")
        except OSError as error:
            log.warning("cannot note the upload of %s in %s: %s", key, self._folder, error)
            return None
        return note

    def name(self, note: Path | None, upload: str) -> None:
        """Add the id that the store gave it."""
        if note:
            with suppress(OSError), note.open("a") as file:
                file.write(json.dumps(upload) + "\n")

    def abandoned(self) -> Iterator[tuple[Path, str, str | None]]:
        """Yield the note, key and, if it was still noted, id of each whose process is dead."""
        for note in sorted(self._folder.glob("*.json")) if self._folder else ():
            owner = Owner.parse(note.stem.rpartition("-")[0])
            if owner is None or owner.alive() is not False:
                continue
            lines = _lines(note)
            if lines is not None and not lines:  # killed while it was written: nothing had begun
                note.unlink(missing_ok=True)
            elif lines and lines[0]["url"] == self._url:
                yield note, lines[0]["key"], lines[1] if lines[1:] else None


def _lines(note: Path) -> list[Any] | None:
    """Return what the complete lines of a note say; None if it cannot be read."""
    try:
        return [json.loads(line) for line in note.read_text().splitlines(keepends=True) if line.endswith("\n")]
    except (OSError, ValueError):
        return None


def sweep(bucket: Bucket, registry: Registry, clock: Clock) -> list[str]:
    """Abort the uploads that nobody will finish; return their paths."""
    swept = []
    unnamed: dict[str, Path] = {}
    for note, key, upload in registry.abandoned():
        if upload is None:
            unnamed[key] = note
            continue
        if _abort(bucket, key, upload):
            swept.append(bucket.path(key))
        note.unlink(missing_ok=True)
    try:
        for key, upload in _idle(bucket, clock.now(), unnamed.keys()):
            if _abort(bucket, key, upload):
                swept.append(bucket.path(key))
    except RepositoryError as error:
        if error.transient:
            raise
        log.info("%s: unfinished uploads cannot be listed: %s", bucket.url(None), error)
    for note in unnamed.values():
        note.unlink(missing_ok=True)
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


def _idle(bucket: Bucket, now: datetime, dead: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield key and id of each upload that nobody works on; `dead`: the keys of killed processes."""
    for found in unfinished(bucket):
        path = "/" + bucket.path(found["Key"])
        is_dead = found["Key"] in dead or _is_dead_probe(path)
        if _OURS.search(path) and (is_dead or now - _touched_at(bucket, found) > GRACE):
            yield found["Key"], found["UploadId"]


def _is_dead_probe(path: str) -> bool:
    """Tell whether an upload was begun to try the store, by a process that is gone: its name says which."""
    owner = Owner.parse(path.rpartition(f"{RESERVED}probe-")[2].rpartition("-")[0])
    return owner is not None and owner.alive() is False


def _touched_at(bucket: Bucket, found: Any) -> datetime:
    """Return when the upload was begun, or the newest of its parts was added."""
    latest: datetime = found["Initiated"]
    with suppress(NotFound):
        for page in bucket.pages("list_parts", found["Key"], UploadId=found["UploadId"]):
            latest = max([latest, *(part["LastModified"] for part in page.get("Parts", ()))])
    return latest
