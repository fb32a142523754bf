"""What a fine-tuning returns from its host, as JSON, and as the measurement that is recorded of it.

`metric`, `value`, `higher_is_better`, `metrics`, `curve` and `collapsed`; of the whole evaluation also `n_test`,
`per_row_correct` (0 and 1) and `replicates`, None where the metric has none; of a training that came to nothing only
`reason` and `collapsed`. With it go the `seconds` it took and the `epochs_trained` in these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from storage.evaluations import COLLAPSED, EPOCHS_TRAINED, Measurement
from tasks.finetuning.measuring import Measure
from tasks.finetuning.runs import Diverged, Progress


def rung_of(measure: Measure, progress: Progress) -> dict[str, Any]:
    """A rung: the best on the validation part so far."""
    name = f"validation_{measure.metric}"
    return {
        "metric": name,
        "value": progress.curve[progress.best],
        "higher_is_better": measure.higher_is_better,
        "metrics": _figures(measure, progress),
        "curve": list(progress.curve),
        "collapsed": progress.has_collapsed,
    }


def whole_of(measure: Measure, progress: Progress, scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The whole evaluation: what the best weights say of the test rows, or words, by (labels, outputs) scores."""
    score, metrics, is_constant = measure.test(scores, labels)
    return {
        "metric": score.metric,
        "value": score.value,
        "higher_is_better": score.higher_is_better,
        "n_test": len(labels),
        "per_row_correct": None if score.per_row_correct is None else score.per_row_correct.astype(int).tolist(),
        "replicates": None if score.replicates is None else score.replicates.tolist(),
        "metrics": metrics | _figures(measure, progress),
        "curve": list(progress.curve),
        "collapsed": is_constant,
    }


def collapse_of(diverged: Diverged) -> dict[str, Any]:
    """A training whose loss is lost."""
    return {"reason": str(diverged), "collapsed": True}


def note_of(measure: Measure, progress: Progress) -> dict[str, Any]:
    """What people may look at while it trains; see storage.live_runs."""
    told = {"curve": progress.curve, "figures": progress.figures, "ended": progress.ended}
    return {"metric": f"validation_{measure.metric}", "higher_is_better": measure.higher_is_better, **told}


def measurement_of(result: Mapping[str, Any]) -> Measurement:
    """What is recorded of a result."""
    collapsed = {COLLAPSED: 1.0} if result["collapsed"] else {}
    if "reason" in result:
        return Measurement("failed", result["seconds"], metrics=collapsed, reason=result["reason"])
    correct, replicates = result.get("per_row_correct"), result.get("replicates")
    return Measurement(
        status="completed",
        cost_seconds=result["seconds"],
        metric=result["metric"],
        value=result["value"],
        higher_is_better=result["higher_is_better"],
        n_test=result.get("n_test"),
        per_row_correct=None if correct is None else np.packbits(np.asarray(correct, dtype=bool)).tobytes(),
        replicates=None if replicates is None else np.asarray(replicates, dtype="<f4").tobytes(),
        metrics={**result["metrics"], **collapsed, EPOCHS_TRAINED: float(result["epochs_trained"])},
        curve=tuple(result["curve"]),
    )


def _figures(measure: Measure, progress: Progress) -> dict[str, float]:
    best = {f"validation_{measure.metric}": progress.curve[progress.best], "epochs": float(progress.epochs)}
    return best | dict(progress.figures[-1])
