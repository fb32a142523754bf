"""The laws of tasks.rankers.base.Ranker, checked on every ranker that scores features.

First those of rankers that predict the labels of test rows, then those of all.
"""

from __future__ import annotations

import warnings
from contextlib import suppress

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from storage.errors import EvaluationError
from tasks.rankers import get_ranker
from tasks.rankers.base import Score
from tasks.rankers.specs import RANKERS

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

IMPLEMENTED = [spec for spec in RANKERS.values() if spec.implementation]
PREDICTORS = [spec.name for spec in IMPLEMENTED if spec.needs_test]
ESTIMATORS = [spec.name for spec in IMPLEMENTED if not spec.needs_test]

every_predictor = pytest.mark.parametrize("name", PREDICTORS)
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
every_ranker = pytest.mark.parametrize("name", [spec.name for spec in IMPLEMENTED])


@pytest.fixture(scope="module")
def digits() -> Split:
    x, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        x.astype(np.float32), y, train_size=200, test_size=150, random_state=0, stratify=y
    )
    return train_x, train_y, test_x, test_y


def correct(name: str, split: Split, seed: int = 0) -> np.ndarray:
    rows = get_ranker(name).score(*split, seed=seed).per_row_correct
    assert rows is not None
    return rows


@every_predictor
def test_score_is_the_mean_of_the_rows(name: str, digits: Split) -> None:
    score = get_ranker(name).score(*digits)
    assert score.metric == "accuracy"
    assert score.higher_is_better
    assert score.per_row_correct is not None
    assert score.per_row_correct.dtype == bool
    assert score.per_row_correct.shape == digits[3].shape
    assert score.value == pytest.approx(score.per_row_correct.mean())


@every_predictor
def test_useful_features_score_far_above_chance(name: str, digits: Split) -> None:
    assert get_ranker(name).score(*digits).value > 0.85


@every_predictor
def test_same_seed_gives_the_same_rows(name: str, digits: Split) -> None:
    np.testing.assert_array_equal(correct(name, digits, seed=3), correct(name, digits, seed=3))


@every_predictor
def test_inputs_are_left_as_they_were(name: str, digits: Split) -> None:
    copies = [array.copy() for array in digits]
    get_ranker(name).score(*digits)
    for array, copy in zip(digits, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@every_predictor
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_precision_of_the_same_values_changes_nothing(name: str, dtype: type, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    split: Split = (train_x.astype(dtype), train_y, test_x.astype(dtype), test_y)
    assert (correct(name, split) == correct(name, digits)).mean() > 0.99


@every_predictor
def test_order_of_the_classes_changes_nothing(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    renamed = (train_x, 100 - train_y, test_x, 100 - test_y)
    np.testing.assert_array_equal(correct(name, renamed), correct(name, digits))


@every_predictor
@pytest.mark.parametrize("dtype", [str, object])
def test_text_labels_work_like_numbers(name: str, dtype: type, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    named: Split = (train_x, train_y.astype(str).astype(dtype), test_x, test_y.astype(str).astype(dtype))
    np.testing.assert_array_equal(correct(name, named), correct(name, digits))


@every_predictor
def test_prediction_of_a_row_ignores_the_other_test_rows(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    full = correct(name, digits)
    order = np.random.default_rng(0).permutation(len(test_x))
    np.testing.assert_array_equal(correct(name, (train_x, train_y, test_x[order], test_y[order])), full[order])
    changed = test_x.copy()
    changed[1:] = 1e6
    assert correct(name, (train_x, train_y, changed, test_y))[0] == full[0]
    assert correct(name, (train_x, train_y, test_x[:1], test_y[:1])).tolist() == full[:1].tolist()


@every_predictor
def test_test_label_of_one_row_changes_that_row_only(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    full = correct(name, digits)
    right = int(np.flatnonzero(full)[0])
    relabelled = test_y.copy()
    relabelled[right] = (relabelled[right] + 1) % 10
    expected = full.copy()
    expected[right] = False
    np.testing.assert_array_equal(correct(name, (train_x, train_y, test_x, relabelled)), expected)


@every_predictor
@pytest.mark.parametrize("unseen", [-7, 4, 99])
def test_class_unseen_in_training_counts_as_wrong(name: str, unseen: int, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    seen = train_y != 4
    split = (train_x[seen], train_y[seen], test_x, np.where(test_y == 4, unseen, test_y))
    rows = correct(name, split)
    assert not rows[test_y == 4].any()
    assert rows[test_y != 4].mean() > 0.8


@every_predictor
def test_constant_features_score_one_class(name: str, digits: Split) -> None:
    _, train_y, _, test_y = digits
    rows = correct(name, (np.full((200, 5), 0.1, np.float32), train_y, np.full((150, 5), 0.1, np.float32), test_y))
    shares = [np.array_equal(rows, test_y == label) for label in range(10)]
    assert sum(shares) == 1


@every_predictor
def test_constant_column_changes_nothing_even_if_it_moves_in_the_test_split(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    wider = (
        np.hstack([train_x, np.full((len(train_x), 1), 3, np.float32)]),
        train_y,
        np.hstack([test_x, np.full((len(test_x), 1), 3.001, np.float32)]),
        test_y,
    )
    assert get_ranker(name).score(*wider).value == pytest.approx(get_ranker(name).score(*digits).value, abs=0.03)


@every_predictor
def test_two_training_rows_are_enough(name: str) -> None:
    score = get_ranker(name).score(
        np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([5, 9]), np.array([[0.1, 1.0]]), np.array([5])
    )
    assert score.value == 1.0


def _replace(split: Split, position: int, array: object) -> list[object]:
    parts: list[object] = list(split)
    parts[position] = array
    return parts


def _with_value(x: np.ndarray, value: float) -> np.ndarray:
    x = x.copy()
    x[7, 3] = value
    return x


@every_predictor
@pytest.mark.parametrize(
    ("position", "spoil", "message"),
    [
        (
            0,
            lambda x: _with_value(x, np.nan),
            "training features hold NaN or infinity in 1 of 200 rows, first in row 7",
        ),
        (
            2,
            lambda x: _with_value(x, np.inf),
            "test features hold NaN or infinity in 1 of 150 rows, first in row 7",
        ),
        (0, lambda x: x[:-1], "199 rows of training features and 200 labels"),
        (3, lambda y: y[:-1], "150 rows of test features and 149 labels"),
        (0, lambda x: x[0], "training features are float32 of shape"),
        (0, lambda x: x[:, :0], "training features are float32 of shape"),
        (2, lambda x: x.astype(str), "test features are"),
        (2, lambda x: x[:, :-1], "64 dimensions and test features 63"),
        (1, lambda y: y[:, None], "training labels are int64 of shape"),
        (1, lambda y: np.eye(10)[y], "training labels are 10 columns of float64 and test labels int64"),
        (1, lambda y: y.astype(float), "training labels are float64 and test labels int64"),
        (1, lambda y: np.where(y == y[5], np.nan, y), "training label of row"),
        (1, lambda y: np.zeros_like(y), "same label 0"),
        (3, lambda y: y.astype(str), "training labels are int64 and test labels"),
        (2, lambda x: None, "the test split has no features"),
        (3, lambda y: None, "the test split has no labels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_the_reason(
    name: str, position: int, spoil: object, message: str, digits: Split
) -> None:
    assert callable(spoil)
    with pytest.raises(EvaluationError, match=message) as caught:
        get_ranker(name).score(*_replace(digits, position, spoil(digits[position])))  # type: ignore[arg-type]
    assert caught.value.fix


@every_predictor
@pytest.mark.parametrize(("position", "split_name"), [(0, "training"), (2, "test")])
def test_empty_split_is_refused(name: str, position: int, split_name: str, digits: Split) -> None:
    parts = list(digits)
    parts[position], parts[position + 1] = parts[position][:0], parts[position + 1][:0]
    with pytest.raises(EvaluationError, match=f"{split_name} split has no rows"):
        get_ranker(name).score(*parts)


# --- every ranker -------------------------------------------------------------------------------------------------


def score_of(name: str, split: Split, seed: int = 0, **arguments: object) -> Score:
    """The score; where the model's own classes are needed, it tells apart as many as there are features."""
    x = np.asarray(split[0], dtype=float)
    if RANKERS[name].needs_source_probabilities:
        with np.errstate(over="ignore", invalid="ignore"):
            exponentials = np.exp((x - x.max(axis=1, keepdims=True, initial=-np.inf)) / 4)
            probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        return get_ranker(name, **arguments).score(*split, source_probabilities=probabilities, seed=seed)
    return get_ranker(name, **arguments).score(*split, seed=seed)


@every_ranker
def test_the_same_seed_gives_the_same_score(name: str, digits: Split) -> None:
    assert score_of(name, digits, seed=5) == score_of(name, digits, seed=5)


@every_ranker
def test_labels_score_better_than_the_same_shuffled(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    shuffled = np.random.default_rng(0).permutation(train_y)
    assert score_of(name, digits).value > score_of(name, (train_x, shuffled, test_x, test_y)).value
    assert score_of(name, digits).higher_is_better


# A mixture is fitted from rows that the seed picks by their place.
@pytest.mark.parametrize("name", [spec.name for spec in IMPLEMENTED if spec.name != "nleep"])
def test_order_of_the_training_rows_changes_nothing(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    order = np.random.default_rng(0).permutation(len(train_x))
    shuffled = score_of(name, (train_x[order], train_y[order], test_x, test_y))
    assert shuffled.value == pytest.approx(score_of(name, digits).value, rel=1e-6)


@every_ranker
@pytest.mark.parametrize("rename", [lambda y: 100 - y, lambda y: y.astype(str), lambda y: y.astype(str).astype(object)])
def test_names_of_the_classes_change_nothing(name: str, rename: object, digits: Split) -> None:
    assert callable(rename)
    train_x, train_y, test_x, test_y = digits
    renamed = score_of(name, (train_x, rename(train_y), test_x, rename(test_y)))
    assert renamed.value == pytest.approx(score_of(name, digits).value, rel=1e-9)


@every_ranker
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_precision_of_equal_values_changes_nothing(name: str, dtype: type, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    other = score_of(name, (train_x.astype(dtype), train_y, test_x.astype(dtype), test_y))
    assert other.value == pytest.approx(score_of(name, digits).value, rel=1e-4)


@every_estimator
def test_single_precision_agrees_with_double(name: str) -> None:
    random = np.random.default_rng(0)
    y = random.integers(4, size=300)
    x = random.normal(size=(4, 20))[y] + random.normal(size=(300, 20)) + 5
    double = score_of(name, (x, y, x, y)).value
    assert score_of(name, (x.astype(np.float32), y, x, y)).value == pytest.approx(double, rel=1e-4)


@every_estimator
def test_estimates_never_look_at_the_test_split(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    alone = score_of(name, (train_x, train_y, None, None))  # type: ignore[arg-type]
    assert score_of(name, digits) == alone
    assert score_of(name, (train_x, train_y, np.full_like(test_x, np.nan), test_y[::-1])) == alone


@pytest.mark.parametrize("name", ["euclidean_nn", "cosine_nn", "linear", "hscore"])
@pytest.mark.parametrize("factor", [1e-20, 1e-6, 1e6, 1e20])
def test_scale_changes_nothing_where_theory_says_so(name: str, factor: float, digits: Split) -> None:
    train_x, train_y, test_x, test_y = (array.astype(np.float64) for array in digits)
    train_y, test_y = digits[1], digits[3]
    scaled = score_of(name, (train_x * factor, train_y, test_x * factor, test_y))
    assert scaled.value == pytest.approx(score_of(name, digits).value, rel=0.01)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("euclidean_nn", {}),
        ("cosine_nn", {}),
        ("logme", {}),
        ("hscore", {}),
        ("hscore", {"covariance": "plain"}),
        ("transrate", {}),
        ("gbc", {"covariance": "spherical"}),
    ],
)
def test_rotation_changes_nothing_where_theory_says_so(name: str, arguments: dict[str, str], digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]
    turned = score_of(name, (train_x @ rotation, train_y, test_x @ rotation, test_y), **arguments)
    # The least variance that GBC allows is that of a dimension.
    tolerance = 1e-2 if name == "gbc" else 1e-6
    assert turned.value == pytest.approx(score_of(name, digits, **arguments).value, rel=tolerance)


@pytest.mark.parametrize("name", ["euclidean_nn", "linear", "hscore", "transrate", "gbc"])
def test_offset_changes_nothing_where_theory_says_so(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    moved = score_of(name, (train_x.astype(float) + 1e4, train_y, test_x.astype(float) + 1e4, test_y))
    assert moved.value == pytest.approx(score_of(name, digits).value, rel=1e-6)


@every_ranker
@pytest.mark.parametrize("task", ["regression", "multilabel_classification"])
def test_a_ranker_scores_the_tasks_of_its_spec_and_refuses_the_others_by_name(
    name: str, task: str, digits: Split
) -> None:
    train_x, train_y, test_x, test_y = digits
    relabel = {"regression": lambda y: y / 2, "multilabel_classification": lambda y: y[:, None] % np.array([2, 3]) == 0}
    split = (train_x, relabel[task](train_y), test_x, relabel[task](test_y))
    if task in RANKERS[name].tasks:
        assert np.isfinite(score_of(name, split).value)
    else:
        with pytest.raises(EvaluationError, match=f"{RANKERS[name].label} is not defined for {task[:10]}"):
            score_of(name, split)


@every_ranker
@pytest.mark.parametrize(
    "degenerate",
    [
        pytest.param(lambda x, y: (np.full((len(x), 5), 0.1, np.float32), y), id="constant features"),
        pytest.param(lambda x, y: (np.zeros((len(x), 3), np.float16), y), id="zero features"),
        pytest.param(lambda x, y: (x[:30], y[:30]), id="fewer rows than dimensions"),
        pytest.param(lambda x, y: (x, np.where(np.arange(len(y)) == 7, 99, y)), id="a class with one row"),
        pytest.param(lambda x, y: (x[:9], np.arange(9)), id="a class for each row"),
        pytest.param(lambda x, y: (x[:2], np.array([5, 9])), id="two rows"),
        pytest.param(lambda x, y: (np.repeat(x[:20], 10, axis=0), np.repeat(y[:20], 10)), id="equal rows"),
        pytest.param(lambda x, y: (x[:, 20:21], y), id="one dimension"),
    ],
)
def test_degenerate_input_has_a_limit(name: str, degenerate: object, digits: Split) -> None:
    assert callable(degenerate)
    x, y = degenerate(digits[0], digits[1])
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(score_of(name, (x, y, x, y)).value)


@every_estimator
def test_features_that_tell_nothing_score_no_more_than_any_others(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    constant = np.full_like(train_x, 0.1)
    assert score_of(name, (constant, train_y, test_x, test_y)).value < score_of(name, digits).value


@every_ranker
@pytest.mark.parametrize("factor", [1e-300, 1e150, 1e300])
def test_a_scale_beyond_measure_is_scored_or_refused_but_never_a_warning(
    name: str, factor: float, digits: Split
) -> None:
    train_x, train_y, test_x, test_y = digits
    split = (train_x * np.float64(factor), train_y, test_x * np.float64(factor), test_y)
    with warnings.catch_warnings(), suppress(EvaluationError):
        warnings.simplefilter("error")
        assert np.isfinite(score_of(name, split).value)


@every_ranker
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (_with_value(x, np.nan), y), "hold NaN or infinity in 1 of 200 rows, first in row 7"),
        (lambda x, y: (x[:-1], y), "199 rows of .* features and 200 labels"),
        (lambda x, y: (x, np.zeros_like(y)), "same label 0"),
        (lambda x, y: (x, y[:, None]), "training labels are int64 of shape"),
        (lambda x, y: (x, np.where(y == y[5], np.nan, y)), "training label of row"),
        (lambda x, y: (x[:0], y[:0]), "training split has no rows"),
    ],
)
def test_training_rows_that_cannot_be_scored_are_refused_with_the_reason(
    name: str, spoil: object, message: str, digits: Split
) -> None:
    assert callable(spoil)
    x, y = spoil(digits[0], digits[1])
    with pytest.raises(EvaluationError, match=message) as caught:
        score_of(name, (x, y, digits[2], digits[3]))
    assert caught.value.fix
