"""NLEEP: LEEP with clusters of the features in place of source classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from storage.errors import EvaluationError
from tasks.rankers.base import Estimator, training_classes
from tasks.rankers.leep import log_expected_prediction

_SHARE_OF_VARIANCE = 0.8
_COMPONENTS_PER_CLASS = 5


@dataclass(frozen=True)
class NLEEP(Estimator):
    """LEEP whose source classes are the components of a Gaussian mixture on the features' principal components.

    Principal components that hold 80 % of the variance; a mixture with full covariances as scikit-learn fits it from
    `seed`, of `num_components` components, by default 5 for each class, but no more than rows. Li, Jia, Sang, Zhu,
    Green, Wang and Gong, 2021, arXiv 2011.11200.
    """

    num_components: int | None = None

    def estimate(
        self, train_x: np.ndarray, train_y: np.ndarray, source_probabilities: np.ndarray | None, seed: int
    ) -> float:
        from sklearn.decomposition import PCA
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        x, y, num_classes = training_classes("NLEEP", train_x, train_y)
        components = self.num_components or min(_COMPONENTS_PER_CLASS * num_classes, len(x))
        if components > len(x):
            raise EvaluationError(
                f"{components} components of only {len(x)} training rows",
                fix=f"choose num_components of at most {len(x)}",
            )
        if not ((x.astype(np.float64) - x[0]) ** 2).any():
            # One cluster says as much as any number of equal ones.
            return log_expected_prediction(np.ones((len(x), 1)), y, num_classes)
        with warnings.catch_warnings():
            # Fewer distinct rows than components, or a mixture that still moves, are no fault of the user's.
            warnings.simplefilter("ignore", ConvergenceWarning)
            reduced = PCA(_SHARE_OF_VARIANCE, random_state=seed).fit_transform(x.astype(np.float64))
            mixture = GaussianMixture(components, random_state=seed).fit(reduced)
        return log_expected_prediction(mixture.predict_proba(reduced), y, num_classes)
