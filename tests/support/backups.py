"""Backups in a repository without a server behind them."""

import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import zstandard

from maint.backups import manifest as manifests
from maint.backups import records
from maint.backups.check import Tools
from maint.backups.manifest import Contents, Dump, File, Source, Table
from maint.backups.paths import MANIFEST, Place
from maint.clock import Stop, SystemClock
from maint.repository import Repository

T0 = datetime(2026, 11, 20, 2, tzinfo=UTC)
OWNER = records.Owner("test", 7, "here", "000000000000-1-1")


def tools(stop: Stop | None = None) -> Tools:
    return Tools(stop or Stop(), SystemClock(), logging.getLogger("tests.backups"))


def put(repository: Repository, path: str, data: bytes) -> Any:
    with repository.create(path) as upload:
        upload.write(data)
        return upload.commit()


def store(
    repository: Repository,
    at: datetime = T0,
    *,
    raw: bytes = b"PGDMP and nothing that pg_restore could read",
    server: str = "main",
    database: str = "shop",
    volume_bytes: int = 1 << 20,
    recipients: Sequence[str] = (),
    mark: str = "0000",
    manifest: bool = True,
    **changes: Any,
) -> Place:
    """Store one backup, begun at `at`; `changes` are for its manifest."""
    place = Place(server, database, f"{at:%Y%m%dT%H%M%SZ}-{mark}")
    records.begin(repository, place, OWNER)
    packed = _pack(raw, changes.get("compression", "zstd:3"), recipients)
    pieces = [packed[n : n + volume_bytes] for n in range(0, len(packed), volume_bytes)]
    volumes = [_file(repository, place, f"dump.{n:03}", piece) for n, piece in enumerate(pieces)]
    files = (*volumes, _file(repository, place, "RESTORE.md", b"# how\n"))
    written = {
        "kind": "database",
        "id": place.id,
        "installation": "test",
        "host": "here",
        "job": "backup",
        "run_id": 7,
        "slot": "manual:7",
        "server": server,
        "database": database,
        "created_at": at,
        "finished_at": at + timedelta(minutes=1),
        "format": "custom",
        "compression": "zstd:3",
        "encrypted": bool(recipients),
        "recipients": tuple(recipients),
        "files": files,
        "size_bytes": sum(file.size for file in files),
        "dump": Dump(volumes=tuple(file.name for file in volumes), raw_bytes=len(raw), stored_bytes=len(packed)),
        "source": _SOURCE,
        "contents": Contents(tables=(Table(schema="public", name="orders", rows=3),), rows=3),
        "tools": {"pg_dump": "15.4"},
        **changes,
    }
    text = json.dumps(written, default=_plain, indent=1).encode()
    manifests.read(text, where="what this test stores")
    if manifest:
        put(repository, place / MANIFEST, text)
    return place


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value.model_dump(mode="json", by_alias=True)


_SOURCE = Source(
    server_version="15.4",
    version_num=150004,
    standby=False,
    encoding="UTF8",
    collate="C",
    ctype="C",
    locale_provider="libc",
    size_bytes=1,
)


def _file(repository: Repository, place: Place, name: str, data: bytes) -> File:
    stored = put(repository, place / name, data)
    digest = hashlib.sha256(data).hexdigest()
    return File(name=name, size=len(data), sha256=digest, version=stored.version, confirmed_by="test")


def _pack(raw: bytes, compression: str, recipients: Sequence[str]) -> bytes:
    packed = raw if compression == "none" else zstandard.ZstdCompressor(write_checksum=True).compress(raw)
    if not recipients:
        return packed
    import pyrage

    sealed = io.BytesIO()
    keys = [pyrage.x25519.Recipient.from_str(key) for key in recipients]
    pyrage.encrypt_io(io.BytesIO(packed), sealed, keys)
    return sealed.getvalue()


class Cache:
    """A cache that counts what is remembered; `broken` fails as a history that cannot be read."""

    def __init__(self, broken: Callable[[], None] = lambda: None) -> None:
        self.found: dict[str, str] = {}
        self.remembered: list[str] = []
        self._broken = broken

    def cached(self, _repository: str) -> dict[str, str]:
        self._broken()
        return dict(self.found)

    def remember(self, _repository: str, found: Any) -> None:
        self._broken()
        self.remembered += found
        self.found |= found

    def forget(self, _repository: str, paths: Any) -> None:
        self._broken()
        for path in paths:
            self.found.pop(path, None)
