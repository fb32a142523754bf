"""The published questions of examples/queries, asked of tiny models under the playground's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.registration import register_dataset, register_model
from shiftql.answers import ErrorAnswer, RankingAnswer, RowsAnswer
from shiftql.engine import Session
from storage.catalog import Catalog

QUERIES = sorted((Path(__file__).parents[2] / "examples" / "queries").glob("*.shiftql"))
MODELS = {"resnet-letters": "resnet", "resnet-counting": "vit"}
DATASETS = {"drawn-digits": "colours", "counting-shapes": "photos"}


@pytest.fixture
def playground(here: None, catalog: Catalog, pool: Any) -> Session:
    """Two models, and both fine-tuned on every dataset."""
    for model in catalog.models():
        catalog.remove_model(model.name)
    for dataset in catalog.datasets():
        catalog.remove_dataset(dataset.name)
    for name, original in MODELS.items():
        register_model(catalog, name, str(pool.models[original]), columns={"upstream_accuracy": 0.5})
    for name, original in DATASETS.items():
        for split in ("train", "test"):
            register_dataset(catalog, f"{name}-{split}", str(pool.datasets[f"{original}-{split}"]))
    session = Session()
    for name in DATASETS:
        finetuned = f"SELECT * FROM models ORDER BY FineTune(epochs=1) TRAINED ON {name}-train TESTED ON {name}-test"
        (answer,) = session.run(finetuned)
        assert isinstance(answer, RankingAnswer)
        assert not answer.failed
    return session


def test_every_published_question_is_answered(playground: Session) -> None:
    for path in QUERIES:
        answers = list(playground.run(path.read_text(encoding="utf-8")))
        last = answers[-1]
        assert not [str(answer.error) for answer in answers if isinstance(answer, ErrorAnswer)], path.stem
        assert isinstance(last, RankingAnswer | RowsAnswer)
        rows = last.ranking if isinstance(last, RankingAnswer) else last.rows
        assert rows, path.stem
