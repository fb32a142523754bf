"""No text of a query is part of the SQL that it becomes: values are bound parameters, and names stay outside."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import Catalog
from storage.database import Database

ask = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "fuzz.py"))["ask"]

ATTACK = "zq'\"; DROP TABLE models; --"
WRITTEN = "'" + ATTACK.replace("'", "''") + "'"
SPLITS = "TRAINED ON digits-train TESTED ON digits-test"

ANSWERED = {
    "a value": "SELECT name FROM models WHERE name = @",
    "a value of NOT": "SELECT name FROM models WHERE NOT (name != @ AND source <> @)",
    "a list of values": "SELECT name FROM models WHERE name IN (@, 'x', @)",
    "a range": "SELECT name FROM models WHERE name BETWEEN @ AND @",
    "a pattern": "SELECT name FROM models WHERE name LIKE @ OR name NOT LIKE @",
    "an alias of a column": "SELECT name AS @ FROM models",
    "an alias of a column, selected again": "SELECT @ FROM (SELECT name AS @ FROM models) t ORDER BY @",
    "a distinct alias": "SELECT DISTINCT source AS @ FROM models ORDER BY source",
    "an alias of a relation": "SELECT name FROM models AS @",
    "an alias of a sub-select": "SELECT name FROM (SELECT * FROM models) AS @",
    "a declared name": "DECLARE @ AS SELECT name FROM models; SELECT name FROM @",
    "a declared name of IN": "DECLARE @ AS SELECT name FROM models; SELECT name FROM models WHERE name IN (@)",
    "a declared name of OTHER THAN": "DECLARE @ AS SELECT name FROM models; SELECT name FROM models OTHER THAN @",
    "a declared name of a set operation": "DECLARE @ AS SELECT name FROM models; PRINT @ UNION @",
    "a join": (
        "SELECT model_name AS @ FROM models AS @ NATURAL JOIN benchmark_results NATURAL JOIN datasets d"
        " WHERE model_name = @ AND d.name = @"
    ),
    "a join of sub-selects": (
        "SELECT @ FROM (SELECT name AS @ FROM models) a NATURAL JOIN (SELECT name AS @ FROM text_models) b"
    ),
    "a nested condition": "SELECT name FROM models WHERE name IN (SELECT name FROM models WHERE source = @)",
    "a compared sub-select": "SELECT name FROM models WHERE name = (SELECT name FROM models WHERE source = @ LIMIT 1)",
    "RETRIEVE": (
        "SELECT name AS @ FROM (SELECT name, source AS @, num_params FROM models) t"
        " WHERE @ = @ RETRIEVE 2 GRP @ ORD num_params"
    ),
    "OTHER THAN": "SELECT name FROM models OTHER THAN (SELECT name FROM models WHERE name = @)",
    "a set operation": "SELECT name AS @ FROM models WHERE name = @ EXCEPT SELECT name AS @ FROM models",
    "a statistic": (
        "DECLARE @ AS SELECT name FROM datasets WHERE name != @;"
        " SELECT name AS @ FROM models WHERE name != @ ORDER BY AVG(acc) TESTED ON BENCHMARK @"
    ),
    "a ranking": f"SELECT name AS @ FROM models WHERE name != @ ORDER BY Linear {SPLITS}",
    "a ranking selected from": (
        f"DECLARE @ AS SELECT name AS @ FROM models WHERE name != @ ORDER BY Linear {SPLITS}; SELECT @ FROM @"
    ),
    "a column of distances": "SELECT name AS @ FROM datasets ORDER BY Task2Vec TRAINED ON digits-train",
    "a name to keep a model under": "FINETUNE vit-letters WITH digits-train AS @",
}
REFUSED = {
    "a dataset": "SELECT name FROM models ORDER BY Linear TRAINED ON @ TESTED ON @",
    "a dataset of a list": "SELECT name FROM models ORDER BY LEEP TRAINED ON [digits-train, @]",
    "a changed dataset": "SELECT name FROM models ORDER BY LEEP TRAINED ON (@ CHANGE [0] TO digits-test [0])",
    "rows of a dataset": "SELECT name FROM models ORDER BY LEEP TRAINED ON (digits-train CHANGE [0] TO @ [0])",
    "a set": "SELECT name FROM models ORDER BY AVG(acc) TESTED ON BENCHMARK @",
    "a metric": "SELECT name FROM models ORDER BY AVG(@) TESTED ON BENCHMARK digits-test",
    "an argument": f"SELECT name FROM models ORDER BY Linear(metric=@) {SPLITS}",
    "a ranker": f"SELECT name FROM models ORDER BY acc CLASSIFIED BY @ {SPLITS}",
    "a model to leave out": "SELECT name FROM models OTHER THAN @",
    "a model to fine-tune": "FINETUNE @ WITH digits-train",
    "a relation": "SELECT name FROM @",
    "a probe": "SELECT name FROM datasets ORDER BY Task2Vec(probe=@) TRAINED ON digits-train",
    "a probe of vectors": "SELECT vec FROM datasets WHERE probe = @",
    "a column": "SELECT @ FROM models WHERE @ IS NULL ORDER BY @",
    "something to show": "SHOW @",
}


@pytest.mark.parametrize("place", [*ANSWERED, *REFUSED])
def test_no_text_of_a_query_reaches_the_sql(place: str, any_database: Database, statements: Any) -> None:
    text = {**ANSWERED, **REFUSED}[place].replace("@", WRITTEN)
    with statements(any_database) as sent:
        error = ask(text, any_database)
    assert (error is None) == (place in ANSWERED), error
    assert sent or place in {"a column", "a relation", "something to show", "a metric", "an argument", "a ranker"}
    # Not even a folded spelling of it.
    assert not any("zq" in statement.lower() for statement in sent)
    assert len(Catalog(any_database).models()) == 5
