"""HELP and docs/language.md explain the whole language, from one source, with examples that are right."""

import subprocess
import sys
from pathlib import Path

import pytest

from shiftql import ast
from shiftql.binder import bind
from shiftql.engine import Session
from shiftql.parser import parse
from shiftql.reference import KINDS, WORKED, all_topics, as_markdown, help_text, topics
from shiftql.relations import RELATION_NAMES, RELATIONS
from shiftql.script import dataset_names, declare, question_of
from shiftql.shortcuts import SHORTCUTS
from shiftql.vocabulary import KEYWORDS
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import BindingError
from storage.settings import current_settings
from tasks.rankers.specs import RANKERS

ROOT = Path(__file__).parents[2]
EXAMPLES = list(
    dict.fromkeys(
        [*(example for topic in all_topics() for example in topic.examples), *(example for _, example in WORKED)]
    )
)
DOCUMENTED = [
    *(keyword.phrase for keyword in KEYWORDS),
    *RELATION_NAMES,
    *(column for relation in RELATIONS.values() for column in relation.columns),
    *(alias for relation in RELATIONS.values() for alias in relation.aliases),
    *(spec.label for spec in RANKERS.values()),
    *RANKERS,
]


def asked_by(statement):
    """What a statement asks, or keeps to be asked."""
    return statement.query if isinstance(statement, ast.Watch | ast.Declare) else question_of(statement)


def needs_files(example):
    """Whether something is registered, or a model is opened for a dataset."""
    statements = parse(example)
    questions = [question for statement in statements if (question := asked_by(statement)) is not None]
    return any(isinstance(each, ast.Register) for each in statements) or any(
        dataset_names(question, {}) - {"images"} for question in questions
    )


@pytest.fixture(scope="module")
def playground(tmp_path_factory):
    """A home whose catalog has the names of the playground, and no files behind them."""
    home = tmp_path_factory.mktemp("playground")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "SHIFT_DATABASE_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("SHIFT_HOME", str(home))
        _fill(Catalog(Database(current_settings())))
        yield home


def _fill(catalog):
    for name in ("resnet-letters", "vit-location", "bert-packages"):
        modality = "text" if name.startswith("bert") else "image"
        columns = {"path": "", "signature": "", "fingerprint": name, "source": "huggingface", "modality": modality}
        catalog.save_model(name, {**columns, "num_params": 50_000, "upstream_accuracy": 0.9})
    for target, modality in (("drawn-digits", "image"), ("counting-shapes", "image"), ("sentence-topics", "text")):
        for split, rows in (("train", 600), ("test", 400)):
            columns = {"path": "", "signature": "", "type": "csv", "task": "classification", "num_classes": 6}
            name = f"{target}-{split}"
            catalog.save_dataset(name, {**columns, "fingerprint": name, "modality": modality, "num_rows": rows})


def test_the_page_in_the_documentation_is_the_one_made_from_the_source():
    page = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    assert page == as_markdown(), "write it anew: python -m shiftql.reference > docs/language.md"


def test_running_the_module_prints_the_page():
    program = [sys.executable, "-m", "shiftql.reference"]
    printed = subprocess.run(program, check=True, capture_output=True, encoding="utf-8", cwd=ROOT).stdout
    assert printed == as_markdown()


@pytest.mark.parametrize("name", dict.fromkeys(DOCUMENTED))
def test_every_name_of_the_language_has_help_with_an_example(name):
    text = help_text(name)
    examples = [line for line in text.split("\n") if line.startswith("    ")]
    assert examples
    assert text.split("\n")[1].strip()


@pytest.mark.parametrize("topic", all_topics(), ids=lambda topic: f"{topic.kind} {topic.name}")
def test_every_topic_stands_on_the_page_with_its_example(topic):
    page = as_markdown()
    assert topic.name in page or topic.name.capitalize() in page or f"{topic.name[0].upper()}{topic.name[1:]}" in page
    for line in topic.examples[0].split("\n"):
        assert line in page


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_parses(example):
    assert parse(example)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_question_of_an_example_binds_on_the_names_of_the_playground(playground, example):
    database = Database(current_settings())
    declared = {}
    for statement in parse(example):
        question = asked_by(statement)
        if question is not None:
            assert bind(question, database, example, declared)
        if isinstance(statement, ast.Declare):
            declared = declare(declared, statement, example)


@pytest.mark.parametrize("example", [example for example in EXAMPLES if not needs_files(example)])
def test_every_example_that_opens_no_file_runs(playground, example):
    for answer in Session().run(example):
        assert answer.kind != "error" or "not executable yet" in str(answer.error)


@pytest.mark.parametrize("spelling", ["order by", "ORDER BY", "order_by", "OrderBy"])
def test_topics_are_found_in_any_spelling(spelling):
    assert help_text(spelling) == help_text("ORDER BY")


@pytest.mark.parametrize("topic", topics())
def test_every_topic_that_is_listed_can_be_asked_for(topic):
    assert help_text(topic)


def test_a_word_of_two_meanings_is_explained_in_both():
    assert "TASK (word)" in help_text("task")
    assert "task (column)" in help_text("task")


def test_help_alone_lists_every_topic_of_every_kind():
    overview = " ".join(help_text(None).split())
    for topic in all_topics():
        assert topic.name in overview


@pytest.mark.parametrize("kind", KINDS)
def test_the_kinds_list_their_topics_in_one_line_each(kind):
    listed = help_text(f"{kind}s").split("\n")
    assert sum(topic.kind == kind for topic in all_topics()) <= len(listed) - 1


@pytest.mark.parametrize("spec", [spec for spec in RANKERS.values() if spec.arguments], ids=lambda spec: spec.name)
def test_help_of_a_ranker_tells_its_arguments(spec):
    for argument in spec.arguments:
        for name in (argument.name, *argument.aliases):
            assert name in help_text(spec.label)


def test_shortcuts_are_explained():
    text = help_text("shortcuts")
    assert all(shortcut.word in text for shortcut in SHORTCUTS)


def test_an_unknown_topic_is_answered_with_the_near_ones():
    with pytest.raises(BindingError, match="did you mean Linear") as caught:
        help_text("lineer")
    assert caught.value.subject == "lineer"
    assert "rankers" in caught.value.allowed
