"""Replaying a strategy on recorded results: what it would have chosen, how far from the best, and at what cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from shiftql.recorded import Records
from shiftql.strategies.base import Arm, History, Offer, Problem, Ranked, Strategy
from storage.evaluations import Evaluation, Measurement, Subject
from storage.fingerprints import fingerprint_of

if TYPE_CHECKING:
    import numpy as np

LOW_FIDELITY = "low_fidelity"
_METHOD, _VERSION = "finetune", "recorded"


@dataclass(frozen=True)
class Estimate:
    """What an answer says of a model, and the test accuracy that it has fully fine-tuned.

    `is_trained` says that it was fully fine-tuned before that answer; `low` and `high` are the 90 % interval, if any.
    """

    model: str
    utility: float
    tested: float
    is_trained: bool
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Outcome:
    """What became of one target. Regrets are relative to the best test accuracy, costs to fine-tuning every model.

    `final_regret` is of the model it picked, `search_regret` of the best among those fully fine-tuned; `epochs` counts
    those trained where the records tell epochs, else it is 0. `top_k_mean` is the mean test accuracy of the first k of
    its ranking. Where the strategy tells intervals, `coverage` is the share of models that were not fully fine-tuned
    whose test accuracy lies in theirs; `chance` is the stated probability that the pick is within 1 % of the best.
    `path` says after each evaluation what a pick would then have cost in all, and its regret; `picks` which model it
    would have been. `estimates` are the last answer's of all models that it ranks, best first.
    """

    dataset: str
    picked: str | None
    final_regret: float
    search_regret: float
    cost_fraction: float
    fine_tunes: int
    epochs: int
    top_k_mean: float
    coverage: float | None
    chance: float | None
    path: tuple[tuple[float, float], ...]
    picks: tuple[str, ...]
    estimates: tuple[Estimate, ...]


def replay(
    records: Records,
    target: str,
    make: Callable[[Problem], Strategy],
    *,
    low_fidelity: Records | None = None,
    families: Sequence[str] = (),
    top: int = 10,
) -> Outcome:
    """Let a strategy choose for one recorded dataset; the others are its history.

    Of a family, which is a pattern of names, no member is in the history of another. What is recorded in
    `low_fidelity` of the target may be bought too.
    """
    record = _Record(records, target, low_fidelity)
    strategy = make(Problem(target, record.arms, _history(records, target, low_fidelity, families)))
    path, picks = [], []
    while wanted := strategy.ask(1):
        strategy.tell({evaluation.fingerprint: record.buy(evaluation) for evaluation in wanted})
        if ranking := strategy.answer().ranking:
            pick = ranking[0].model
            path.append((record.spent_after(pick), record.regret([pick])))
            picks.append(pick.name)
    answer = strategy.answer()
    ranking = answer.ranking
    coverage, estimates = record.coverage(ranking), record.estimates(ranking)
    for ranked in ranking[:1]:
        record.finish(ranked.model)
    return Outcome(
        dataset=target,
        picked=ranking[0].model.name if ranking else None,
        final_regret=record.regret([ranked.model for ranked in ranking[:1]]),
        search_regret=record.regret(record.finished),
        cost_fraction=record.spent,
        fine_tunes=len(record.finished),
        epochs=record.epochs if records.has_epochs else 0,
        top_k_mean=record.mean_test([ranked.model for ranked in ranking[:top]]),
        coverage=coverage,
        chance=answer.chance,
        path=tuple(path),
        picks=tuple(picks),
        estimates=tuple(estimates),
    )


def problem_of(
    records: Records, target: str, low_fidelity: Records | None = None, families: Sequence[str] = ()
) -> Problem:
    """What strategies are told of a recorded dataset at first; arguments as in `replay`."""
    arms = _Record(records, target, low_fidelity).arms
    return Problem(target, arms, _history(records, target, low_fidelity, families))


def unfit(records: Records, target: str) -> str | None:
    """Why nothing can be chosen for a dataset of a table; None where something can."""
    column = records.datasets.index(target)
    complete = records.is_complete[:, column]
    if not complete.any():
        return "no model has all its epochs recorded" if records.has_epochs else "no model has a complete row"
    if not (records.test[complete, column] > 0).any():
        return "no model has a test accuracy above 0"
    if not any((seconds[complete, column] > 0).any() for seconds in records.seconds):
        return "no model took any time"
    return None


class _Record:
    """What is recorded of one dataset: the arms to choose from, and what their evaluations bring and cost."""

    def __init__(self, records: Records, target: str, cheap: Records | None) -> None:
        import numpy as np

        column = records.datasets.index(target)
        rows = np.flatnonzero(records.is_complete[:, column]).tolist()
        kinds = kinds_of(records)
        self._subjects = {row: Subject(records.models[row], fingerprint_of(records.models[row])) for row in rows}
        self._test = {self._subjects[row]: float(records.test[row, column]) for row in rows}
        self._rungs: dict[str, tuple[Subject, int]] = {}
        self._hints: dict[str, float] = {}
        self._results: dict[str, Measurement] = {}
        # By model, what each rung costs, and how many of them are paid.
        self._seconds = {
            self._subjects[row]: [float(np.nan_to_num(seconds[row, column])) for seconds in records.seconds]
            for row in rows
        }
        self._paid = dict.fromkeys(self._seconds, 0)
        self._spent = 0.0
        self._total = sum(sum(seconds) for seconds in self._seconds.values())
        train = Subject(target, fingerprint_of(target))
        others = [number for number in range(len(records.datasets)) if number != column]
        predicted = [_predicted(seconds[:, others]) for seconds in records.seconds]
        self.arms: list[Arm] = []
        for row in rows:
            model, rungs = self._subjects[row], []
            for number, kind in enumerate(kinds):
                fidelity = {} if number == len(kinds) - 1 else {"epochs": number + 1}
                evaluation = Evaluation(model, train, None, _METHOD, _VERSION, fidelity=fidelity)
                rungs.append(Offer(kind, evaluation, float(predicted[number][row])))
                self._rungs[evaluation.fingerprint] = model, number + 1
                self._results[evaluation.fingerprint] = _measured(
                    float(records.validation[number][row, column]), self._seconds[model][number]
                )
            hints = self._hint(cheap, model, train) if cheap is not None else ()
            self.arms.append(Arm(model, tuple(rungs), hints, records.metadata.get(model.name, {})))

    def _hint(self, cheap: Records, model: Subject, train: Subject) -> tuple[Offer, ...]:
        """What is recorded of a model in the table of cheap runs."""
        import numpy as np

        if model.name not in cheap.models or train.name not in cheap.datasets:
            return ()
        row, column = cheap.models.index(model.name), cheap.datasets.index(train.name)
        value = float(cheap.validation[-1][row, column])
        if np.isnan(value):
            return ()
        evaluation = Evaluation(model, train, None, _METHOD, _VERSION, fidelity={"table": cheap.name})
        others = [number for number in range(len(cheap.datasets)) if number != column]
        predicted = sum(_predicted(seconds[:, others])[row] for seconds in cheap.seconds)
        seconds = sum(float(np.nan_to_num(seconds[row, column])) for seconds in cheap.seconds)
        self._hints[evaluation.fingerprint] = seconds
        self._results[evaluation.fingerprint] = _measured(value, seconds)
        return (Offer(LOW_FIDELITY, evaluation, float(predicted)),)

    def buy(self, evaluation: Evaluation) -> Measurement:
        """What an evaluation brought; it is paid once, with those that it goes on from."""
        fingerprint = evaluation.fingerprint
        if fingerprint in self._rungs:
            self._pay(*self._rungs[fingerprint])
        else:
            self._spent += self._hints.pop(fingerprint, 0.0)
        return self._results[fingerprint]

    def finish(self, model: Subject) -> None:
        """Pay for training a model to its end."""
        self._pay(model, len(self._seconds[model]))

    def _pay(self, model: Subject, rungs: int) -> None:
        self._spent += sum(self._seconds[model][self._paid[model] : rungs])
        self._paid[model] = max(self._paid[model], rungs)

    @property
    def spent(self) -> float:
        return self._spent / self._total

    def spent_after(self, pick: Subject) -> float:
        """What would be spent if this model were trained to its end now."""
        return (self._spent + sum(self._seconds[pick][self._paid[pick] :])) / self._total

    @property
    def finished(self) -> list[Subject]:
        return [model for model, paid in self._paid.items() if paid == len(self._seconds[model])]

    @property
    def epochs(self) -> int:
        return sum(self._paid.values())

    def regret(self, models: Sequence[Subject]) -> float:
        """Of the best of some models; 1 where there is none."""
        best = max(self._test.values())
        return (best - max((self._test[model] for model in models), default=0.0)) / best

    def coverage(self, ranking: Sequence[Ranked]) -> float | None:
        """Of the models that are not finished and have an interval, the share whose test accuracy is in it."""
        finished = set(self.finished)
        told = [
            ranked.low <= self._test[ranked.model] <= ranked.high
            for ranked in ranking
            if ranked.low is not None and ranked.high is not None and ranked.model not in finished
        ]
        return sum(told) / len(told) if told else None

    def estimates(self, ranking: Sequence[Ranked]) -> list[Estimate]:
        """What is said of each model of a ranking, beside what is true."""
        finished = set(self.finished)
        return [
            Estimate(
                ranked.model.name,
                ranked.utility,
                self._test[ranked.model],
                ranked.model in finished,
                ranked.low,
                ranked.high,
            )
            for ranked in ranking
        ]

    def mean_test(self, models: Sequence[Subject]) -> float:
        return sum(self._test[model] for model in models) / max(1, len(models))


def kinds_of(records: Records) -> list[str]:
    """What the evaluations of a table are called."""
    epochs = range(1, len(records.validation) + 1)
    return [f"epoch_{epoch}" for epoch in epochs] if records.has_epochs else [_METHOD]


def _history(records: Records, target: str, cheap: Records | None, families: Sequence[str]) -> History:
    def is_kin(dataset: str) -> bool:
        return any(fnmatchcase(dataset, family) and fnmatchcase(target, family) for family in families)

    columns = [n for n, dataset in enumerate(records.datasets) if dataset != target and not is_kin(dataset)]
    datasets = tuple(records.datasets[number] for number in columns)
    kinds = kinds_of(records)
    seen: dict[str, np.ndarray] = {k: v[:, columns] for k, v in zip(kinds, records.validation, strict=True)}
    seconds: dict[str, np.ndarray] = {k: v[:, columns] for k, v in zip(kinds, records.seconds, strict=True)}
    if cheap is not None:
        seen[LOW_FIDELITY] = _aligned(cheap, cheap.validation[-1], records.models, datasets)
        seconds[LOW_FIDELITY] = _aligned(cheap, sum(cheap.seconds), records.models, datasets)  # type: ignore[arg-type]
    tested = records.test[:, columns]
    # One of several validations says less than the test.
    reached = tested if records.has_epochs else seen[kinds[-1]]
    return History(records.models, datasets, reached, tested, seen, seconds)


def _aligned(records: Records, values: np.ndarray, models: Sequence[str], datasets: Sequence[str]) -> np.ndarray:
    """Values of one table in the order of another's models and datasets."""
    import pandas as pd

    frame = pd.DataFrame(values, index=records.models, columns=records.datasets)
    return frame.reindex(index=list(models), columns=list(datasets)).to_numpy()


def _predicted(seconds: np.ndarray) -> np.ndarray:
    """What each model is predicted to take, from what it took elsewhere: its typical share of a dataset's mean.

    `seconds` is (models, datasets). A model that is known nowhere is taken to be typical.
    """
    import numpy as np

    known = ~np.isnan(seconds)
    if not known.any():
        return np.ones(len(seconds))
    logs = np.log(np.where(known, np.maximum(seconds, 1e-9), 1.0))
    counts = np.maximum(known.sum(axis=0), 1)
    levels = (logs * known).sum(axis=0) / counts
    shares = ((logs - levels) * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.exp(shares + levels[known.any(axis=0)].mean())


def _measured(value: float, seconds: float) -> Measurement:
    return Measurement(status="completed", cost_seconds=seconds, metric="accuracy", value=value)


def summarize(rows: Sequence[Mapping[str, Any]], figures: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """The mean of figures over rows, its standard error over datasets (None of a single one), and the largest.

    Rows of one dataset with several seeds are no more datasets than one.
    """
    import numpy as np

    values = {name: np.array([row[name] for row in rows], dtype=float) for name in figures}
    datasets = [(row.get("records"), row["dataset"]) for row in rows]
    of_dataset = [np.array([each == dataset for each in datasets]) for dataset in dict.fromkeys(datasets)]

    def standard_error(each: np.ndarray) -> float | None:
        means = [each[rows_of].mean() for rows_of in of_dataset]
        return float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else None

    return {
        "mean": {name: float(each.mean()) for name, each in values.items()},
        "standard_error": {name: standard_error(each) for name, each in values.items()},
        "max": {name: float(each.max()) for name, each in values.items()},
    }
