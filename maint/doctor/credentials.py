"""Credentials that would lie unencrypted in a repository."""

from collections.abc import Iterator, Sequence

from maint.config.model import RepositoryConfig
from maint.doctor.databases import Database
from maint.doctor.lines import counted, some, warn
from maint.doctor.servers import Server
from maint.postgres import Connection
from maint.task import Check


def role_passwords(connection: Connection) -> list[str]:
    """Return what the globals of a superuser hold: hashes of passwords."""
    [found] = connection.query("count_role_passwords")
    if not found.hashes:
        return []
    md5 = f" ({found.md5} of md5, as good as the password itself)" if found.md5 else ""
    return [counted(found.hashes, "role password hash", "role password hashes") + md5]


def unencrypted(
    server: Server, databases: Sequence[Database], hashes: Sequence[str], repositories: Sequence[RepositoryConfig]
) -> Iterator[Check]:
    """Warn of repositories without `encrypt_to` into which dumps with credentials go."""
    held = [*hashes, *(f"{text} ({found.name})" for found in databases for text in found.secrets)]
    if not held:
        return
    for repository in repositories:
        if not repository.encrypt_to:
            yield warn(
                f"repository {repository.name}",
                f"backups of {server.name} hold, not encrypted: {some(held, 6)}",
                f'age-keygen -o maint.age   # then, in [repository.{repository.name}]: encrypt_to = ["age1…"]',
            )
