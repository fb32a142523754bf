"""Standing questions, and what they answered each time they were asked again.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import UTCDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String(collation="C" if op.get_bind().dialect.name == "postgresql" else None)
    op.create_table(
        "watches",
        sa.Column("name", text, primary_key=True),
        sa.Column("script", text, nullable=False),
        sa.Column("every_seconds", sa.Float()),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("asked", sa.Float()),
        sa.Column("first", text),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("failure", text),
    )
    op.create_table(
        "watch_history",
        sa.Column("history_id", sa.Integer(), primary_key=True),
        sa.Column("watch", text, nullable=False),
        sa.Column("recorded", UTCDateTime(), nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.Column("first", text),
        sa.Column("changed", sa.Boolean(), nullable=False),
        sa.Column("ranked", sa.Integer(), nullable=False),
        sa.Column("evaluated", sa.Integer(), nullable=False),
        sa.Column("reused", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
    )
    op.create_index("ix_watch_history_watch", "watch_history", ["watch"])
    op.create_table(
        "watch_places",
        sa.Column("history_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("rank", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("model_name", text, nullable=False),
        sa.Column("score", sa.Float()),
        sa.Column("metric", text),
    )


def downgrade() -> None:
    op.drop_table("watch_places")
    op.drop_index("ix_watch_history_watch", "watch_history")
    op.drop_table("watch_history")
    op.drop_table("watches")
