"""Names, values and conditions, on the small catalog of the `database` fixture."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftql.answering import answer_rows
from shiftql.binder import bind
from shiftql.bound import BoundRanking, BoundRows
from shiftql.parser import parse
from storage.catalog import Catalog, ModelRecord
from storage.database import Database
from storage.errors import BindingError

TEXT = "TRAINED ON reviews-train TESTED ON reviews-test"
RANKING = f"SELECT name FROM models ORDER BY Linear {TEXT}"


def bound(text: str, database: Database) -> Any:
    (statement,) = parse(text)
    return bind(statement, database, text)


def names(condition: str, database: Database) -> list[str]:
    question = bound(f"SELECT name FROM models WHERE {condition}", database)
    assert isinstance(question, BoundRows)
    return [row["name"] for row in answer_rows(question, database).rows]


def rows(text: str, database: Database) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in answer_rows(bound(text, database), database).rows]


# --- errors ---------------------------------------------------------------------------------------------------

ERRORS = {
    # query, what the caret stands under, part of the message, what is said to mend it
    "unknown relation": ("SELECT * FROM modles", "modles", "no relation 'modles'", "did you mean models"),
    "unknown column": ("SELECT nam FROM models", "nam", "no column 'nam'", "did you mean name?"),
    "unknown column in a condition": (
        "SELECT * FROM models WHERE NOT num_parms < 3",
        "num_parms",
        "no column 'num_parms'",
        "did you mean num_params or num_layers?",
    ),
    "unknown column of IN": ("SELECT * FROM models WHERE sorce IN (a)", "sorce", "'sorce'", "did you mean source?"),
    "unknown column on the right": (
        "SELECT * FROM models WHERE image_size = models.embeding_dim",
        "models.embeding_dim",
        "'embeding_dim'",
        "did you mean embedding_dim?",
    ),
    "a column of another relation": ("SELECT num_rows FROM models", "num_rows", "models has no column", None),
    "wrong qualifier": ("SELECT m.name FROM models", "m.name", "'m' is not what is selected from", None),
    "qualifier hidden by an alias": ("SELECT models.name FROM models m", "models.name", "'models' is not", None),
    "unknown sort key": (
        "SELECT * FROM models ORDER BY num_parms",
        "num_parms",
        "neither a column nor a ranker",
        "did you mean num_params or num_layers?",
    ),
    "unknown ranker as sort key": (
        f"SELECT * FROM models ORDER BY Linaer {TEXT}",
        "Linaer",
        "neither a column nor a ranker",
        "did you mean Linear",
    ),
    "unknown ranker": (
        f"SELECT * FROM models ORDER BY Linaer(lr=1) {TEXT}",
        "Linaer(lr=1)",
        "did you mean Linear?",
        "",
    ),
    "unknown ranker in a list": (
        f"SELECT * FROM models ORDER BY acc CLASSIFIED BY [Linear, 'Cosin NN'] {TEXT}",
        "'Cosin NN'",
        "did you mean Cosine NN?",
        "",
    ),
    "unknown argument": (
        f"SELECT * FROM models ORDER BY Linear(epoch=3) {TEXT}",
        "epoch=3",
        "did you mean epochs",
        None,
    ),
    "argument twice": (
        f"SELECT * FROM models ORDER BY CosineNN(k=1, k=2) {TEXT}",
        "k=2",
        "given k twice",
        "give it once",
    ),
    "argument twice under two names": (
        f"SELECT * FROM models ORDER BY Linear(lr=1, learning_rate=2) {TEXT}",
        "learning_rate=2",
        "given learning_rate twice",
        "",
    ),
    "argument by place after one by name": (
        f"SELECT * FROM models ORDER BY Linear(lr=1, 3) {TEXT}",
        "3",
        "by place stands after one by name",
        "",
    ),
    "too many arguments": (
        f"SELECT * FROM models ORDER BY CosineNN(1, accuracy, last, cls, 2) {TEXT}",
        "CosineNN(1, accuracy, last, cls, 2)",
        "at most 4 arguments",
        "",
    ),
    "argument of a wrong kind": (
        f"SELECT * FROM models ORDER BY CosineNN(k=many) {TEXT}",
        "k=many",
        "must be a whole number",
        "",
    ),
    "argument too small": (f"SELECT * FROM models ORDER BY CosineNN(k=0) {TEXT}", "k=0", "at least 1", ""),
    "a column for the datasets": (f"SELECT * FROM models ORDER BY name {TEXT}", "reviews-train", "names none", ""),
    "no training data": (
        "SELECT * FROM models ORDER BY Linear TESTED ON reviews-test",
        "Linear",
        "Linear needs TRAINED ON",
        "SHOW DATASETS",
    ),
    "no test data": (
        "SELECT * FROM models ORDER BY FineTune TRAINED ON reviews-train",
        "FineTune",
        "FineTune needs TESTED ON",
        "add TESTED ON",
    ),
    "unknown dataset": (
        "SELECT * FROM models ORDER BY Linear TRAINED ON revews-train TESTED ON reviews-test",
        "revews-train",
        "no dataset 'revews-train'",
        "did you mean reviews-train",
    ),
    "unknown dataset like no other": (
        "SELECT * FROM models ORDER BY Linear TRAINED ON [reviews-train, xyzzy] TESTED ON reviews-test",
        "xyzzy",
        "no dataset 'xyzzy'",
        "datasets add xyzzy",
    ),
    "datasets of two kinds": (
        "SELECT * FROM models ORDER BY Linear TRAINED ON reviews-train TESTED ON digits-test",
        "digits-test",
        "holds image rows and reviews-train text",
        None,
    ),
    "datasets for two tasks": (
        "SELECT * FROM models ORDER BY Linear TRAINED ON reviews-train TESTED ON prices",
        "prices",
        "prices is for regression and reviews-train for classification",
        None,
    ),
    "a task the ranker is not for": (
        "SELECT * FROM models ORDER BY LEEP TRAINED ON prices TESTED ON reviews-test",
        "prices",
        "not defined for regression",
        None,
    ),
    "a metric the labels are not for": (
        "SELECT * FROM models ORDER BY Linear(metric='macro_f1') TRAINED ON prices TESTED ON prices",
        "prices",
        "macro_f1 is no metric of regression",
        None,
    ),
    "datasets are not ranked": (
        f"SELECT * FROM datasets ORDER BY Linear {TEXT}",
        "datasets",
        "a ranker ranks models",
        None,
    ),
    "a ranking of different rows": (
        f"SELECT DISTINCT name FROM models ORDER BY Linear {TEXT}",
        "DISTINCT",
        "DISTINCT",
        "",
    ),
    "a second sort key": (
        f"SELECT * FROM models ORDER BY Linear, name {TEXT}",
        "name",
        "the only sort key",
        "CLASSIFIED BY",
    ),
    "classified without an order": (
        f"SELECT * FROM models CLASSIFIED BY Linear {TEXT}",
        "Linear",
        "goes with ORDER BY err or ORDER BY acc",
        "write ORDER BY acc",
    ),
    "classified by another order": (
        f"SELECT * FROM models ORDER BY name CLASSIFIED BY Linear {TEXT}",
        "name",
        "goes with ORDER BY err or ORDER BY acc",
        "",
    ),
    "two columns of one name": (
        "SELECT name, source AS name FROM models",
        "source AS name",
        "two columns",
        "rename one with AS",
    ),
    "a column of the ranking's own": (
        f"SELECT upstream_accuracy AS score FROM models ORDER BY Linear {TEXT}",
        "upstream_accuracy AS score",
        "column 'score' of its own",
        "AS",
    ),
    "text for a number": (
        "SELECT * FROM models WHERE num_params < small",
        "small",
        "compared with 'small', but holds a number",
        "10M",
    ),
    "a truth value for a number": ("SELECT * FROM models WHERE num_params = TRUE", "TRUE", "holds a number", ""),
    "a number for text": ("SELECT * FROM models WHERE source IN (torch, 3)", "3", "holds text", "'text'"),
    "a number for a truth value": ("SELECT * FROM models WHERE finetuned = 1", "1", "holds a truth value", "TRUE"),
    "no date": ("SELECT * FROM models WHERE date_added > '2026-13-01'", "'2026-13-01'", "holds a date", "2026-01-31"),
    "a number between texts": ("SELECT * FROM models WHERE name BETWEEN 1 AND b", "1", "holds text", ""),
    "a pattern for a number": (
        "SELECT * FROM models WHERE num_params LIKE '1%'",
        "num_params",
        "LIKE is for text",
        None,
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_stands_under_its_place_and_says_how_to_mend_it(case: str, database: Database) -> None:
    query, place, message, fix = ERRORS[case]
    # A line above and blanks before it, so that the caret is where it is by no chance.
    text = "-- a question\n  " + query
    with pytest.raises(BindingError) as caught:
        bound(text, database)
    error = caught.value
    assert error.line == 2
    assert error.column is not None
    assert text.split("\n")[1][error.column - 1 :].startswith(place)
    assert message in str(error)
    assert "^" in str(error).split("\n")[2]
    assert (fix or "") in str(error)


def test_every_allowed_name_is_listed(database: Database) -> None:
    with pytest.raises(BindingError) as caught:
        bound("SELECT xyzzy FROM datasets", database)
    assert {"name", "num_rows", "task"} <= set(caught.value.allowed)
    with pytest.raises(BindingError) as caught:
        bound("SELECT * FROM models ORDER BY Linear TRAINED ON xyzzy TESTED ON xyzzy", database)
    assert caught.value.allowed == ("digits-test", "digits-train", "prices", "reviews-test", "reviews-train")


# --- conditions -----------------------------------------------------------------------------------------------

Truth = bool | None
Row = ModelRecord


@dataclass(frozen=True)
class Condition:
    """A condition as text, and what it says of a row: true, false, or unknown where a value is missing."""

    text: str
    holds: Callable[[Row], Truth]


COLUMNS: dict[str, list[Any]] = {
    "num_params": [0, 500_000, 1_000_000, 110_000_000, -3],
    "upstream_accuracy": [0.5, 0.75, 1, 0],
    "image_size": [32, 64, 224],
    "architecture": ["BertModel", "ViTModel", "zzz", ""],
    "modality": ["image", "text", "sound"],
    "source": ["huggingface", "tfhub"],
    "finetuned": [True, False],
}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _literal(value: Any) -> str:
    return str(value).upper() if isinstance(value, bool) else repr(value)


def _compared(column: str, operator: str, value: Any) -> Condition:
    def holds(row: Row) -> Truth:
        own = getattr(row, column)
        return None if own is None else COMPARE[operator](own, value)

    return Condition(f"{column} {operator} {_literal(value)}", holds)


def _mirrored(operator: str, value: int) -> Condition:
    def holds(row: Row) -> Truth:
        return None if row.image_size is None else COMPARE[operator](value, row.image_size)

    return Condition(f"{value} {operator} image_size", holds)


def _between(column: str, low: Any, high: Any) -> Condition:
    def holds(row: Row) -> Truth:
        own = getattr(row, column)
        return None if own is None else low <= own <= high

    return Condition(f"{column} BETWEEN {_literal(low)} AND {_literal(high)}", holds)


def _one_of(column: str, values: list[Any]) -> Condition:
    def holds(row: Row) -> Truth:
        own = getattr(row, column)
        return None if own is None else own in values

    return Condition(f"{column} IN ({', '.join(map(_literal, values))})", holds)


def _like(column: str, pattern: str) -> Condition:
    expression = re.compile(re.escape(pattern).replace("%", ".*").replace("_", "."), re.IGNORECASE | re.DOTALL)

    def holds(row: Row) -> Truth:
        own = getattr(row, column)
        return None if own is None else expression.fullmatch(own) is not None

    return Condition(f"{column} LIKE {pattern!r}", holds)


def _missing(column: str) -> Condition:
    return Condition(f"{column} IS NULL", lambda row: getattr(row, column) is None)


def _bare(column: str) -> Condition:
    if column == "finetuned":
        return Condition(column, lambda row: row.finetuned is True)
    return Condition(column, lambda row: getattr(row, column) is not None)


def _columns_compared(operator: str) -> Condition:
    def holds(row: Row) -> Truth:
        if row.image_size is None or row.embedding_dim is None:
            return None
        return COMPARE[operator](row.image_size, row.embedding_dim)

    return Condition(f"image_size {operator} models.embedding_dim", holds)


def _negated(condition: Condition) -> Condition:
    def holds(row: Row) -> Truth:
        truth = condition.holds(row)
        return None if truth is None else not truth

    return Condition(f"NOT ({condition.text})", holds)


def _all(parts: list[Condition]) -> Condition:
    def holds(row: Row) -> Truth:
        truths = [part.holds(row) for part in parts]
        return False if False in truths else None if None in truths else True

    return Condition(" AND ".join(f"({part.text})" for part in parts), holds)


def _any(parts: list[Condition]) -> Condition:
    def holds(row: Row) -> Truth:
        truths = [part.holds(row) for part in parts]
        return True if True in truths else None if None in truths else False

    return Condition(" OR ".join(f"({part.text})" for part in parts), holds)


def _of_column(make: Callable[..., Condition], *shape: Any) -> st.SearchStrategy[Condition]:
    def with_values(column: str) -> st.SearchStrategy[Condition]:
        value = st.sampled_from(COLUMNS[column])
        parts = [
            value if part == "value" else st.lists(value, min_size=1, max_size=3) if part == "values" else part
            for part in shape
        ]
        return st.builds(make, st.just(column), *parts)

    return st.sampled_from(sorted(COLUMNS)).flatmap(with_values)


OPERATORS = st.sampled_from(sorted(COMPARE))
SIMPLE = st.one_of(
    _of_column(_compared, OPERATORS, "value"),
    _of_column(_between, "value", "value"),
    _of_column(_one_of, "values"),
    st.builds(_mirrored, OPERATORS, st.sampled_from(COLUMNS["image_size"])),
    st.builds(
        _like, st.sampled_from(["architecture", "name"]), st.sampled_from(["%model", "%_e_t%", "Vit_odel", "%", ""])
    ),
    st.builds(_missing, st.sampled_from(sorted(COLUMNS))),
    st.builds(_bare, st.sampled_from(sorted(COLUMNS))),
    st.builds(_columns_compared, OPERATORS),
)
CONDITIONS = st.recursive(
    SIMPLE,
    lambda inner: (
        st.builds(_negated, inner)
        | st.builds(_all, st.lists(inner, min_size=2, max_size=3))
        | st.builds(_any, st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=6,
)


@given(CONDITIONS)
@settings(max_examples=150, deadline=None)
def test_conditions_mean_what_they_mean_in_sql(database: Database, condition: Condition) -> None:
    expected = [model.name for model in Catalog(database).models() if condition.holds(model) is True]
    assert names(condition.text, database) == expected


@given(CONDITIONS, CONDITIONS, CONDITIONS)
@settings(max_examples=40, deadline=None)
def test_and_binds_tighter_than_or(database: Database, a: Condition, b: Condition, c: Condition) -> None:
    written = f"({a.text}) OR ({b.text}) AND NOT ({c.text})"
    assert names(written, database) == names(f"({a.text}) OR (({b.text}) AND (NOT ({c.text})))", database)


@pytest.mark.parametrize("test", ["IN (32, 64)", "BETWEEN 33 AND 300", "IS NULL"])
def test_a_negated_test_is_its_negation(test: str, database: Database) -> None:
    negated = test.replace("IS NULL", "IS NOT NULL") if test == "IS NULL" else f"NOT {test}"
    assert names(f"image_size {negated}", database) == names(f"NOT image_size {test}", database)


def test_dates_are_compared_as_dates(database: Database) -> None:
    assert names("date_added >= '2026-02-01'", database) == ["resnet-noise", "vit-letters"]
    assert names("date_added < '2026-01-31T00:00:00+00:00'", database) == ["bert-old", "hub-mobile", "odd'; DROP"]


# --- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "SELECT NumParams FROM ImageModels WHERE Input = image ORDER BY NumParams DESC",
        'select "num params" from image_models where "Modality" = "image" order by params desc',
        "SELECT m.num_params FROM IMAGE_MODELS AS m WHERE m.input == image ORDER BY m.NUM_PARAMS DESC",
    ],
)
def test_built_in_names_have_many_spellings(text: str, database: Database) -> None:
    canonical = "SELECT num_params FROM image_models WHERE modality = 'image' ORDER BY num_params DESC"
    assert rows(text, database) == rows(canonical, database)


@pytest.mark.parametrize("relation", ["datasets", "readers", "DataReaders", "data_readers", '"Data Readers"'])
def test_relations_have_many_spellings(relation: str, database: Database) -> None:
    assert len(rows(f"SELECT name FROM {relation}", database)) == 5


def test_columns_come_in_the_order_and_under_the_name_asked_for(database: Database) -> None:
    question = bound("SELECT source AS origin, Name FROM models LIMIT 1", database)
    assert question.columns == ("origin", "name")
    assert rows("SELECT source AS origin, Name FROM models LIMIT 1", database) == [("huggingface", "bert-old")]


def test_star_and_all_are_every_column(database: Database) -> None:
    star, everything = bound("SELECT * FROM models", database), bound("SELECT ALL FROM models", database)
    assert star.columns == everything.columns
    assert {"name", "num_params", "fingerprint", "date_added"} <= set(star.columns)


def test_missing_values_come_last_in_both_directions(database: Database) -> None:
    ascending = rows("SELECT image_size FROM models ORDER BY image_size", database)
    descending = rows("SELECT image_size FROM models ORDER BY image_size DESC", database)
    assert ascending == [(32,), (64,), (224,), (None,), (None,)]
    assert descending == [(224,), (64,), (32,), (None,), (None,)]


def test_equal_sort_keys_are_in_the_order_of_names(database: Database) -> None:
    found = rows("SELECT source, name FROM models ORDER BY source DESC", database)
    assert found == [("tfhub", "hub-mobile")] + [
        ("huggingface", name) for name in ("bert-old", "odd'; DROP", "resnet-noise", "vit-letters")
    ]


def test_limit_and_distinct_cut_down(database: Database) -> None:
    assert rows("SELECT name FROM models LIMIT 0", database) == []
    assert len(rows("SELECT name FROM models LIMIT 2", database)) == 2
    assert sorted(rows("SELECT DISTINCT modality FROM models", database)) == [("image",), ("text",)]


# --- rankings -------------------------------------------------------------------------------------------------


def test_a_ranking_is_of_the_models_that_take_the_data(database: Database) -> None:
    question = bound(RANKING, database)
    assert isinstance(question, BoundRanking)
    assert [model.name for model in question.models] == ["bert-old", "odd'; DROP"]
    assert [dataset.label for dataset in question.datasets] == ["reviews-train", "reviews-test"]
    digits = RANKING.replace("reviews", "digits").replace("FROM models", "FROM models WHERE num_params < 1M")
    assert [model.name for model in bound(digits, database).models] == ["hub-mobile", "vit-letters"]


@pytest.mark.parametrize(
    ("order", "descending"),
    [
        ("Linear", False),
        ("Linear ASC", False),
        ("Linear DESC", True),
        ("err CLASSIFIED BY Linear", False),
        ("error DESC CLASSIFIED BY Linear", True),
        ("acc CLASSIFIED BY Linear", False),
        ("acc DESC CLASSIFIED BY [Linear]", False),
        ("Accuracy ASC CLASSIFIED BY 'linear'", False),
    ],
)
def test_best_comes_first_unless_the_worst_is_asked_for(order: str, descending: bool, database: Database) -> None:
    question = bound(RANKING.replace("Linear", order, 1), database)
    assert question.descending is descending
    assert [ranker.spec.name for ranker in question.rankers] == ["linear"]


@pytest.mark.parametrize(
    "call", ["Linear(lr=0.5, epochs=7)", "Linear(0.5, 7)", "linear(NumEpochs=7, LEARNING_RATE=.5)"]
)
def test_arguments_have_many_spellings_and_one_meaning(call: str, database: Database) -> None:
    (ranker,) = bound(RANKING.replace("Linear", call), database).rankers
    assert dict(ranker.params) == {"learning_rate": 0.5, "num_epochs": 7}
    assert ranker.label == "Linear(learning_rate=0.5, num_epochs=7)"


def test_several_rankers_and_lists_of_datasets(database: Database) -> None:
    text = (
        "SELECT * FROM models ORDER BY acc CLASSIFIED BY [Linear, CosineNN(3)] "
        "TRAINED ON [reviews-train, reviews-test] TESTED ON [reviews-test]"
    )
    question = bound(text, database)
    assert [ranker.label for ranker in question.rankers] == [
        "Linear(learning_rate=0.02, num_epochs=60)",
        "Cosine NN(k=3)",
    ]
    assert [dataset.label for dataset in question.train] == ["reviews-train", "reviews-test"]


# --- values are never part of the SQL -------------------------------------------------------------------------


INJECTIONS = ["x' OR 1=1 --", 'x" OR "1"="1', "'; DROP TABLE models; --", ":name", "%(name)s", "?", "\\"]


@pytest.mark.parametrize("value", INJECTIONS)
@pytest.mark.parametrize(
    "test", ["name = {}", "name != {} AND name = {}", "name IN ({}, {})", "name BETWEEN {} AND {}"]
)
def test_values_filter_literally(value: str, test: str, database: Database, statements: Any) -> None:
    quoted = "'" + value.replace("'", "''") + "'"
    with statements(database) as sent:
        assert names(test.format(quoted, quoted), database) == []
    assert sent
    assert not any(value in statement for statement in sent if value not in {"?", ":name"})
    assert len(Catalog(database).models()) == 5


def test_a_name_that_looks_like_sql_is_found_by_it(database: Database) -> None:
    assert names("name = 'odd''; DROP'", database) == ["odd'; DROP"]
    assert names("name LIKE 'odd''%'", database) == ["odd'; DROP"]


def test_no_value_of_a_ranking_reaches_the_sql(database: Database, statements: Any) -> None:
    text = RANKING.replace("FROM models", "FROM models WHERE num_params < 987654321 AND architecture LIKE 'secret%'")
    with statements(database) as sent:
        bound(text, database)
    assert not any("987654321" in statement or "secret" in statement for statement in sent)


def test_labels_tell_different_arguments_apart(draft: Any) -> None:
    select = "SELECT * FROM models ORDER BY acc TRAINED ON reviews-train TESTED ON reviews-test CLASSIFIED BY "
    plan = draft(select + "[Linear(lr=0.1), Linear(lr=0.1000001)]")
    assert len({evaluate.ranker.label for evaluate in plan.evaluates}) == 2
