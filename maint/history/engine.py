"""Opening the history: its place, how it is connected to, and every error in words that help."""

import fcntl
import json
import os
import pwd
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from maint.config.model import Config
from maint.errors import HistoryDenied, HistoryError
from maint.history.schema import SCHEMA
from maint.log import redact

#: how long a write waits for another process: ours hold the lock for milliseconds
BUSY_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where the history is: a SQLite file, or a PostgreSQL database given as libpq takes it."""

    file: Path | None = None
    conninfo: str | None = None

    def __str__(self) -> str:
        return str(self.file) if self.file else f"schema {SCHEMA} of {redact(self.conninfo or '')}"


def place_of(config: Config) -> Place:
    """Return where `config` wants the history."""
    if config.history.url is None:
        return Place(file=config.state_dir / "maint.db")
    url = config.history.url.get_secret_value()
    scheme, separator, rest = url.partition("://")
    if re.fullmatch(r"postgres(ql)?(\+psycopg)?", scheme) and separator:
        return Place(conninfo=f"postgresql://{rest}")
    if scheme == "sqlite" and (database := make_url(url).database) and Path(database).is_absolute():
        return Place(file=Path(database))
    if not separator and "=" in url:
        return Place(conninfo=url)
    raise HistoryError(
        f"history.url is not understood: {redact(url)}",
        hint='write "sqlite:////var/lib/maint/maint.db" (an absolute path) or "postgresql://host/database"',
    )


def connectable(place: Place) -> Engine:
    """Return an engine for `place`. It connects to nothing yet."""
    return _postgresql(place.conninfo) if place.conninfo is not None else _sqlite(place)


def _sqlite(place: Place) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(place.file)),
        connect_args={"timeout": BUSY_SECONDS},
        json_serializer=_dumps,
        execution_options={"schema_translate_map": {SCHEMA: None}},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # this module says BEGIN itself
    # FULL: a claim or an outcome that was acknowledged survives a power cut, or a slot would be worked twice.
    # It costs one fsync per write, and a run writes about once a second.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Any) -> None:
    # IMMEDIATE: a reader that turns writer in the middle gets "database is locked" without any waiting
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(conninfo: str) -> Engine:
    engine = create_engine(
        "postgresql+psycopg://",
        json_serializer=_dumps,
        pool_pre_ping=True,  # the server may have restarted since the last write
        use_native_hstore=False,  # saves a query per connection
        connect_args={
            "application_name": "maint history",
            "connect_timeout": 10,
            "prepare_threshold": None,  # a pooler in between would not find the statements again
        },
    )
    event.listen(engine, "do_connect", lambda _dialect, _record, args, _kwargs: args.__setitem__(0, conninfo))
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: Any) -> None:
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- the file --


def prepare_file(file: Path) -> None:
    """Make sure that the SQLite file exists, private, in a private folder, and may be written by us."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _give_to_owner_of_folder(file)
        if not _is_wal(file):
            _use_wal(file)
    except OSError as error:
        raise _file_error(file, error) from error


def _give_to_owner_of_folder(file: Path) -> None:
    """Leave no file of root's in the folder of the service's user: the service could not open it."""
    folder = file.parent.stat()
    if os.geteuid() == 0 and file.stat().st_size == 0 and folder.st_uid != 0:
        os.chown(file, folder.st_uid, folder.st_gid)


def _header(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(20)


def _is_wal(file: Path) -> bool:
    return _header(file)[18:20] == b"\2\2"  # https://www.sqlite.org/fileformat.html#file_format_version_numbers


def _use_wal(file: Path) -> None:
    """Let readers and the writer not wait for each other. It stays so: the file says it.

    The switch fails at once, without waiting, if two try: a lock on the folder keeps them apart.
    """
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not _is_wal(file):
            with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
    finally:
        os.close(folder)


def file_exists(file: Path) -> bool:
    """Tell whether there is a history in `file`; raise `HistoryDenied` where we may not look."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CLOEXEC))
        return file.stat().st_size > 0 and (_is_wal(file) or not _header(file).startswith(b"SQLite format 3"))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _file_error(file, error) from error


def _file_error(file: Path, error: OSError) -> HistoryError:
    if isinstance(error, PermissionError) and (owner := _owner(file)):
        return HistoryDenied(f"the history belongs to {owner}: {file}", owner=owner)
    return HistoryError(
        f"the history cannot be opened: {file}: {error.strerror}",
        hint=f"make {file.parent} a folder that this user can write, or set state_dir or history.url",
    )


def _owner(file: Path) -> str | None:
    """Return the user, other than ourselves, to whom the file or, if that cannot be seen, its folder belongs."""
    for path in (file, file.parent):
        try:
            uid = path.stat().st_uid
        except OSError:
            continue
        return None if uid == os.geteuid() else _user(uid)
    return None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # sudo -u takes it


# -- errors --


@contextmanager
def translated(place: Place) -> Iterator[None]:
    """Raise whatever the database says as a `HistoryError` with a hint."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _error(place, str(error.orig).strip()) from error
    except (sqlite3.Error, exc.TimeoutError) as error:
        raise _error(place, str(error)) from error


#: what the error says -> what to do; {place} is the file or the database, {folder} the file's folder
_HINTS = (
    (
        r"not a database|malformed",
        "move {place} aside: maint begins a new one and finds its backups in the repositories",
    ),
    (r"is full|No space left", "free some space in {folder}; backups still run, and stand in their repositories"),
    (
        r"readonly|read-only",
        "the file system of {folder}, or the database, takes no writes: look why (dmesg)",
    ),
    (r"is locked|lock timeout", "another process holds it open in a transaction: fuser -v {place}"),
    (r"disk I/O error|unable to open", "look at {folder}: its disk (dmesg), its free space, its permissions"),
    (
        r"permission denied for database",
        "as its owner: CREATE SCHEMA maint AUTHORIZATION <the role in history.url>;",
    ),
    (r"permission denied", "as the owner of schema maint: GRANT the role in history.url what it lacks"),
    (r"", "look whether the database in history.url answers: psql"),
)


def _error(place: Place, text: str) -> HistoryError:
    line = redact(" ".join(text.split()))
    hint = next(hint for pattern, hint in _HINTS if re.search(pattern, text, re.IGNORECASE))
    folder = place.file.parent if place.file else "its server"
    return HistoryError(f"the history: {line} ({place})", hint=hint.format(place=place, folder=folder))
