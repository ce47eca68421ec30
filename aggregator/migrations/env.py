"""Run the steps on the connection that `aggregator.db` passes in.

Alembic executes this file; it is not imported.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
