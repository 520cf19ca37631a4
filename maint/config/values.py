"""How durations, sizes, patterns and connection strings are written in the configuration. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import BeforeValidator, WithJsonSchema

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
#: beyond it a date minus a duration would leave the calendar
_LONGEST = 36525 * 86400
_BYTES = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40, "PB": 1 << 50}


def parse_duration(value: Any) -> timedelta:
    """Return the time that `"90s"`, `"5m"`, `"26h"`, `"8d"` or `"2w"` stands for; ValueError otherwise."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([0-9]{1,12})([smhdw])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('not a duration: write a whole number and s, m, h, d or w, as in "90s" or "12h"')
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST:
        raise ValueError("longer than 100 years")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """Write `value` as the configuration does, in the largest unit that divides it."""
    seconds = round(value.total_seconds())
    unit = next(u for u in reversed(_SECONDS) if seconds % _SECONDS[u] == 0) if seconds else "s"
    return f"{seconds // _SECONDS[unit]}{unit}"


def parse_size(value: Any) -> int:
    """Return the bytes that `"32MB"` or `"1 GB"` stands for (1 MB = 1024 kB); ValueError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"([0-9]{1,18})\s*(B|kB|MB|GB|TB|PB)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('not a size: write a whole number and B, kB, MB, GB or TB, as in "32MB" (1 MB = 1024 kB)')
    return int(match[1]) * _BYTES[match[2]]


def format_size(value: int) -> str:
    """Write `value` as the configuration does, in the largest unit that divides it."""
    unit = next(u for u in reversed(_BYTES) if value % _BYTES[u] == 0) if value else "B"
    return f"{value // _BYTES[unit]}{unit}"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,12}[smhdw]$", "examples": ["90s", "12h", "8d"]}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[0-9]+ *([kMGTP]?B)$"}]}),
]


def is_pattern(text: str) -> bool:
    """Tell whether `text` is a pattern and not simply a name."""
    return text.startswith("!") or any(character in text for character in "*?[")


def matches(patterns: Sequence[str], name: str) -> bool:
    """Tell whether `patterns` select `name`: some plain one matches, and none that begins with `!`.

    Patterns are those of a shell (``*``, ``?``, ``[…]``), case counts, and their order does not matter.
    Only `!` patterns mean everything else.
    """
    wanted = [p for p in patterns if not p.startswith("!")] or ["*"]
    refused = [p[1:] for p in patterns if p.startswith("!")]
    return _any(wanted, name) and not _any(refused, name)


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(pattern == name or fnmatchcase(name, pattern) for pattern in patterns)


#: keywords of a libpq connection string whose values are secret
_SECRET = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
_PAIR = re.compile(
    r"\s*(?P<key>[^\s=]+)\s*=\s*(?P<value>'(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*|)(?=\s|$)\s*",
    re.S,
)
_URI = re.compile(r"postgres(?:ql)?://")
_USERINFO = re.compile(r"(?P<head>postgres(?:ql)?://[^:@/?#]*):(?P<value>[^@/?#]*)(?=@)")
_PARAMETER = re.compile(rf"(?P<head>[?&](?:{'|'.join(_SECRET)})=)(?P<value>[^&#]*)")


def check_dsn(dsn: str) -> str:
    """Return `dsn` if libpq could read it; ValueError (without its text) otherwise."""
    if not _URI.match(dsn):
        list(_pairs(dsn))
    return dsn


def _pairs(dsn: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(dsn.rstrip()):
        match = _PAIR.match(dsn, position)
        if match is None:
            raise ValueError(
                'not a libpq connection string: write "host=… dbname=…", "service=…" or "postgresql://…"'
                " (a value with spaces goes in single quotes)"
            )
        yield match
        position = match.end()


def dsn_secrets(dsn: str) -> list[str]:
    """Return every secret in `dsn`, as written and as meant (escapes and quotes undone)."""
    return [text for match in _secret_spans(dsn) for text in _spellings(match["value"], uri=bool(_URI.match(dsn)))]


def mask_dsn(dsn: str) -> str:
    """Return `dsn` with `***` for every secret in it; all of it is masked if it cannot be read."""
    try:
        spans = [match.span("value") for match in _secret_spans(dsn)]
    except ValueError:
        return "***"
    for start, end in sorted(spans, reverse=True):
        dsn = f"{dsn[:start]}***{dsn[end:]}"
    return dsn


def _secret_spans(dsn: str) -> list[re.Match[str]]:
    if _URI.match(dsn):
        return [*_USERINFO.finditer(dsn), *_PARAMETER.finditer(dsn)]
    return [match for match in _pairs(dsn) if match["key"] in _SECRET]


def _spellings(value: str, *, uri: bool) -> Iterator[str]:
    inner = value[1:-1] if value.startswith("'") else value
    meant = unquote(value) if uri else re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)
    yield from {value, meant} - {"", "''"}
