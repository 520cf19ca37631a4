"""The tables of the history. They are made and changed by `migrations/` alone; a test compares the two."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

#: the newest migration: what this maint reads and writes
REVISION = "0002"
#: where the tables lie on PostgreSQL; SQLite has no schemas
SCHEMA = "maint"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An instant as microseconds since 1970, UTC: it sorts and subtracts alike in SQLite and PostgreSQL."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else _EPOCH + value * _MICROSECOND


class Json(TypeDecorator[Any]):
    """JSON, and JSONB on PostgreSQL."""

    impl = JSON
    cache_ok = True
    should_evaluate_none = True  # None is the JSON value null

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return JSON()
        from sqlalchemy.dialects.postgresql import JSONB  # a history in SQLite does without this dialect

        return JSONB()


Id = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers only INTEGER keys by itself

metadata = MetaData(schema=SCHEMA)


def _text(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, Text, nullable=null)


def _of_run() -> Column[Any]:
    return Column("run_id", Id, ForeignKey(f"{SCHEMA}.runs.id", ondelete="CASCADE"), nullable=False)


runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    _text("job"),
    _text("task"),
    _text("server"),
    _text("slot"),
    Column("attempt", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    _text("outcome", null=True),
    _text("summary"),
    _text("error", null=True),
    _text("hint", null=True),
    #: by the database's clock where it has one of its own, so that hosts with wrong clocks agree
    Column("heartbeat_at", Instant, nullable=False),
    Column("progress", Json, nullable=False),
    Column("pid", BigInteger, nullable=False),
    #: when that process started, in ticks since boot: a pid is used again, a pair of both is not
    Column("pid_started", BigInteger, nullable=False),
    _text("host"),
    _text("boot_id"),  #: or container: only there a pid means anything
    _text("options_digest", null=True),
    UniqueConstraint("job", "server", "slot", "attempt", name="uq_runs_slot"),
    # at most one attempt at a time, and how to find what is unfinished: WHERE outcome IS NULL, in its migration;
    # to say so here would import the dialect of PostgreSQL into every command, 20 ms
    Index("uq_runs_unfinished", "job", "server", "slot", unique=True),
    # each listing is newest first, and none may scan a million runs
    Index("ix_runs_started", "started_at", "id"),
    Index("ix_runs_job", "job", "started_at", "id"),
    Index("ix_runs_server", "server", "started_at", "id"),
    Index("ix_runs_job_server", "job", "server", "started_at", "id"),
    Index("ix_runs_outcome", "outcome", "started_at", "id"),
    sqlite_autoincrement=True,  # the number of a deleted run is not given to another
)

steps = Table(
    "steps",
    metadata,
    Column("id", Id, primary_key=True),
    _of_run(),
    _text("verb"),
    _text("object"),
    Column("commands", Json, nullable=False),
    _text("reason"),
    Column("predicted_seconds", Float),
    _text("lock", null=True),
    _text("database", null=True),
    _text("outcome"),
    _text("note"),
    Column("before", Json, nullable=False),
    Column("after", Json, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("seconds", Float, nullable=False),
    Index("ix_steps_run", "run_id", "id"),
    Index("ix_steps_object", "object", "verb", "id"),
)

findings = Table(
    "findings",
    metadata,
    Column("id", Id, primary_key=True),
    _of_run(),
    _text("server"),
    _text("fingerprint"),
    _text("check"),
    _text("severity"),
    _text("object"),
    _text("message"),
    _text("value", null=True),
    _text("threshold", null=True),
    _text("scope", null=True),
    Column("examples", Json, nullable=False),
    _text("fix", null=True),
    _text("withheld", null=True),
    _text("where", null=True),
    Column("at", Instant, nullable=False),
    Index("ix_findings_run", "run_id", "id"),
    Index("ix_findings_fingerprint", "fingerprint", "at"),
)

samples = Table(
    "samples",
    metadata,
    Column("id", Id, primary_key=True),
    _of_run(),
    _text("server"),
    _text("name"),
    _text("object"),
    Column("value", Float, nullable=False),
    _text("unit"),
    Column("at", Instant, nullable=False),
    Index("ix_samples_run", "run_id", "id"),
    Index("ix_samples_series", "server", "name", "object", "at"),
)

logs = Table(
    "logs",
    metadata,
    Column("id", Id, primary_key=True),
    _of_run(),
    _text("text"),
    Index("ix_logs_run", "run_id", "id"),
)

manifests = Table(
    "manifests",
    metadata,
    Column("repository", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    _text("json"),
)

facts = Table(
    "facts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Json, nullable=False),
)
