"""Bootstrap replicates of scores, and indices of the columns that people order and filter by.

Revision ID: 0002
Revises: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


# Each sort key, how it is written in an index, and how many of a million models share a value of it.
_KEYS: dict[str, tuple[list[Any], list[int]]] = {
    "upstream_accuracy": ([sa.text("upstream_accuracy DESC")], [131]),
    "num_params": (["num_params"], [3]),
    "size_bytes": (["size_bytes"], [3]),
    "date_added": ([sa.text("date_added DESC")], [1]),
}
_FILTERS = {None: None, "modality": 333_334, "architecture": 4_673, "source": 333_334, "upstream_dataset": 205}
_CARRIED = ("architecture", "num_params", "upstream_accuracy")


def _model_indices() -> dict[str, tuple[list[Any], str]]:
    """The columns of every index by its name, and its row of SQLite's statistics."""
    indices = {}
    for key, (ordered, shared) in {**_KEYS, "name": ([], [])}.items():
        for filter_, alike in _FILTERS.items():
            if filter_ is None and key == "name":
                continue
            carried = [column for column in _CARRIED if column not in (key, filter_)]
            name = f"ix_models_{key}" if filter_ is None else f"ix_models_{filter_}_{key}"
            columns = [*filter(None, [filter_]), *ordered, "name", *carried]
            counts = [1_000_000, *filter(None, [alike]), *shared, *[1] * (1 + len(carried))]
            indices[name] = (columns, " ".join(map(str, counts)))
    return indices


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _order_texts_by_their_characters()
        for column in ("num_params", "size_bytes"):
            op.alter_column("models", column, type_=sa.BigInteger())
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("replicates", sa.LargeBinary(), nullable=True))
    for name, (columns, _) in _model_indices().items():
        op.create_index(name, "models", columns)
    if op.get_bind().dialect.name == "sqlite":
        _expect_a_million_models()


def _order_texts_by_their_characters() -> None:
    """As SQLite does, whatever the locale of the server."""
    for table in ("models", "datasets", "evaluations"):
        for column in sa.inspect(op.get_bind()).get_columns(table):
            if isinstance(column["type"], sa.String):
                op.alter_column(table, column["name"], type_=sa.String(collation="C"))


def _expect_a_million_models() -> None:
    """Fix the statistics SQLite plans by, so that its plans suit a large catalog without ANALYZE ever being run.

    https://www.sqlite.org/queryplanner-ng.html#howtofix, "populate sqlite_stat1 with contents from a typical database".
    """
    statistics = [{"idx": name, "stat": stat} for name, (_, stat) in _model_indices().items()]
    statistics += [{"idx": name, "stat": "1000000 1"} for name in ("ix_models_name", "ix_models_fingerprint")]
    op.execute("ANALYZE models")
    op.execute("DELETE FROM sqlite_stat1 WHERE tbl = 'models'")
    op.get_bind().execute(sa.text("INSERT INTO sqlite_stat1 VALUES ('models', :idx, :stat)"), statistics)
    op.execute("ANALYZE sqlite_schema")


def downgrade() -> None:
    for name in _model_indices():
        op.drop_index(name, "models")
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.drop_column("replicates")
