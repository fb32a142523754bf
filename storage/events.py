"""What happens, told as it happens: log records with fields, for whoever wants to write them down or count them.

Nobody listens unless somebody asked to: see flows.telemetry.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.evaluations import Evaluation

LOGGER = logging.getLogger("shift")
LOGGER.addHandler(logging.NullHandler())
LOGGER.propagate = False
# The attribute of a log record that holds its fields.
FIELDS = "shift_fields"
_within: ContextVar[Mapping[str, Any]] = ContextVar("within", default={})  # noqa: B039 - never changed in place


def tell(event: str, evaluation: Evaluation | None = None, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event with its fields, those of the evaluation it is about, and those it happens within.

    Fields that are None do not apply and are left out.
    """
    if LOGGER.isEnabledFor(level):
        told = {**_within.get(), **(fields_of(evaluation) if evaluation else {}), **fields}
        known = {name: value for name, value in told.items() if value is not None}
        LOGGER.log(level, event, extra={FIELDS: known})


def fields_of(evaluation: Evaluation) -> dict[str, Any]:
    """What tells an evaluation from others."""
    return {
        "evaluation": evaluation.fingerprint,
        "model": evaluation.model.name,
        "dataset": evaluation.train.name,
        "method": evaluation.method,
    }


@contextlib.contextmanager
def telling_of(**fields: Any) -> Iterator[None]:
    """Within it every event has these fields too, also in tasks and threads that are started in it."""
    token = _within.set({**_within.get(), **fields})
    try:
        yield
    finally:
        _within.reset(token)
