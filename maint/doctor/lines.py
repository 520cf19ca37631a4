"""Building the lines of doctor: what all areas share. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from maint.errors import MaintError
from maint.task import Check

#: names shown of many
_MOST = 3


def ok(subject: str, message: str) -> Check:
    return Check("OK", subject, message)


def warn(subject: str, message: str, fix: str | None = None) -> Check:
    return Check("WARN", subject, message, fix)


def fail(subject: str, message: str, fix: str | None = None) -> Check:
    return Check("FAIL", subject, message, fix)


def guarded(subject: str, collect: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Yield what `collect` yields; an error ends this part with a line of its own, and no other part."""
    try:
        yield from collect()
    except MaintError as error:
        yield fail(subject, " ".join(str(error).splitlines()), error.hint)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write ``1 table``, ``1,214 tables``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[str], most: int = _MOST) -> str:
    """Write the first names and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")
