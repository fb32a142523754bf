"""The words of SHiFT-QL, for error messages, completion, highlighting and the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["statement", "clause", "operator", "word"]


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword, or the two words of a clause: what it is for in one line, and an example on the playground's names.

    A reserved word is a keyword wherever it stands and must be quoted as a name; the others are names wherever
    no keyword can stand. `role` is what it begins, or how it is used inside of that.
    """

    phrase: str
    role: Role
    help: str
    example: str
    is_reserved: bool = True


_DIGITS = "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test"

KEYWORDS: tuple[Keyword, ...] = (
    Keyword(
        "SELECT",
        "statement",
        "ask a question: what to show, of what, under which condition, in which order",
        "SELECT name, num_params FROM models WHERE num_params < 100K ORDER BY num_params",
    ),
    Keyword(
        "EXPLAIN",
        "statement",
        "how a question would be answered and at what cost, without answering it",
        f"EXPLAIN SELECT name FROM models ORDER BY Linear {_DIGITS}",
    ),
    Keyword(
        "DECLARE",
        "statement",
        "give a question a name, to select from, print and compare with",
        "DECLARE small AS SELECT name FROM image_models WHERE num_params < 100K; SELECT name FROM small",
        False,
    ),
    Keyword(
        "PRINT",
        "statement",
        "answer a declared name, or a set operation that begins with one",
        "DECLARE small AS SELECT name FROM models WHERE num_params < 100K; PRINT small",
        False,
    ),
    Keyword(
        "REGISTER",
        "statement",
        "add models or datasets to the catalog",
        "REGISTER DATASET shapes FROM './playground/datasets/counting-shapes/train' WITH (reader=image_folder)",
        False,
    ),
    Keyword(
        "RANK",
        "statement",
        "order models by a ranker, also one of an installed plug-in",
        'RANK image_models BY "CosineNN(k=5)" TRAINED ON drawn-digits-train TESTED ON drawn-digits-test',
        False,
    ),
    Keyword(
        "FINETUNE",
        "statement",
        "fine-tune models on a dataset and keep the result",
        "FINETUNE resnet-letters WITH drawn-digits-train (lr=[0.01, 0.001], epochs=5) AS 'digits-reader'",
        False,
    ),
    Keyword(
        "WATCH",
        "statement",
        "a standing question, asked again whenever models or datasets are registered",
        "WATCH best-for-digits AS SELECT name FROM models ORDER BY Linear\n"
        "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test LIMIT 1 EVERY '1d'",
        False,
    ),
    Keyword(
        "UNWATCH",
        "statement",
        "end a standing question; its history goes with it",
        "WATCH small AS SELECT name FROM models ORDER BY num_params LIMIT 1; UNWATCH small",
        False,
    ),
    Keyword("SHOW", "statement", "list MODELS, DATASETS, RUNS, WATCHES or RANKERS", "SHOW RANKERS", False),
    Keyword(
        "PURGE",
        "statement",
        "delete what was stored: results, features or all; without a word, all",
        "PURGE features",
        False,
    ),
    Keyword("USE", "statement", "send the statements that follow to another server", "USE localhost:4200", False),
    Keyword("HELP", "statement", "explain the language, or a topic of it", "HELP Linear", False),
    Keyword(
        "FROM",
        "clause",
        "the relation, declared name or question in parentheses that is asked about",
        "SELECT name FROM (SELECT name, num_params FROM image_models WHERE num_params < 100K)",
    ),
    Keyword(
        "WHERE",
        "clause",
        "the condition a row must meet",
        "SELECT name FROM models WHERE num_params < 100K AND (modality = image OR upstream_accuracy > 0.9)",
    ),
    Keyword(
        "ORDER BY",
        "clause",
        "columns, as in SQL, or a ranker, best first",
        f"SELECT name FROM models ORDER BY Linear(lr=0.1) {_DIGITS}",
    ),
    Keyword(
        "TRAINED ON",
        "clause",
        "the dataset to learn from, a list of datasets, or the path of one",
        f"SELECT name FROM models ORDER BY Linear {_DIGITS}",
    ),
    Keyword(
        "TESTED ON",
        "clause",
        "the dataset to be measured on, or a list of datasets",
        "SELECT name FROM models ORDER BY Linear TRAINED ON [drawn-digits-train] TESTED ON [drawn-digits-test]",
    ),
    Keyword(
        "CLASSIFIED BY",
        "clause",
        "rankers, one ranking each, where ORDER BY says err or acc",
        f'SELECT name FROM models ORDER BY acc CLASSIFIED BY [Linear, "Cosine NN"(k=5)]\n{_DIGITS}',
    ),
    Keyword("LIMIT", "clause", "how many rows at most", "SELECT name FROM models ORDER BY num_params LIMIT 3"),
    Keyword(
        "RETRIEVE",
        "clause",
        "the first rows of every group",
        "SELECT name, modality, num_params FROM models RETRIEVE 2 GRP modality ORD num_params DESC",
    ),
    Keyword(
        "OTHER THAN",
        "clause",
        "leave out what another question answers",
        "DECLARE small AS SELECT name FROM models WHERE num_params < 100K;\n"
        "SELECT name FROM image_models OTHER THAN small",
    ),
    Keyword(
        "CHUNK",
        "clause",
        "training rows per pull of successive halving, or AUTO",
        f"SELECT name FROM image_models ORDER BY Linear CHUNK 64 BUDGET 160 {_DIGITS}",
    ),
    Keyword(
        "BUDGET",
        "clause",
        "what may be spent: pulls, epochs, evaluation time, or AUTO",
        f"SELECT name FROM image_models ORDER BY Linear BUDGET 2h {_DIGITS}",
    ),
    Keyword(
        "WITHIN",
        "clause",
        "how long it may take by the clock; the best answer so far is returned then, marked partial",
        f"SELECT name FROM image_models ORDER BY Linear WITHIN 30m {_DIGITS}",
    ),
    Keyword(
        "WAIT",
        "clause",
        "return when everything asked for is known (the default)",
        f"SELECT name FROM image_models ORDER BY Linear {_DIGITS} WAIT",
    ),
    Keyword(
        "NOWAIT",
        "clause",
        "return what is known now; the rest goes on in the background",
        f"SELECT name FROM image_models ORDER BY Linear {_DIGITS} NOWAIT",
    ),
    Keyword(
        "NATURAL JOIN",
        "clause",
        "rows of two relations that are equal in the columns of one name that are of the same thing, as model_id",
        "SELECT name, method, accuracy FROM models NATURAL JOIN benchmark_results",
    ),
    Keyword(
        "UNION",
        "clause",
        "the rows of both questions, each once; with ALL as often as they come",
        "SELECT name FROM models WHERE num_params < 50K UNION SELECT name FROM models WHERE upstream_accuracy > 0.9",
    ),
    Keyword(
        "EXCEPT",
        "clause",
        "the rows of the first question that the second lacks",
        "SELECT name FROM models EXCEPT SELECT name FROM models WHERE num_params < 100K",
    ),
    Keyword(
        "INTERSECT",
        "clause",
        "the rows that both questions have",
        "SELECT name FROM image_models INTERSECT SELECT name FROM models WHERE num_params < 100K",
    ),
    Keyword(
        "AND",
        "operator",
        "both conditions hold",
        "SELECT name FROM models WHERE num_params < 100K AND modality = image",
    ),
    Keyword(
        "OR",
        "operator",
        "at least one condition holds",
        "SELECT name FROM models WHERE source = torch OR source = tfhub",
    ),
    Keyword("NOT", "operator", "the condition does not hold", "SELECT name FROM models WHERE NOT finetuned"),
    Keyword(
        "BETWEEN",
        "operator",
        "from one value to another, both included",
        "SELECT name FROM models WHERE num_params BETWEEN 50K AND 200K",
    ),
    Keyword(
        "IN",
        "operator",
        "one of several values, or of the values another question answers",
        "SELECT name FROM models WHERE source IN (huggingface, tfhub)\n"
        "AND name NOT IN (SELECT name FROM models WHERE upstream_accuracy < 0.5)",
    ),
    Keyword(
        "IS", "operator", "whether there is a value", "SELECT name FROM models WHERE upstream_accuracy IS NOT NULL"
    ),
    Keyword("NULL", "operator", "no value", "SELECT name FROM models WHERE upstream_accuracy IS NULL"),
    Keyword(
        "LIKE",
        "operator",
        "a pattern, % for any characters and _ for one",
        "SELECT name FROM models WHERE name LIKE 'resnet%'",
    ),
    Keyword("TRUE", "operator", "the value true", "SELECT name FROM models WHERE trusted = TRUE", False),
    Keyword("FALSE", "operator", "the value false", "SELECT name FROM models WHERE trusted = FALSE", False),
    Keyword("DISTINCT", "word", "every different row once", "SELECT DISTINCT architecture FROM models"),
    Keyword("ALL", "word", "every column, as *; after UNION, every row", "SELECT ALL FROM models", False),
    Keyword(
        "AS", "word", "another name for a column or a relation", "SELECT num_params AS parameters FROM models AS m"
    ),
    Keyword(
        "ASC", "word", "smallest value or loss first (the default)", "SELECT name FROM models ORDER BY num_params ASC"
    ),
    Keyword("DESC", "word", "the other way round", "SELECT name FROM models ORDER BY num_params DESC"),
    Keyword(
        "ANALYZE",
        "word",
        "after EXPLAIN: answer the question too, and tell the actual cost beside the estimate",
        "EXPLAIN ANALYZE SELECT name FROM models WHERE num_params < 100K",
        False,
    ),
    Keyword("JSON", "word", "after EXPLAIN: the plan as JSON", "EXPLAIN JSON SELECT name FROM models", False),
    Keyword(
        "BY",
        "word",
        "the ranker of RANK",
        f"RANK image_models BY Linear {_DIGITS}",
    ),
    Keyword(
        "BENCHMARK",
        "word",
        "a declared set of datasets whose recorded results are asked for",
        "DECLARE images AS SELECT name FROM datasets WHERE modality = image;\n"
        "SELECT name FROM models ORDER BY AVG(err) TESTED ON BENCHMARK images",
        False,
    ),
    Keyword(
        "TASK",
        "word",
        "a dataset of yours, where BENCHMARK would be a recorded one",
        "SELECT name FROM models ORDER BY Linear TRAINED ON TASK drawn-digits-train TESTED ON TASK drawn-digits-test",
        False,
    ),
    Keyword(
        "CHANGE",
        "word",
        "a dataset with some rows replaced; rows count from 0",
        "SELECT name FROM models ORDER BY Linear\n"
        "TRAINED ON (drawn-digits-train CHANGE [0, 1] TO drawn-digits-test [7, 8]) TESTED ON drawn-digits-test",
        False,
    ),
    Keyword(
        "TO",
        "word",
        "the rows that CHANGE puts in place of others",
        "SELECT name FROM models ORDER BY Linear\n"
        "TRAINED ON (drawn-digits-train CHANGE [3] TO drawn-digits-test [5]) TESTED ON drawn-digits-test",
        False,
    ),
    Keyword("GRP", "word", "the column RETRIEVE groups by", "SELECT name FROM models RETRIEVE 1 GRP modality ORD name"),
    Keyword(
        "ORD",
        "word",
        "the column whose order RETRIEVE takes the first rows of",
        "SELECT name FROM models RETRIEVE 1 GRP modality ORD upstream_accuracy DESC",
    ),
    Keyword(
        "AUTO",
        "word",
        "left to the optimizer",
        f"SELECT name FROM image_models ORDER BY Linear CHUNK AUTO BUDGET AUTO {_DIGITS}",
        False,
    ),
    Keyword(
        "PULLS",
        "word",
        "the unit of a bare number after BUDGET",
        f"SELECT name FROM image_models ORDER BY Linear CHUNK 64 BUDGET 160 PULLS {_DIGITS}",
        False,
    ),
    Keyword(
        "EPOCHS",
        "word",
        "a unit of BUDGET: passes over the training rows",
        f"SELECT name FROM image_models ORDER BY FineTune BUDGET 500 EPOCHS {_DIGITS}",
        False,
    ),
    Keyword(
        "DATASET",
        "word",
        "what REGISTER adds",
        "REGISTER DATASET digits FROM './playground/datasets/drawn-digits/train.npz'",
        False,
    ),
    Keyword(
        "MODEL", "word", "what REGISTER adds", "REGISTER MODEL my-vit FROM './playground/models/vit-location'", False
    ),
    Keyword(
        "MODELS",
        "word",
        "every model in a folder, a CSV file of handles or a hub's listing, for REGISTER",
        "REGISTER MODELS lab FROM './playground/models' WITH (licence=mit)",
        False,
    ),
    Keyword(
        "VALUES",
        "word",
        "the columns' values, for REGISTER",
        "REGISTER MODEL my-vit (path, licence) VALUES ('./playground/models/vit-location', 'apache-2.0')",
        False,
    ),
    Keyword(
        "WITH",
        "word",
        "settings of REGISTER; the dataset of FINETUNE",
        "FINETUNE [resnet-letters, vit-location] WITH drawn-digits-train (epochs=2)",
        False,
    ),
    Keyword(
        "EVERY",
        "word",
        "how often WATCH asks again, besides when something is registered",
        "WATCH small AS SELECT name FROM models WHERE num_params < 100K EVERY '12h'",
        False,
    ),
)

# Every keyword, a word each.
KEYWORD_WORDS: tuple[str, ...] = tuple(dict.fromkeys(word for keyword in KEYWORDS for word in keyword.phrase.split()))

RESERVED: frozenset[str] = frozenset(
    word for keyword in KEYWORDS if keyword.is_reserved for word in keyword.phrase.split()
)

# What SHOW lists and PURGE deletes, and what that is.
SHOWN: Mapping[str, str] = {
    "MODELS": "the models of the pool",
    "DATASETS": "the registered datasets",
    "RUNS": "what was measured, latest first",
    "WATCHES": "the standing questions",
    "RANKERS": "the rankers, with their arguments and tasks",
}
PURGED: Mapping[str, str] = {
    "results": "every measured score",
    "features": "every stored embedding",
    "all": "both",
}
