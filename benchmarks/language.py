"""The numbers of the language: filters over a million models, conditions of ten thousand terms, planning Q7.

    python benchmarks/language.py [--json] [DIRECTORY]

DIRECTORY keeps the catalog between runs; without one it is built in a temporary directory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from figures import Figures

from shiftql.answers import ErrorAnswer

if TYPE_CHECKING:
    from shiftql.engine import Session

MODELS = 1_000_000
QUERIES = 200
TERMS = (1_000, 3_000, 10_000)
REPETITIONS = 5
Q7 = Path(__file__).parent.parent / "examples" / "queries" / "q7.shiftql"
LIMITS = {
    "filter and order, 95th percentile": 0.1,
    "10,000 mixed terms, planned and run": 3.0,
    "10,000 equalities, planned and run": 3.0,
    # Ten times the terms may take ten times as long; the rest is for a machine that others use too.
    "10,000 mixed terms / 1,000 mixed terms": 15.0,
    "10,000 equalities / 1,000 equalities": 15.0,
    "Q7 planned": 0.005,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path)
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = (options.directory or Path(temporary)).absolute()
        os.environ["SHIFT_HOME"] = str(directory / "home")
        figures = measure(directory)
    if options.json:
        print(json.dumps({"figures": figures.to_json()}))
    else:
        figures.show()


def measure(directory: Path) -> Figures:
    from shiftql.engine import Session

    figures = Figures(LIMITS)
    figures.add(
        "build the catalog", seconds_of(build_catalog), detail=f"{MODELS:,} models; kept where a directory is named"
    )
    session = Session()
    times = {text: min(seconds_to_answer(session, text) for _ in range(3)) for text in relational_queries()}
    slowest = max(times, key=times.__getitem__)
    figures.add(
        "filter and order, median",
        statistics.median(times.values()),
        detail=f"{QUERIES} queries, each its best of three",
    )
    figures.add("filter and order, 95th percentile", statistics.quantiles(times.values(), n=20)[-1])
    figures.add("filter and order, slowest", times[slowest], detail=slowest)
    for kind, condition_of in (("mixed terms", mixed_condition), ("equalities", equalities)):
        seconds = {}
        for count in TERMS:
            # Another number of terms is another statement, which no cache knows.
            texts = [f"SELECT name FROM datasets WHERE {condition_of(count + more)}" for more in (0, 2)]
            seconds[count] = min(seconds_to_answer(session, text) for text in texts)
            figures.add(f"{count:,} {kind}, planned and run", seconds[count])
        first, *_, last = TERMS
        figures.add(f"{last:,} {kind} / {first:,} {kind}", seconds[last] / seconds[first], "")
    figures.add("Q7 planned", seconds_to_plan_q7(directory / "small home"))
    return figures


def seconds_of(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def seconds_to_answer(session: Session, text: str) -> float:
    """Seconds of all there is to a query: parsing, binding, planning, and reading the rows."""
    started = time.perf_counter()
    answers = list(session.run(text))
    seconds = time.perf_counter() - started
    for answer in answers:
        if isinstance(answer, ErrorAnswer):
            raise SystemExit(f"{text[:200]}\n{answer.error}")
    return seconds


def seconds_to_plan_q7(home: Path) -> float:
    """Median seconds to parse, bind and plan Q7 over a pool of a playground's size, once everything is imported."""
    from shiftql.binder import bind
    from shiftql.preparation import prepare
    from shiftql.script import read_script
    from storage.catalog import Catalog
    from storage.database import Database
    from storage.manifests import Manifest, save_manifest
    from storage.settings import current_settings

    os.environ["SHIFT_HOME"] = str(home)
    settings = current_settings()
    database = Database(settings)
    catalog = Catalog(database)
    rng = np.random.default_rng(0)
    for row in make_models(12):
        catalog.save_model(row.pop("name"), row | {"modality": "image", "source": "huggingface"})
    for name in ("counting-shapes", "location-shapes", "orientation-shapes", "drawn-digits"):
        for split in ("train", "test"):
            manifest = Manifest(rng.integers(0, 256, (600, 16), np.uint8), np.arange(600) % 10, tuple("0123456789"))
            save_manifest(settings.manifests, manifest)
            columns = {"fingerprint": manifest.fingerprint, "modality": "image", "num_rows": 600, "num_classes": 10}
            catalog.save_dataset(f"{name}-{split}", DATASET | columns)
    text = Q7.read_text()

    def plan() -> None:
        question, declared = read_script(text)
        prepare(bind(question, database, text, declared), database)

    return statistics.median([seconds_of(plan) for _ in range(5 * REPETITIONS)][REPETITIONS:])


# --- the queries ----------------------------------------------------------------------------------------------

ORDERS = (
    "upstream_accuracy DESC",
    "upstream_accuracy",
    "num_params",
    "num_params DESC",
    "size_bytes",
    "date_added DESC",
    "name",
)


def relational_queries() -> list[str]:
    """Different conditions, selective and not, alone and mixed, each with an order; the same every time."""
    random = Random(0)
    queries: set[str] = set()
    while len(queries) < QUERIES:
        relation = random.choice(["models", "models", "image_models", "text_models"])
        conditions = [condition(random) for _ in range(random.choice([1, 1, 2, 2, 3]))]
        where = random.choice([" AND ", " AND ", " OR "]).join(conditions)
        queries.add(f"SELECT name, num_params FROM {relation} WHERE {where} ORDER BY {random.choice(ORDERS)} LIMIT 10")
    return sorted(queries)


def condition(random: Random) -> str:
    architectures = [name for name, *_ in FAMILIES] + [f"Rare{number}Model" for number in range(RARE_ARCHITECTURES)]
    size = random.choice(["1M", "5M", "10M", "50M", "100M", "1B"])
    month = f"{random.randint(2022, 2025)}-{random.randint(1, 12):02}-01"
    some = random.sample(architectures, 3)
    return random.choice(
        [
            f"num_params < {size}",
            f"num_params > {size}",
            f"num_params BETWEEN {size} AND 2B",
            f"modality = {random.choice(['image', 'text', 'sound'])}",
            f"modality != {random.choice(['image', 'text'])}",
            f"architecture = {random.choice(architectures[: len(FAMILIES)])}",
            f"architecture = {some[0]}",
            f"architecture IN ({', '.join(some)})",
            f"source = {random.choice(['huggingface', 'tfhub', 'torch'])}",
            f"upstream_dataset = 'dataset-{random.randint(1, 200)}'",
            f"upstream_accuracy > {random.choice([0.5, 0.8, 0.95])}",
            f"name LIKE '{random.choice(['bert', 'vit', 'resnet', 'rare1', 'SWIN'])}-%'",
            f"name LIKE '%{random.choice(['large', 'base', '123', '77'])}%'",
            f"date_added > '{month}'",
            f"NOT (licence = mit OR num_params > {size})",
            "FINETUNED",
            "upstream_accuracy IS NOT NULL",
        ]
    )


def mixed_condition(count: int) -> str:
    """A condition of that many terms that holds for the only dataset; no two terms are alike, and they are nested."""
    terms = [
        (
            f"num_rows > -{number + 1}",
            f"NOT num_classes BETWEEN {number + 100} AND {number + 200}",
            f"NOT name LIKE '{number}%'",
            f"num_rows < {number + 10_000}",
        )[number // 2 % 4]
        for number in range(count)
    ]
    return " AND ".join(f"({one} OR {other})" for one, other in zip(terms[::2], terms[1::2], strict=True))


def equalities(count: int) -> str:
    return " OR ".join(f"num_rows = {number}" for number in range(count))


# --- the catalog ----------------------------------------------------------------------------------------------

FAMILIES = (
    # architecture, modality, typical parameters, share of all models
    ("BertModel", "text", 110e6, 0.14),
    ("RobertaModel", "text", 125e6, 0.10),
    ("DistilBertModel", "text", 66e6, 0.10),
    ("LlamaModel", "text", 7e9, 0.12),
    ("GPT2Model", "text", 124e6, 0.06),
    ("T5Model", "text", 220e6, 0.05),
    ("ElectraModel", "text", 14e6, 0.02),
    ("ViTModel", "image", 86e6, 0.12),
    ("ResNetModel", "image", 25e6, 0.06),
    ("ConvNextModel", "image", 28e6, 0.04),
    ("SwinModel", "image", 29e6, 0.04),
    ("MobileNetV2Model", "image", 3.5e6, 0.03),
    ("SavedModel", "image", 24e6, 0.02),
    ("Wav2Vec2Model", "sound", 95e6, 0.05),
)
RARE_ARCHITECTURES = 200
DATASET = {
    "path": "",
    "type": "csv",
    "fingerprint": "",
    "signature": "",
    "modality": "text",
    "task": "classification",
    "num_rows": 77,
    "num_classes": 2,
}


def build_catalog() -> None:
    """Register MODELS synthetic models and one dataset in the home, unless they are there."""
    from sqlalchemy import insert, text

    from storage.catalog import Catalog, ModelRecord
    from storage.database import Database
    from storage.settings import current_settings

    database = Database(current_settings())
    catalog = Catalog(database)
    if catalog.find_datasets({"only"}):
        return
    rows = make_models(MODELS)
    with database.engine.begin() as connection:
        # The indices fit into a larger cache than the usual one, and are then written once.
        connection.execute(text("PRAGMA cache_size = -4000000"))
        for start in range(0, MODELS, 50_000):
            connection.execute(insert(ModelRecord), rows[start : start + 50_000])
    catalog.save_dataset("only", DATASET)


def make_models(count: int) -> list[dict[str, Any]]:
    """Few architectures are common and many rare, most models know no upstream accuracy, sizes repeat."""
    rng = np.random.default_rng(0)
    common = np.array([share for *_, share in FAMILIES])
    rare = 1.0 / np.arange(1, RARE_ARCHITECTURES + 1)
    shares = np.concatenate([common, rare / rare.sum() * (1 - common.sum())])
    families = [
        *FAMILIES,
        *((f"Rare{n}Model", ("text", "image", "sound")[n % 3], 10e6 * (n + 1), 0) for n in range(RARE_ARCHITECTURES)),
    ]
    chosen = rng.choice(len(families), count, p=shares / shares.sum())
    # Half of the models of a family are its plain size, the others smaller and larger ones.
    scale = np.where(rng.random(count) < 0.5, 1.0, np.exp(rng.normal(0, 1, count)))
    knows_size, knows_accuracy, knows_data = (
        rng.random(count) < 0.8,
        rng.random(count) < 0.3,
        rng.random(count) < 0.4,
    )
    accuracy, days = rng.beta(6, 2, count).round(4), (rng.power(2, count) * 1500).astype(int)
    upstream, source = rng.zipf(1.4, count) % 5000, rng.random(count)
    finetuned, trusted = rng.random(count) < 0.6, rng.random(count) < 0.002
    licence = rng.choice(["apache-2.0", "mit", "cc-by-4.0", "other"], count, p=[0.4, 0.3, 0.1, 0.2])
    first = datetime(2022, 1, 1, tzinfo=UTC)
    rows = []
    for n in range(count):
        architecture, modality, typical, _ = families[chosen[n]]
        params = int(typical * scale[n])
        stem = architecture.removesuffix("Model").lower()
        rows.append(
            {
                "name": f"{stem}-{('base', 'small', 'large')[n % 3]}-{n:07}",
                "source": "tfhub" if architecture == "SavedModel" else "torch" if source[n] < 0.02 else "huggingface",
                "path": f"/models/{n}",
                "fingerprint": f"{n:064x}",
                "signature": "",
                "modality": modality,
                "architecture": architecture,
                "num_params": params if knows_size[n] else None,
                "size_bytes": 4 * params if knows_size[n] else None,
                "embedding_dim": 256 * (1 + n % 8),
                "image_size": (32, 224, 384)[n % 3] if modality == "image" else None,
                "token_length": 512 if modality == "text" else None,
                "upstream_dataset": f"dataset-{upstream[n]}" if knows_data[n] else None,
                "upstream_accuracy": float(accuracy[n]) if knows_accuracy[n] else None,
                "date_added": first + timedelta(days=int(days[n]), seconds=n % 86_400),
                "licence": str(licence[n]),
                "tags": "",
                "finetuned": bool(finetuned[n]),
                "trusted": bool(trusted[n]),
            }
        )
    return sorted(rows, key=lambda row: row["name"])


if __name__ == "__main__":
    main()
