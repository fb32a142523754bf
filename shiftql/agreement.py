"""How well estimates agree with what models reach in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# With fewer models than this agreement says nothing.
LEAST = 3


@dataclass(frozen=True)
class Agreement:
    """Of estimates with fine-tuned accuracies, each from -1 to 1; None where either are all alike, or too few.

    Of the weighted Kendall tau, the best models by fine-tuned accuracy weigh most.
    """

    weighted_tau: float | None
    pearson: float | None
    spearman: float | None


def agreement(tested: Sequence[float], estimated: Sequence[float]) -> Agreement:
    """The agreement of the estimates of some models with their fine-tuned accuracies, both in the same order."""
    if len(tested) < LEAST or len(set(tested)) == 1 or len(set(estimated)) == 1:
        return Agreement(None, None, None)
    from scipy.stats import pearsonr, spearmanr, weightedtau

    return Agreement(
        weighted_tau=float(weightedtau(tested, estimated, rank=None).statistic),
        pearson=float(pearsonr(tested, estimated).statistic),
        spearman=float(spearmanr(tested, estimated).statistic),
    )
