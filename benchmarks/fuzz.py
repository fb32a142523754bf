"""Wrong queries by the thousand: every text ends in an answer or in a ShiftError, within a second.

    python benchmarks/fuzz.py [--inputs 100000] [--seed 0]

Random text and random mutations of valid queries go through the parser. Prints every text that raised anything
else or took longer than a second, then a summary; the exit status is 1 if there was one.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time

from shiftql.parser import parse
from storage.errors import ShiftError

LIMIT_SECONDS = 1.0

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
SELECT * FROM models NATURAL JOIN BenchmarkResults NATURAL JOIN (SELECT name AS reader FROM datasets) d
SELECT name FROM (SELECT * FROM text_models WHERE token_length >= 128) AS t ORDER BY t.name ASC, num_params
SELECT name FROM models ORDER BY Linear(lr=0.1, num_epochs=[10, 20], metric='macro_f1') TRAINED ON a TESTED ON b
SELECT name FROM image_models ORDER BY "Cosine NN"(k=1) DESC TRAINED ON './photos' TESTED ON TASK photos-test WITHIN 30m
SELECT * FROM models ORDER BY err CLASSIFIED BY ["Cosine NN", Linear(learning_rate=0.01)] CHUNK 64 BUDGET 160 WAIT
SELECT * FROM models CLASSIFIED BY LEEP TRAINED ON [a, b] CHUNK AUTO BUDGET AUTO NOWAIT
SELECT name FROM models ORDER BY AVG(err) CLASSIFIED BY Linear TRAINED ON a TESTED ON BENCHMARK structured
SELECT name FROM models ORDER BY SUM(acc) TESTED ON [TASK a, BENCHMARK b] BUDGET 500 epochs WITHIN '1 h'
SELECT name FROM m ORDER BY Linear TRAINED ON (d CHANGE [0, 1] TO e [4, 5], CHANGE [2] TO f [7], [3] TO e [1])
SELECT name FROM m ORDER BY Linear TRAINED ON [(d CHANGE [0] TO e [4]), g] TESTED ON (h) BUDGET 1h30m
SELECT name FROM BenchmarkResults RETRIEVE 2 GRP DataReaderId ORD Accuracy DESC BUDGET 10 pulls
SELECT name FROM models OTHER THAN (SELECT name FROM small) LIMIT 1
SELECT name FROM models OTHER THAN small UNION ALL SELECT name FROM datasets INTERSECT small EXCEPT (a UNION b)
(small) UNION SELECT name FROM models
DECLARE small AS SELECT name FROM models WHERE num_params < 100K; PRINT small UNION big; PRINT small
RANK models BY "LEEP" TRAINED ON digits-train
RANK name, num_params FROM models WHERE trusted BY 'Linear(learning_rate=0.1, metric="rmse")' TRAINED ON digits
RANK (SELECT * FROM models) BY NN(k=3) TRAINED ON a TESTED ON b LIMIT 5 NOWAIT
EXPLAIN SELECT name FROM models
EXPLAIN ANALYZE JSON RANK models BY LogME TRAINED ON a
EXPLAIN JSON FINETUNE [a, b] WITH d
FINETUNE resnet WITH digits (lr=[0.01, 0.001], epochs=5, batch_size=32) AS 'digits-reader' WAIT
FINETUNE (SELECT name FROM models LIMIT 3) WITH [d, (e CHANGE [0] TO f [1])] ()
REGISTER DATASET "photos" (name, num_classes, type) VALUES ('photos', 10, folder)
REGISTER MODEL vit FROM 'hf://google/vit' WITH (source=huggingface, trusted=false); REGISTER MODELS FROM './pool'
WATCH best AS SELECT name FROM models ORDER BY Linear TRAINED ON d EVERY '1d'; UNWATCH best
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
    started = time.perf_counter()
    for _ in range(options.inputs):
        text = random_input(generator)
        begun = time.perf_counter()
        trouble = None
        try:
            ask(text)
        except ShiftError as error:
            refused += bool(str(error))
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


def ask(text: str) -> None:
    """Everything that happens to a text before anything is executed."""
    parse(text)


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
