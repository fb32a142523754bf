"""What a dataset is by its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.manifests import Manifest
    from tasks.readers.base import DatasetReader


def manifest_of(opened: DatasetReader) -> Manifest:
    """The hashes and labels of all rows of a dataset, each of which is read. Raises StoreError as the reader does."""
    from storage.manifests import Manifest, join

    schema = opened.schema()
    return join(
        [
            Manifest(chunk.row_hashes, chunk.labels, schema.classes, schema.task, chunk.lengths)
            for chunk in opened.chunks()
        ]
    )
