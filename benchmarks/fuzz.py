"""Wrong queries by the thousand: every text ends in an answer or in a ShiftError, within a second.

    python benchmarks/fuzz.py [--inputs 100000] [--seed 0]

Random text and random mutations of valid queries are parsed, bound to a small catalog in a temporary home and
planned; what the database answers alone is answered. Prints every text that raised anything else or took longer than
a second, then a summary; the exit status is 1 if there was one.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from shiftql import ast
from shiftql.answering import answer
from shiftql.answers import Answer, ErrorAnswer, RowsAnswer, TextAnswer
from shiftql.binder import bind
from shiftql.bound import BoundAverage, BoundDataset, BoundRows, BoundSet, Question
from shiftql.engine import Session
from shiftql.plan import Split
from shiftql.planner import plan
from shiftql.planning import Stores
from shiftql.questions import Inquiry, Questions, Ran, Reach
from shiftql.strategies.base import no_history
from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.database import Database
from storage.evaluations import Subject
from storage.parts import whole
from storage.settings import Settings

LIMIT_SECONDS = 1.0
_NOTHING = Reach(lambda names: None, lambda script, plan, asked_at: {}, lambda script: "", lambda plan: ())

QUERIES = r"""
SELECT * FROM models
select all from image_models -- every one
SELECT DISTINCT architecture, num_params AS size, m.up_acc FROM models m WHERE m.num_params < 10M LIMIT 3;
SELECT name FROM models WHERE modality = image AND num_params <= 10M ORDER BY up_acc DESC LIMIT 1
SELECT name FROM models WHERE (source = huggingface OR source IN ('tfhub', "torch")) AND NOT FINETUNED
SELECT name FROM models WHERE num_params NOT BETWEEN -1.5K AND 2e6 AND licence IS NOT NULL AND name NOT LIKE 'vit%'
SELECT name FROM models WHERE 1 < num_params AND trusted == TRUE AND size_bytes <> .5 AND tags != `a``b`
SELECT name FROM models WHERE name = 'it''s' AND finetuned OR NOT (trusted AND (upstream_accuracy))
SELECT name FROM models WHERE model_id NOT IN (SELECT model_id FROM benchmark_results WHERE accuracy < 0.5)
SELECT name FROM models WHERE num_params = (SELECT num_params FROM small) AND name IN declared
SELECT vec FROM readers WHERE probe = m AND name = readers.name
SELECT * FROM models NATURAL JOIN BenchmarkResults NATURAL JOIN (SELECT name AS dataset_name FROM datasets) d
SELECT name FROM (SELECT * FROM text_models WHERE token_length >= 128) AS t ORDER BY t.name ASC, num_params
SELECT name FROM models ORDER BY Linear(lr=0.1, num_epochs=20, metric='macro_f1') TRAINED ON a TESTED ON b
SELECT name FROM image_models ORDER BY "Cosine NN"(k=1) DESC TRAINED ON './photos' TESTED ON TASK photos-test WITHIN 30m
SELECT * FROM models ORDER BY err CLASSIFIED BY ["Cosine NN", Linear(1)] TRAINED ON a TESTED ON b CHUNK 64 BUDGET 9 WAIT
SELECT * FROM models ORDER BY acc CLASSIFIED BY LEEP TRAINED ON [a, b] CHUNK AUTO BUDGET AUTO NOWAIT
SELECT name FROM models ORDER BY AVG(err) CLASSIFIED BY Linear TESTED ON [BENCHMARK a, BENCHMARK b]
SELECT name FROM models ORDER BY SUM(acc) TESTED ON [TASK a, BENCHMARK b] BUDGET 500 epochs WITHIN '1 h'
SELECT name FROM models ORDER BY Linear TRAINED ON (d CHANGE [0, 1] TO e [4, 5], [2] TO f [7], [3] TO e [1]) TESTED ON a
SELECT name FROM models ORDER BY Linear TRAINED ON [(d CHANGE [0] TO e [4]), g] TESTED ON (h) BUDGET 1h30m
SELECT model_name FROM BenchmarkResults RETRIEVE 2 GRP DataReaderId ORD Accuracy DESC WITHIN 10m
SELECT name FROM models OTHER THAN (SELECT name FROM text_models) LIMIT 1
SELECT name FROM models OTHER THAN small UNION ALL SELECT name FROM datasets INTERSECT small EXCEPT (a UNION b)
(small) UNION SELECT name FROM models
DECLARE small AS SELECT name FROM models WHERE num_params < 100K; PRINT small UNION small; PRINT small
DECLARE s AS SELECT * FROM models LIMIT 2; SELECT model_id FROM s NATURAL JOIN (SELECT source FROM s) t
DECLARE near AS SELECT name FROM models ORDER BY Linear TRAINED ON a TESTED ON b;SELECT name FROM models OTHER THAN near
DECLARE set AS SELECT name FROM datasets; SELECT name, num_params FROM models ORDER BY AVG(acc) TESTED ON BENCHMARK set
DECLARE q AS SELECT model_id FROM BenchmarkResults RETRIEVE 2 GRP dataset_id ORD acc;SELECT * FROM q NATURAL JOIN models
SELECT DISTINCT name FROM models WHERE model_id IN (SELECT model_id FROM models) AND name LIKE '%v_t%' ORDER BY name
DECLARE t AS SELECT num_params AS n FROM models; SELECT n FROM t WHERE n > (SELECT n FROM t LIMIT 1) UNION t
SELECT m.name, d.name AS e FROM models m NATURAL JOIN benchmark_results NATURAL JOIN datasets d WHERE m.name != d.name
RANK models BY "LEEP" TRAINED ON digits TESTED ON a
RANK name, num_params FROM models WHERE trusted BY 'Linear(lr=0.1, metric="macro_f1")' TRAINED ON digits TESTED ON a
RANK (SELECT * FROM models) BY CosineNN(k=3) TRAINED ON a TESTED ON b LIMIT 5 NOWAIT
EXPLAIN SELECT name FROM models
EXPLAIN ANALYZE JSON RANK models BY LogME TRAINED ON a
EXPLAIN JSON FINETUNE [resnet, vit] WITH d
FINETUNE resnet WITH digits (lr=[0.01, 0.001], epochs=5, batch_size=32) AS 'digits-reader' WAIT
FINETUNE (SELECT name FROM models LIMIT 3) WITH [d, (e CHANGE [0] TO f [1])] ()
REGISTER DATASET "photos" (name, num_classes, type) VALUES ('photos', 10, folder)
REGISTER MODEL vit FROM 'hf://google/vit' WITH (source=huggingface, trusted=false); REGISTER MODELS FROM './pool'
WATCH best AS SELECT name FROM models ORDER BY LEEP TRAINED ON d EVERY '1d'; UNWATCH best
SHOW MODELS; SHOW RUNS; PURGE; PURGE features
USE localhost:4200; USE 'http://other:4200/api'
HELP; HELP ORDER BY
""".strip().split("\n")

PIECES = sorted({piece for query in QUERIES for piece in re.findall(r"\w+|\S", query)} | {"\n", "\t", "é", "宽", "\0"})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--inputs", type=int, default=100_000, help="how many texts")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    generator = random.Random(options.seed)
    failures = refused = 0
    slowest = 0.0
    directory = tempfile.TemporaryDirectory()
    database = small_catalog(Path(directory.name))
    started = time.perf_counter()
    for _ in range(options.inputs):
        text = random_input(generator)
        begun = time.perf_counter()
        trouble = None
        try:
            refused += ask(text, database) is not None
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - begun
        slowest = max(slowest, seconds)
        if seconds > LIMIT_SECONDS:
            trouble = trouble or f"{seconds:.1f} s"
        if trouble:
            failures += 1
            print(f"{trouble}\n{text!r}\n")
    taken = time.perf_counter() - started
    print(
        f"{options.inputs} inputs in {taken:.0f} s, seed {options.seed}: {refused} refused, "
        f"{failures} failed, the slowest {slowest:.3f} s"
    )
    sys.exit(1 if failures else 0)


class BindingQuestions(Questions):
    """Questions over a catalog whose files are nowhere: answers what the database answers alone."""

    def refresh(self, inquiry: Inquiry) -> None:
        pass

    def bind(self, inquiry: Inquiry, *, final: bool = False) -> Question:
        return bind(inquiry.question, self._database, inquiry.text, inquiry.declared)

    def run(self, inquiry: Inquiry, *, wait: bool) -> Ran:
        bound = self.bind(inquiry)
        planned = plan(
            bound,
            Stores(
                _together, lambda split, rows: split.parts, lambda evaluations: {}, lambda models, target: no_history()
            ),
        )
        if isinstance(bound, BoundRows | BoundSet | BoundAverage):
            return Ran(answer(bound, planned, self._database, {}), {}, planned, planned)
        return Ran(RowsAnswer(statement=inquiry.text, seconds=0.0, columns=("name",), rows=()), {}, planned, planned)


class BindingSession(Session):
    """A session that registers nothing, and has such questions."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.__dict__["_database"] = database
        self.__dict__["_questions"] = BindingQuestions(database, _NOTHING)

    def add_model(self, *_: object, **__: object) -> ModelRecord:
        return ModelRecord()

    def add_models(self, *_: object, **__: object) -> Answer:
        return TextAnswer(statement="", seconds=0.0, text="")

    def add_dataset(self, *_: object, **__: object) -> DatasetRecord:
        return DatasetRecord()

    def _explain(self, statement: ast.Explain, text: str) -> Answer:
        return self._ask(statement.statement, text).answer


def ask(text: str, database: Database) -> str | None:
    """Everything that happens to a text before anything is computed; the error a person would see, if there is one."""
    *_, last = BindingSession(database).run(text)
    return str(last.error) if isinstance(last, ErrorAnswer) else None


def small_catalog(home: Path) -> Database:
    """A catalog with the names that the valid queries hold."""
    database = Database(Settings(home, f"sqlite:///{home / 'shift.db'}", ""))
    catalog = Catalog(database)
    common = {"path": "", "signature": ""}
    for number, name in enumerate(("resnet", "it's", "vit", "bert")):
        columns = {"source": "huggingface", "modality": ("image", "text")[number // 3], "num_params": 10**number}
        catalog.save_model(name, {**common, **columns, "fingerprint": f"model {number}"})
    for number, name in enumerate(("a", "b", "d", "e", "f", "g", "h", "digits", "photos-test", "./photos", "prices")):
        columns = {"type": "csv", "modality": "image", "num_rows": 8, "num_classes": 2}
        task = "regression" if name == "prices" else "classification"
        catalog.save_dataset(name, {**common, **columns, "task": task, "fingerprint": f"dataset {number}"})
    return database


def _together(datasets: Sequence[BoundDataset]) -> Split:
    subjects = [Subject(dataset.label, dataset.record.fingerprint) for dataset in datasets]
    parts = [whole(subject, dataset.record.num_rows) for subject, dataset in zip(subjects, datasets, strict=True)]
    return Split(subjects[0], tuple(parts))


def random_input(generator: random.Random) -> str:
    """A random text, one time in ten, or a valid query with one to five mutations."""
    if generator.random() < 0.1:
        return random_text(generator)
    text = generator.choice(QUERIES)
    for _ in range(generator.randint(1, 5)):
        text = generator.choice(MUTATIONS)(text, generator)
    return text


def random_text(generator: random.Random) -> str:
    length = generator.randint(0, 60)
    if generator.random() < 0.5:
        return " ".join(generator.choices(PIECES, k=length))
    return "".join(chr(generator.randrange(1, 0x3000)) for _ in range(length))


def without_token(text: str, generator: random.Random) -> str:
    tokens, index = _tokens(text, generator)
    return "".join(tokens[:index] + tokens[index + 1 :])


def with_token_twice(text: str, generator: random.Random) -> str:
    tokens, index = _tokens(text, generator)
    return "".join([*tokens[: index + 1], " ", *tokens[index:]])


def with_tokens_swapped(text: str, generator: random.Random) -> str:
    tokens, index = _tokens(text, generator)
    other = generator.randrange(len(tokens))
    tokens[index], tokens[other] = tokens[other], tokens[index]
    return "".join(tokens)


def with_token_replaced(text: str, generator: random.Random) -> str:
    tokens, index = _tokens(text, generator)
    tokens[index] = generator.choice(PIECES)
    return "".join(tokens)


def with_character_edited(text: str, generator: random.Random) -> str:
    index = generator.randrange(len(text) + 1)
    inserted = generator.choice(
        ["", generator.choice("'\"`()[],;.=<>-*#%\n aeZ09é宽"), chr(generator.randrange(0x3000))]
    )
    return text[:index] + inserted + text[index + generator.randint(0, 1) :]


def spliced(text: str, generator: random.Random) -> str:
    """The beginning of this query and the end of another."""
    other = generator.choice(QUERIES)
    return text[: generator.randrange(len(text) + 1)] + " " + other[generator.randrange(len(other)) :]


MUTATIONS = (without_token, with_token_twice, with_tokens_swapped, with_token_replaced, with_character_edited, spliced)


def _tokens(text: str, generator: random.Random) -> tuple[list[str], int]:
    """The words, blanks and signs of a text, at least one, and the place of a random one."""
    tokens = re.findall(r"\w+|\s+|.", text) or [""]
    return tokens, generator.randrange(len(tokens))


if __name__ == "__main__":
    main()
