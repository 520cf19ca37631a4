"""What the inventory shows of a manifest: small enough to keep thousands of them in the cache."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from maint.backups.manifest import DatabaseManifest, FilesManifest


@dataclass(frozen=True, slots=True)
class Summary:
    """The manifest without what is in the database, or the names of the files."""

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
    tables: int | None  #: of a database
    rows: int | None
    server_version: str | None
    file_count: int | None  #: of files: how many there are, folders and links apart
    files: tuple[tuple[str, int, str | None], ...]  #: objects of the backup: name, bytes, version

    @classmethod
    def of(cls, manifest: DatabaseManifest | FilesManifest) -> Self:
        database = manifest if isinstance(manifest, DatabaseManifest) else None
        return cls(
            **{name: getattr(manifest, name) for name in _SAME},
            raw_bytes=manifest.dump.raw_bytes,
            tables=len(database.contents.tables) if database else None,
            rows=database.contents.rows if database else None,
            server_version=database.source.server_version if database else None,
            file_count=manifest.tree.files if isinstance(manifest, FilesManifest) else None,
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
