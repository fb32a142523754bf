"""FINETUNE from the statement to the model that is kept, on tiny real models; hosts run in this process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows import detached
from flows import finetune as finetune_module
from flows import run as run_module
from flows.predicting import predict
from flows.registration import register_model
from shiftql.answers import ErrorAnswer, ExplainAnswer, FinetuneAnswer, RankingAnswer
from shiftql.engine import Session, query
from shiftql.progress import Progress, progress
from storage.catalog import Catalog, ModelRecord
from storage.database import Database
from storage.errors import BindingError, EvaluationError, StoreError
from storage.lineage import lineage_of
from storage.results import EvaluationRecord
from storage.settings import current_settings
from tasks import stages
from tasks.finetuning.torch_training import TorchTraining
from tests.conftest import sentences

GRID = "FINETUNE bert WITH 'nature-train' (lr=[0.01, 0.005], epochs=2) AS reader"
BEST = (
    "FINETUNE (SELECT name FROM text_models WHERE NOT finetuned OR finetuned ORDER BY LogME TRAINED ON 'nature-train' "
    "LIMIT 1) WITH 'nature-train' (epochs=1, lr=0.01) AS mine"
)


def ask(text: str) -> FinetuneAnswer:
    answer = query(text)
    assert isinstance(answer, FinetuneAnswer)
    return answer


def kept(catalog: Catalog, name: str = "reader") -> ModelRecord:
    return catalog.model(name)


def trained() -> int:
    from sqlmodel import func, select

    with Database(current_settings()).session() as session:
        wanted = select(func.count()).where(EvaluationRecord.method == "finetune")
        return session.exec(wanted).one()


class Notes(Progress):
    def __init__(self) -> None:
        self.all: list[str] = []

    def note(self, message: str) -> None:
        self.all.append(message)


@pytest.fixture
def notes() -> Any:
    notes = Notes()
    token = progress.set(notes)
    yield notes
    progress.reset(token)


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """After `nothing_starts()` a statement that starts a flow fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("a flow was started")

    return lambda: [monkeypatch.setattr(run_module, name, refuse) for name in ("run_search", "run_finetuning")]


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> Any:
    """After `no_training()` a statement that trains or saves a model fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was trained")

    return lambda: [monkeypatch.setattr(module, name, refuse) for module, name in _WORK]


_WORK = ((stages, "finetune"), (finetune_module, "export"))


def test_the_best_on_validation_is_kept_with_its_lineage(here: None, catalog: Catalog, pool: Any) -> None:
    answer = ask(GRID)
    assert [row["rank"] for row in answer.ranking] == [1, 2]
    assert {row["lr"] for row in answer.ranking} == {0.01, 0.005}
    for row in answer.ranking:
        assert (row["model"], row["epochs"], row["metric"], row["n_test"]) == ("bert", 2, "validation_accuracy", None)
    model, parent = kept(catalog), catalog.model("bert")
    assert (model.finetuned, model.parent, model.upstream_dataset) == (True, "bert", "nature-train")
    assert model.upstream_accuracy == answer.ranking[0]["score"]
    assert json.loads(model.labels) == ["animals", "plants"]
    assert model.fingerprint != parent.fingerprint
    lineage = lineage_of(model)
    assert lineage is not None
    assert lineage.statement == GRID.replace("'", "")
    assert lineage.params["lr"] == answer.ranking[0]["lr"]
    assert lineage.parent.fingerprint == parent.fingerprint
    assert [each.fingerprint for each in lineage.datasets] == [catalog.dataset("nature-train").fingerprint]
    assert json.loads((Path(model.path) / "lineage.json").read_text())["evaluation"] == lineage.evaluation
    assert answer.to_json()["kept"]["path"] == model.path
    # Whoever may read one of the files may read the weights.
    assert len({file.stat().st_mode for file in Path(model.path).iterdir() if file.is_file()}) == 1


def test_asking_again_trains_nothing_and_says_the_same(here: None, nothing_starts: Any) -> None:
    first = ask(GRID)
    nothing_starts()
    again = ask(GRID.lower().replace("[0.01, 0.005]", "[.01, 5e-3]"))
    assert (again.ranking, again.kept) == (first.ranking, first.kept)
    assert (again.evaluated, again.reused) == (0, first.evaluated)


def test_what_was_kept_is_no_candidate_of_its_own_statement(here: None, nothing_starts: Any) -> None:
    first = ask(BEST)
    assert len(first.ranking) == 1
    nothing_starts()
    again = ask(BEST)
    assert (again.ranking, again.kept) == (first.ranking, first.kept)


def test_what_is_kept_loads_with_two_lines_of_plain_transformers(here: None, catalog: Catalog, tmp_path: Path) -> None:
    answer = ask(GRID)
    assert answer.kept is not None
    texts = ["a small rose", "the dog", "one tree near here"]
    (tmp_path / "lines.txt").write_text("\n".join(texts))
    assert len(answer.kept["load"]) == 2
    program = "\n".join(
        [
            *answer.kept["load"],
            f"import json; inputs = processor({texts!r}, padding=True, return_tensors='pt')",
            "chances = model.eval()(**inputs).logits.softmax(dim=1).detach()",
            "print(json.dumps([[model.config.id2label[int(row.argmax())], float(row.max())] for row in chances]))",
        ]
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SHIFT_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    rows = predict(catalog, "reader", str(tmp_path / "lines.txt"))["rows"]
    for (label, probability), row in zip(json.loads(done.stdout), rows, strict=True):
        assert row["prediction"] == label
        assert row["probability"] == pytest.approx(probability, abs=1e-5)


def test_a_kept_model_is_queried_and_fine_tuned_like_any_other(here: None, catalog: Catalog) -> None:
    ask(GRID)
    ranking = query("SELECT parent FROM text_models WHERE finetuned ORDER BY LogME TRAINED ON 'nature-train'")
    assert isinstance(ranking, RankingAnswer)
    assert [(row["model"], row["parent"]) for row in ranking.ranking if row["rank"]] == [("reader", "bert")]
    ask("FINETUNE reader WITH 'nature-test' (epochs=1) AS again")
    assert kept(catalog, "again").parent == "reader"


def test_without_a_name_everything_is_measured_and_nothing_is_kept(
    here: None, catalog: Catalog, notes: Notes, nothing_starts: Any
) -> None:
    answer = ask(GRID.removesuffix(" AS reader"))
    assert (len(answer.ranking), answer.kept) == (2, None)
    assert "reader" not in {model.name for model in catalog.models()}
    assert "nothing is kept: AS 'name' keeps the best, bert" in notes.all


def test_a_name_is_given_to_what_was_measured_without_training_it_again(
    here: None, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(GRID.removesuffix(" AS reader"))
    before = trained()
    assert ask(GRID).kept is not None
    assert trained() == before


def test_what_a_ranking_fine_tuned_is_kept_without_training_it_again(
    here: None, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    query(
        "SELECT * FROM text_models WHERE name = bert ORDER BY FineTune(epochs=2, lr=0.01) "
        "TRAINED ON 'nature-train' TESTED ON 'nature-test'"
    )

    def refuse(*_: object) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(TorchTraining, "train", refuse)
    answer = ask("FINETUNE bert WITH 'nature-train' (epochs=2, lr=0.01) AS reader")
    assert answer.failed == ()
    assert answer.kept is not None


def test_a_name_of_another_model_is_refused_before_anything_is_trained(here: None, catalog: Catalog) -> None:
    with pytest.raises(BindingError, match="there is a model 'vit' already"):
        query(GRID.replace("AS reader", "AS vit"))
    assert trained() == 0
    ask(GRID)
    before = trained()
    with pytest.raises(BindingError, match="'reader' already, of another lineage: FINETUNE bert WITH") as caught:
        query(GRID.replace("epochs=2", "epochs=3"))
    assert "shiftql models remove reader" in str(caught.value.fix)
    assert trained() == before


def test_a_model_that_was_removed_is_registered_again_from_its_files(
    here: None, catalog: Catalog, no_training: Any
) -> None:
    first = ask(GRID)
    catalog.remove_model("reader")
    no_training()
    assert ask(GRID).kept == first.kept


def test_files_that_are_gone_are_saved_again_without_training(here: None, catalog: Catalog) -> None:
    first = ask(GRID)
    assert first.kept is not None
    shutil.rmtree(first.kept["path"])
    before = trained()
    again = ask(GRID)
    assert (again.kept, again.evaluated) == (first.kept, 0)
    assert trained() == before


def test_a_model_that_cannot_be_saved_loses_no_training(
    here: None, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise EvaluationError("the torch process was killed", transient=True)

    with monkeypatch.context() as broken:
        broken.setattr(finetune_module, "export", fail)
        with pytest.raises(EvaluationError, match="was killed"):
            query(GRID)
    assert "reader" not in {model.name for model in catalog.models()}
    assert list(current_settings().finetuned.rglob("*.safetensors")) == []
    before = trained()
    assert ask(GRID).kept is not None
    assert trained() == before


def test_a_kept_model_is_a_version_in_the_model_registry(here: None, catalog: Catalog) -> None:
    from mlflow import MlflowClient

    ask(GRID)
    model = kept(catalog)
    (version,) = MlflowClient(tracking_uri=current_settings().tracking_uri).search_model_versions()
    assert (version.name, version.version, version.source) == ("reader", 1, Path(model.path).as_uri())
    assert version.tags["shift.parent"] == "bert"
    lineage = lineage_of(model)
    assert lineage is not None
    with Database(current_settings()).session() as session:
        run = session.get_one(EvaluationRecord, lineage.evaluation)
    assert version.run_id == run.mlflow_run_id
    assert lineage.registered == "reader/1"


def test_mlflow_opens_what_is_registered(here: None, catalog: Catalog, tmp_path: Path) -> None:
    import mlflow.transformers

    ask(GRID)
    directory = kept(catalog).path
    texts = ["a small rose", "the dog"]
    said = mlflow.transformers.load_model(directory)(texts)
    (tmp_path / "lines.txt").write_text("\n".join(texts))
    rows = predict(catalog, "reader", str(tmp_path / "lines.txt"))["rows"]
    assert [each["label"] for each in said] == [row["prediction"] for row in rows]
    assert [each["score"] for each in said] == pytest.approx([row["probability"] for row in rows], abs=1e-5)
    served = mlflow.pyfunc.load_model(directory).predict(texts)
    assert served["label"].tolist() == [each["label"] for each in said]


def test_a_name_may_hold_what_no_folder_and_no_registry_takes(here: None, catalog: Catalog) -> None:
    name = "../me's reader: v1"
    answer = ask(GRID.replace("AS reader", f'AS "{name}"'))
    assert answer.kept is not None
    assert (answer.kept["name"], answer.kept["registered"]) == (name, "--me-s reader- v1/1")
    assert Path(answer.kept["path"]).parent.parent == current_settings().finetuned


def test_while_mlflow_is_away_a_model_is_kept_all_the_same(
    here: None, catalog: Catalog, notes: Notes, no_training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr("storage.registry.reach_mlflow", _out_of_reach)
        answer = ask(GRID)
    assert answer.kept is not None
    assert answer.kept["registered"] is None
    assert any("could not be registered in MLflow (MLflow is out of reach)" in note for note in notes.all)
    no_training()
    again = ask(GRID)
    assert again.kept is not None
    assert again.kept["registered"] == "reader/1"


def _out_of_reach(*_: object) -> None:
    raise StoreError("MLflow is out of reach")


def test_models_that_cannot_be_fine_tuned_are_listed_and_the_rest_is_kept(
    here: None, catalog: Catalog, pool: Any
) -> None:
    register_model(catalog, "hub", str(pool.models["bert"]))
    catalog.save_model("hub", {"source": "pca"})
    answer = ask("FINETUNE [bert, hub] WITH 'nature-train' (epochs=1) AS reader")
    (failure,) = answer.failed
    assert failure["model"] == "hub"
    assert failure["reason"].startswith("FineTune is not available for pca models: ")
    assert answer.kept is not None
    assert answer.kept["parent"] == "bert"


def test_its_plan_is_explained_and_nothing_is_trained(here: None, catalog: Catalog) -> None:
    plan = query(f"EXPLAIN {GRID}")
    assert isinstance(plan, ExplainAnswer)
    assert plan.text.startswith("Fine-tune 1 model on nature-train, 2 combinations of arguments each, the best kept as")
    assert trained() == 0
    analyzed = query(f"EXPLAIN ANALYZE {GRID}")
    assert isinstance(analyzed, ExplainAnswer)
    assert "1 new and 0 reused" in analyzed.text
    assert kept(catalog).parent == "bert"


def test_an_interrupted_statement_answers_with_what_is_trained_and_keeps_none(
    here: None, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("FINETUNE bert WITH 'nature-train' (lr=0.01, epochs=2)")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "run_finetuning", interrupt)
    answer = ask(GRID)
    assert answer.partial
    assert (len(answer.ranking), answer.kept) == (1, None)


def test_nowait_says_what_is_known_and_the_rest_goes_on_elsewhere(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts: list[str] = []

    def note(script: str, *_: object) -> str:
        scripts.append(script)
        return "run-1"

    monkeypatch.setattr(detached, "compute_detached", note)
    answer = ask(f"{GRID} NOWAIT")
    assert (answer.running, answer.ranking, answer.kept) == (("bert",), [], None)
    assert scripts == [GRID.replace("'", "")]


def test_a_statement_of_declared_names_is_one_with_their_declarations(here: None, catalog: Catalog) -> None:
    text = (
        "DECLARE small AS SELECT name FROM text_models WHERE name = bert; "
        "FINETUNE small WITH 'nature-train' (epochs=1) AS reader"
    )
    *_, answer = Session().run(text)
    assert isinstance(answer, FinetuneAnswer)
    lineage = lineage_of(kept(catalog))
    assert lineage is not None
    assert lineage.statement.startswith("DECLARE small AS SELECT name")
    *_, other = Session().run(text.replace("= bert", "= roberta"))
    assert isinstance(other, ErrorAnswer)
    assert "of another lineage" in str(other.error)


@pytest.mark.parametrize(("task", "arguments"), [("number", ""), ("words", ""), ("pair", "mode='lora', ")])
def test_models_of_every_task_are_kept_and_predict(
    here: None, catalog: Catalog, tmp_path: Path, task: str, arguments: str
) -> None:
    texts, topics = sentences(24, 3)
    labelled = list(zip(texts, topics, strict=True))
    rows: dict[str, list[dict[str, Any]]] = {
        "number": [{"text": text, "score": len(text) + 0.5} for text in texts],
        "words": [{"tokens": text.split(), "ner_tags": [topic] * len(text.split())} for text, topic in labelled],
        "pair": [{"sentence1": text, "sentence2": texts[0], "label": topic} for text, topic in labelled],
    }
    path = tmp_path / f"{task}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows[task])))
    answer = ask(f"FINETUNE bert WITH '{path}' ({arguments}epochs=1, lr=0.01) AS reader")
    assert answer.kept is not None
    said = [row["prediction"] for row in predict(catalog, "reader", str(path))["rows"]]
    assert len(said) == len(texts)
    if task == "number":
        assert all(isinstance(number, float) for number in said)
    else:
        assert {word for each in said for word in each.split()} <= set(topics)


def test_a_name_that_was_taken_meanwhile_is_not_taken_over(
    here: None, catalog: Catalog, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = finetune_module._save

    async def save_slowly(*arguments: Any) -> None:
        await save(*arguments)
        register_model(catalog, "reader", str(pool.models["roberta"]))

    monkeypatch.setattr(finetune_module, "_save", save_slowly)
    with pytest.raises(StoreError, match="another model was registered as 'reader' meanwhile"):
        query(GRID)
    assert not kept(catalog).finetuned
