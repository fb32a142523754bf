"""Bootstrap replicates of scores, and indices of the columns that people order and filter by.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


_KEYS = {
    "upstream_accuracy": [sa.text("upstream_accuracy DESC")],
    "num_params": ["num_params"],
    "size_bytes": ["size_bytes"],
    "date_added": [sa.text("date_added DESC")],
}
_MODEL_INDICES = {
    f"ix_models_{key}": [*ordered, "name", *(other for other in ("num_params", "upstream_accuracy") if other != key)]
    for key, ordered in _KEYS.items()
} | {
    f"ix_models_{equal}_{key}": [equal, *ordered, "name"]
    for equal in ("modality", "architecture", "source", "upstream_dataset")
    for key, ordered in {**_KEYS, "name": []}.items()
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _order_texts_by_their_characters()
        for column in ("num_params", "size_bytes"):
            op.alter_column("models", column, type_=sa.BigInteger())
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("replicates", sa.LargeBinary(), nullable=True))
    for name, columns in _MODEL_INDICES.items():
        op.create_index(name, "models", columns)


def _order_texts_by_their_characters() -> None:
    """As SQLite does, whatever the locale of the server."""
    for table in ("models", "datasets", "evaluations"):
        for column in sa.inspect(op.get_bind()).get_columns(table):
            if isinstance(column["type"], sa.String):
                op.alter_column(table, column["name"], type_=sa.String(collation="C"))


def downgrade() -> None:
    for name in _MODEL_INDICES:
        op.drop_index(name, "models")
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.drop_column("replicates")
