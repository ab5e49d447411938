"""Runs the migrations on the connection that `dues.postgres.migrate` hands over, all in one transaction."""

from alembic import context

from dues.postgres import Model

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Model.metadata, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
