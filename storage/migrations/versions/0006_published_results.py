"""Published results that come with SHiFT, and models by their handles.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String(collation="C" if op.get_bind().dialect.name == "postgresql" else None)
    op.create_table(
        "published_results",
        sa.Column("origin", text, primary_key=True),
        sa.Column("dataset_name", text, primary_key=True),
        sa.Column("model_name", text, primary_key=True),
        sa.Column("method", text, primary_key=True),
        sa.Column("metric", text, nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("cost_seconds", sa.Float(), nullable=True),
        sa.Column("fidelity", text, nullable=False),
        sa.Column("params", text, nullable=False),
        sa.Column("curve", text, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
    )
    op.create_table(
        "published_models",
        sa.Column("spelling", text, primary_key=True),
        sa.Column("model_name", text, nullable=False),
    )
    op.create_index("ix_published_models_model_name", "published_models", ["model_name"])
    op.create_index("ix_models_handle", "models", ["handle"])


def downgrade() -> None:
    op.drop_index("ix_models_handle", "models")
    op.drop_table("published_models")
    op.drop_table("published_results")
