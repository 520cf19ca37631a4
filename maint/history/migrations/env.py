"""Run by alembic: migrates over the connection, in the transaction, that `upgrade` gives."""

from alembic import context

from maint.history.schema import SCHEMA, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table_schema=SCHEMA if connection.dialect.name == "postgresql" else None,
    transactional_ddl=True,
)
context.run_migrations()
