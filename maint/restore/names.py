"""How databases are called that a restore makes: until they are whole, by the process that fills them."""

import re
import secrets
from collections.abc import Iterable

from maint import owner

_PREFIX = "maint_restore_"
_NAME = re.compile(rf"{_PREFIX}([0-9a-f]{{12}}-\d+-\d+)_[0-9a-f]{{4}}")

#: bytes of a name that PostgreSQL keeps
LONGEST = 63


def new() -> str:
    """Return a name that says whose it is."""
    return f"{_PREFIX}{owner.me()}_{secrets.token_hex(2)}"


def is_ours(name: str) -> bool:
    """Tell whether a restore has made the database of that name."""
    return _NAME.fullmatch(name) is not None


def left(databases: Iterable[str]) -> list[tuple[str, bool]]:
    """Return those that restores which are gone have left; and whether that is known for sure.

    Not for sure: one that was begun on another machine, or before the last start of this one.
    """
    found = []
    for name in databases:
        made_by = owner.Owner.parse(match[1]) if (match := _NAME.fullmatch(name)) else None
        if made_by is not None and (alive := made_by.alive()) is not True:
            found.append((name, alive is False))
    return found


def suffixed(name: str, suffix: str) -> str:
    """Append to a database's name, within the bytes that PostgreSQL keeps; characters stay whole."""
    kept = LONGEST - len(suffix.encode())
    return name.encode()[:kept].decode(errors="ignore") + suffix
