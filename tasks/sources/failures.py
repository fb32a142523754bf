"""What can go wrong with one model, as EvaluationErrors a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storage.catalog import ModelRecord
from storage.errors import EvaluationError, ShiftError

if TYPE_CHECKING:
    import numpy as np

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "oom when allocating")


@contextmanager
def reasons(model: ModelRecord) -> Iterator[None]:
    """Turn whatever a library raises about this model into an EvaluationError.

    A missing library or too little memory is no fault of the files, so such errors are transient.
    """
    try:
        yield
    except ShiftError:
        raise
    except Exception as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        environment = isinstance(error, ImportError) or is_out_of_memory(error)
        raise EvaluationError(f"{type(error).__name__}: {first}", transient=environment, subject=model.name) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, of a GPU or the machine: libraries say so by errors of many types."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def require_finite(features: np.ndarray, model: ModelRecord) -> np.ndarray:
    """The features ((rows, dimensions)) unchanged. Raises EvaluationError when any is NaN or infinite."""
    import numpy as np

    bad = int((~np.isfinite(features).all(axis=1)).sum())
    if bad:
        raise EvaluationError(
            f"features of {bad} of {len(features)} rows are not finite (NaN or infinity)", subject=model.name
        )
    return features
