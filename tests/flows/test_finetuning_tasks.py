"""Fine-tuning by whole queries, for tasks that are not plain classification."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.registration import register_dataset
from shiftql.answers import RankingAnswer
from shiftql.engine import query
from storage.catalog import Catalog
from storage.settings import current_settings
from tests.conftest import WORDS


@pytest.fixture(autouse=True)
def _here(here: None) -> None: ...


def _register(catalog: Catalog, directory: Path) -> None:
    """Sentences with a number each, larger for plants."""
    for split, times in (("train", 6), ("test", 3)):
        rows = [
            {"text": f"a {word}", "label": 10.5 if kind == "plants" else 2.25}
            for kind, words in WORDS.items()
            for word in words * times
        ]
        path = directory / f"sizes-{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        register_dataset(catalog, f"sizes-{split}", str(path))


def test_numbers_rank_models_by_the_least_error_and_end_up_in_mlflow(catalog: Catalog, tmp_path: Path) -> None:
    _register(catalog, tmp_path)
    answer = query(
        "SELECT name FROM text_models ORDER BY FineTune(epochs=3, lr=0.01, mode='lora') "
        "TRAINED ON sizes-train TESTED ON sizes-test"
    )
    assert isinstance(answer, RankingAnswer)
    scores = [row["score"] for row in answer.ranking]
    assert {row["metric"] for row in answer.ranking} == {"rmse"}
    assert len(scores) == 2
    assert scores == sorted(scores)
    assert all(row["low"] <= row["score"] <= row["high"] for row in answer.ranking)
    client = MlflowClient(tracking_uri=current_settings().tracking_uri)
    for run in client.search_runs([each.experiment_id for each in client.search_experiments()]):
        points = client.get_metric_history(run.info.run_id, "train_loss")
        assert [point.step for point in points] == [1, 2, 3]
        assert run.info.status == "FINISHED"
