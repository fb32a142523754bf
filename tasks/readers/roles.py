"""Which columns of a table hold what: as told, else by their usual names, else by what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np

from storage.catalog import DATASET_TASKS
from storage.errors import StoreError
from storage.names import did_you_mean, fold

Kind: TypeAlias = Literal["text", "pair", "words", "image", "vector"]
MODALITIES: Mapping[Kind, str] = {
    "text": "text",
    "pair": "text",
    "words": "text",
    "image": "image",
    "vector": "tabular",
}

# Usual names, as storage.names folds them; those of a later group count where there is none of an earlier one.
_TEXTS = (
    ("text", "sentence", "content", "review", "document", "question"),
    ("comment", "commenttext", "tweet", "message", "utterance", "query", "body", "title", "description", "abstract"),
)
_LABELS = (
    ("label", "labels", "class", "target", "targets", "category", "y"),
    ("score", "rating", "stars", "sentiment", "intent", "topic", "species", "similarityscore"),
)
_IMAGES = (("image", "images", "img", "picture", "photo", "pixels", "x", "data"), ("filename", "file", "path"))
_VECTORS = (("features", "x", "data", "embedding", "vector"),)
_TOKENS = (("tokens", "words"),)
_TAGS = (("nertags",), ("tags",), ("labels",), ("postags",), ("upos",))
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "answer"),
    ("question", "sentence"),
    ("texta", "textb"),
    ("text1", "text2"),
    ("sentencea", "sentenceb"),
    ("query", "passage"),
    ("query", "document"),
)
_ROW_NUMBERS = {"", "id", "idx", "index", "rowid", "unnamed0"}
USUAL_NAMES = frozenset(name for groups in (_TEXTS, _LABELS, _IMAGES, _VECTORS) for group in groups for name in group)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Told:
    """What a person said of the columns; names are in any spelling."""

    text_column: str | None = None
    text_pair_column: str | None = None
    image_column: str | None = None
    tokens_column: str | None = None
    tags_column: str | None = None
    label_column: str | None = None
    label_columns: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class Roles:
    """`features` are the columns that make a row, `targets` those that make its label."""

    kind: Kind
    task: str
    features: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def modality(self) -> str:
        return MODALITIES[self.kind]


def find_roles(
    path: str, sample: Mapping[str, Sequence[Any]], has_class_names: Iterable[str] = (), told: Told | None = None
) -> Roles:
    """The roles of the columns of a table, of which `sample` holds the first cells.

    Whole numbers of a column that `has_class_names` are classes. Raises StoreError that lists the columns where it is
    not clear which is meant.
    """
    return _Search(path, sample, frozenset(has_class_names), told or Told()).roles()


def find_features(path: str, sample: Mapping[str, Sequence[Any]], takes: Kind, told: Told | None = None) -> Roles:
    """The columns that make the rows a model `takes`, in a table whose labels nobody asks for; no targets.

    Two columns of texts that belong together by their names are pairs. Raises StoreError as `find_roles` does.
    """
    return _Search(path, sample, frozenset(), told or Told()).features(takes)


def kind_of(cells: Sequence[Any]) -> str:
    """What cells hold: empty, flags, integers, numbers, texts, image paths, images, words, lists or else things."""
    present = [cell for cell in cells if not _is_missing(cell)]
    if not present:
        return "empty"
    for kind, fits in _KINDS.items():
        if all(map(fits, present)):
            return kind
    return "things"


def _is_missing(cell: Any) -> bool:
    # The word is what programs write for a number that is missing.
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in ("", "nan"))


def _is_flag(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell.strip() in ("0", "1")
    return isinstance(cell, bool | np.bool_) or (isinstance(cell, int) and cell in (0, 1))


def _is_integer(cell: Any) -> bool:
    if isinstance(cell, str):
        return re.fullmatch(r"\s*[+-]?\d+\s*", cell) is not None
    return isinstance(cell, int | np.integer)


def _is_number(cell: Any) -> bool:
    if isinstance(cell, str):
        return re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", cell) is not None
    return isinstance(cell, int | float | np.number)


def _is_image(cell: Any) -> bool:
    if isinstance(cell, dict):
        return cell.keys() <= {"bytes", "path"}
    nested = isinstance(cell, list) and bool(cell) and isinstance(cell[0], list)
    return isinstance(cell, bytes) or nested or (isinstance(cell, np.ndarray) and cell.ndim > 1)


def _is_list_of(cell: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(cell, list | tuple | np.ndarray) and all(isinstance(item, kinds) for item in cell)


_KINDS = {
    "flags": _is_flag,
    "integers": _is_integer,
    "numbers": _is_number,
    "image paths": lambda cell: isinstance(cell, str) and cell.lower().endswith(IMAGE_SUFFIXES),
    "texts": lambda cell: isinstance(cell, str),
    "images": _is_image,
    "words": lambda cell: _is_list_of(cell, (str,)),
    "lists": lambda cell: _is_list_of(cell, (int, float, np.number, np.bool_)),
}
_NUMERIC = ("flags", "integers", "numbers")


class _Search:
    def __init__(
        self, path: str, sample: Mapping[str, Sequence[Any]], has_class_names: frozenset[str], told: Told
    ) -> None:
        self._path = path
        self._sample = sample
        self._header = list(sample)
        self._has_class_names = has_class_names
        self._told = told
        self._kinds = {column: kind_of(cells) for column, cells in sample.items()}
        self._task = self._told_task()

    def roles(self) -> Roles:
        told = self._told
        words = self._words()
        if words:
            return Roles("words", "token_classification", words[:1], words[1:])
        pair = self._pair()
        image = None if told.text_column or pair else self._image()
        named = pair or ((image,) if image else self._named_text())
        targets = self._targets(named)
        if not named:
            named, targets = self._by_what_is_left(targets)
        if not targets:
            self._fail("no column is known to hold the label")
        if not named:
            self._fail("no column is known to hold the text")
        for column in named:
            if column in targets:
                self._fail(f"column {column!r} cannot be both text and label")
        kind = self._kind(named, is_pair=bool(pair))
        task = self._task or self._task_of(kind, targets)
        if len(targets) > 1 and task != "multilabel_classification":
            self._fail(f"{len(targets)} columns of labels are for multilabel_classification, not for {task}")
        return Roles(kind, task, named, targets)

    def features(self, takes: Kind) -> Roles:
        found: tuple[str, ...] = ()
        if takes in ("image", "words"):
            usual = (*_TOKENS, *_TEXTS)
            words = None if takes == "image" else self._named("tokens_column", self._told.tokens_column, usual)
            column = self._image() if takes == "image" else words
            found = () if column is None else (column,)
        else:
            found = self._pair(is_labelled=False)
            takes = "pair" if found else takes
            found = found or self._named_text()
        if not found and takes != "image":
            labels = {name for group in _LABELS for name in group}
            rest = [column for column in self._rest(()) if fold(column) not in labels]
            texts = [column for column in rest if self._kinds[column] in ("texts", "words")]
            found = tuple(texts) if len(texts) == 1 else ()
        if not found:
            raise StoreError(
                f"{self._path}: no column is known to hold the {'image' if takes == 'image' else 'text'}",
                subject=self._path,
                allowed=self._header,
                fix=f"call the column '{'image' if takes == 'image' else 'text'}'",
            )
        return Roles(takes, "", found, ())

    def _told_task(self) -> str | None:
        if self._told.task is None:
            return None
        for task in DATASET_TASKS:
            if fold(task) == fold(self._told.task):
                return task
        raise StoreError(
            f"there is no task {self._told.task!r}",
            subject=self._told.task,
            allowed=DATASET_TASKS,
            fix="name one of these, or leave it out to have it told by the columns",
        )

    def _words(self) -> tuple[str, ...]:
        """The columns of words and of their tags, where the dataset is of that kind."""
        told = self._told
        is_told = bool(told.tokens_column or told.tags_column) or self._task == "token_classification"
        if not is_told and (self._task or told.text_column or told.image_column):
            return ()
        tokens = self._named("tokens_column", told.tokens_column, _TOKENS)
        tags = self._named("tags_column", told.tags_column or told.label_column, _TAGS)
        if is_told:
            if tokens is None or tags is None or tokens == tags:
                self._fail(f"no column is known to hold the {'words' if tokens is None else 'tags of words'}")
            return (tokens, tags)
        if tokens is None or tags is None or self._kinds[tokens] != "words":
            return ()
        pairs = zip(self._sample[tokens], self._sample[tags], strict=True)
        is_aligned = self._kinds[tags] in ("words", "lists") and all(
            len(words) == len(marks) for words, marks in pairs if words is not None and marks is not None
        )
        return (tokens, tags) if is_aligned else ()

    def _pair(self, *, is_labelled: bool = True) -> tuple[str, ...]:
        told = self._told
        if told.text_pair_column is not None:
            second = self._named("text_pair_column", told.text_pair_column, ())
            first = self._named("text_column", told.text_column, [g[:1] for g in _PAIRS] + list(_TEXTS), but=(second,))
            if first is None or second is None:
                self._fail("no column is known to hold the first text")
            return (first, second)
        if told.text_column is not None or told.image_column is not None or self._task == "classification":
            return ()
        by_fold = {fold(column): column for column in self._header}
        for first_name, second_name in _PAIRS:
            if first_name in by_fold and second_name in by_fold:
                found = (by_fold[first_name], by_fold[second_name])
                has_label = bool(told.label_column or told.label_columns or self._named_label(but=found))
                if (has_label or not is_labelled) and all(
                    self._kinds[column] in ("texts", "integers") for column in found
                ):
                    return found
        if self._task == "pair_classification":
            self._fail("no two columns are known to hold two texts")
        return ()

    def _image(self) -> str | None:
        told = self._told.image_column
        if told is not None:
            return self._named("image_column", told, ())
        images = [column for column in self._header if self._kinds[column] in ("images", "image paths")]
        named = self._first_of(_IMAGES, images)
        return named[0] if named else images[0] if len(images) == 1 else None

    def _named_text(self) -> tuple[str, ...]:
        told = self._told.text_column
        readable = [column for column in self._header if self._kinds[column] in ("texts", "empty", *_NUMERIC, "things")]
        if told is None and (labels := self._told.label_column):
            readable = [column for column in readable if fold(column) != fold(labels)]
        found = self._named("text_column", told, _TEXTS, among=None if told else readable)
        return (found,) if found is not None else ()

    def _named_label(self, but: Sequence[str] = ()) -> str | None:
        return self._named("label_column", self._told.label_column, _LABELS, but=but)

    def _targets(self, features: Sequence[str]) -> tuple[str, ...]:
        if self._told.label_columns is not None:
            wanted = [name.strip() for name in self._told.label_columns.split(",") if name.strip()]
            return tuple(str(self._named("label_columns", name, ())) for name in wanted)
        label = self._named_label(but=() if self._told.label_column else features)
        if label is not None:
            return (label,)
        rest = [column for column in self._rest(features) if self._kinds[column] == "flags"]
        if features and len(rest) > 1:
            return tuple(rest)
        if features and len(self._header) == 2:
            return tuple(column for column in self._header if column not in features)
        return ()

    def _by_what_is_left(self, targets: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Features and targets where the names do not tell the features."""
        rest = self._rest(targets)
        texts = [column for column in rest if self._kinds[column] == "texts"]
        if not targets:
            return self._two_by_shape() if len(self._header) == 2 and len(texts) else ((), ())
        if len(self._header) == 2:
            return tuple(column for column in self._header if column not in targets), targets
        if len(texts) == 1:
            return tuple(texts), targets
        lists = [column for column in rest if self._kinds[column] == "lists"]
        vector = self._first_of(_VECTORS, lists) or (lists if len(lists) == 1 else [])
        if vector:
            return (vector[0],), targets
        if rest and all(self._kinds[column] in _NUMERIC for column in rest):
            return tuple(rest), targets
        return (), targets

    def _two_by_shape(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        cells = [[str(cell) for cell in self._sample[column]] for column in self._header]
        distinct = [len(set(each)) for each in cells]
        length = [sum(map(len, each)) for each in cells]
        for label in (0, 1):
            if distinct[label] < distinct[1 - label] and length[label] < length[1 - label]:
                return (self._header[1 - label],), (self._header[label],)
        self._fail("neither the names nor the values tell text from label")

    def _kind(self, features: Sequence[str], *, is_pair: bool) -> Kind:
        if is_pair:
            return "pair"
        found = self._kinds[features[0]]
        if found in ("images", "image paths") or self._told.image_column is not None:
            return "image" if self._told.text_column is None else "text"
        is_named_text = self._told.text_column is not None or fold(features[0]) in {n for g in _TEXTS for n in g}
        if len(features) > 1 or found == "lists" or (found in _NUMERIC and not is_named_text):
            return "vector"
        return "text"

    def _task_of(self, kind: Kind, targets: Sequence[str]) -> str:
        target = self._kinds[targets[0]]
        if len(targets) > 1 or self._told.label_columns is not None or target in ("words", "lists"):
            return "multilabel_classification"
        if target == "numbers" and targets[0] not in self._has_class_names:
            return "regression"
        return "pair_classification" if kind == "pair" else "classification"

    def _rest(self, used: Sequence[str]) -> list[str]:
        return [column for column in self._header if column not in used and fold(column) not in _ROW_NUMBERS]

    def _named(
        self,
        option: str,
        wanted: str | None,
        usual: Sequence[Sequence[str]],
        *,
        but: Sequence[str | None] = (),
        among: Sequence[str] | None = None,
    ) -> str | None:
        """The column of that name, or else the one of a usual name, if there is one."""
        if wanted is not None and wanted in self._header:
            return wanted
        groups = usual if wanted is None else [(fold(wanted),)]
        columns = self._header if among is None else among
        found = self._first_of(groups, [column for column in columns if column not in but])
        if len(found) > 1:
            self._fail(f"{option} may be {' and '.join(map(repr, found))}")
        if wanted is not None and not found:
            guess = did_you_mean(wanted, self._header)
            self._fail(f"there is no column {wanted!r}{'' if guess is None else f'; {guess}'}")
        return found[0] if found else None

    def _first_of(self, groups: Sequence[Sequence[str]], columns: Sequence[str]) -> list[str]:
        for group in groups:
            if found := [column for column in columns if fold(column) in group]:
                return found
        return []

    def _fail(self, problem: str) -> NoReturn:
        raise StoreError(
            f"{self._path}: {problem}",
            subject=self._path,
            allowed=self._header,
            fix="name the columns: shiftql datasets add … --text-column … --label-column …, or in the language"
            " REGISTER DATASET … WITH (text_column='…', label_column='…'); docs/datasets.md lists all options",
        )
