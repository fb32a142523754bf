from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from storage.errors import StoreError
from tasks.readers.roles import Roles, Told, find_roles, kind_of

TEXTS = ["one sentence", "and another one", "and a third"]
CLASSES = ["a", "b", "a"]


def roles(columns: dict[str, list[Any]], **told: str) -> Roles:
    return find_roles("data", columns, (), Told(**told))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": TEXTS, "label": CLASSES}, Roles("text", "classification", ("text",), ("label",))),
        ({"text": TEXTS, "label": [1, 0, 2]}, Roles("text", "classification", ("text",), ("label",))),
        ({"text": TEXTS, "label": [1.5, 0.0, 2.0]}, Roles("text", "regression", ("text",), ("label",))),
        ({"review": TEXTS, "stars": ["4", "3.5", "1"]}, Roles("text", "regression", ("review",), ("stars",))),
        (
            {"text": TEXTS, "label": [["a"], [], ["b"]]},
            Roles("text", "multilabel_classification", ("text",), ("label",)),
        ),
        (
            {"id": [1, 2, 3], "comment_text": TEXTS, "toxic": ["0", "1", "0"], "rude": ["1", "0", "0"]},
            Roles("text", "multilabel_classification", ("comment_text",), ("toxic", "rude")),
        ),
        (
            {"sentence1": TEXTS, "sentence2": TEXTS, "label": CLASSES},
            Roles("pair", "pair_classification", ("sentence1", "sentence2"), ("label",)),
        ),
        (
            {"sentence1": TEXTS, "sentence2": TEXTS, "score": [4.5, 1.0, 2.0]},
            Roles("pair", "regression", ("sentence1", "sentence2"), ("score",)),
        ),
        (
            {"idx": [0, 1, 2], "Question": TEXTS, "Answer": TEXTS, "label": [0, 1, 0]},
            Roles("pair", "pair_classification", ("Question", "Answer"), ("label",)),
        ),
        (
            {"id": ["0", "1"], "tokens": [["a", "b"], ["c"]], "pos_tags": [[1, 2], [3]], "ner_tags": [[0, 0], [1]]},
            Roles("words", "token_classification", ("tokens",), ("ner_tags",)),
        ),
        (
            {"img": [{"bytes": b"", "path": None}], "label": [1]},
            Roles("image", "classification", ("img",), ("label",)),
        ),
        (
            {"label": CLASSES, "file_name": ["1.png", "2.JPG", "sub/3.webp"]},
            Roles("image", "classification", ("file_name",), ("label",)),
        ),
        (
            {"id": [1, 2], "sepal": [5.1, 4.9], "petal": [1, 2], "species": ["a", "b"]},
            Roles("vector", "classification", ("sepal", "petal"), ("species",)),
        ),
        (
            {"x": [np.zeros(4), np.ones(4)], "y": [0.5, 1.5]},
            Roles("vector", "regression", ("x",), ("y",)),
        ),
        (
            {"when": ["2020", "2021", "2022"], "words said": TEXTS, "Class": CLASSES},
            Roles("text", "classification", ("words said",), ("Class",)),
        ),
    ],
)
def test_columns_are_told_by_names_and_values(columns: dict[str, list[Any]], expected: Roles) -> None:
    assert roles(columns) == expected


def test_what_is_told_goes_before_what_is_usual() -> None:
    columns = {"text": TEXTS, "said": TEXTS, "reply": TEXTS, "label": [1, 0, 2], "mood": CLASSES}
    assert roles(columns, text_column="Said", label_column="mood").features == ("said",)
    pair = roles(columns, text_column="said", text_pair_column="reply")
    assert pair == Roles("pair", "pair_classification", ("said", "reply"), ("label",))
    assert roles(columns, task="regression").task == "regression"
    assert roles(columns, label_columns="label, mood").targets == ("label", "mood")
    two = {"premise": TEXTS, "hypothesis": TEXTS, "label": CLASSES}
    assert roles(two, text_column="hypothesis", task="classification").kind == "text"


def test_whole_numbers_with_class_names_are_classes() -> None:
    columns = {"text": TEXTS, "label": [1.0, 0.0, 2.5]}
    assert find_roles("data", columns, ["label"]).task == "classification"


def test_words_and_tags_in_cells_of_text_are_told_by_the_task() -> None:
    columns = {"words": ["a b", "c"], "tags": ["X Y", "Z"]}
    assert roles(columns, task="token classification").kind == "words"
    assert roles(columns, tokens_column="words", tags_column="tags").targets == ("tags",)


@pytest.mark.parametrize(
    ("columns", "told", "message"),
    [
        ({"a": TEXTS, "b": TEXTS, "label": CLASSES}, {}, "no column is known to hold the text"),
        ({"text": TEXTS, "b": TEXTS, "c": TEXTS}, {}, "no column is known to hold the label"),
        ({"text": TEXTS, "label": CLASSES}, {"text_column": "texd"}, "no column 'texd'; did you mean text"),
        ({"text": TEXTS, "label": CLASSES}, {"task": "token_classification"}, "no column is known to hold the words"),
        ({"tokens": TEXTS, "label": CLASSES}, {"tokens_column": "tokens"}, "no column is known to hold the tags"),
        ({"text": TEXTS, "label": CLASSES}, {"task": "pair_classification"}, "no two columns"),
        (
            {"text": TEXTS, "a": [0, 1], "b": [1, 1]},
            {"task": "classification"},
            "2 columns of labels are for multilabel",
        ),
        ({"text": TEXTS, "label": CLASSES}, {"task": "ranking"}, "no task 'ranking'"),
    ],
)
def test_what_is_not_clear_is_refused_with_what_there_is(
    columns: dict[str, list[Any]], told: dict[str, str], message: str
) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        roles(columns, **told)
    assert caught.value.allowed
    assert caught.value.fix


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([], "empty"),
        ([None, "", " "], "empty"),
        (["0", "1", None], "flags"),
        ([True, False], "flags"),
        (["12", "-3"], "integers"),
        (["1", "2.5e3"], "numbers"),
        ([1, 2.5], "numbers"),
        (["a.png", "b/c.JPEG"], "image paths"),
        (["a.png", "no image"], "texts"),
        ([b"png"], "images"),
        ([{"bytes": None, "path": "x.png"}], "images"),
        ([[[1, 2], [3, 4]]], "images"),
        ([["a", "b"], []], "words"),
        ([[1, 2.5]], "lists"),
        ([np.zeros(3)], "lists"),
        ([np.zeros((3, 3))], "images"),
        ([{"start": 1}], "things"),
    ],
)
def test_kinds_are_told_by_every_cell(cells: list[Any], kind: str) -> None:
    assert kind_of(cells) == kind
