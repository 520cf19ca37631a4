"""What the inventory shows of a manifest: small enough to keep thousands of them in the cache."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from maint.backups.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Summary:
    """The manifest without what is in the database."""

    kind: str
    id: str
    installation: str
    host: str
    job: str
    run_id: int
    slot: str
    server: str
    database: str
    created_at: datetime
    finished_at: datetime
    format: str
    encrypted: bool
    size_bytes: int  #: stored, all files together
    raw_bytes: int  #: before compression
    tables: int
    rows: int
    server_version: str
    files: tuple[tuple[str, int, str | None], ...]  #: name, bytes, version

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        same = {name: getattr(manifest, name) for name in _SAME}
        return cls(
            **same,
            raw_bytes=manifest.dump.raw_bytes,
            tables=len(manifest.contents.tables),
            rows=manifest.contents.rows,
            server_version=manifest.source.server_version,
            files=tuple((file.name, file.size, file.version) for file in manifest.files),
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        times = {name: datetime.fromisoformat(value[name]) for name in _TIMES}
        files = tuple((name, size, version) for name, size, version in value["files"])
        return cls(**(value | times | {"files": files}))

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {name: getattr(self, name).isoformat() for name in _TIMES}


_TIMES = ("created_at", "finished_at")
_SAME = (
    *("kind", "id", "installation", "host", "job", "run_id", "slot", "server", "database", "created_at"),
    *("finished_at", "format", "encrypted", "size_bytes"),
)
