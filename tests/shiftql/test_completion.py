"""Completion suggests what can stand at the cursor."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftql.completion import suggest
from shiftql.relations import RELATION_NAMES, RELATIONS
from shiftql.vocabulary import KEYWORDS
from tasks.rankers.specs import RANKERS

NAMES = SimpleNamespace(
    models=["resnet-letters", "vit letters"], datasets=["digits-train", "digits-test", "my.data", "select"]
)
COLUMNS = set(RELATIONS["models"].columns)
RANKER_TEXTS = {"Linear", "FineTune", '"Cosine NN"', '"Euclidean NN"'}


def suggested(text, names=NAMES):
    """What is suggested at the bar in `text`, or at its end."""
    cursor = text.index("|") if "|" in text else len(text)
    return [suggestion.text for suggestion in suggest(text.replace("|", ""), cursor, names)]


def test_rankers_of_this_test_are_those_there_are():
    assert {text.strip('"') for text in RANKER_TEXTS} == {spec.label for spec in RANKERS.values()}


@pytest.mark.parametrize(
    "text", ["", "  ", "SELECT name FROM models; ", "-- a comment\n", "SELECT name FROM models ORDER BY x;"]
)
def test_a_statement_begins_with_its_verb(text):
    assert suggested(text) == ["SELECT", "EXPLAIN"]


@pytest.mark.parametrize("typed", ["sel", "SEL", "Sel"])
def test_keywords_complete_in_any_case(typed):
    assert suggested(typed) == ["SELECT"]


@pytest.mark.parametrize("keyword", [keyword.phrase for keyword in KEYWORDS])
def test_every_keyword_completes_where_a_clause_may_follow(keyword):
    assert keyword in suggested(f"SELECT name FROM models m {keyword[:2]}")


@pytest.mark.parametrize("text", ["SELECT name FROM ", "select name from ", "SELECT * -- from\nFROM "])
def test_relations_follow_from(text):
    assert suggested(text) == list(RELATION_NAMES)


@pytest.mark.parametrize("text", ["SELECT ", "SELECT name, ", "SELECT | FROM models"])
def test_columns_follow_select(text):
    assert set(suggested(text)) >= COLUMNS


def test_columns_are_those_of_the_relation_even_behind_the_cursor():
    assert "num_classes" in suggested("SELECT num_| FROM datasets")
    assert "num_params" not in suggested("SELECT num_| FROM datasets")


@pytest.mark.parametrize("condition", ["", "num_params < 10M AND ", "NOT ", "(", "name = a OR "])
def test_columns_follow_where_and_its_connectives(condition):
    assert set(suggested(f"SELECT * FROM models WHERE {condition}")) >= COLUMNS


@pytest.mark.parametrize("typed", ["num_p", "NumP", "NUMP"])
def test_columns_complete_in_any_spelling(typed):
    assert suggested(f"SELECT name FROM models WHERE {typed}") == ["num_params"]


@pytest.mark.parametrize("operator", ["=", "==", "!="])
def test_model_names_follow_a_comparison_of_names(operator):
    assert suggested(f"SELECT * FROM models WHERE name {operator} ") == ["resnet-letters", '"vit letters"']
    assert suggested(f"SELECT * FROM models WHERE source {operator} ") == []


def test_rankers_and_columns_follow_order_by():
    assert set(suggested("SELECT * FROM models ORDER BY ")) == COLUMNS | RANKER_TEXTS


@pytest.mark.parametrize("list_so_far", ["", "[", "[Linear, "])
def test_rankers_follow_classified_by(list_so_far):
    assert set(suggested(f"SELECT * FROM models ORDER BY acc CLASSIFIED BY {list_so_far}")) == RANKER_TEXTS


@pytest.mark.parametrize("typed", ["cos", '"cos', "CosineN"])
def test_a_ranker_of_two_words_is_completed_in_quotes(typed):
    assert suggested(f"SELECT * FROM models ORDER BY {typed}") == ['"Cosine NN"']


@pytest.mark.parametrize("arguments", ["", "lr=0.1, "])
def test_arguments_of_a_ranker_stand_in_its_brackets(arguments):
    assert suggested(f"SELECT * FROM models ORDER BY Linear({arguments}") == ["learning_rate=", "num_epochs="]


def test_nothing_is_known_of_the_arguments_of_an_unknown_ranker():
    assert suggested("SELECT * FROM models ORDER BY Linnear(") == []


@pytest.mark.parametrize(
    "clause", ["TRAINED ON ", "trained on ", "TRAINED ON [a, ", "TRAINED ON a TESTED ON ", "TESTED ON ["]
)
def test_datasets_follow_trained_on_and_tested_on(clause):
    found = suggested(f"SELECT * FROM models ORDER BY Linear {clause}")
    assert found == ["digits-train", "digits-test", '"my.data"', '"select"']


@pytest.mark.parametrize("typed", ["digits-tr", "digits-tr|ain", "Digits-TR"])
def test_a_name_with_dashes_is_one_word(typed):
    text = f"SELECT * FROM models ORDER BY Linear TRAINED ON {typed}"
    assert suggested(text) == ["digits-train"]


def test_quotes_begun_are_kept():
    assert suggested("SELECT * FROM models ORDER BY Linear TRAINED ON 'digits-tr") == ["'digits-train'"]


def test_a_suggestion_replaces_the_whole_word_with_its_quote():
    text = "SELECT * FROM models ORDER BY Linear TRAINED ON 'digits-tr"
    (suggestion,) = suggest(text, len(text), NAMES)
    assert text[: -suggestion.replaces] + suggestion.text == text.replace("'digits-tr", "'digits-train'")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT name ",
        "SELECT * FROM models LIMIT ",
        "SELECT * FROM models WHERE num_params < ",
        "SELECT 'a' ",
    ],
)
def test_nothing_is_suggested_before_a_word_where_no_name_is_called_for(text):
    assert suggested(text) == []


def test_nothing_is_suggested_in_a_comment():
    assert suggested("SELECT * FROM models -- sel") == []


def test_the_catalog_is_asked_only_where_its_names_are_called_for():
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(name)

    assert suggested("SELECT na", Untouchable())


@given(st.text(alphabet="SELECTFROMWHEREBYON seldat'\"`;,()[]=<-#.\n", max_size=40))
def test_any_text_can_be_completed(text):
    for suggestion in suggest(text, len(text), NAMES):
        assert 0 <= suggestion.replaces <= len(text)
