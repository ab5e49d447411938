"""Runs migrations on the connection that `dues.postgres.migrate` hands over, in the transaction that it has begun."""

from alembic import context

from dues.postgres import Model

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Model.metadata, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
