"""What a fine-tuned model was made of.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String(collation="C" if op.get_bind().dialect.name == "postgresql" else None)
    for name in ("parent", "lineage"):
        op.add_column("models", sa.Column(name, text, nullable=True))


def downgrade() -> None:
    for name in ("parent", "lineage"):
        op.drop_column("models", name)
