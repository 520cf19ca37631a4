"""The first schema: runs with their steps, findings, samples and logs; cached manifests; facts.

Frozen: it does not import `maint.history.schema`, which moves on.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    schema = "maint" if op.get_bind().dialect.name == "postgresql" else None
    _runs(schema)
    _steps(schema)
    _findings(schema)
    _samples(schema)
    _of_run(schema, "logs", _text("text"))
    op.create_index("ix_logs_run", "logs", ["run_id", "id"], schema=schema)
    op.create_table(
        "manifests",
        sa.Column("repository", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        _text("json"),
        schema=schema,
    )
    op.create_table("facts", sa.Column("key", sa.Text, primary_key=True), _json("value"), schema=schema)


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=null)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, JSON, nullable=False)


def _of_run(schema: str | None, name: str, *columns: sa.Column[Any]) -> None:
    runs = f"{schema}.runs.id" if schema else "runs.id"
    op.create_table(
        name,
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey(runs, ondelete="CASCADE"), nullable=False),
        *columns,
        schema=schema,
    )


def _runs(schema: str | None) -> None:
    op.create_table(
        "runs",
        sa.Column("id", ID, primary_key=True),
        _text("job"),
        _text("task"),
        _text("server"),
        _text("slot"),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        _text("outcome", null=True),
        _text("summary"),
        _text("error", null=True),
        _text("hint", null=True),
        sa.Column("heartbeat_at", sa.BigInteger, nullable=False),
        _json("progress"),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("pid_started", sa.BigInteger, nullable=False),
        _text("host"),
        _text("boot_id"),
        _text("options_digest", null=True),
        sa.UniqueConstraint("job", "server", "slot", "attempt", name="uq_runs_slot"),
        schema=schema,
        sqlite_autoincrement=True,
    )
    unfinished = sa.text("outcome IS NULL")
    op.create_index(
        "uq_runs_unfinished",
        "runs",
        ["job", "server", "slot"],
        unique=True,
        schema=schema,
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_index("ix_runs_started", "runs", ["started_at", "id"], schema=schema)
    op.create_index("ix_runs_job", "runs", ["job", "started_at", "id"], schema=schema)
    op.create_index("ix_runs_server", "runs", ["server", "started_at", "id"], schema=schema)
    op.create_index("ix_runs_job_server", "runs", ["job", "server", "started_at", "id"], schema=schema)
    op.create_index("ix_runs_outcome", "runs", ["outcome", "started_at", "id"], schema=schema)


def _steps(schema: str | None) -> None:
    _of_run(
        schema,
        "steps",
        _text("verb"),
        _text("object"),
        _json("commands"),
        _text("reason"),
        sa.Column("predicted_seconds", sa.Float),
        _text("lock", null=True),
        _text("database", null=True),
        _text("outcome"),
        _text("note"),
        _json("before"),
        _json("after"),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
    )
    op.create_index("ix_steps_run", "steps", ["run_id", "id"], schema=schema)
    op.create_index("ix_steps_object", "steps", ["object", "verb", "id"], schema=schema)


def _findings(schema: str | None) -> None:
    _of_run(
        schema,
        "findings",
        _text("server"),
        _text("fingerprint"),
        _text("check"),
        _text("severity"),
        _text("object"),
        _text("message"),
        _text("value", null=True),
        _text("threshold", null=True),
        _text("scope", null=True),
        _json("examples"),
        _text("fix", null=True),
        _text("withheld", null=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_findings_run", "findings", ["run_id", "id"], schema=schema)
    op.create_index("ix_findings_fingerprint", "findings", ["fingerprint", "at"], schema=schema)


def _samples(schema: str | None) -> None:
    _of_run(
        schema,
        "samples",
        _text("server"),
        _text("name"),
        _text("object"),
        sa.Column("value", sa.Float, nullable=False),
        _text("unit"),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_samples_run", "samples", ["run_id", "id"], schema=schema)
    op.create_index("ix_samples_series", "samples", ["server", "name", "object", "at"], schema=schema)
