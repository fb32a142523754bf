"""What is said of the models of a target before they are fully fine-tuned, beside what they then reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shiftql.agreement import Agreement, agreement
from shiftql.recorded import Records
from shiftql.replaying import Estimate, Outcome


@dataclass(frozen=True)
class Estimates:
    """The estimates of one source for one target; a source is a strategy, a table of cheap runs or the first epoch."""

    source: str
    target: str
    models: tuple[Estimate, ...]

    @cached_property
    def agreement(self) -> Agreement:
        return agreement([each.tested for each in self.models], [each.utility for each in self.models])


def of_answer(strategy: str, outcome: Outcome) -> Estimates:
    """What a strategy's last answer says of the models that it ranks."""
    return Estimates(strategy, outcome.dataset, outcome.estimates)


def of_cheap_runs(records: Records, target: str, cheap: Records) -> Estimates:
    """What the runs of a cheap table say of the models of another."""
    values = np.full(len(records.models), np.nan)
    if target in cheap.datasets:
        column = cheap.datasets.index(target)
        known = dict(zip(cheap.models, cheap.validation[-1][:, column], strict=True))
        values = np.array([known.get(model, np.nan) for model in records.models])
    return _of_values(f"cheap runs of {cheap.name}", records, target, values)


def of_first_epoch(records: Records, target: str) -> Estimates:
    """What validation says after the first epoch."""
    return _of_values("first epoch", records, target, records.validation[0][:, records.datasets.index(target)])


def _of_values(source: str, records: Records, target: str, values: np.ndarray) -> Estimates:
    """Values (models,) of a target as estimates of its models; NaN says nothing."""
    column = records.datasets.index(target)
    known = records.is_complete[:, column] & ~np.isnan(values)
    return Estimates(
        source,
        target,
        tuple(
            Estimate(records.models[row], float(values[row]), float(records.test[row, column]), False, None, None)
            for row in np.flatnonzero(known).tolist()
        ),
    )
