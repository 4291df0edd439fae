"""Alembic's entry: runs migrations on the connection that app.db.migrate hands over.

Each migration is one transaction, so a failing one leaves the file as it was. Foreign keys are off meanwhile
(batch mode drops and re-creates tables) and checked afterwards by the caller.
"""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from app.db import tables  # noqa: F401  # fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
