"""Text classification tasks: which package a sentence documents, and sentences of small grammars."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

SENTENCES_PER_PACKAGE = 1000  # read in the order of the files; enough for every task here
WORDS = range(6, 31)  # sentences shorter or longer than this say nothing or are no sentences

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


@cache
def documentation(package: str) -> tuple[str, ...]:
    """Sentences of the docstrings of an importable package or one of its parts, each once, in file order.

    The package is found, read and parsed, never run; its own name is left out of every sentence.
    """
    name, *parts = package.split(".")
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    root = Path(spec.origin).parent.joinpath(*parts)
    own_name = re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE)
    sentences: dict[str, None] = {}
    for file in sorted(root.rglob("*.py")):
        if "test" in file.relative_to(root).as_posix():
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for sentence in _sentences(ast.get_docstring(node) or ""):
                    sentences[" ".join(own_name.sub(" ", sentence).split())] = None
        if len(sentences) >= SENTENCES_PER_PACKAGE:
            break
    return tuple(sentences)


def _sentences(docstring: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", docstring):
        if re.search(r">>>|---|===|\.\. ", paragraph):
            continue
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
            words = re.findall(r"[A-Za-z]+", sentence)
            if len(words) in WORDS and sentence.isascii() and re.fullmatch(r"[A-Z].*\.", sentence):
                yield sentence


def _documented(packages: dict[str, str], generator: np.random.Generator, topic: str) -> Iterator[str]:
    sentences = documentation(packages[topic])
    return iter([sentences[row] for row in generator.permutation(len(sentences))])


NOUNS = {
    "animal": ["horse", "dog", "cat", "cow", "sheep", "goat", "fox", "wolf", "rabbit", "mouse", "eagle", "owl", "duck", "goose", "salmon", "whale"],
    "tool": ["hammer", "saw", "drill", "wrench", "chisel", "shovel", "rake", "axe", "needle", "knife", "ladder", "pump", "lathe", "file", "clamp", "brush"],
    "food": ["bread", "cheese", "apple", "soup", "rice", "honey", "butter", "cake", "onion", "carrot", "pepper", "plum", "pear", "noodle", "egg", "bean"],
    "vehicle": ["car", "truck", "bus", "train", "tram", "boat", "ship", "ferry", "bicycle", "scooter", "plane", "rocket", "wagon", "sledge", "canoe", "van"],
    "garment": ["coat", "shirt", "sock", "hat", "scarf", "glove", "boot", "belt", "skirt", "jacket", "vest", "gown", "shawl", "apron", "robe", "sandal"],
    "worker": ["baker", "nurse", "farmer", "teacher", "pilot", "tailor", "judge", "clerk", "miner", "painter", "doctor", "sailor", "cook", "guard", "smith", "weaver"],
}
ADJECTIVES = ["old", "new", "small", "large", "red", "blue", "heavy", "light", "quiet", "loud", "famous", "strange", "clean", "broken", "wet", "dry"]
VERBS = ["found", "moved", "followed", "covered", "watched", "lifted", "passed", "missed", "carried", "held"]
PLACES = ["house", "river", "station", "market", "field", "bridge", "garden", "tower", "harbour", "forest"]


def _pick(generator: np.random.Generator, words: list[str]) -> str:
    return words[generator.integers(len(words))]


def _phrase(generator: np.random.Generator, kind: str | None = None) -> str:
    noun = _pick(generator, NOUNS[kind or _pick(generator, list(NOUNS))])
    return f"the {_pick(generator, ADJECTIVES)} {noun}"


def _subjects(generator: np.random.Generator, kind: str) -> Iterator[str]:
    """The class is the kind of the one who acts, said first in the active and last in the passive."""
    while True:
        actor, other = _phrase(generator, kind), _phrase(generator)
        verb, place = _pick(generator, VERBS), _pick(generator, PLACES)
        if generator.random() < 0.5:
            yield f"{actor} {verb} {other} near the {place}."
        else:
            yield f"near the {place} {other} was {verb} by {actor}."


def _topics(generator: np.random.Generator, kind: str) -> Iterator[str]:
    """The class is the kind of what is spoken about, in frames that no other grammar uses."""
    while True:
        spoken, other = _phrase(generator, kind), _phrase(generator)
        verb, place = _pick(generator, VERBS), _pick(generator, PLACES)
        if generator.random() < 0.5:
            yield f"in the {place} they {verb} {spoken} before {other}."
        else:
            yield f"{spoken}, not {other}, is in the {place}."


def _moods(generator: np.random.Generator, mood: str) -> Iterator[str]:
    while True:
        first, second, verb = _phrase(generator), _phrase(generator), _pick(generator, VERBS)
        yield {
            "statement": f"{first} {verb} {second}.",
            "question": f"who {verb} {first} and {second}?",
            "condition": f"if {first} {verb} {second} we leave.",
            "denial": f"{first} never {verb} {second}.",
        }[mood]


def _agreement(generator: np.random.Generator, verdict: str) -> Iterator[str]:
    """Right when the verb agrees in number with its subject, across a phrase in between."""
    while True:
        plural = generator.random() < 0.5
        subject = _phrase(generator) + "s" * plural
        between = _phrase(generator) + "s" * (generator.random() < 0.5)
        verb = "are" if plural == (verdict == "right") else "is"
        yield f"{subject} near {between} {verb} {_pick(generator, ADJECTIVES)}."


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
    "moods": TextTask(("statement", "question", "condition", "denial"), _moods),
    "agreement": TextTask(("right", "wrong"), _agreement),
    "subjects": TextTask(tuple(NOUNS), _subjects),
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
    "sentence-topics": TextTask(tuple(NOUNS), _topics),
}
