"""The manifest: written last, never changed; a backup exists if and only if it does."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from maint.errors import Damaged


class _Part(BaseModel):
    # a newer maint may write more: what this one does not know it leaves alone
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class File(_Part):
    """One object of the backup, named relative to its folder."""

    name: str
    size: int  #: bytes
    sha256: str
    version: str | None = None  #: in a versioned bucket
    confirmed_by: str  #: how the store's copy was compared with what was sent


class Extension(_Part):
    name: str
    version: str
    schema_: str = Field("public", alias="schema")


class Source(_Part):
    """The database as it was, so that a fitting place for a restore can be made."""

    system_identifier: str | None = None
    server_version: str  #: "16.4"
    version_num: int  #: 160004
    standby: bool
    encoding: str
    collate: str
    ctype: str
    locale_provider: str  #: "libc" | "icu" | "builtin"
    locale: str | None = None  #: of the provider, where it is not libc
    collation_version: str | None = None
    size_bytes: int  #: pg_database_size at the snapshot
    extensions: tuple[Extension, ...] = ()
    tablespaces: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()  #: owners and grantees that a restore with owners needs


class Table(_Part):
    """A relation with data in the dump, and its exact rows in the dump's snapshot."""

    schema_: str = Field(alias="schema")
    name: str
    rows: int | None  #: None: not counted
    why: str | None = None  #: why it was not counted


class Sequence(_Part):
    schema_: str = Field(alias="schema")
    name: str
    last_value: int | None  #: None: never used. Sequences ignore snapshots: read before the dump, a lower bound


class Size(_Part):
    """What a table (with its toast) or an index of 1 MB or more takes in production."""

    schema_: str = Field(alias="schema")
    name: str
    bytes: int  #: as of its last VACUUM or ANALYZE


class Contents(_Part):
    """What is in the dump, counted in the dump's own snapshot."""

    tables: tuple[Table, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    sizes: tuple[Size, ...] = ()
    large_objects: int | None = None
    rows: int = 0  #: of all counted tables together


class Dump(_Part):
    """A stream: ``cat volumes | [age -d] | [zstd -d]`` gives what was read of its source.

    Of a database in custom format that is pg_dump's archive; in directory format a tar of its folder, whose files
    pg_dump compressed itself. Of files it is a tar, too. The zstd frame carries a checksum of the raw stream; a
    SHA-256 of it would cost 5 % of the whole backup.
    """

    volumes: tuple[str, ...]  #: names of files, in order
    raw_bytes: int  #: of the stream before compression
    stored_bytes: int  #: compressed and encrypted


class Manifest(_Part):
    """One backup: what is said of every kind."""

    maint: Literal[1] = 1  #: format of this file
    kind: str
    id: str
    installation: str
    host: str
    job: str
    run_id: int
    slot: str
    server: str  #: "-" of files
    database: str  #: of files: the name of the job
    created_at: datetime  #: the instant of the snapshot, UTC; of files: when reading them began
    finished_at: datetime
    format: str
    compression: str  #: of the stream: "zstd:3" | "none"
    encrypted: bool
    recipients: tuple[str, ...] = ()  #: age public keys
    files: tuple[File, ...]  #: everything but the manifest itself
    size_bytes: int  #: of all files
    dump: Dump
    lacks: tuple[str, ...] = ()  #: what it leaves out although it is there
    tools: dict[str, str]  #: program -> version

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1, by_alias=True).encode()


class DatabaseManifest(Manifest):
    """A dump of one database."""

    kind: Literal["database"] = "database"
    format: Literal["custom", "directory"]
    source: Source
    contents: Contents


class Tree(_Part):
    """What a backup of files was asked for, and what it holds; each file stands in its list."""

    paths: tuple[str, ...]  #: as configured
    exclude: tuple[str, ...] = ()
    files: int
    folders: int
    links: int
    bytes: int  #: of all files together
    #: as `dump`: one JSON object a line, in the order of the tar; paths as `maint.backups.files.member` writes them
    listing: Dump


class FilesManifest(Manifest):
    """A tar of files."""

    kind: Literal["files"] = "files"
    format: Literal["tar"] = "tar"
    tree: Tree


_ANY: TypeAdapter[DatabaseManifest | FilesManifest] = TypeAdapter(
    Annotated[DatabaseManifest | FilesManifest, Field(discriminator="kind")]
)


def read(data: bytes, *, where: str) -> DatabaseManifest | FilesManifest:
    """Parse a manifest. Raises `Damaged` for anything that is not one; `where` names it in the message."""
    try:
        return _ANY.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "whole file"  # the first is the kind
        raise Damaged(
            f"{where} is not a manifest this maint understands ({place}: {first['msg']})",
            hint="it was edited, cut, or written by a newer maint",
        ) from error
