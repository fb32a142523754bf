"""Completion suggests what the grammar accepts at the cursor, and the names that are meant there."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftql.completion import suggest
from shiftql.relations import RELATION_NAMES, RELATIONS
from shiftql.shortcuts import SHORTCUTS
from shiftql.vocabulary import KEYWORDS, PURGED, SHOWN
from tasks.rankers.specs import RANKERS

NAMES = SimpleNamespace(
    models=["resnet-letters", "vit letters"],
    datasets=["digits-train", "digits-test", "my.data", "select"],
    declared=["small"],
)
DATASETS = ["digits-train", "digits-test", '"my.data"', '"select"']
MODELS = ["resnet-letters", '"vit letters"']
COLUMNS = list(RELATIONS["models"].columns)
DATASET_COLUMNS = list(RELATIONS["datasets"].columns)
RANKER_TEXTS = [f'"{s.label}"' if " " in s.label else s.label for s in RANKERS.values() if s.ranks == "models"]
STATEMENTS = [keyword.phrase for keyword in KEYWORDS if keyword.role == "statement"]
QUESTION = "SELECT name FROM models "
RANKED = f"{QUESTION}ORDER BY Linear "


def suggestions(text, names=NAMES):
    """What is suggested at the bar in `text`, or at its end."""
    cursor = text.index("|") if "|" in text else len(text)
    return suggest(text.replace("|", ""), cursor, names)


def suggested(text, names=NAMES):
    return [suggestion.text for suggestion in suggestions(text, names)]


def named(text):
    """The names suggested, without the keywords."""
    return [suggestion.text for suggestion in suggestions(text) if suggestion.kind != "keyword"]


@pytest.mark.parametrize(
    "text", ["", "  ", "SELECT name FROM models; ", "-- a comment\n", "SELECT name FROM models ORDER BY x;", "wrong; "]
)
def test_a_statement_begins_with_its_verb(text):
    assert suggested(text) == STATEMENTS


@pytest.mark.parametrize("typed", ["sel", "SEL", "Sel"])
def test_keywords_complete_in_any_case(typed):
    assert suggested(typed) == ["SELECT"]


@pytest.mark.parametrize(
    "keyword", [k.phrase for k in KEYWORDS if k.role == "clause" and k.phrase not in ("FROM", "NATURAL JOIN")]
)
def test_every_clause_can_follow_the_source_and_once_written_is_not_suggested_again(keyword):
    assert keyword in suggested(QUESTION)
    assert keyword in suggested(f"{QUESTION}{keyword[:2]}")
    assert keyword in suggested(f"{QUESTION}| LIMIT 3") or keyword == "LIMIT"


def test_a_clause_on_either_side_of_the_cursor_is_not_suggested_again():
    assert "LIMIT" not in suggested(f"{QUESTION}LIMIT 3 ")
    assert "LIMIT" not in suggested(f"{QUESTION}| LIMIT 3")
    assert "WAIT" not in suggested(f"{QUESTION}NOWAIT ")
    assert "LIMIT" in suggested(f"{QUESTION}LIMIT 3 UNION {QUESTION}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{QUESTION}ORDER ", ["BY"]),
        (f"{QUESTION}TRAINED ", ["ON"]),
        (f"{QUESTION}WHERE num_params IS ", ["NOT", "NULL"]),
        (f"{QUESTION}WHERE num_params BETWEEN 1 ", ["AND"]),
        (f"{QUESTION}BUDGET 160 p", ["PULLS"]),
        ("SELECT * ", ["FROM"]),
        ("DECLARE x ", ["AS"]),
        ("REGISTER ", ["DATASET", "MODEL", "MODELS"]),
    ],
)
def test_keywords_are_those_the_grammar_accepts(text, words):
    assert suggested(text) == words


@pytest.mark.parametrize("text", ["SELECT name FROM ", "select name from ", "SELECT * -- from\nFROM "])
def test_relations_and_declared_names_follow_from(text):
    assert suggested(text) == [*RELATION_NAMES, "small"]


@pytest.mark.parametrize("text", ["SELECT ", "SELECT name, ", "SELECT | FROM models", "SELECT DISTINCT "])
def test_columns_follow_select(text):
    assert named(text) == COLUMNS


@pytest.mark.parametrize(
    "text",
    [
        "SELECT | FROM datasets",
        "SELECT name FROM datasets WHERE ",
        "SELECT FROM datasets WHERE ",
        "SELECT name FROM models WHERE name IN (SELECT | FROM datasets) LIMIT 3",
        "SELECT name FROM models WHERE name IN (SELECT name FROM readers WHERE ",
        "SELECT name FROM (SELECT * FROM datasets) WHERE ",
        "SELECT name FROM models UNION SELECT name FROM datasets WHERE ",
        "SELECT name FROM models; SELECT | FROM datasets; SELECT name FROM text_models",
    ],
)
def test_columns_are_those_of_the_select_around_the_cursor(text):
    assert named(text) == DATASET_COLUMNS


def test_columns_of_joined_relations_are_all_suggested_and_qualified_ones_are_their_own():
    joined = "FROM models m NATURAL JOIN benchmark_results AS r"
    results = RELATIONS["benchmark_results"].columns
    assert set(named(f"SELECT | {joined}")) == {*COLUMNS, *results}
    assert named(f"SELECT r.| {joined}") == [f"r.{column}" for column in results]
    assert named(f"SELECT m.num_p|, r.value {joined}") == ["m.num_params"]
    assert named(f"SELECT x.| {joined}") == []


@pytest.mark.parametrize("condition", ["", "num_params < 10M AND ", "NOT ", "(", "name = a OR ", "10M > "])
def test_columns_follow_where_and_its_connectives(condition):
    assert named(f"SELECT * FROM models WHERE {condition}") == COLUMNS


@pytest.mark.parametrize("typed", ["num_p", "NumP", "NUMP"])
def test_columns_complete_in_any_spelling(typed):
    assert suggested(f"SELECT name FROM models WHERE {typed}") == ["num_params"]


@pytest.mark.parametrize("place", ["=", "==", "!=", "IN (", "IN (a, ", "NOT IN ("])
def test_model_names_follow_a_comparison_of_names(place):
    assert named(f"SELECT * FROM models WHERE name {place} ") == MODELS
    assert named(f"SELECT * FROM benchmark_results WHERE model_name {place} ") == MODELS
    assert named(f"SELECT * FROM datasets WHERE name {place} ") == DATASETS
    assert named(f"SELECT * FROM models WHERE source {place} ") == []


@pytest.mark.parametrize(
    ("column", "values"),
    [("modality", ["image", "text"]), ("Input", ["image", "text"]), ("finetuned", ["TRUE", "FALSE"])],
)
def test_columns_of_few_values_are_compared_with_these(column, values):
    assert suggested(f"SELECT * FROM models WHERE {column} = ") == values


@pytest.mark.parametrize(
    "text", ["WHERE num_params BETWEEN 1 AND ", "WHERE num_params < ", "LIMIT ", "WHERE name LIKE "]
)
def test_nothing_is_suggested_where_only_a_number_or_pattern_can_stand(text):
    assert suggested(f"{QUESTION}{text}") == []


def test_rankers_columns_and_metrics_follow_order_by():
    metrics = ["acc", "err", "SUM(", "AVG(", "MIN(", "MAX("]
    assert suggested(f"{QUESTION}ORDER BY ") == [*RANKER_TEXTS, *COLUMNS, *metrics]
    assert suggested(f"{QUESTION}ORDER BY num_params, ") == [*RANKER_TEXTS, *COLUMNS, *metrics]


def test_datasets_are_ordered_by_what_ranks_datasets():
    assert named("SELECT name FROM datasets ORDER BY t") == ["Task2Vec", "task", "type"]


@pytest.mark.parametrize("list_so_far", ["", "[", "[Linear, ", "[Linear(lr=0.1), "])
def test_rankers_follow_classified_by(list_so_far):
    assert suggested(f"SELECT * FROM models ORDER BY acc CLASSIFIED BY {list_so_far}") == RANKER_TEXTS


def test_rankers_follow_the_by_of_rank():
    assert suggested("RANK image_models BY ") == RANKER_TEXTS


@pytest.mark.parametrize("typed", ["cos", '"cos', "CosineN"])
def test_a_ranker_of_two_words_is_completed_in_quotes(typed):
    assert suggested(f"SELECT * FROM models ORDER BY {typed}") == ['"Cosine NN"']


AFTER_THE_SEED = ["metric=", "mode=", "warmup=", "patience=", "steps="]


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("FineTune(", ["epochs=", "lr=", "batch_size=", "seed=", *AFTER_THE_SEED]),
        ("FineTune(e", ["epochs="]),
        ("FineTune(learning_rate=0.1, ", ["epochs=", "batch_size=", "seed=", *AFTER_THE_SEED]),
        ("FineTune(3, ", ["lr=", "batch_size=", "seed=", *AFTER_THE_SEED]),
        ("FineTune(3, seed=1, ", ["lr=", "batch_size=", *AFTER_THE_SEED]),
        ("acc CLASSIFIED BY [Linear, TwoPhase(k=3, ", ["threshold=", "proxy=", "epochs="]),
        ("TwoPhase(proxy=n", ["NLEEP", "NCE"]),
        ("TwoPhase(k=", []),
        ("LEEP(", []),
        ("Linnear(", []),
    ],
)
def test_arguments_and_their_values_stand_in_the_brackets_of_a_ranker(call, arguments):
    assert suggested(f"SELECT * FROM models ORDER BY {call}") == arguments


def test_settings_of_fine_tuning_are_its_arguments():
    assert suggested("FINETUNE resnet-letters WITH digits-train (lr=[0.1, ") == []
    assert suggested("FINETUNE resnet-letters WITH digits-train (lr=[0.1, 0.2], ep") == ["epochs="]
    assert suggested("REGISTER DATASET x FROM y WITH (") == []


@pytest.mark.parametrize(
    "clause",
    [
        "TRAINED ON ",
        "trained on ",
        "TRAINED ON [a, ",
        "TRAINED ON a TESTED ON ",
        "TESTED ON [",
        "TESTED ON TASK ",
        "TRAINED ON (a CHANGE [0] TO ",
        "TRAINED ON (",
    ],
)
def test_datasets_follow_trained_on_and_tested_on(clause):
    assert named(f"{RANKED}{clause}") == DATASETS


def test_benchmark_and_task_may_follow_tested_on():
    assert suggested(f"{RANKED}TESTED ON ")[-2:] == ["BENCHMARK", "TASK"]
    assert suggested(f"{RANKED}TESTED ON BENCHMARK ") == ["small", *DATASETS]


@pytest.mark.parametrize(
    "text",
    [
        "PRINT ",
        "EXPLAIN ",
        "DECLARE x AS ",
        "WATCH x AS ",
        f"{QUESTION}OTHER THAN ",
        f"{QUESTION}UNION ",
        f"{QUESTION}EXCEPT ALL ",
        f"{QUESTION}WHERE name NOT IN ",
        "SELECT name FROM (",
        "FINETUNE (",
    ],
)
def test_declared_names_stand_where_a_question_can(text):
    assert named(text) == ["small"]


@pytest.mark.parametrize("text", ["SELECT name AS ", "SELECT name FROM models AS ", "DECLARE ", "REGISTER MODEL "])
def test_nothing_is_suggested_for_a_new_name(text):
    assert named(text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [("SHOW ", list(SHOWN)), ("PURGE ", list(PURGED)), ("FINETUNE ", MODELS), ("show w", ["WATCHES"])],
)
def test_statements_name_their_own(text, words):
    assert suggested(text) == words


@pytest.mark.parametrize("text", ["HELP order b", "help OrderB", "SELECT 1; HELP order b"])
def test_topics_follow_help(text):
    (suggestion,) = suggestions(text)
    assert suggestion.text == "ORDER BY"
    assert text[-suggestion.replaces :].lower().startswith("order")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\\", [each.word for each in SHORTCUTS]),
        ("\\w", ["\\w"]),
        ("\\h order b", ["ORDER BY"]),
        ("\\d digits-tr", ["digits-train"]),
        ("\\d vit l", ['"vit letters"']),
        ("\\d bench", ["benchmark_results"]),
        ("\\m ", []),
    ],
)
def test_shortcuts_and_what_they_take_are_completed(text, found):
    assert suggested(text) == found


@pytest.mark.parametrize("typed", ["digits-tr", "digits-tr|ain", "Digits-TR"])
def test_a_name_with_dashes_is_one_word(typed):
    assert suggested(f"{RANKED}TRAINED ON {typed}") == ["digits-train"]


def test_names_of_other_scripts_begin_as_they_are_typed():
    names = SimpleNamespace(models=[], datasets=["数字-train", "œuvre"], declared=[])
    assert suggested(f"{RANKED}TRAINED ON 数", names) == ["数字-train"]
    assert suggested(f"{RANKED}TRAINED ON é", names) == []


def test_quotes_begun_are_kept():
    assert suggested(f"{RANKED}TRAINED ON 'digits-tr") == ["'digits-train'"]


def test_a_suggestion_replaces_the_whole_word_with_its_quote():
    text = f"{RANKED}TRAINED ON 'digits-tr"
    (suggestion,) = suggest(text, len(text), NAMES)
    assert text[: -suggestion.replaces] + suggestion.text == text.replace("'digits-tr", "'digits-train'")


def test_nothing_is_suggested_in_a_comment():
    assert suggested("SELECT * FROM models -- sel") == []


def test_words_in_strings_and_comments_are_no_clauses():
    assert "LIMIT" in suggested("SELECT * FROM models -- LIMIT 3\n WHERE name = 'LIMIT' ")


def test_what_stands_behind_a_mistake_is_still_completed():
    assert named("SELECT FROM models WHERE modality = ") == ["image", "text"]
    assert named("SELECT name name FROM models ORDER BY Lin") == ["Linear"]
    assert suggested("SELECT ? FROM models WHERE ") == []


def test_the_catalog_is_asked_only_where_its_names_are_called_for():
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(name)

    assert suggested("SELECT na", Untouchable())
    assert suggested(f"{QUESTION}ORDER BY ", Untouchable())


@pytest.mark.parametrize("nested", ["SELECT a FROM (", "(", "NOT (", "SELECT a FROM m WHERE a IN ("])
def test_text_nested_too_deep_for_a_query_can_be_completed(nested):
    assert all(suggestion.replaces == 0 for suggestion in suggestions(nested * 1500))


PIECES = [
    "SELECT",
    "a",
    ",",
    "FROM",
    "models",
    "WHERE",
    "=",
    "(",
    ")",
    "'",
    "1K",
    "ORDER BY",
    "Linear",
    "[",
    "]",
    ";",
    "HELP",
]


# The first time, the parser is made.
@settings(deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES)).map(" ".join), st.integers(0, 60))
def test_any_place_in_any_text_can_be_completed(text, cursor):
    cursor = min(cursor, len(text))
    for suggestion in suggest(text, cursor, NAMES):
        assert 0 <= suggestion.replaces <= cursor
