"""What a role for maint needs, as SQL for one server's version. Pure; nothing of it is executed."""

from collections.abc import Iterator

from maint.cli.lookaround import ROLE, Server
from maint.postgres import quoted

OLDEST = 14
#: https://www.postgresql.org/docs/current/predefined-roles.html: since which major, and what for
_ROLES = (
    ("pg_read_all_data", 14, "every table, sequence and schema"),
    ("pg_monitor", 14, "statistics, activity, WAL archiving"),
    ("pg_maintain", 17, "VACUUM, ANALYZE and REINDEX (before 17: the owner or a superuser)"),
)
_NOT_COVERED = (
    f"-- Row-level security: pg_dump refuses such tables unless: ALTER ROLE {ROLE} BYPASSRLS;",
    f"-- Large objects of other roles: GRANT SELECT ON LARGE OBJECT each, or: ALTER ROLE {ROLE} SUPERUSER;",
    "-- Subscriptions, user-mapping options, role passwords: only a superuser's dump has them. A superuser",
    "--   needs none of these grants, and whoever has its password has the server.",
)


def statements(server: Server) -> Iterator[str]:
    """Yield the lines to be run by a superuser of `server`."""
    if server.standby:
        yield "-- this is a standby: run it on its primary"
    if not server.role_exists:
        yield f"CREATE ROLE {ROLE} LOGIN;  -- then in psql: \\password {ROLE}   (none is needed with peer or cert)"
    for name, since, purpose in _ROLES:
        if server.version // 10000 >= since:
            yield f"GRANT {name} TO {ROLE};  -- {purpose}"
    for database in server.private:
        yield f"GRANT CONNECT ON DATABASE {quoted(database)} TO {ROLE};"
    yield from _NOT_COVERED
