"""Task2Vec: a classification task as a vector, the Fisher information of a probe network fitted to it.

Achille et al., Task2Vec: Task Embedding for Meta-Learning, arXiv 1902.03545.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.catalog import Catalog, ModelRecord
from storage.database import Database
from storage.derivation import derive, first_rows, parts_with
from storage.errors import EvaluationError
from storage.parts import Part
from storage.settings import current_settings
from storage.workload import TASK_ROWS, cores_for, task_draws
from tasks.embedding import unchanged_model
from tasks.reading import read_parts
from tasks.sources.failures import reasons, require_finite
from tasks.sources.huggingface import (
    best_device,
    load_network,
    load_processor,
    loading_options,
    longest_text,
    prepare_images,
)

if TYPE_CHECKING:
    import torch

    from tasks.fisher import Head

# Of the head: minimised are mean cross-entropy + this / 2 · |weights|², on standardised features. A head that fits
# its rows to certainty would leave a few rows to decide the whole vector.
_PENALTY = 0.1
_MOST_ITERATIONS = 500
_BATCH_ROWS = 16


def embed_task(probe: str, probe_fingerprint: str, task: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The Task2Vec vector of the rows of all parts of a `task` (storage.parts), by a Hugging Face model.

    A linear head is fitted to the probe's features of 1,000 rows at most, then the Fisher information of the probe's
    own weights is measured under it; see tasks.fisher. Rows are chosen, and put in order, by the hash of their
    content, and classes by their first row, so that neither the order of the rows nor the names of the classes
    change the vector. Returns `vector`, `accuracy` (the head's, on the rows it was fitted to) and `seconds`.
    Raises EvaluationError when there are fewer than two classes, the model cannot be opened, or files changed.
    """
    started = time.perf_counter()
    catalog = Catalog(Database(current_settings()))
    record = unchanged_model(catalog, probe, probe_fingerprint)
    rows, labels, uniforms = _sample(catalog, [Part.from_json(part) for part in task])
    if labels.max() == 0:
        raise EvaluationError("all its rows are of one class, and a task has two at least", subject=probe)
    with reasons(record):
        import torch

        from tasks.fisher import filter_fisher

        torch.set_num_threads(cores_for(record))
        network, features_of = _open(record)
        batches = [rows[start : start + _BATCH_ROWS] for start in range(0, len(rows), _BATCH_ROWS)]
        with torch.no_grad():
            features = torch.cat([features_of(batch) for batch in batches]).double().cpu().numpy()
        head, accuracy = fit_head(require_finite(features, record), labels)
        vector = filter_fisher(network, features_of, batches, head, torch.from_numpy(uniforms))
    if not vector.any():
        raise EvaluationError("it has no linear or convolution layer that its features rest on", subject=probe)
    return {
        "vector": require_finite(vector[None], record)[0].tolist(),
        "accuracy": accuracy,
        "seconds": time.perf_counter() - started,
    }


def fit_head(features: np.ndarray, labels: np.ndarray) -> tuple[Head, float]:
    """Multinomial logistic regression on features ((rows, dimensions) float64), and its accuracy on these rows.

    `labels` are 0 … classes - 1. The penalty does not depend on the number of rows.
    """
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from tasks.fisher import Head

    scaler = StandardScaler().fit(features)
    standardised = scaler.transform(features)
    fitted = LogisticRegression(C=1 / (_PENALTY * len(labels)), max_iter=_MOST_ITERATIONS).fit(standardised, labels)
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:
        # Two classes have one logit, their difference.
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = weights / scaler.scale_
    bias = bias - weights @ scaler.mean_
    device = best_device()
    head = Head(*(torch.tensor(array, dtype=torch.float32, device=device) for array in (weights, bias)))
    return head, float(fitted.score(standardised, labels))


def _sample(catalog: Catalog, parts: Sequence[Part]) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """The rows whose hashes come first, in the order of these; their classes, numbered as they come; draws for each.

    A row's draws, spread evenly over [0, 1), are of its hash too, so that tasks that share rows share their luck.
    """
    manifest = derive(current_settings().manifests, parts)
    chosen = first_rows(manifest, TASK_ROWS)
    rows, targets = read_parts(catalog, parts_with(parts, chosen))
    # Rows are read as they stand, and wanted as they were chosen.
    places = np.searchsorted(np.sort(chosen), chosen)
    numbers: dict[str, int] = {}
    labels = [numbers.setdefault(targets[place], len(numbers)) for place in places]
    # The first half of a hash decides whether the row is chosen.
    first = manifest.row_hashes[chosen, 8:].copy().view("<u8") / 2.0**64
    draws = task_draws(len(chosen))
    return [rows[place] for place in places], np.array(labels), (first + np.arange(draws)) / draws


def _open(model: ModelRecord) -> tuple[Any, Callable[[Sequence[Any]], torch.Tensor]]:
    """The frozen network, and what gives the features of rows: the mean over the positions that are not padding."""
    import torch

    network, _ = load_network(model, {"dtype": torch.float32, **loading_options(model)})
    network.requires_grad_(False).to(best_device())
    processor = load_processor(model)

    def features_of_images(rows: Sequence[Any]) -> torch.Tensor:
        inputs = prepare_images(processor, rows).to(network.device)
        inputs["pixel_values"].requires_grad_()
        hidden = network(**inputs).last_hidden_state
        return hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden.mean(dim=1)

    def features_of_texts(rows: Sequence[Any]) -> torch.Tensor:
        inputs = processor(
            [str(row) for row in rows], return_tensors="pt", padding=True, truncation=True, max_length=longest
        ).to(network.device)
        hidden = network(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)

    if model.modality == "image":
        return network, features_of_images
    longest = longest_text(processor, network)
    network.enable_input_require_grads()
    return network, features_of_texts
