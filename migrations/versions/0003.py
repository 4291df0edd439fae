"""A slot can be held for preparing a base.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "runner",
        sa.Column("purpose", sqlmodel.sql.sqltypes.AutoString(), server_default="jobs", nullable=False),
    )
