"""How things are shown: tables, JSON, sizes, durations, ages, instants."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from maint.format import age, duration, printable, size

__all__ = ["age", "duration", "echo_json", "echo_json_line", "local", "printable", "rfc3339", "size", "table"]


def echo_json(value: Any) -> None:
    """Print one JSON value on stdout: a list is one array, a single thing one object."""
    if isinstance(value, list) and value:
        # a line per element: indent would take the encoder that is written in Python, slow for thousands
        lines = (json.dumps(element, default=_plain, ensure_ascii=False) for element in value)
        click.echo("[\n " + ",\n ".join(lines) + "\n]")
    else:
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


def rfc3339(instant: datetime) -> str:
    """Write an instant for machines: UTC with Z."""
    text = instant.astimezone(UTC).isoformat(timespec="milliseconds" if instant.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def local(instant: datetime, zone: ZoneInfo, *, seconds: bool = False) -> str:
    """Write an instant for people, always with its zone: ``Fri 20 Nov 02:00 CET``."""
    return f"{instant.astimezone(zone):%a %d %b %H:%M{':%S' if seconds else ''} %Z}"
