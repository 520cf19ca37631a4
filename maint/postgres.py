"""The only importer of psycopg: connections to managed servers, statements from `sql/`, translated errors."""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from types import TracebackType
from typing import Any, LiteralString, Self, cast

import psycopg
from psycopg import conninfo, errors, sql
from psycopg.rows import namedtuple_row
from pydantic import SecretStr

from maint import shipped
from maint.clock import Stop
from maint.config.model import ServerConfig
from maint.errors import (
    LockNotAvailable,
    MaintError,
    PermissionDenied,
    ServerError,
    ServerUnavailable,
    UsageError,
)

Identifier = sql.Identifier
Literal = sql.Literal
SQL = sql.SQL
Composed = sql.Composed
Composable = sql.Composable

#: seconds until a connection attempt, each host of a list by itself, is given up
CONNECT_TIMEOUT = 10

#: a dead peer is noticed within a minute, a firewall does not forget an idle session
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

#: role or database defaults that would end maintenance in the middle; 0 = off
_TIMEOUTS = {
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 0,
    "idle_session_timeout": 14,
    "transaction_timeout": 17,
}

_NEVER_BETTER = re.compile(
    r"authentication failed|no pg_hba\.conf entry|does not exist|no password supplied|permission denied"
    r"|certificate|not permitted to log in|not currently accepting connections",
)


class Connection:
    """One autocommit session that no time-out of a role or database ends, and that a `Stop` can interrupt."""

    def __init__(self, raw: "psycopg.Connection[Any]", *, stop: Stop | None) -> None:
        self._raw = raw
        self._stop = stop
        self.version = raw.info.server_version  #: 160004
        self.notices: list[str] = []  #: what the server warned of, newest last
        raw.add_notice_handler(self._notice)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        self.notices.append(f"{diagnostic.severity}: {diagnostic.message_primary}")

    @property
    def major(self) -> int:
        return self.version // 10000

    @property
    def database(self) -> str:
        return self._raw.info.dbname

    @property
    def user(self) -> str:
        return self._raw.info.user

    @property
    def is_local(self) -> bool:
        """Whether the server runs on this machine."""
        info = self._raw.info
        return info.host.startswith(("/", "@")) or info.hostaddr in ("127.0.0.1", "::1")

    @property
    def pid(self) -> int:
        """The process of this session on the server."""
        return self._raw.info.backend_pid

    def query(self, name: str, /, **params: Any) -> list[Any]:
        """Run `sql/<name>.sql` (the variant for this server's version) and return its rows, named tuples."""
        return self._run(statement(name, self.major), params)

    def execute(self, query: str | sql.Composable, params: Mapping[str, Any] | None = None) -> list[Any]:
        """Run one statement and return its rows, if it has any."""
        return self._run(query, params)

    def perform(self, query: str | sql.Composable) -> str:
        """Run one statement for its effect; return the server's word for it: ``UPDATE 12``."""
        with _translated(self._stop), self._interruptible():
            return self._raw.execute(cast("LiteralString", query)).statusmessage or ""

    def _run(self, query: str | sql.Composable, params: Mapping[str, Any] | None) -> list[Any]:
        with _translated(self._stop), self._interruptible():
            cursor = self._raw.execute(cast("LiteralString", query), params)
            return cursor.fetchall() if cursor.description else []

    def _interruptible(self) -> Any:
        return self._stop.interrupts(self.cancel) if self._stop else nullcontext()

    def cancel(self) -> None:
        """Ask the server to end the running statement; returns at once, safe from any thread."""
        threading.Thread(target=self._cancel, name="cancel", daemon=True).start()

    def _cancel(self) -> None:
        try:
            self._raw.cancel_safe(timeout=5)
        except psycopg.Error:
            self._raw.close()

    @contextmanager
    def transaction(self, mode: LiteralString = "ISOLATION LEVEL REPEATABLE READ, READ ONLY") -> Iterator[None]:
        """Run the block in one transaction."""
        self.execute(sql.SQL("BEGIN ") + sql.SQL(mode))
        try:
            yield
        except BaseException:
            self._rollback()
            raise
        self.execute("COMMIT")

    def _rollback(self) -> None:
        try:
            self._raw.execute("ROLLBACK")
        except psycopg.Error:
            self._raw.close()

    def environment(self) -> dict[str, str]:
        """Return the PG* variables with which a child program reaches this very server, password included.

        Of the live connection: with several hosts in the dsn, a snapshot is only known to this one.
        """
        options = {o.envvar.decode(): o.val.decode() for o in self._raw.pgconn.info if o.envvar and o.val}
        info = self._raw.info
        options |= {"PGHOST": info.host, "PGPORT": str(info.port)}
        if info.password:
            options["PGPASSWORD"] = info.password
        if "," in options.get("PGHOSTADDR", ""):
            options["PGHOSTADDR"] = info.hostaddr
        for ours in ("PGSERVICE", "PGAPPNAME", "PGDATABASE", "PGCLIENTENCODING"):
            options.pop(ours, None)
        return options

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    server: ServerConfig,
    database: str | None = None,
    *,
    application_name: str = "maint",
    stop: Stop | None = None,
    lock_timeout: str = "1s",
    connect_timeout: int = CONNECT_TIMEOUT,
) -> Connection:
    """Open a session on `server`, by default on its maintenance database.

    Raises `ServerUnavailable` if it cannot be reached now, `ServerError` if trying again would not help.
    """
    if stop:
        stop.check()
    with _translated(stop, f"server {server.name}"):
        raw = psycopg.connect(
            conninfo_of(server, database, application_name=application_name, connect_timeout=connect_timeout),
            autocommit=True,
            prepare_threshold=None,  # prepared statements do not survive a transaction-pooling pgbouncer
        )
        try:
            _prepare_session(raw, lock_timeout)
            raw.row_factory = namedtuple_row
        except BaseException:
            raw.close()
            raise
    return Connection(raw, stop=stop)


def conninfo_of(server: ServerConfig, database: str | None = None, **extra: Any) -> str:
    """Return the libpq connection string for `server`, with its password if it has one of its own."""
    given = server.dsn.get_secret_value()
    if server.password_file:
        extra["passfile"] = str(server.password_file)
    try:
        own = conninfo.conninfo_to_dict(given)
        return conninfo.make_conninfo(
            given,
            **{k: v for k, v in {**_KEEPALIVES, **extra}.items() if k == "application_name" or k not in own},
            dbname=database if database is not None else server.maintenance_db,
            client_encoding="utf8",
        )
    except psycopg.ProgrammingError as error:
        raise UsageError(
            f"server.{server.name}.dsn is not a libpq connection string: {_first_line(error)}",
            hint='write it as "host=… user=…", "service=…" or "postgresql://…"',
        ) from error


def as_user(server: ServerConfig, user: str, password: str) -> ServerConfig:
    """Return the same server as another role reaches it."""
    dsn = conninfo.make_conninfo(server.dsn.get_secret_value(), user=user, password=password)
    return server.model_copy(update={"dsn": SecretStr(dsn), "password_file": None})


def _prepare_session(raw: "psycopg.Connection[Any]", lock_timeout: str) -> None:
    major = raw.info.server_version // 10000
    settings = {name: "0" for name, since in _TIMEOUTS.items() if major >= since}
    # an empty search_path: nothing in a managed database can put itself before pg_catalog
    settings |= {"lock_timeout": lock_timeout, "search_path": "", "row_security": "off"}
    raw.execute(
        sql.SQL("SELECT ")
        + sql.SQL(", ").join(
            sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in settings.items()
        )
    )


@cache
def statement(name: str, major: int) -> str:
    """Return the statement of `sql/<name>.sql`, or of its newest variant `_pgNN` that `major` has."""
    folder = shipped.folder("sql")
    variants = {int(path.stem.rpartition("_pg")[2]): path for path in folder.glob(f"{name}_pg[0-9][0-9].sql")}
    fitting = [since for since in variants if since <= major]
    path = variants[max(fitting)] if fitting else folder / f"{name}.sql"
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("--")).strip().removesuffix(";")


def quoted(*parts: str) -> str:
    """Quote a possibly qualified name as PostgreSQL would show it: only where it must be."""
    return ".".join(p if re.fullmatch(r"[a-z_][a-z0-9_]*", p) else '"' + p.replace('"', '""') + '"' for p in parts)


def as_text(statement: sql.Composable) -> str:
    """Return a statement as it may be shown, or sent."""
    return re.sub(r"  +(?=E')", " ", statement.as_string(None))


def masked(dsn: str) -> str:
    """Return a connection string that may be shown: its password replaced by ``***``."""
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "***"
    return conninfo.make_conninfo("", **{k: "***" if k in ("password", "sslpassword") else v for k, v in parts.items()})


@contextmanager
def _translated(stop: Stop | None, where: str = "") -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if stop is not None and stop.reason is not None:
            raise stop.reason from error
        raise translate(error, where) from error


def translate(error: psycopg.Error, where: str = "") -> MaintError:
    """Return the error of maint for an error of psycopg; transient if a later attempt may succeed."""
    message = f"{where}: {_first_line(error)}" if where else _first_line(error)
    state = error.sqlstate
    hint = error.diag.message_hint if error.diag else None
    if isinstance(error, errors.InsufficientPrivilege):
        return PermissionDenied(message, hint=hint, sqlstate=state)
    if isinstance(error, errors.LockNotAvailable):
        return LockNotAvailable(message, hint="somebody holds a lock; see pg_locks, or try later", sqlstate=state)
    if state is None and isinstance(error, psycopg.OperationalError):
        if _NEVER_BETTER.search(message):
            return ServerError(message, hint=hint or "check dsn, password file and pg_hba.conf: maint doctor")
        return ServerUnavailable(message, hint=hint or "is the server up and reachable? maint doctor")
    if state is not None and _transient(state):
        return ServerUnavailable(message, hint=hint, sqlstate=state)
    return ServerError(message, hint=hint, sqlstate=state)


def _transient(state: str) -> bool:
    # appendix A of the manual: connection exceptions, serialization, deadlock, out of connections, shutdown
    return state[:2] in ("08", "40", "53") or state in (
        "57P01",
        "57P02",
        "57P03",
        "57P05",
        "55006",
        "25P03",
        "25P04",
    )


def _first_line(error: psycopg.Error) -> str:
    primary = error.diag.message_primary if error.diag else None
    lines: Sequence[str] = [line.strip() for line in str(primary or error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def libpq_value(text: str) -> str:
    """Quote a value of a libpq connection string: a database may be called ``a=b 'c'``."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
