"""What is computed after a change, by many askers at once, and after kills: only what is new, once, and right.

    python benchmarks/incremental.py [--json] [--kills N] [--seed S] [--only changes|askers|kills] [DIRECTORY]

DIRECTORY keeps the playground and its home between runs. Each change is asked in a warm process, and the answer
compared with that of a fresh home. Askers at once are processes forked off a warm one, and so is what is killed, at
random instants: they ask for rankings of principal components, and each killed question again until it is answered.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from figures import Figures
from first_light import add_copy, fresh_rows
from warm import Worker, ask_afresh, difference, import_everything

CHANGED_ROWS = 20
ASKERS = 8
POOL = 12
RANKERS = ("Cosine NN", "Linear")
COMPONENTS = (4, 16, 48)
KILLED_ROWS = 150
# Seconds without a sign of life after which a killed process's claims are taken over.
CLAIM_SECONDS = 0.5
# An answer may take a second whatever is new, and 1.3 times the share of a cold one that is new.
CONSTANT_SECONDS = 1.0
CHANGES = (
    "same query",
    "labels changed",
    "rows replaced by CHANGE",
    "rows appended",
    "test rows changed",
    "model added",
    "ranker added",
    "argument added",
    "version bumped",
)
EXACT = 1e-4
# A server that used less of a core than this for so long has nothing left to write.
IDLE_SECONDS, IDLE_PERCENT = 0.5, 4.0
LIMITS = {
    **{f"{change}: rows embedded / needed": 1.0 for change in CHANGES},
    **{f"{change}: evaluations / needed": 1.0 for change in CHANGES},
    **{f"{change}: (seconds - 1) / share of cold": 1.3 for change in CHANGES},
    **{f"{change}: off the oracle": EXACT for change in CHANGES},
    f"{ASKERS} askers: evaluations / models": 1.0,
    f"{ASKERS} askers: off the oracle": EXACT,
    "kills: wrong answers": 0.0,
    "kills: repeats of what was recorded": 0.0,
    "kills: torn files": 0.0,
    "kills: MLflow runs that are no results": 0.0,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path)
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    arguments.add_argument("--kills", type=int, default=200, help="how many processes to kill")
    arguments.add_argument("--seed", type=int, default=0, help="of the instants at which they are killed")
    arguments.add_argument("--only", choices=("changes", "askers", "kills"), help="measure this alone")
    options = arguments.parse_args()
    import_everything()
    figures = Figures(LIMITS)
    with tempfile.TemporaryDirectory() as temporary:
        directory = (options.directory or Path(temporary)).absolute()
        if options.only in (None, "changes"):
            with home_with_server(directory / "home") as api_url:
                measure_changes(figures, directory / "playground", api_url)
        if options.only in (None, "askers"):
            with home_with_server(directory / f"askers-{time.time_ns()}") as api_url:
                measure_askers(figures, api_url)
        if options.only in (None, "kills"):
            with home_with_server(directory / f"kills-{time.time_ns()}") as api_url:
                measure_kills(figures, options.kills, random.Random(options.seed), api_url)
    if options.json:
        print(json.dumps({"figures": figures.to_json()}))
    else:
        figures.show()
    sys.exit(not all(figure.is_within for figure in figures.measured))


@contextmanager
def home_with_server(home: Path) -> Iterator[str]:
    """A home to work in, and the URL of its Prefect server."""
    from flows.server import ensure_server, stop_server
    from storage.settings import current_settings

    os.environ["SHIFT_HOME"] = str(home)
    server, _ = ensure_server(current_settings())
    try:
        yield server.api_url
    finally:
        stop_server(current_settings())


# --- changes ----------------------------------------------------------------------------------------------------------


def measure_changes(figures: Figures, playground: Path, api_url: str) -> None:
    """Change one thing after the other, and ask each time."""
    from shiftql.engine import Session

    session = Session()
    session.make_playground(playground, "small", 0)
    originals = image_models(session)
    models = [model.name for model in originals]
    target, other = (fresh_rows(session, playground, number) for number in (1, 2))
    train, test = f"{target}-train", f"{target}-test"
    changed = f"{train} CHANGE [{numbers()}] TO {other}-train [{numbers()}]"
    worker = Worker({})
    asked(worker, question(models, fresh_rows(session, playground, 0)))
    text = question(models, target)
    cold_seconds, cold = asked(worker, text)
    cold_rows = cold["work"]["embedded_rows"]
    embedders = len(models) + 1  # and the raw baseline
    per_model = cold_rows / embedders
    scoring = 0.0

    def measure(
        name: str,
        text: str,
        *,
        rows: float = 0.0,
        evaluations: int = len(models) * len(RANKERS),
        datasets: tuple[str, ...] = (train, test),
        bumped: str | None = None,
    ) -> None:
        nonlocal scoring
        wait_until_idle()
        began = time.time()
        seconds, answer = asked(worker, text)
        embedded, evaluated = answer["work"]["embedded_rows"], answer["evaluated"]
        if rows:
            share = (cold_seconds - scoring) * rows / cold_rows + scoring * evaluations / cold["evaluated"]
        else:
            share = ranker_seconds(began)
        if name == "labels changed":
            scoring = share
        figures.add(f"{name}: rows embedded / needed", ratio(embedded, rows), "", f"{embedded} / {rows:g}")
        figures.add(f"{name}: evaluations / needed", ratio(evaluated, evaluations), "", f"{evaluated} / {evaluations}")
        beyond = max(0.0, seconds - CONSTANT_SECONDS)
        detail = f"{seconds:.2f} s; cold {cold_seconds:.2f} s, of which new {share:.2f} s"
        figures.add(f"{name}: (seconds - 1) / share of cold", ratio(beyond, share) if beyond else 0.0, "", detail)
        truth = ask_afresh(text, [*datasets], api_url, bumped)
        figures.add(f"{name}: off the oracle", difference(answer, truth), "")

    measure("same query", text, evaluations=0)
    with arrays_of(session, train) as arrays:
        arrays["labels"][:CHANGED_ROWS] = np.roll(arrays["labels"][:CHANGED_ROWS], 1)
    measure("labels changed", text)
    measure(
        "rows replaced by CHANGE",
        question(models, target, train=f"({changed})"),
        rows=CHANGED_ROWS * embedders,
        datasets=(train, test, f"{other}-train"),
    )
    with arrays_of(session, train) as arrays:
        more = images_like(arrays["images"])
        arrays["images"] = np.concatenate([arrays["images"], more])
        arrays["labels"] = np.concatenate([arrays["labels"], arrays["labels"][:CHANGED_ROWS]])
    measure("rows appended", text, rows=CHANGED_ROWS * embedders)
    with arrays_of(session, test) as arrays:
        arrays["images"][:CHANGED_ROWS] = images_like(arrays["images"])
    measure("test rows changed", text, rows=CHANGED_ROWS * embedders)
    added = add_copy(session, playground, originals[0], POOL, factor=1 + random.uniform(0.001, 0.01))
    models.append(added)
    text = question(models, target)
    measure("model added", text, rows=per_model + CHANGED_ROWS, evaluations=len(RANKERS))
    text = question(models, target, rankers=(*RANKERS, "Euclidean NN"))
    measure("ranker added", text, evaluations=len(models))
    text = question(models, target, rankers=(*RANKERS, "Euclidean NN", "CosineNN(k=3)"))
    measure("argument added", text, evaluations=len(models))
    worker.bump("linear")
    measure("version bumped", text, evaluations=len(models), bumped="linear")
    worker.close()


def image_models(session: Any) -> list[Any]:
    return [
        model
        for model in session.catalog.models()
        if (model.modality, model.source) == ("image", "huggingface") and not model.name.startswith("variant-")
    ]


def question(models: list[str], target: str, *, train: str = "", rankers: tuple[str, ...] = RANKERS) -> str:
    names = ", ".join(f"'{name}'" for name in models)
    listed = ", ".join(f'"{ranker}"' if " " in ranker else ranker for ranker in rankers)
    return (
        f"SELECT * FROM models WHERE name IN ({names}) ORDER BY acc CLASSIFIED BY [{listed}] "
        f"TRAINED ON {train or f'{target}-train'} TESTED ON {target}-test"
    )


def wait_until_idle() -> None:
    """Wait until Prefect's server has written down what was asked before: that is no work of the next question."""
    from storage.settings import current_settings

    server = psutil.Process(json.loads((current_settings().home / "server.json").read_text())["pid"])
    while server.cpu_percent(interval=IDLE_SECONDS) > IDLE_PERCENT:
        pass


def numbers() -> str:
    return ", ".join(map(str, range(CHANGED_ROWS)))


def asked(worker: Worker, text: str) -> tuple[float, dict[str, Any]]:
    answered = worker.ask(text)
    assert answered is not None
    if answered[1]["kind"] == "error":
        raise SystemExit(f"{text}\n{answered[1]['error']['message']}")
    return answered


@contextmanager
def arrays_of(session: Any, dataset: str) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of a dataset's file, written back when they were changed."""
    path = session.catalog.dataset(dataset).path
    with np.load(path) as loaded:
        arrays = dict(loaded)
    yield arrays
    np.savez(path, **arrays)


def images_like(images: np.ndarray) -> np.ndarray:
    """The first images with another dot in the corner than any had before."""
    copies = images[:CHANGED_ROWS].copy()
    copies[:, 0, 0, :] = np.random.default_rng(time.time_ns()).integers(0, 256, (CHANGED_ROWS, copies.shape[-1]))
    return copies


def ratio(done: float, needed: float) -> float:
    """1 where exactly what is needed was done, also where that is nothing; infinite where too little was."""
    if not needed:
        return 1.0 if not done else float("inf")
    return done / needed


def ranker_seconds(since: float) -> float:
    """What the evaluations recorded since then took."""
    with closing(sqlite3.connect(Path(os.environ["SHIFT_HOME"]) / "shift.db")) as index:
        found = index.execute("SELECT coalesce(sum(cost_seconds), 0) FROM evaluations WHERE recorded >= ?", [since])
        return found.fetchone()[0]


# --- many askers ------------------------------------------------------------------------------------------------------


def measure_askers(figures: Figures, api_url: str) -> None:
    """Ask one question in many processes at once."""
    from shiftql.engine import Session

    session = Session()
    models = fit_components(session, range(1, POOL + 1))
    target = digits(session, 1)
    text = question(models, target, rankers=("Linear",))
    truth = ask_afresh(text, [f"{target}-train", f"{target}-test"], api_url)
    started = time.perf_counter()
    workers = [Worker({}, records=True) for _ in range(ASKERS)]
    for worker in workers:
        worker.begin(text)
    answers = [answered[1] for worker in workers if (answered := worker.answer()) is not None]
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.kill()
    with closing(sqlite3.connect(Path(os.environ["SHIFT_HOME"]) / "shift.db")) as index:
        is_baseline = "(method = 'majority' OR model_name = 'raw')"
        counted = f"SELECT sum(token * NOT {is_baseline}), sum(token * {is_baseline}) FROM evaluations"
        attempts, baselines = index.execute(counted).fetchone()
    evaluated = sum(answer["evaluated"] for answer in answers)
    figures.add(
        f"{ASKERS} askers: evaluations / models",
        max(attempts, evaluated, POOL * baselines / 2) / POOL,
        "",
        f"{attempts} computed, {evaluated} reported, {baselines} baselines, for {POOL} models in {seconds:.1f} s",
    )
    figures.add(f"{ASKERS} askers: off the oracle", max(difference(answer, truth) for answer in answers), "")


# --- kills ------------------------------------------------------------------------------------------------------------


def measure_kills(figures: Figures, kills: int, chance: random.Random, api_url: str) -> None:
    """Kill processes in the middle of questions, and ask each question until it is answered."""
    from shiftql.engine import Session

    os.environ["SHIFT_CLAIM_SECONDS"] = str(CLAIM_SECONDS)
    session = Session()
    models = fit_components(session, COMPONENTS)
    killed = questions = repeats = wrong = torn = 0
    # The first makes MLflow's schema, the second tells how long a question takes.
    for number in (1, 2):
        worker = Worker({}, records=True)
        usual, _ = asked(worker, question(models, digits(session, number)))
        worker.close()
    while killed < kills:
        questions += 1
        target = digits(session, 2 + questions)
        text = question(models, target)
        truth = ask_afresh(text, [f"{target}-train", f"{target}-test"], api_url)
        answered = None
        while answered is None:
            before = recorded()
            worker = Worker({}, records=True)
            answered = worker.ask(text, within=chance.uniform(0.0, 1.2 * usual))
            worker.kill()
            killed += answered is None
            after = recorded()
            repeats += sum(after.get(fingerprint) != row for fingerprint, row in before.items())
            torn += unreadable(session, target, models)
        wrong += difference(answered[1], truth) > EXACT
    detail = f"{killed} kills within {1.2 * usual:.2f} s of {questions} questions; {len(recorded())} evaluations"
    figures.add("kills: wrong answers", wrong, "", detail)
    figures.add("kills: repeats of what was recorded", repeats, "")
    figures.add("kills: torn files", torn, "")
    figures.add("kills: MLflow runs that are no results", wrong_runs(), "")


def fit_components(session: Any, numbers: Iterable[int]) -> list[str]:
    """Register principal components of digits as models, so many each; their names."""
    base = digits(session, 0)
    for number in numbers:
        session.add_model(f"pca-{number}", f"pca:{base}-train?components={number}")
    return [f"pca-{number}" for number in numbers]


def digits(session: Any, number: int) -> str:
    """Scanned digits with a dot of another shade in a corner: the same task, no row seen before."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    shades = np.random.default_rng(number).integers(0, 256, len(images))
    pixels = np.repeat((images.reshape(-1, 8, 8, 1) * 15).astype(np.uint8), 3, axis=-1)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = shades, number
    for split, start in (("train", 0), ("test", KILLED_ROWS)):
        rows = slice(start, start + KILLED_ROWS)
        path = Path(os.environ["SHIFT_HOME"]) / "rows" / f"digits-{number}-{split}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, images=pixels[rows], labels=labels[rows])
        session.add_dataset(f"digits-{number}-{split}", str(path))
    return f"digits-{number}"


def recorded() -> dict[str, tuple[Any, ...]]:
    """The committed results, by fingerprint, with what changes when one is computed again."""
    with closing(sqlite3.connect(Path(os.environ["SHIFT_HOME"]) / "shift.db")) as index:
        rows = index.execute("SELECT fingerprint, token, recorded, value FROM evaluations WHERE status <> 'claimed'")
        return {fingerprint: row for fingerprint, *row in rows}


def unreadable(session: Any, target: str, models: list[str]) -> int:
    """How many manifests and features are there and cannot be read."""
    from storage.baselines import raw_subject
    from storage.errors import StoreError
    from storage.features import FeatureStore
    from storage.manifests import load_manifest
    from storage.settings import current_settings

    settings = current_settings()
    store = FeatureStore(settings.features)
    fingerprints = [session.catalog.model(name).fingerprint for name in models]
    count = 0
    for path in settings.manifests.glob("*.npz"):
        try:
            load_manifest.__wrapped__(settings.manifests, path.stem)
        except StoreError:
            count += 1
    for split in ("train", "test"):
        manifest = load_manifest(settings.manifests, session.catalog.dataset(f"{target}-{split}").fingerprint)
        for fingerprint in (*fingerprints, raw_subject("image").fingerprint):
            key = store.key(fingerprint)
            missing = store.missing(key, manifest.row_hashes)
            there = np.setdiff1d(np.arange(manifest.num_rows), missing)
            try:
                if len(there):
                    store.read(key, manifest.row_hashes[there])
            except StoreError:
                count += 1
    return count


def wrong_runs() -> int:
    """How many results lack their one finished MLflow run, and how many runs are of no result.

    What is not written yet is written first: an export that was killed is taken over after a minute.
    """
    from mlflow import MlflowClient

    from storage.settings import current_settings
    from storage.tracking import export_pending

    with closing(sqlite3.connect(Path(os.environ["SHIFT_HOME"]) / "shift.db")) as index:
        index.execute("UPDATE evaluations SET export_started = 0 WHERE mlflow_run_id IS NULL")
        index.commit()
        export_pending()
        rows = index.execute("SELECT mlflow_run_id, fingerprint, metric, value FROM evaluations").fetchall()
    client = MlflowClient(tracking_uri=current_settings().tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    page = client.search_runs(experiments)
    runs = {run.info.run_id: run for run in page}
    while page.token:
        page = client.search_runs(experiments, page_token=page.token)
        runs |= {run.info.run_id: run for run in page}
    wrong = len(runs.keys() ^ {run_id for run_id, *_ in rows})
    for run_id, fingerprint, metric, value in rows:
        run = runs.get(run_id)
        if run is not None:
            told = (run.info.status, run.data.tags["shift.fingerprint"], run.data.metrics.get(metric))
            wrong += told != ("FINISHED", fingerprint, value)
    return wrong


if __name__ == "__main__":
    main()
