"""Alembic's entry: it migrates on the connection that `pegboard_hub.storage.migrate` hands over."""

from alembic import context

from pegboard_hub.storage.metadata import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
