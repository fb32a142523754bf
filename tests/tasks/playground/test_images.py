"""Laws of the drawn image tasks."""

import numpy as np
import pytest

from tasks.playground.images import IMAGE_TASKS, draw_split


@pytest.mark.parametrize("task", IMAGE_TASKS)
def test_equal_seeds_draw_equal_rows_and_other_seeds_others(task: str) -> None:
    first, again, other = (
        draw_split(task, 30, 20, 3),
        draw_split(task, 30, 20, 3),
        draw_split(task, 30, 20, 4),
    )
    assert all(np.array_equal(left, right) for left, right in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("task", IMAGE_TASKS)
def test_no_image_is_drawn_twice(task: str) -> None:
    train_images, _, test_images, _ = draw_split(task, 60, 40, 0)
    assert len({image.tobytes() for image in (*train_images, *test_images)}) == 100


@pytest.mark.parametrize("task", IMAGE_TASKS)
def test_classes_are_balanced_in_both_splits(task: str) -> None:
    classes = len(IMAGE_TASKS[task].classes)
    _, train_labels, _, test_labels = draw_split(task, 3 * classes, 2 * classes, 0)
    assert np.bincount(train_labels).tolist() == [3] * classes
    assert np.bincount(test_labels).tolist() == [2] * classes


# A photograph's sky is plain.
@pytest.mark.parametrize("task", [task for task in IMAGE_TASKS if "textures" not in task])
def test_every_image_shows_something_but_noise(task: str) -> None:
    images, _, _, _ = draw_split(task, 60, 0, 0)
    assert images.shape == (60, 32, 32, 3)
    assert images.dtype == np.uint8
    brightness = images.mean(axis=3).reshape(60, -1)
    assert (brightness.max(axis=1) - brightness.min(axis=1)).min() > 50
