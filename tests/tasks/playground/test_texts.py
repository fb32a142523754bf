"""Laws of the text tasks."""

import numpy as np
import pytest

from tasks.playground import texts
from tasks.playground.texts import TEXT_TASKS, write_split

# Documentation takes seconds to read; its own test reads a package made for it.
QUICK_TASKS = ("moods", "agreement", "subjects", "sentence-topics")


@pytest.mark.parametrize("task", QUICK_TASKS)
def test_equal_seeds_write_equal_rows_and_other_seeds_others(task: str) -> None:
    first, again, other = (
        write_split(task, 30, 20, 3),
        write_split(task, 30, 20, 3),
        write_split(task, 30, 20, 4),
    )
    assert first[0] == again[0]
    assert first[2] == again[2]
    assert np.array_equal(first[1], again[1])
    assert first[0] != other[0]


@pytest.mark.parametrize("task", QUICK_TASKS)
def test_no_sentence_is_written_twice(task: str) -> None:
    train_sentences, _, test_sentences, _ = write_split(task, 300, 200, 0)
    assert len({*train_sentences, *test_sentences}) == 500


@pytest.mark.parametrize("task", QUICK_TASKS)
def test_classes_are_balanced(task: str) -> None:
    classes = len(TEXT_TASKS[task].classes)
    _, labels, _, _ = write_split(task, 5 * classes, 0, 0)
    assert np.bincount(labels).tolist() == [5] * classes


def test_a_class_with_too_few_sentences_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    short = texts.TextTask(("only",), lambda generator, name: iter(["one.", "two."]))
    monkeypatch.setitem(TEXT_TASKS, "short", short)
    with pytest.raises(ValueError, match='"short" has too few sentences of "only"'):
        write_split("short", 2, 1, 0)
