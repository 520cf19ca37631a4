"""Findings say where they were found: NULL on production, or "laboratory"."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    schema = "maint" if op.get_bind().dialect.name == "postgresql" else None
    op.add_column("findings", sa.Column("where", sa.Text, nullable=True), schema=schema)
