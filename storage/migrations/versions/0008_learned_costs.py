"""What work took on each machine, beside what it was expected to take.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String(collation="C" if op.get_bind().dialect.name == "postgresql" else None)
    op.create_table(
        "learned_costs",
        sa.Column("machine", text, primary_key=True),
        sa.Column("subject", text, primary_key=True),
        sa.Column("stage", text, primary_key=True),
        sa.Column("count", sa.Float(), nullable=False),
        sa.Column("log_sum", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("learned_costs")
