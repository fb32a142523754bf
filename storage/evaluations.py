"""The unit of everything measured: what is evaluated, and what came out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from storage.fingerprints import fingerprint_of

# The metric that is 1 where training ended in a loss that is not finite, or in one class for every row.
COLLAPSED = "collapsed"
# The metric that counts the epochs that were trained for it: not those that a checkpoint had behind it.
EPOCHS_TRAINED = "epochs_trained"


@dataclass(frozen=True)
class Subject:
    """A model or a dataset split: the name people know it by and the fingerprint of its content."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Evaluation:
    """A model scored by a method on a dataset. Names are for people, only fingerprints identify it.

    `version` is the method's implementation version; another one makes every earlier result unknown.
    `test` is None for methods that never look at a test split. `fidelity` says how much of a full
    evaluation this is (rows, epochs); empty means all of it.
    """

    model: Subject
    train: Subject
    test: Subject | None
    method: str
    version: str
    params: Mapping[str, Any] = field(default_factory=dict)
    fidelity: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Equal fingerprints are one measurement, by whomever and wherever it was made."""
        return fingerprint_of(
            self.model.fingerprint,
            self.train.fingerprint,
            self.test.fingerprint if self.test else None,
            self.method,
            self.version,
            dict(self.params),
            dict(self.fidelity),
        )

    def num_rows(self, train_rows: int, test_rows: int) -> int:
        """How many rows it looks at, of splits that have so many."""
        tested = 0 if self.test is None else self.fidelity.get("test_rows", test_rows)
        return int(self.fidelity.get("rows", train_rows) + tested)


@dataclass(frozen=True)
class Measurement:
    """What an evaluation brought: a headline value with its metric, or the reason it failed.

    `per_row_correct` holds one bit per test row, most significant first (numpy.packbits), in the
    test split's order. `replicates` holds the metric on resamples of the test rows as little-endian
    float32, where it is no mean over rows; all measurements on a test split share the resamples.
    `vector` is what the evaluation found out, as little-endian float32, where that is no single number.
    `transient` failures may be tried again on the same files. `curve` is the headline metric on the
    validation part after each epoch, where there are epochs.
    """

    status: Literal["completed", "failed"]
    cost_seconds: float
    metric: str | None = None
    value: float | None = None
    higher_is_better: bool = True
    n_test: int | None = None
    per_row_correct: bytes | None = None
    replicates: bytes | None = None
    layer: str | None = None
    vector: bytes | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[float, ...] = ()
    reason: str | None = None
    transient: bool = False

    @property
    def collapsed(self) -> bool:
        """Whether training came to nothing, as it does about once in twenty runs: another seed may do well."""
        return bool(self.metrics.get(COLLAPSED))

    @property
    def utility(self) -> float:
        """The value, or minus it, so that higher is better; minus infinity where there is none."""
        if self.value is None:
            return float("-inf")
        return self.value if self.higher_is_better else -self.value
