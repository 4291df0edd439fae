"""A VM can be kept for debugging.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("held_until", "guest_held_until"):
        op.add_column("runner", sa.Column(name, sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True))
