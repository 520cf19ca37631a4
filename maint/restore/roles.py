"""Roles: which a backup needs, and those of its globals that a server lacks."""

import io
import re
from collections.abc import Collection, Iterator

from maint.backups import crypt
from maint.backups.manifest import File
from maint.errors import UsageError
from maint.postgres import SQL, Connection
from maint.restore.stream import Backup

_NAME = r'("(?:[^"]|"")*"|[^\s;"]+)'
_ROLE = re.compile(rf"(?:CREATE|ALTER) ROLE {_NAME}(?:;| .*;)$")
_MEMBER = re.compile(rf"GRANT {_NAME} TO {_NAME}(?: .*)?;$")


def missing(connection: Connection, wanted: Collection[str]) -> list[str]:
    """Return those of `wanted` that the server does not have."""
    rows = connection.execute("SELECT rolname FROM pg_catalog.pg_roles")
    return sorted(set(wanted) - {row.rolname for row in rows})


def create(connection: Connection, backup: Backup, names: Collection[str]) -> None:
    """Create roles as the stored globals describe them; roles that exist are not touched."""
    for statement in statements(_globals(backup), names):
        connection.perform(SQL("{}").format(SQL(statement)))  # written by pg_dumpall


def statements(text: str, names: Collection[str]) -> Iterator[str]:
    """Yield the statements of ``pg_dumpall --globals-only`` that make these roles and their memberships."""
    for line in text.splitlines():
        if found := _ROLE.fullmatch(line):
            if _plain(found[1]) in names:
                yield line.removesuffix(";")
        elif (found := _MEMBER.fullmatch(line)) and _plain(found[2]) in names:
            yield re.sub(r" GRANTED BY .*", "", line.removesuffix(";"))


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _globals(backup: Backup) -> str:
    found = next((file for file in backup.manifest.files if file.name.startswith("globals.sql")), None)
    if found is None:
        raise UsageError(f"the backup {backup.place.id} holds no roles", hint="create them by hand, or use --no-owner")
    return _unpacked(backup, found).decode()


def _unpacked(backup: Backup, file: File) -> bytes:
    import zstandard

    with backup.repository.open(backup.place / file.name, version=file.version) as reader:
        data = b"".join(iter(lambda: reader.read(1 << 20), b""))
    if backup.manifest.encrypted:
        import pyrage

        if backup.identity is None:
            raise UsageError("the globals are encrypted, and there is no key here", hint="set identity_file")
        opened = io.BytesIO()
        pyrage.decrypt_io(io.BytesIO(data), opened, crypt.identities(backup.identity))
        data = opened.getvalue()
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)
