"""The cost model: what work is expected to take before it runs, and what a machine showed about that.

Constants, of one core of a small machine, say what is expected of a model by its size and input. What work then took
beside that, as a ratio, is learned on four levels: the machine, the stage of work, the family of models, the model
itself. The more was seen on a level the more it counts beside the level above. See docs/cost.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from storage.bandwidth import DEFAULT_BYTES_PER_SECOND
from storage.catalog import ModelRecord
from storage.learned_costs import Learned, Level, Observation
from storage.workload import ALL_CORES, TASK_ROWS, operations_per_row, parameters, positions, task_draws

# Seconds to open any model, and bytes of weights read in a second.
_OPEN_SECONDS = 0.05
_READ_BYTES_PER_SECOND = 400e6
# Multiplications and additions a second in a forward pass, what a row costs besides (decoding, copying), and a
# call, by which few rows take longer each.
_OPERATIONS_PER_SECOND = 96e9
_ROW_SECONDS = 0.8e-4
_CALL_SECONDS = 0.01
# What a training takes to begin and to save; a step is as much as some forward passes, by what of a model is trained,
# and costs something besides.
_TRAINING_SECONDS = 0.3
_TRAINING_FACTOR = {"full": 4.8, "lora": 3.5}
_TASK_FACTOR = 5.6
_STEP_SECONDS = 0.006
# Of the training rows, what is held out to choose the epoch by.
VALIDATION_SHARE = 0.2
_DEFAULT_BATCH = 32
_SCORE_SECONDS = 0.02
_FIT_SECONDS_PER_ROW = {"linear": 5e-5, "euclidean_nn": 2e-6, "cosine_nn": 2e-6, "nleep": 1.5e-4}
_BYTES_PER_FEATURE = 4
_BYTES_PER_PARAMETER = 4
_DEFAULT_DIMENSIONS = 768
_DEFAULT_LAYERS = 12
# Rows of a batch that is embedded. In a forward pass two layers' activations are held, each with what is wider inside,
# and in a backward pass about a dozen of each layer.
_EMBEDDED_ROWS = 64
_EMBEDDED_ACTIVATIONS = 16
_TRAINED_ACTIVATIONS = 12
_BYTES_PER_ACTIVATION = 4
# What the first work starts, in seconds of a core: the Prefect server of the home, Prefect in the process that asks,
# a process for each framework, and there what training needs. They start side by side.
_START_SECONDS = {"server": 8.0, "prefect": 4.0, "torch": 6.0, "tensorflow": 9.0, "training": 3.0}
# A run as such, and each of its evaluations and of the parts it embeds: claims, task runs, records.
_RUN_SECONDS = 0.7
_TASK_SECONDS = 0.03
# What a round takes besides its work: its models are chosen and planned, and the last of them is waited for.
ROUND_SECONDS = 0.5
# Features are computed by several models side by side, others are trained one after the other.
_FEATURES, _SIDE_BY_SIDE = "features", 0.5

# Stages of work whose ratios are learned. Of embedding also what is left of it where rows are at hand: whichever model
# comes first reads and prepares them for the others.
_OPENING, _EMBEDDING, _SCORING, _TRAINING, _TASK = "opening", "embedding", "scoring", "training", "task embedding"
_PASSES = "passes"
# What is learned of plans as a whole: how long it takes until they begin, and which share of their seconds passes by
# the clock, as steps run side by side or the cores have other work.
_STARTING, _PASSING = "starting", "clock"
# The machine in general, told by every stage that computes with models; of embedding by the passes alone.
_MACHINE: Level = ("", "")
_BOOKKEEPING: Level = ("bookkeeping", "")
# However much else something is taken for, it took so long; and passes such a share of a call.
_LEAST_SECONDS, _LEAST_PASSED = 0.05, 0.05
# So many levels of a stage are of no model.
_GENERAL = 2
# Of so many ratios as on a level the level above counts as one.
_PRIOR = 1.0


@dataclass(frozen=True)
class Cost:
    """Expected seconds, bytes written to the stores, and bytes downloaded from hubs."""

    seconds: float = 0.0
    size_bytes: int = 0
    download_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds,
            self.size_bytes + other.size_bytes,
            self.download_bytes + other.download_bytes,
        )

    def __mul__(self, times: float) -> Cost:
        return Cost(self.seconds * times, round(self.size_bytes * times), round(self.download_bytes * times))


@dataclass(frozen=True)
class CostModel:
    """What work is expected to take on this machine, by what was `learned` of it; see storage.learned_costs.

    `bytes_per_second` is how fast files come from model hubs.
    """

    learned: Mapping[Level, Learned] = field(default_factory=dict)
    bytes_per_second: float = DEFAULT_BYTES_PER_SECOND

    def opening(self, model: ModelRecord) -> float:
        """Seconds to open the model."""
        return _opening_seconds(model) * self._times(_levels(_OPENING, model))

    def download(self, model: ModelRecord) -> int | None:
        """Bytes of the model's weights: what is told, else four for each parameter; None where neither is."""
        return model.size_bytes or (None if model.num_params is None else _BYTES_PER_PARAMETER * model.num_params)

    def downloading(self, model: ModelRecord) -> Cost:
        """Fetching the model from its hub; nothing where it is on this machine."""
        size = 0 if model.is_local else self.download(model) or 0
        return Cost(size / self.bytes_per_second, download_bytes=size)

    def row(self, model: ModelRecord, views: int = 1) -> Cost:
        """The forward pass of one row, and views of its features in the store."""
        seconds = _row_seconds(model) * self._times(_levels(_EMBEDDING, model))
        return Cost(seconds, views * (model.embedding_dim or _DEFAULT_DIMENSIONS) * _BYTES_PER_FEATURE)

    def embedding(self, model: ModelRecord, rows: int) -> Cost:
        """Opening the model, and the forward passes of so many rows."""
        return Cost(self.opening(model)) + self.row(model) * rows

    def scoring(self, method: str, rows: int) -> Cost:
        """Fitting a ranker on stored features and scoring it, over `rows` training and test rows."""
        return Cost(_scoring_seconds(method, rows) * self._times((_MACHINE, _scoring_level(method))))

    def task_embedding(self, model: ModelRecord, rows: int) -> Cost:
        """Task2Vec: the rows' features, and what each changes of the probe's weights; see tasks.task2vec.

        As much as there can be: draws of one class for one row are one pass.
        """
        return Cost(_task_seconds(model, rows) * self._times(_levels(_TASK, model)))

    def finetuning(
        self,
        model: ModelRecord,
        train_rows: int,
        test_rows: int,
        epochs: int,
        params: Mapping[str, Any] = MappingProxyType({}),
    ) -> Cost:
        """Training for `epochs` epochs, validating after each, and one pass over the test rows."""
        seconds = _finetuning_seconds(model, train_rows, test_rows, epochs, params)
        levels = _training_levels(model, params)
        # What passes rows slowly trains slowly.
        passes = _levels(_PASSES, model)
        beside_others = self._logarithm(passes) - self._logarithm(passes[:_GENERAL])
        logarithm = self._logarithm(levels[_GENERAL:], self._logarithm(levels[:_GENERAL]) + beside_others)
        return Cost(seconds * math.exp(logarithm))

    def memory(self, model: ModelRecord, params: Mapping[str, Any] | None = None) -> int:
        """Bytes that embedding with a model takes at most, or fine-tuning it with such arguments."""
        layer = positions(model) * (model.embedding_dim or _DEFAULT_DIMENSIONS) * _BYTES_PER_ACTIVATION
        weights = _BYTES_PER_PARAMETER * parameters(model)
        if params is None:
            return round(weights + _EMBEDDED_ROWS * layer * _EMBEDDED_ACTIVATIONS)
        rows = params.get("batch_size", _DEFAULT_BATCH)
        mode = params.get("mode", "full")
        if mode == "head":
            # Nothing is kept of the layers below it for a backward pass.
            return round(weights + max(rows, _EMBEDDED_ROWS) * layer * _EMBEDDED_ACTIVATIONS)
        # What the backward pass needs of the forward pass; and of what is trained the gradients and the optimizer's two
        # moments.
        activations = rows * layer * (model.num_layers or _DEFAULT_LAYERS) * _TRAINED_ACTIVATIONS
        return round((4 if mode == "full" else 1) * weights + activations)

    def starting(self, started: Collection[str]) -> float:
        """Seconds until what has to be started first runs: "server", and hosts by their names."""
        return _starting_seconds(started) * self._times(_starting_levels(started)) if started else 0.0

    def passing(self, seconds: float, tasks: int, kind: str) -> float:
        """Seconds by the clock of a run with so many seconds of work in so many tasks, whose work is of such a kind."""
        return self.bookkeeping(tasks) + seconds * self._share_of_clock(kind)

    def ran(self, work: float, tasks: int, kind: str, seconds: float) -> Observation:
        """What a run that took so many seconds tells: of its bookkeeping where that is most of it, or of its work."""
        bookkeeping, working = self.bookkeeping(tasks), work * self._share_of_clock(kind)
        if bookkeeping >= working:
            return Observation(max(_LEAST_SECONDS, seconds - working) / _bookkeeping_seconds(tasks), [_BOOKKEEPING])
        usual = work * _usual_share(kind)
        return Observation(max(_LEAST_SECONDS, seconds - bookkeeping) / usual, _passing_levels(kind))

    def _share_of_clock(self, kind: str) -> float:
        """Seconds by the clock in which a second of work of a kind is done."""
        return _usual_share(kind) * self._times(_passing_levels(kind))

    def bookkeeping(self, tasks: int) -> float:
        """Seconds of a run of so many tasks beside their work."""
        return _bookkeeping_seconds(tasks) * self._times([_BOOKKEEPING])

    def _times(self, levels: Sequence[Level]) -> float:
        """How many times what the constants say, as the levels have it, the most general first."""
        return math.exp(self._logarithm(levels))

    def _logarithm(self, levels: Sequence[Level], logarithm: float = 0.0) -> float:
        """That as a logarithm, from what is said above the first of the levels."""
        for level in levels:
            if (known := self.learned.get(level)) is not None:
                logarithm = (_PRIOR * logarithm + known.log_sum) / (_PRIOR + known.number)
        return logarithm


# Predicts by its constants alone.
UNMEASURED = CostModel()


def subjects_of(models: Collection[ModelRecord]) -> set[str]:
    """Whose ratios tell of work with models."""
    families = {_family(model) for model in models}
    return {"", *families, *(model.fingerprint for model in models)}


def opening_took(model: ModelRecord, seconds: float) -> Observation:
    """What a model took to open."""
    return Observation(seconds / _opening_seconds(model), _levels(_OPENING, model))


def rows_took(model: ModelRecord, rows: int, seconds: float, waited: float) -> tuple[Observation, Observation]:
    """What embedding rows with an open model took in one call, and of that the passes but for what rows were waited
    for."""
    expected = _CALL_SECONDS + rows * _row_seconds(model)
    passed = max(_LEAST_PASSED, 1 - waited / seconds) * seconds / expected
    _, *embedding = _levels(_EMBEDDING, model)
    return Observation(seconds / expected, embedding), Observation(passed, _levels(_PASSES, model))


def scoring_took(method: str, rows: int, seconds: float) -> Observation:
    """What fitting and scoring a ranker took."""
    return Observation(seconds / _scoring_seconds(method, rows), [_scoring_level(method)])


def finetuning_took(
    model: ModelRecord, train_rows: int, test_rows: int, epochs: int, params: Mapping[str, Any], seconds: float
) -> Observation:
    """What it took to train so many epochs more, opening and measuring included."""
    expected = _finetuning_seconds(model, train_rows, test_rows, epochs, params)
    return Observation(seconds / expected, _training_levels(model, params))


def task_embedding_took(model: ModelRecord, rows: int, seconds: float) -> Observation:
    """What Task2Vec took, the opening of the probe included."""
    return Observation(seconds / _task_seconds(model, rows), _levels(_TASK, model))


def starting_took(started: Collection[str], seconds: float) -> Observation:
    """How long it took until what was started ran."""
    return Observation(seconds / _starting_seconds(started), _starting_levels(started))


def _levels(stage: str, model: ModelRecord) -> tuple[Level, ...]:
    # How fast files are read says nothing of how fast the machine computes.
    general = () if stage == _OPENING else (_MACHINE,)
    return *general, (stage, ""), (stage, _family(model)), (stage, model.fingerprint)


def _scoring_level(method: str) -> Level:
    # Rankers have nothing in common but the machine.
    return f"{_SCORING} {method}", ""


def _training_levels(model: ModelRecord, params: Mapping[str, Any]) -> tuple[Level, ...]:
    mode = params.get("mode", "full")
    return _levels(_TRAINING if mode == "full" else f"{_TRAINING} {mode}", model)


def _starting_levels(started: Collection[str]) -> tuple[Level, ...]:
    return (_STARTING, ""), (f"{_STARTING} {'+'.join(sorted(started))}", "")


def _usual_share(kind: str) -> float:
    return _SIDE_BY_SIDE if kind == _FEATURES else 1.0


def _passing_levels(kind: str) -> tuple[Level, ...]:
    return (_PASSING, ""), (f"{_PASSING} {kind}", "")


def _family(model: ModelRecord) -> str:
    return model.architecture or model.source


def _row_seconds(model: ModelRecord) -> float:
    return _ROW_SECONDS + operations_per_row(model) / _OPERATIONS_PER_SECOND


def _opening_seconds(model: ModelRecord) -> float:
    return _OPEN_SECONDS + (model.size_bytes or 0) / _READ_BYTES_PER_SECOND


def _scoring_seconds(method: str, rows: int) -> float:
    return _SCORE_SECONDS + rows * _FIT_SECONDS_PER_ROW.get(method, 0.0)


def _task_seconds(model: ModelRecord, rows: int) -> float:
    passes = min(rows, TASK_ROWS) * (1 + task_draws(rows) * _TASK_FACTOR)
    return _opening_seconds(model) + passes * _row_seconds(model)


def _finetuning_seconds(
    model: ModelRecord, train_rows: int, test_rows: int, epochs: int, params: Mapping[str, Any]
) -> float:
    # Rows are read once.
    read = (train_rows + test_rows) * _ROW_SECONDS
    validated = round(train_rows * VALIDATION_SHARE)
    forward = operations_per_row(model) / _OPERATIONS_PER_SECOND
    step = _STEP_SECONDS / params.get("batch_size", _DEFAULT_BATCH)
    # Below a head alone rows pass once.
    passed, epoch = train_rows * forward, (train_rows - validated) * step
    if factor := _TRAINING_FACTOR.get(params.get("mode", "full")):
        passed, epoch = 0.0, epoch + (factor * (train_rows - validated) + validated) * forward
    return _TRAINING_SECONDS + _opening_seconds(model) + read + passed + epochs * epoch + test_rows * forward


def _starting_seconds(started: Collection[str]) -> float:
    seconds = [_START_SECONDS[name] for name in started]
    return max(*seconds, sum(seconds) / ALL_CORES)


def _bookkeeping_seconds(tasks: int) -> float:
    return _RUN_SECONDS + tasks * _TASK_SECONDS


def worded_bytes(size: float) -> str:
    """A size as people read it.

    >>> worded_bytes(1_240_000_000)
    '1.2 GB'
    """
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
