"""Text classification tasks: which package a sentence documents, and sentences of small grammars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from tasks.playground.documentation import documentation
from tasks.playground.grammars import NOUNS, agreement, moods, subjects, topics

# generator, class → an endless or long enough stream of sentences of that class.
Stream = Callable[[np.random.Generator, str], Iterator[str]]


@dataclass(frozen=True)
class TextTask:
    """Classes and the sentences of each."""

    classes: tuple[str, ...]
    stream: Stream


def write_split(
    task: str, train_rows: int, test_rows: int, seed: int
) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    """Train sentences, train labels, test sentences and test labels of a task.

    Labels are (rows,) int64 indices of the task's classes. Classes are balanced, no sentence occurs twice,
    and equal arguments give equal rows. Raises ValueError when a class has too few sentences.
    """
    generator = np.random.default_rng([seed, *task.encode()])
    classes, stream = TEXT_TASKS[task].classes, TEXT_TASKS[task].stream
    streams = [stream(generator, name) for name in classes]
    seen: set[str] = set()
    return (
        *_write_part(task, streams, train_rows, generator, seen),
        *_write_part(task, streams, test_rows, generator, seen),
    )


def _write_part(
    task: str, streams: list[Iterator[str]], rows: int, generator: np.random.Generator, seen: set[str]
) -> tuple[list[str], np.ndarray]:
    labels = generator.permutation(np.arange(rows, dtype=np.int64) % len(streams))
    sentences = []
    for label in labels:
        sentence = next((one for one in streams[label] if one not in seen), None)
        if sentence is None:
            raise ValueError(f'"{task}" has too few sentences of "{TEXT_TASKS[task].classes[label]}"')
        seen.add(sentence)
        sentences.append(sentence)
    return sentences, labels


def _documented(packages: dict[str, str], generator: np.random.Generator, topic: str) -> Iterator[str]:
    sentences = documentation(packages[topic])
    return iter([sentences[row] for row in generator.permutation(len(sentences))])


def _documentation_task(**packages: str) -> TextTask:
    return TextTask(tuple(packages), partial(_documented, packages))


TEXT_TASKS: dict[str, TextTask] = {
    "packages": _documentation_task(
        plotting="matplotlib",
        tables="pandas",
        databases="sqlalchemy",
        workflows="prefect",
        learning="sklearn",
        graphs="networkx",
        arrays="numpy",
        algebra="sympy",
    ),
    "tools": _documentation_task(
        web="flask",
        commands="click",
        templates="jinja2",
        consoles="rich",
        experiments="mlflow",
    ),
    "moods": TextTask(("statement", "question", "condition", "denial"), moods),
    "agreement": TextTask(("right", "wrong"), agreement),
    "subjects": TextTask(tuple(NOUNS), subjects),
    "documentation-topics": _documentation_task(
        imaging="PIL",
        statistics="scipy.stats",
        migrations="alembic",
        terminals="prompt_toolkit",
        validation="pydantic",
        files="fsspec",
    ),
    "science-topics": _documentation_task(
        statistics="scipy.stats",
        signals="scipy.signal",
        optimisation="scipy.optimize",
        sparse="scipy.sparse",
        splines="scipy.interpolate",
    ),
    "sentence-topics": TextTask(tuple(NOUNS), topics),
}
