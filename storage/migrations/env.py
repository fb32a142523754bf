"""Alembic's entry point: runs the migrations on the connection that storage.database hands over."""

from alembic import context
from sqlmodel import SQLModel

import storage.catalog
import storage.learned_costs
import storage.published
import storage.results
import storage.turns
import storage.watches  # noqa: F401  (registers the tables)

connection = context.config.attributes["connection"]
if connection.dialect.name == "sqlite":
    # Python begins no transaction before a change of schema: one that is cut short would stay half done for ever.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
