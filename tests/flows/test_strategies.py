"""Strategies that choose live what is evaluated next, on tiny models and what is known of them elsewhere."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file
from sqlmodel import select

from flows import run as run_module
from flows.registration import register_model
from shiftql.answers import ErrorAnswer, ExplainAnswer, RankingAnswer
from shiftql.engine import Session, query
from shiftql.strategies import successive_halving
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import EvaluationError
from storage.results import EvaluationRecord
from storage.settings import current_settings
from tasks import embedding

COLOURS = "TRAINED ON 'colours-train' TESTED ON 'colours-test'"
PHOTOS = "TRAINED ON 'photos-train' TESTED ON 'photos-test'"
IMAGE_MODELS = ["resnet", "vit"]


@pytest.fixture(autouse=True)
def _here(here: None) -> None:
    """Hosts answer from this process."""


def ask(ranker: str, splits: str = COLOURS) -> RankingAnswer:
    answer = query(f"SELECT name FROM image_models ORDER BY {ranker} {splits}")
    assert isinstance(answer, RankingAnswer)
    return answer


def refuse_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run_search", lambda *_: pytest.fail("a flow was started"))


def models(answer: RankingAnswer) -> list[str]:
    return [row["model"] for row in answer.ranking]


def finetuned(splits: str = COLOURS) -> dict[str, float]:
    return {row["model"]: row["score"] for row in ask("FineTune", splits).ranking}


def test_a_proxy_chooses_who_is_fine_tuned() -> None:
    by_proxy = [row["model"] for row in ask("Linear").ranking if not row.get("baseline")]
    answer = ask("Proxy(k=1)")
    # The proxies are known, and one model is fine-tuned.
    assert (answer.evaluated, answer.reused) == (1, 2)
    assert models(answer) == by_proxy[:1]
    assert answer.ranking[0]["score"] == finetuned()[by_proxy[0]]


@pytest.mark.parametrize("ranker", ["Proxy(LogME)", "Auto", "Hybrid", "TwoPhase(k=1)"])
def test_what_a_strategy_chose_is_known_when_it_is_asked_again(
    ranker: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.save_model("vit", {"upstream_accuracy": 0.7})
    first = ask(ranker)
    refuse_flows(monkeypatch)
    again = ask(ranker)
    assert again.evaluated == 0
    assert again.ranking == first.ranking
    assert again.chance == first.chance


def test_auto_predicts_what_it_does_not_measure() -> None:
    answer = ask("Auto")
    assert sorted(models(answer)) == IMAGE_MODELS
    assert answer.failed == ()
    for row in answer.ranking:
        assert row["low"] <= row["score"] <= row["high"]
        assert row["metric"] == "accuracy"
    assert answer.chance is not None
    assert 0 < answer.chance < 1


def test_a_question_that_names_no_order_means_auto() -> None:
    answer = query(f"SELECT name FROM image_models {COLOURS}")
    assert isinstance(answer, RankingAnswer)
    assert answer.ranking == ask("Auto").ranking


def test_auto_races_models_on_few_rows_and_trains_the_best_a_little_before_one_to_the_end(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(successive_halving, "_LEAST_ROWS", 8)
    monkeypatch.setattr(successive_halving, "_LEAST_ROWS_PER_CLASS", 1)
    monkeypatch.setattr(successive_halving, "_LEAST_TESTED", 6)
    for number in range(1, 7):
        folder = tmp_path / f"vit-{number}"
        shutil.copytree(catalog.model("vit").path, folder)
        weights = {name: weight * (1 + number / 10) for name, weight in load_file(folder / "model.safetensors").items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        register_model(catalog, f"vit-{number}", str(folder))
    answer = ask("Auto(epochs=10)")
    assert answer.failed == ()
    # What collapsed was tried twice.
    columns = select(EvaluationRecord.method, EvaluationRecord.fidelity, EvaluationRecord.model_name).distinct()
    made = Counter(
        evaluated[:2] for evaluated in Database(current_settings()).do(lambda session: session.exec(columns).all())
    )
    looks = [count for (method, _), count in made.items() if method == "linear"]
    assert max(looks) == 8
    assert (made["finetune", '{"epochs": 2}'], made["finetune", "{}"]) == (3, 1)
    assert [row["model"] for row in answer.ranking if not row.get("predicted")] == models(answer)[:1]
    refuse_flows(monkeypatch)
    assert ask("Auto(epochs=10)").ranking == answer.ranking


def test_auto_takes_what_is_known_for_what_it_is() -> None:
    reached = finetuned()
    answer = ask("Auto")
    assert answer.evaluated == 0
    assert {row["model"]: row["score"] for row in answer.ranking} == reached
    assert models(answer) == sorted(reached, key=lambda name: (-reached[name], name))
    assert not any(row.get("predicted") for row in answer.ranking)


def test_what_models_did_elsewhere_chooses_among_them() -> None:
    elsewhere = finetuned(PHOTOS)
    best = max(elsewhere.values())
    (chosen,) = models(ask("BestAverage(k=1)"))
    assert elsewhere[chosen] == best
    assert "results on 1 other dataset" in explained("BestAverage(k=1)")


def explained(ranker: str) -> str:
    answer = query(f"EXPLAIN SELECT name FROM image_models ORDER BY {ranker} {COLOURS}")
    assert isinstance(answer, ExplainAnswer)
    return answer.text


def test_the_target_is_no_history_of_itself() -> None:
    finetuned()
    assert "results on 0 other datasets" in explained("Auto")


def test_a_model_that_cannot_be_opened_is_no_choice(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    path = shutil.copytree(pool.models["vit"], tmp_path / "torn")
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])
    register_model(catalog, "torn", str(path))
    for ranker in ("Auto", "Proxy(k=3)"):
        answer = ask(ranker)
        assert [failure["model"] for failure in answer.failed] == ["torn"]
        assert "torn" not in models(answer)
        assert set(models(answer)) == set(IMAGE_MODELS)


def test_copies_of_a_model_are_one_choice(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    register_model(catalog, "twin", str(shutil.copytree(pool.models["resnet"], tmp_path / "twin")))
    answer = ask("Proxy(k=3)")
    assert answer.evaluated == 4
    scores = {row["model"]: row["score"] for row in answer.ranking}
    assert set(scores) == {*IMAGE_MODELS, "twin"}
    assert scores["twin"] == scores["resnet"]


def test_a_proxy_that_fails_for_a_passing_reason_is_tried_once_and_sinks_one_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embed, tries = embedding.embed_dataset, []

    def fail_for_vit(**arguments: Any) -> Any:
        if arguments["model"] == "vit":
            tries.append(arguments["dataset"])
            raise EvaluationError("out of memory", transient=True, subject="vit")
        return embed(**arguments)

    monkeypatch.setattr(embedding, "embed_dataset", fail_for_vit)
    answer = ask("Proxy(k=1)")
    assert models(answer) == ["resnet"]
    assert answer.failed == ({"model": "vit", "reason": "out of memory"},)
    assert len(tries) == 1


def test_a_model_that_is_known_to_do_well_stays_a_choice_when_its_proxy_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = finetuned()

    def fail(**_: Any) -> Any:
        raise EvaluationError("its features are not finite", subject="vit")

    monkeypatch.setattr(embedding, "embed_dataset", fail)
    ask("Linear")
    assert {row["model"]: row["score"] for row in ask("Auto").ranking} == reached


def test_every_copy_of_a_model_that_fails_is_listed(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    for name in ("torn", "torn-too"):
        path = shutil.copytree(pool.models["vit"], tmp_path / name)
        content = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").write_bytes(content[: len(content) // 2])
        register_model(catalog, name, str(path))
    assert [failure["model"] for failure in ask("Proxy(k=1)").failed] == ["torn", "torn-too"]


def test_who_rests_on_other_datasets_says_so_where_none_is_known() -> None:
    answers = list(Session().run(f"SELECT name FROM image_models ORDER BY BestPerBenchmark {COLOURS}"))
    assert isinstance(answers[0], ErrorAnswer)
    assert "nothing is known of these" in str(answers[0].error)
    assert "benchmark build" in str(answers[0].error)


def test_a_collapsed_run_is_tried_once_more_for_every_copy(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    for name in ("zero", "zero-too"):
        path = shutil.copytree(pool.models["bert"], tmp_path / name)
        weights = load_file(path / "model.safetensors")
        for array in weights.values():
            array.fill(0)
        save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
        register_model(catalog, name, str(path))
    text = (
        "SELECT name FROM models WHERE name LIKE 'zero%' ORDER BY FineTune(epochs=1) "
        "TRAINED ON 'nature-train' TESTED ON 'nature-test'"
    )
    answer = query(text)
    assert isinstance(answer, RankingAnswer)
    assert {row["model"] for row in answer.ranking} == {"zero", "zero-too"}
    assert len({row["score"] for row in answer.ranking}) == 1
    again = query(text)
    assert isinstance(again, RankingAnswer)
    assert again.evaluated == 0


def test_upstream_accuracy_and_chance_open_no_model(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_flows(monkeypatch)
    catalog.save_model("vit", {"upstream_accuracy": 0.7})
    answer = ask("Upstream")
    assert [(row["model"], row["score"]) for row in answer.ranking] == [("vit", 0.7)]
    drawn = {seed: models(ask(f"Random(seed={seed})")) for seed in range(20)}
    assert {tuple(each) for each in drawn.values()} == {("resnet", "vit"), ("vit", "resnet")}
    assert models(ask("Random(seed=3)")) == drawn[3]
