"""Layers, head and hub of a model, and the rows of a dataset that could not be read.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text() -> sa.String:
    """Text ordered by its characters, as everywhere else."""
    return sa.String(collation="C" if op.get_bind().dialect.name == "postgresql" else None)


def upgrade() -> None:
    for name in ("dtype", "handle", "revision"):
        op.add_column("models", sa.Column(name, _text(), nullable=True))
    op.add_column("models", sa.Column("num_layers", sa.Integer(), nullable=True))
    op.add_column("models", sa.Column("labels", _text(), nullable=False, server_default="[]"))
    op.add_column("datasets", sa.Column("num_skipped", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for name in ("dtype", "handle", "revision", "num_layers", "labels"):
        op.drop_column("models", name)
    op.drop_column("datasets", "num_skipped")
