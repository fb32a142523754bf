"""Which rows of a dataset still have to be embedded."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from storage.features import FeatureStore
from storage.manifests import Manifest
from storage.views import View


def unembedded(
    store: FeatureStore, model_fingerprint: str, manifest: Manifest, rows: np.ndarray, views: Collection[View]
) -> dict[View, np.ndarray]:
    """Which of the rows lack features, by the views that some row lacks; of equal rows the first."""
    part = manifest.take(rows)
    owners = rows if part.lengths is None else np.repeat(rows, part.lengths)
    missing = {view: store.missing(store.key(model_fingerprint, view), part.feature_hashes) for view in views}
    return {view: np.unique(owners[places]) for view, places in missing.items() if len(places)}


def union(rows_by_view: dict[View, np.ndarray]) -> np.ndarray:
    """The rows that lack some view, ascending."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *rows_by_view.values()]))
