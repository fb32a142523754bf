"""Models, datasets, and the index of evaluations.

Revision ID: 0001
Revises: none
"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import UTCDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("options", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("modality", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("num_rows", sa.Integer(), nullable=False),
        sa.Column("num_classes", sa.Integer(), nullable=False),
        sa.Column("classes", sa.String(), nullable=False),
        sa.Column("date_added", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id"),
    )
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.create_index(("ix_datasets_fingerprint"), ["fingerprint"], unique=False)
        batch_op.create_index(("ix_datasets_name"), ["name"], unique=True)

    op.create_table(
        "evaluations",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("heartbeat", sa.Float(), nullable=False),
        sa.Column("model_fingerprint", sa.String(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("train_fingerprint", sa.String(), nullable=False),
        sa.Column("train_name", sa.String(), nullable=False),
        sa.Column("test_fingerprint", sa.String(), nullable=True),
        sa.Column("test_name", sa.String(), nullable=True),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("params", sa.String(), nullable=False),
        sa.Column("fidelity", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("higher_is_better", sa.Boolean(), nullable=True),
        sa.Column("n_test", sa.Integer(), nullable=True),
        sa.Column("per_row_correct", sa.LargeBinary(), nullable=True),
        sa.Column("layer", sa.String(), nullable=True),
        sa.Column("metrics", sa.String(), nullable=False),
        sa.Column("curve", sa.String(), nullable=False),
        sa.Column("cost_seconds", sa.Float(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("transient", sa.Boolean(), nullable=False),
        sa.Column("recorded", sa.Float(), nullable=True),
        sa.Column("mlflow_run_id", sa.String(), nullable=True),
        sa.Column("exporter", sa.String(), nullable=True),
        sa.Column("export_started", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.create_index(("ix_evaluations_method"), ["method"], unique=False)
        batch_op.create_index(("ix_evaluations_mlflow_run_id"), ["mlflow_run_id"], unique=False)
        batch_op.create_index(("ix_evaluations_model_fingerprint"), ["model_fingerprint"], unique=False)
        batch_op.create_index(("ix_evaluations_train_fingerprint"), ["train_fingerprint"], unique=False)

    op.create_table(
        "models",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("modality", sa.String(), nullable=False),
        sa.Column("architecture", sa.String(), nullable=True),
        sa.Column("num_params", sa.Integer(), nullable=True),
        sa.Column("size_bytes", sa.Integer(), nullable=True),
        sa.Column("embedding_dim", sa.Integer(), nullable=True),
        sa.Column("image_size", sa.Integer(), nullable=True),
        sa.Column("token_length", sa.Integer(), nullable=True),
        sa.Column("upstream_dataset", sa.String(), nullable=True),
        sa.Column("upstream_accuracy", sa.Float(), nullable=True),
        sa.Column("date_added", UTCDateTime(), nullable=False),
        sa.Column("licence", sa.String(), nullable=True),
        sa.Column("tags", sa.String(), nullable=False),
        sa.Column("finetuned", sa.Boolean(), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("model_id"),
    )
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.create_index(("ix_models_fingerprint"), ["fingerprint"], unique=False)
        batch_op.create_index(("ix_models_name"), ["name"], unique=True)


def downgrade() -> None:
    op.drop_table("models")
    op.drop_table("evaluations")
    op.drop_table("datasets")
