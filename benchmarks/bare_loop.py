"""The floor of a query: the same loads, forward passes and fits in one plain loop, in one process.

    python benchmarks/bare_loop.py MODEL…

Reads names of targets from standard input and prints, for each, the seconds the loop took over `<target>-train`
and `<target>-test`. Everything is imported before the first.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import tensorflow_hub  # noqa: F401
import transformers.models.auto.image_processing_auto
import transformers.models.auto.modeling_auto  # noqa: F401

from storage.catalog import Catalog, DatasetRecord
from storage.database import Database
from storage.settings import current_settings
from storage.views import LAST
from tasks.rankers import get_ranker
from tasks.readers import open_reader
from tasks.readers.base import Rows
from tasks.sources import source_named
from tasks.sources.base import Model


def read(dataset: DatasetRecord) -> tuple[list, np.ndarray]:
    reader = open_reader(dataset.type, dataset.path, dataset.reader_options)
    chunks = list(reader.chunks())
    classes = np.asarray(reader.schema().classes)
    return [row for chunk in chunks for row in chunk.rows], classes[np.concatenate([c.labels for c in chunks])]


def _embed(model: Model, rows: Rows) -> np.ndarray:
    return model.embed(model.prepare(rows), [LAST])[LAST]


def main() -> None:
    catalog = Catalog(Database(current_settings()))
    for line in sys.stdin:
        target = line.strip()
        models = [catalog.model(name) for name in sys.argv[1:]]
        splits = [catalog.dataset(f"{target}-{split}") for split in ("train", "test")]
        started = time.perf_counter()
        (train_rows, train_y), (test_rows, test_y) = map(read, splits)
        for model in models:
            opened = source_named(model.source).open(model)
            train_x, test_x = _embed(opened, train_rows), _embed(opened, test_rows)
            get_ranker("linear").score(train_x, train_y, test_x, test_y)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
