"""Run by Alembic: the connection, and the table that holds the revision, are given by `auth.schema`."""

from alembic import context

given = context.config.attributes
context.configure(
    connection=given["connection"],
    target_metadata=given["metadata"],
    version_table=given["version_table"],
    render_as_batch=True,  # SQLite cannot alter most things: Alembic makes the table anew
)
with context.begin_transaction():
    context.run_migrations()
