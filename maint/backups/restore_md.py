"""``RESTORE.md`` and ``SHA256SUMS``: how to restore a backup with stock tools only."""

import re
import shlex
from collections.abc import Sequence
from datetime import datetime

from maint.backups.manifest import Dump, File, Source, Tree
from maint.backups.paths import Place
from maint.format import size
from maint.postgres import libpq_value

_TEXT = """\
# Restore the database {title} without maint

Backup {id} of server {server}, PostgreSQL {server_version}, snapshot of {created_at}.
Needed: pg_restore {major} or newer{tools}, and enough room for about {size} of database.

Everything below runs in the folder this file lies in (download the whole folder first if it is in S3).

1. Is every file as it was written?

       sha256sum --check SHA256SUMS

2. Roles, where the new server lacks them. Read the file first: it changes the whole cluster.

       {globals}

3. An empty database as the old one was{locale_note}:

       {createdb}

4. The data:

{restore}

   Roles that are missing and should stay so: add --no-owner --no-acl. Subscriptions: always add --no-subscriptions
   unless this server replaces the old one, for dropping a restored subscription drops the slot of the publisher.

5. Statistics, without which plans are bad:

       vacuumdb --analyze-in-stages --dbname={dbname}
"""

_FILES_TEXT = """\
# Restore the files of {name} without maint

Backup {id}, read from {created_at} on: {files} files, {folders} folders, {links} links, {size} in all.
Needed: GNU tar, zstd{tools}, and enough room.

    {paths}

Everything below runs in the folder this file lies in (download the whole folder first if it is in S3).

1. Is every file as it was written?

       sha256sum --check SHA256SUMS

2. What is in it: one JSON object a line.

       cat {listing}{unpack}

3. The files, into a new folder; without the leading slash each has its old path there. Owners are only kept if root
   does it, and set-user-ID bits come along then: add --no-same-owner --no-same-permissions if that is not wanted.
   Links are made as they were, wherever they lead.

       mkdir restored
       cat {volumes}{unpack} | tar --extract --directory=restored
"""


def checksums(files: Sequence[File]) -> bytes:
    """Return the text of ``SHA256SUMS`` as sha256sum reads it."""
    return "".join(f"{file.sha256}  {file.name}\n" for file in files).encode()


def instructions(
    *,
    place: Place,
    created_at: datetime,
    source: Source,
    dump: Dump,
    format_: str,
    compression: str,
    encrypted: bool,
    globals_: str | None,
) -> bytes:
    """Return the text of ``RESTORE.md``: commands that work when copied as they are."""
    unpack = _unpack(compression=compression, encrypted=encrypted)
    dbname = _dbname(place.database)
    return _TEXT.format(
        title=ascii(place.database),
        id=place.id,
        server=place.server,
        server_version=source.server_version,
        major=source.version_num // 10000,
        created_at=f"{created_at:%Y-%m-%d %H:%M:%S} UTC",
        tools="".join([", zstd" if compression != "none" else "", ", age and the private key" if encrypted else ""]),
        size=f"{source.size_bytes / 1024**3:.1f} GB",
        globals=_globals(globals_, encrypted=encrypted),
        locale_note=f" (provider {source.locale_provider})" if source.locale_provider != "libc" else "",
        createdb=_createdb(place.database, source),
        restore=_restore(dump, unpack, format_, dbname),
        dbname=dbname,
    ).encode()


def of_files(place: Place, created_at: datetime, tree: Tree, dump: Dump, *, encrypted: bool) -> bytes:
    """Return the text of ``RESTORE.md`` for a backup of files."""
    return _FILES_TEXT.format(
        name=place.database,
        id=place.id,
        created_at=f"{created_at:%Y-%m-%d %H:%M:%S} UTC",
        files=tree.files,
        folders=tree.folders,
        links=tree.links,
        size=size(tree.bytes),
        tools=", age and the private key" if encrypted else "",
        paths="\n    ".join(ascii(path) for path in tree.paths),
        listing=" ".join(tree.listing.volumes),
        volumes=" ".join(dump.volumes),
        unpack=_unpack(compression="zstd", encrypted=encrypted),
    ).encode()


def _dbname(database: str) -> str:
    """Write a database for --dbname, which takes anything with an equals sign or a URI for more than a name."""
    simple = re.fullmatch(r"[A-Za-z0-9_-]+", database)
    return database if simple else _word("dbname=" + libpq_value(database))


def _word(text: str) -> str:
    """Quote `text` for a shell, on one line: a database may be named with a newline."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if c.isprintable() else _octal(c) for c in escaped) + "'"


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode())


def _unpack(*, compression: str, encrypted: bool) -> str:
    decrypt = " | age --decrypt --identity key.txt" if encrypted else ""
    return decrypt + (" | zstd --decompress --stdout" if compression != "none" else "")


def _globals(name: str | None, *, encrypted: bool) -> str:
    if name is None:
        return "# this backup holds no globals"
    unpack = _unpack(compression="zstd", encrypted=encrypted)
    return f"cat {name}{unpack} > globals.sql; psql --dbname=postgres --file=globals.sql"


def _createdb(database: str, source: Source) -> str:
    words = ["createdb", "--template=template0", f"--encoding={source.encoding}"]
    words += [f"--lc-collate={source.collate}", f"--lc-ctype={source.ctype}"]
    if source.locale_provider != "libc":
        words += [f"--locale-provider={source.locale_provider}"]
        words += [f"--{source.locale_provider}-locale={source.locale}"] if source.locale else []
    words += ["--", database]
    return " ".join(_word(word) for word in words)


def _restore(dump: Dump, unpack: str, format_: str, dbname: str) -> str:
    stream = f"cat {' '.join(dump.volumes)}{unpack}"
    if format_ == "directory":
        lines = [
            "mkdir dump",
            f"{stream} | tar --extract --directory=dump",
            f"pg_restore --jobs=4 --dbname={dbname} dump",
        ]
    else:
        lines = [f"{stream} | pg_restore --dbname={dbname}"]
    return "\n".join(f"       {line}" for line in lines)
