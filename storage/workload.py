"""How much work a model's forward pass is, from what the catalog says of it."""

from __future__ import annotations

import os

from storage.catalog import ModelRecord

ALL_CORES = len(os.sched_getaffinity(0))

# Tokens of a text; patches of an image, 16 pixels wide, and at least as many as small models cut small images into.
_TEXT_POSITIONS = 32
_PATCH_SIDE = 16
_LEAST_IMAGE_POSITIONS = 64
_DEFAULT_IMAGE_SIDE = 224
_DEFAULT_PARAMETERS = 25_000_000
_BYTES_PER_PARAMETER = 4
# A task is embedded (tasks.task2vec) by that many of its rows at most.
TASK_ROWS = 1000
# Below this a batch is over sooner on one core than split over several, all the more when those are busy.
_SMALL_OPERATIONS_PER_ROW = 80e6


def operations_per_row(model: ModelRecord) -> float:
    """Roughly the multiplications and additions of one row: two for every parameter at every position."""
    return 2.0 * parameters(model) * positions(model)


def parameters(model: ModelRecord) -> int:
    """How many parameters a model has; of one that does not tell, as many as its files have room for."""
    if model.num_params is not None:
        return model.num_params
    return (model.size_bytes or 0) // _BYTES_PER_PARAMETER or _DEFAULT_PARAMETERS


def positions(model: ModelRecord) -> float:
    """Roughly how many patches an image is for a model, or tokens a text."""
    if model.modality != "image":
        return _TEXT_POSITIONS
    return max(_LEAST_IMAGE_POSITIONS, ((model.image_size or _DEFAULT_IMAGE_SIDE) / _PATCH_SIDE) ** 2)


def fits_one_core(model: ModelRecord) -> bool:
    """Whether the model is so small that a single core serves it best."""
    return operations_per_row(model) < _SMALL_OPERATIONS_PER_ROW


def cores_for(model: ModelRecord) -> int:
    """How many cores its forward passes are to be split over."""
    return 1 if fits_one_core(model) else ALL_CORES


def task_draws(rows: int) -> int:
    """How many classes are drawn for each row of a task of that many: as many in all as for a large one."""
    return max(1, TASK_ROWS // rows)
