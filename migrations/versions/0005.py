"""A runner's row says when its VM was cloned, and when its runner was minted, delivered and began to listen.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("cloned_at", "minted_at", "delivered_at", "listening_at"):
        op.add_column("runner", sa.Column(name, sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True))
