"""The laws of tasks.rankers.base.Ranker, checked on every ranker that scores features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from storage.errors import EvaluationError
from tasks.rankers import get_ranker
from tasks.rankers.specs import RANKERS

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

every_ranker = pytest.mark.parametrize("name", [spec.name for spec in RANKERS.values() if spec.implementation])


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


@every_ranker
def test_score_is_the_mean_of_the_rows(name: str, digits: Split) -> None:
    score = get_ranker(name).score(*digits)
    assert score.metric == "accuracy"
    assert score.higher_is_better
    assert score.per_row_correct is not None
    assert score.per_row_correct.dtype == bool
    assert score.per_row_correct.shape == digits[3].shape
    assert score.value == pytest.approx(score.per_row_correct.mean())


@every_ranker
def test_useful_features_score_far_above_chance(name: str, digits: Split) -> None:
    assert get_ranker(name).score(*digits).value > 0.85


@every_ranker
def test_same_seed_gives_the_same_rows(name: str, digits: Split) -> None:
    np.testing.assert_array_equal(correct(name, digits, seed=3), correct(name, digits, seed=3))


@every_ranker
def test_inputs_are_left_as_they_were(name: str, digits: Split) -> None:
    copies = [array.copy() for array in digits]
    get_ranker(name).score(*digits)
    for array, copy in zip(digits, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@every_ranker
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_precision_of_the_same_values_changes_nothing(name: str, dtype: type, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    split: Split = (train_x.astype(dtype), train_y, test_x.astype(dtype), test_y)
    assert (correct(name, split) == correct(name, digits)).mean() > 0.99


@every_ranker
@pytest.mark.parametrize("factor", [1e-20, 1e-6, 1e6, 1e20])
def test_scale_of_the_features_changes_nothing(name: str, factor: float, digits: Split) -> None:
    train_x, train_y, test_x, test_y = (array.astype(np.float64) for array in digits)
    scaled = get_ranker(name).score(train_x * factor, train_y, test_x * factor, test_y)
    assert scaled.value == pytest.approx(get_ranker(name).score(*digits).value, abs=0.01)


@every_ranker
def test_order_of_the_classes_changes_nothing(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    renamed = (train_x, 100 - train_y, test_x, 100 - test_y)
    np.testing.assert_array_equal(correct(name, renamed), correct(name, digits))


@every_ranker
@pytest.mark.parametrize("dtype", [str, object])
def test_text_labels_work_like_numbers(name: str, dtype: type, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    named: Split = (train_x, train_y.astype(str).astype(dtype), test_x, test_y.astype(str).astype(dtype))
    np.testing.assert_array_equal(correct(name, named), correct(name, digits))


@every_ranker
def test_prediction_of_a_row_ignores_the_other_test_rows(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    full = correct(name, digits)
    order = np.random.default_rng(0).permutation(len(test_x))
    np.testing.assert_array_equal(correct(name, (train_x, train_y, test_x[order], test_y[order])), full[order])
    changed = test_x.copy()
    changed[1:] = 1e6
    assert correct(name, (train_x, train_y, changed, test_y))[0] == full[0]
    assert correct(name, (train_x, train_y, test_x[:1], test_y[:1])).tolist() == full[:1].tolist()


@every_ranker
def test_test_label_of_one_row_changes_that_row_only(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    full = correct(name, digits)
    right = int(np.flatnonzero(full)[0])
    relabelled = test_y.copy()
    relabelled[right] = (relabelled[right] + 1) % 10
    expected = full.copy()
    expected[right] = False
    np.testing.assert_array_equal(correct(name, (train_x, train_y, test_x, relabelled)), expected)


@every_ranker
@pytest.mark.parametrize("unseen", [-7, 4, 99])
def test_class_unseen_in_training_counts_as_wrong(name: str, unseen: int, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    seen = train_y != 4
    split = (train_x[seen], train_y[seen], test_x, np.where(test_y == 4, unseen, test_y))
    rows = correct(name, split)
    assert not rows[test_y == 4].any()
    assert rows[test_y != 4].mean() > 0.8


@every_ranker
def test_constant_features_score_one_class(name: str, digits: Split) -> None:
    _, train_y, _, test_y = digits
    rows = correct(name, (np.full((200, 5), 0.1, np.float32), train_y, np.full((150, 5), 0.1, np.float32), test_y))
    shares = [np.array_equal(rows, test_y == label) for label in range(10)]
    assert sum(shares) == 1


@every_ranker
def test_constant_column_changes_nothing_even_if_it_moves_in_the_test_split(name: str, digits: Split) -> None:
    train_x, train_y, test_x, test_y = digits
    wider = (
        np.hstack([train_x, np.full((len(train_x), 1), 3, np.float32)]),
        train_y,
        np.hstack([test_x, np.full((len(test_x), 1), 3.001, np.float32)]),
        test_y,
    )
    assert get_ranker(name).score(*wider).value == pytest.approx(get_ranker(name).score(*digits).value, abs=0.03)


@every_ranker
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


@every_ranker
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
        (1, lambda y: np.where(y == y[5], np.nan, y), "training label of row"),
        (1, lambda y: np.zeros_like(y), "same label 0"),
        (3, lambda y: y.astype(str), "training labels are int64 and test labels"),
        (2, lambda x: None, "no test split"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_the_reason(
    name: str, position: int, spoil: object, message: str, digits: Split
) -> None:
    assert callable(spoil)
    with pytest.raises(EvaluationError, match=message) as caught:
        get_ranker(name).score(*_replace(digits, position, spoil(digits[position])))  # type: ignore[arg-type]
    assert caught.value.fix


@every_ranker
@pytest.mark.parametrize(("position", "split_name"), [(0, "training"), (2, "test")])
def test_empty_split_is_refused(name: str, position: int, split_name: str, digits: Split) -> None:
    parts = list(digits)
    parts[position], parts[position + 1] = parts[position][:0], parts[position + 1][:0]
    with pytest.raises(EvaluationError, match=f"{split_name} split has no rows"):
        get_ranker(name).score(*parts)
