"""Roles: which a backup needs, and those of its globals that a server lacks."""

import io
import re
from collections.abc import Collection, Iterator, Sequence

from maint.backups import crypt
from maint.backups.manifest import File
from maint.backups.unpack import NoKey
from maint.clock import Stop
from maint.errors import Damaged, UsageError
from maint.postgres import SQL, Connection, Identifier
from maint.restore.steps import Steps
from maint.restore.stream import Backup, whole

_NAME = r'("(?:[^"]|"")*"|[^\s;"]+)'
_ROLE = re.compile(rf"(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) {_NAME}(?!\s+IN\s+DATABASE)(?:\s.*)?", re.DOTALL)
_MEMBER = re.compile(rf"(GRANT {_NAME} TO {_NAME})(?: (WITH .*?))?(?: GRANTED BY {_NAME})?", re.DOTALL)

#: a comment, a word for psql, a literal, a quoted name, an end, anything else
_TOKEN = re.compile(
    r"""--[^\n]*|^\\[^\n]*|E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|;|[^-\\'"E;]+|.""",
    re.DOTALL | re.MULTILINE,
)

#: what a new role is without being told; but for superusers it may not be said
_DEFAULTS = re.compile(r" (?:NOSUPERUSER|NOREPLICATION|NOBYPASSRLS)\b")


def missing(connection: Connection, wanted: Collection[str]) -> list[str]:
    """Return those of `wanted` that the server does not have."""
    rows = connection.execute("SELECT rolname FROM pg_catalog.pg_roles")
    return sorted(set(wanted) - {row.rolname for row in rows})


def create(
    connection: Connection, backup: Backup, wanted: Collection[str], steps: Steps, stop: Stop
) -> tuple[str, ...]:
    """Create roles as the stored globals describe them, with the groups they are members of that are missing, too.

    All of them or none; roles that exist are not touched. Returns the names of the new ones.
    """
    found = split(_globals(backup, stop))
    names = missing(connection, with_groups(found, wanted))
    if unknown := set(wanted) - set(_described(found)):
        raise UsageError(
            f"the backup {backup.place.id} does not describe the roles {', '.join(sorted(unknown))}",
            hint="CREATE ROLE, or --no-owner --no-privileges",
        )
    there = {row.rolname for row in connection.execute("SELECT rolname FROM pg_catalog.pg_roles")}
    making = statements(found, names, known=there | set(names), major=connection.major)
    if steps.dry:
        for statement in making:
            steps.perform(connection, SQL("{}").format(SQL(statement)))  # written by pg_dumpall
        return tuple(names)
    with connection.transaction("READ WRITE"):
        for statement in making:
            steps.perform(connection, SQL("{}").format(SQL(statement)))
    return tuple(names)


def drop(connection: Connection, names: Sequence[str]) -> None:
    """Remove roles that were made here and own nothing."""
    if names:
        connection.perform(SQL("DROP ROLE {}").format(SQL(", ").join(Identifier(name) for name in names)))


def with_groups(found: Sequence[str], names: Collection[str]) -> set[str]:
    """Add the roles that these are members of, and so on."""
    wanted = set(names)
    members = [(_plain(m[2]), _plain(m[3])) for statement in found if (m := _MEMBER.fullmatch(statement))]
    while more := {group for group, member in members if member in wanted} - wanted:
        wanted |= more
    return wanted


def _described(found: Sequence[str]) -> Iterator[str]:
    for statement in found:
        if statement.startswith("CREATE ROLE ") and (role := _ROLE.fullmatch(statement)):
            yield _plain(role[1])


def statements(found: Sequence[str], names: Collection[str], *, known: Collection[str], major: int) -> Iterator[str]:
    """Yield those statements of ``pg_dumpall --globals-only`` that make these roles and their memberships."""
    for statement in found:
        if role := _ROLE.fullmatch(statement):
            if _plain(role[1]) in names:
                yield _DEFAULTS.sub("", statement) if statement.startswith("ALTER ROLE ") else statement
        elif (member := _MEMBER.fullmatch(statement)) and _plain(member[3]) in names and _plain(member[2]) in known:
            yield f"{member[1]} {_options(member[4] or '', major)}".strip()


def _options(options: str, major: int) -> str:
    """Write the options of a membership for a server of this major: INHERIT and SET came with 16."""
    if major >= 16:
        return options
    return "WITH ADMIN OPTION" if "ADMIN" in options else ""


def split(text: str) -> list[str]:
    """Split a script into statements, without their semicolons; a name or a comment may hold anything."""
    found, current = [], ""
    for piece in _TOKEN.findall(text):
        if piece == ";":
            found.append(current.strip())
            current = ""
        elif not piece.startswith("--") and not (piece.startswith("\\") and not current.strip()):
            current += piece
    return found


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _globals(backup: Backup, stop: Stop) -> str:
    found = next((file for file in backup.manifest.files if file.name.startswith("globals.sql")), None)
    if found is None:
        raise UsageError(f"the backup {backup.place.id} holds no roles", hint="create them by hand, or use --no-owner")
    return _unpacked(backup, found, whole(backup, found, stop)).decode()


def _unpacked(backup: Backup, file: File, data: bytes) -> bytes:
    import zstandard

    if backup.manifest.encrypted:
        data = _decrypted(backup, file, data)
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError as error:
        raise Damaged(f"{file.name} cannot be decompressed: {error}") from error


def _decrypted(backup: Backup, file: File, data: bytes) -> bytes:
    import pyrage

    if backup.identity is None:
        raise NoKey("there is no key here (identity_file)")
    opened = io.BytesIO()
    try:
        pyrage.decrypt_io(io.BytesIO(data), opened, crypt.identities(backup.identity))
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            raise NoKey("the key here does not fit") from error
        raise Damaged(f"{file.name} cannot be decrypted: {error}") from error
    return opened.getvalue()
