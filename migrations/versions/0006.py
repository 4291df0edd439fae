"""A runner's row says whether its VM booted or was resumed.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "runner",
        sa.Column("start", sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default="cold"),
    )
