"""Logs: the run on every line, secrets redacted, hostile names escaped.

Standard library only: importing structlog costs every command 90 ms.
"""

import json as jsonlib
import logging
import re
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from functools import partial
from typing import Any, ParamSpec, TextIO, TypeVar
from urllib.parse import quote, quote_plus

P = ParamSpec("P")
R = TypeVar("R")

_ROOT = "maint"
_STARS = "***"

# -- secrets --

#: shorter values are not searched for: every "a" would become stars; `password=a` is found all the same
SHORTEST_SECRET = 4

_KEY = (
    r"(?:password|passwd|passphrase|secret|secret[_-]?(?:access[_-]?)?key|scram_(?:client|server)_key"
    r"|token|signature|credential)"
)
_QUOTED = r"""(?:'(?:[^'\\]|\\.|'')*(?:'|\Z)|"(?:[^"\\]|\\.)*(?:"|\Z))"""
_VALUE = rf"""(?:{_QUOTED}|[^\s'"]\S*)"""
_SECRET_NAME = re.compile(rf"{_KEY}\Z", re.IGNORECASE)
#: what shows by its form that it is a secret: (pattern, replacement). More is taken rather than less.
_FORMS = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement)
    for pattern, replacement in (
        # scheme://user:password@host, whatever the password holds
        (r"(\b[a-z][a-z0-9+.-]*://[^\s/?#:@'\"]*):[^\s'\"]*@", rf"\1:{_STARS}@"),
        # password=x, PGPASSWORD='x y', aws_secret_access_key = x; not password_file=x
        (rf"({_KEY}[ \t]*=[ \t]*){_VALUE}", rf"\1{_STARS}"),
        # "password": "x", as JSON and Python show mappings
        (rf"""({_KEY}["'][ \t]*:[ \t]*){_QUOTED}""", rf"\1{_STARS}"),
        # ALTER ROLE … PASSWORD 'x'; not pg_dump --no-password '--dbname=x'
        (r"((?<!--no-)\bpassword\s+)'(?:[^'\\]|\\.|'')*(?:'|\Z)", rf"\1{_STARS}"),
        (r"(\bauthorization:[ \t]*)[^\r\n]+", rf"\1{_STARS}"),
        (r"AGE-SECRET-KEY-[0-9A-Z]+", _STARS),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", _STARS),
    )
)

_lock = threading.Lock()
_registered: set[str] = set()
_known: re.Pattern[str] | None = None


def register_secret(value: str) -> None:
    """Have `value` replaced by stars in all that maint writes, percent-encoded or escaped too."""
    global _known
    spellings = {spelling for spelling in _spellings(value.strip()) if len(spelling) >= SHORTEST_SECRET}
    with _lock:
        _registered.update(spellings)
        longest_first = sorted(_registered, key=len, reverse=True)
        _known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _spellings(value: str) -> Iterator[str]:
    yield value
    for encode in (partial(quote, safe=""), quote, quote_plus):
        encoded = encode(value.encode("utf-8", "surrogateescape"))
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)
    yield value.replace("\\", "\\\\").replace("'", "\\'")  # libpq
    yield value.replace("'", "''")  # SQL
    yield repr(value)[1:-1]
    yield jsonlib.dumps(value)[1:-1]
    yield jsonlib.dumps(value, ensure_ascii=False)[1:-1]
    yield escape(value)
    yield from value.splitlines()  # a key file is shown line by line


def names_secret(key: str) -> bool:
    """Tell whether the value of something called `key` is a secret: "password", "aws_secret_access_key"."""
    return _SECRET_NAME.search(key) is not None


def redact(text: str) -> str:
    """Return `text` with every registered secret, and what looks like one, replaced by stars."""
    if _known is not None:
        text = _known.sub(_STARS, text)
    for pattern, replacement in _FORMS:
        text = pattern.sub(replacement, text)
    return text


def escape(text: str) -> str:
    """Return `text` on one line, without control characters: a database may be named with a newline."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\u00a0" else c.encode("unicode_escape").decode() for c in text)


# -- which run a line belongs to --

_bound: ContextVar[Mapping[str, Any]] = ContextVar("maint.log.bound", default={})  # noqa: B039 - never changed
#: the bindings that are active in this process, for threads that were started without `carrying`
_active: list[Mapping[str, Any]] = []


@contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Put `fields` (run, job, server) on every line logged in the block, and in the threads it starts.

    A thread does not inherit a context variable. While one run is bound in this process, as in every child
    and in `maint run`, its lines are the run's all the same; with several, start threads with `carrying`.
    """
    merged = {**_bound.get(), **fields}
    token = _bound.set(merged)
    _active.append(merged)
    try:
        yield
    finally:
        _active.remove(merged)
        _bound.reset(token)


def carrying(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` such that it logs, in whatever thread, for the run that is bound now."""
    context = copy_context()
    return lambda *args, **kwargs: context.copy().run(function, *args, **kwargs)


def bound() -> Mapping[str, Any]:
    """Return the fields of the run that logs here."""
    fields = _bound.get()
    if fields or not _active:
        return fields
    newest = _active[-1]
    one = all(other.get("run", newest.get("run")) == newest.get("run") for other in list(_active))
    return newest if one else fields


class _Binding(logging.Filter):
    """Remembers in the record its run, and the program that said it (`extra={"program": …}`)."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "fields"):
            program = getattr(record, "program", None)
            record.fields = {**bound(), **({"program": program} if program else {})}
        return True


# -- how a line looks --


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return redact("".join(traceback.format_exception(record.exc_info[1])))


class TextFormatter(logging.Formatter):
    """``02:00:03Z 1207 backup main  pg_dump: message``; UTC, because the reader may sit in another zone."""

    def __init__(self, *, traces: bool) -> None:
        super().__init__()
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        who = [str(fields[key]) for key in ("run", "job", "server") if fields.get(key) not in (None, "-")]
        said = [str(fields["program"])] if fields.get("program") else []
        level = [record.levelname.lower()] if record.levelno >= logging.WARNING else []
        head = " ".join([f"{datetime.fromtimestamp(record.created, UTC):%H:%M:%S}Z", *who])
        text = redact(f"{head}  {': '.join([*said, *level, record.getMessage()])}")
        return escape(text) + self._trace(record)

    def _trace(self, record: logging.LogRecord) -> str:
        lines = _trace(record).splitlines()
        if not lines:
            return ""
        # indented, so that no exception's text can pass for a line of its own
        return "".join(f"\n    {escape(line)}" for line in lines) if self._traces else f" ({escape(lines[-1])})"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, run, job, server, program, logger, message, exception."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {key: _plain(value) for key, value in getattr(record, "fields", {}).items()}
        instant = datetime.fromtimestamp(record.created, UTC)
        line = {
            "ts": instant.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            **fields,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if trace := _trace(record):
            line["exception"] = trace
        return jsonlib.dumps(line)  # ASCII: no control character, no broken surrogate


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float)) else redact(str(value))


def setup(stream: TextIO, *, debug: bool = False, quiet: bool = False, json: bool | None = None) -> None:
    """Log to `stream`: JSON lines, or text for a person; None decides by whether it is a terminal.

    maint's own records from INFO on, everybody else's from WARNING on; `debug` lowers both by one level,
    `quiet` shows warnings and errors only: where a progress bar tells the rest.
    """
    as_json = not stream.isatty() if json is None else json
    handler = logging.StreamHandler(stream)
    handler.name = _ROOT
    handler.setLevel(logging.WARNING if quiet else logging.NOTSET)
    handler.addFilter(_Binding())
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter(traces=debug))
    root = logging.getLogger()
    for other in [other for other in root.handlers if other.name == _ROOT]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(logging.INFO if debug else logging.WARNING)
    logging.getLogger(_ROOT).setLevel(logging.DEBUG if debug else logging.INFO)


# -- the log of one run --


class Capture(logging.Handler):
    """Keeps what one run logs, as text: the newest megabyte for the history and the last 25 lines.

    Used in a `with`, which adds it to the loggers and removes it again.
    """

    LIMIT = 1 << 20  #: characters not yet taken; older ones are dropped, and how many is said

    def __init__(self, run: int) -> None:
        super().__init__()
        self._run = run
        self._pending: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._tail: deque[str] = deque(maxlen=25)
        self.heard: Callable[[], None] = lambda: None  #: is called with each line
        self.addFilter(_Binding())
        self.setFormatter(TextFormatter(traces=True))

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "fields", {}).get("run") != self._run:
            return
        self.heard()
        text = self.format(record)[-self.LIMIT :]
        self._tail.extend(text.splitlines())
        self._pending.append(text)
        self._size += len(text) + 1
        while self._size > self.LIMIT and len(self._pending) > 1:
            self._size -= len(self._pending.popleft()) + 1
            self._dropped += 1

    def take(self) -> str:
        """Return what was logged since the last call, whole lines; "" if nothing was."""
        with self.lock or threading.RLock():
            lines = [f"({self._dropped} earlier messages were too many to keep)"] if self._dropped else []
            lines += self._pending
            self._pending.clear()
            self._size = self._dropped = 0
        return "".join(f"{line}\n" for line in lines)

    def tail(self) -> tuple[str, ...]:
        """Return the last 25 lines."""
        with self.lock or threading.RLock():
            return tuple(self._tail)

    def __enter__(self) -> "Capture":
        logging.getLogger().addHandler(self)
        logging.getLogger(_ROOT).setLevel(min(logging.getLogger(_ROOT).level or logging.INFO, logging.INFO))
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
