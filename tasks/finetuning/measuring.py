"""What predictions are worth: on the validation part after each epoch, and once on the test rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.errors import EvaluationError
from tasks.finetuning.examples import Goal
from tasks.rankers.base import Score
from tasks.rankers.metrics import METRICS, score_predictions


@dataclass(frozen=True)
class Validation:
    """How well the validation part is predicted by the metric; `is_constant` where all of it is told alike, wrongly."""

    value: float
    is_constant: bool


@dataclass(frozen=True)
class Measure:
    """The metric a fine-tuning is judged by, and whether more of it is better."""

    goal: Goal
    metric: str

    @property
    def higher_is_better(self) -> bool:
        return METRICS[self.goal.task][self.metric].higher_is_better

    def predictions(self, scores: np.ndarray) -> np.ndarray:
        """What (rows or words, outputs) scores of a model predict, comparable with labels of Examples."""
        match self.goal.task:
            case "regression":
                return scores[:, 0].astype(np.float64) * self.goal.deviation + self.goal.mean
            case "multilabel classification":
                return scores > 0
        return scores.argmax(axis=1)

    def validation(self, scores: np.ndarray, labels: np.ndarray) -> Validation:
        predicted = self.predictions(scores)
        value = METRICS[self.goal.task][self.metric].of(labels, predicted)
        return Validation(value, _is_constant(self.goal, labels, predicted))

    def test(self, scores: np.ndarray, labels: np.ndarray) -> tuple[Score, dict[str, float], bool]:
        """The score of the test rows, all metrics of it, and whether all are told alike, wrongly for some."""
        predicted = self.predictions(scores)
        if predicted.ndim > 1:
            # Of classes that training never saw none is predicted.
            predicted = np.pad(predicted, ((0, 0), (0, labels.shape[1] - predicted.shape[1])))
        score = score_predictions(self.goal.task, self.metric, labels, predicted)
        told = {name: METRICS[self.goal.task][name].of(labels, predicted) for name in _told_beside(self.goal)}
        return score, {score.metric: score.value} | told, _is_constant(self.goal, labels, predicted)


def measure_for(goal: Goal, metric: str | None) -> Measure:
    """The measure by that metric, or by the task's first where it is None. Raises EvaluationError for others."""
    measures = METRICS[goal.task]
    if metric is not None and metric not in measures:
        raise EvaluationError(
            f"{metric} is no metric of {goal.task}", fix=f"leave metric out, or choose one of {', '.join(measures)}"
        )
    return Measure(goal, metric or next(iter(measures)))


def _told_beside(goal: Goal) -> tuple[str, ...]:
    return ("accuracy", "macro_f1") if goal.task == "classification" else tuple(METRICS[goal.task])


def _is_constant(goal: Goal, labels: np.ndarray, predicted: np.ndarray) -> bool:
    """Whether all predictions are one, wrong for some: training came to nothing."""
    if goal.task == "multilabel classification":
        return False
    spread = np.ptp(predicted)
    # Numbers that differ in rounding alone are one.
    alike = spread <= 1e-6 * goal.deviation if goal.task == "regression" else spread == 0
    return bool(alike and (predicted != labels).any())
