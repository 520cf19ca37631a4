"""What pg_dump's last words mean: whether a later attempt may succeed, and what the operator can do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from maint.errors import ProgramFailed

#: (in its last lines, whether it may pass, what to do); the first that fits counts
_KNOWN: tuple[tuple[str, bool, str | None], ...] = (
    (
        r"permission denied for (?:table|sequence|schema|large object|view|materialized view)|must be owner",
        False,
        "let the role read everything: GRANT pg_read_all_data TO <role>; maint doctor names what is missing",
    ),
    (
        r"affected by row-level security",
        False,
        "a dump filtered by row-level security is no backup: ALTER ROLE <role> BYPASSRLS, or exclude nothing",
    ),
    (
        r"server version mismatch",
        False,
        "install the client programs of the server's major version, or set bin_dir of the server",
    ),
    (
        # --lock-wait-timeout is a statement_timeout around LOCK TABLE
        r"lock timeout|could not obtain lock|deadlock detected|statement timeout(?s:.*)[Qq]uery was: LOCK TABLE",
        True,
        "somebody holds or awaits an exclusive lock on a table: run it away from schema changes, or raise lock_wait",
    ),
    (
        r"does not exist(?s:.*)[Qq]uery was: (?:LOCK|COPY)|could not open relation with OID|cache lookup failed",
        True,
        "a table was dropped or changed while the dump began: keep schema changes away from the backup's time",
    ),
    (
        r"server closed the connection|terminating connection|connection to server|could not receive data"
        r"|starting up|shutting down|in recovery mode|too many clients|conflict with recovery|SSL SYSCALL",
        True,
        "the server went away or restarted: look at its log for this minute",
    ),
    (r"No space left on device|Disk quota exceeded", False, "free some space"),
)


@contextmanager
def explained() -> Iterator[None]:
    """Give a failure of pg_dump its meaning."""
    try:
        yield
    except ProgramFailed as error:
        _explain(error)
        raise


def _explain(error: ProgramFailed) -> None:
    text = "\n".join(error.tail)
    for pattern, transient, hint in _KNOWN:
        if re.search(pattern, text):
            error.transient, error.hint = transient, error.hint or hint
            return
    # by a signal: of an administrator, or of the kernel when memory ran out
    error.transient = error.status < 0
