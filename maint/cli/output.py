"""How things are shown: tables, JSON, sizes, durations, ages, instants."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click


def echo_json(value: Any) -> None:
    """Print one JSON value on stdout: a list is one array, a single thing one object."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=1))


def echo_json_line(value: Any) -> None:
    """Print one JSON value on one line (`run` prints one per run)."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def table(rows: Iterable[Sequence[Any]], headers: Sequence[str] = ()) -> str:
    """Align `rows` in columns; numbers are already texts with units."""
    from tabulate import tabulate

    cells = [[printable(str(cell)) for cell in row] for row in rows]
    # without headers tabulate would draw rules; disable_numparse keeps "1e5" a name
    text = tabulate(cells, headers=list(headers), tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def printable(text: str) -> str:
    """Escape control characters: a database may be named with a newline or an escape sequence."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(n: float | None) -> str:
    """Show a number of bytes: ``552 MB`` (powers of 1024, as PostgreSQL prints them)."""
    if n is None:
        return "-"
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = 0
    while abs(n) >= 1000 and power < len(units) - 1:
        n /= 1024
        power += 1
    text = f"{n:.0f}" if power == 0 or abs(n) >= 10 else f"{n:.1f}"
    return f"{text} {units[power]}"


def duration(seconds: float | None) -> str:
    """Show seconds: ``0.4 s``, ``0:31``, ``1:02:03``."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def age(then: datetime, now: datetime) -> str:
    """Show how long ago: ``40 s``, ``12 min``, ``9 h``, ``1.4 d``, ``19 d``."""
    seconds = (now - then).total_seconds()
    if seconds < 0:
        return f"in {age(now, then)}"
    for unit, length, upto in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 24 * 3600)):
        if seconds < upto:
            return f"{seconds / length:.0f} {unit}"
    days = seconds / 86400
    return f"{days:.1f} d" if days < 10 else f"{days:.0f} d"


def rfc3339(instant: datetime) -> str:
    """Write an instant for machines: UTC with Z."""
    text = instant.astimezone(UTC).isoformat(timespec="milliseconds" if instant.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def local(instant: datetime, zone: ZoneInfo, *, seconds: bool = False) -> str:
    """Write an instant for people, always with its zone: ``Fri 20 Nov 02:00 CET``."""
    return f"{instant.astimezone(zone):%a %d %b %H:%M{':%S' if seconds else ''} %Z}"
