"""A runner's VM tells what it was cloned from, so that a warm one is renewed when that changes.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runner", sa.Column("source", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
