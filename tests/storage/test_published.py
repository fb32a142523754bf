"""Published results are kept once, whoever brings them, and are nobody's measurements."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlmodel import select

from storage.checkup import check_stores
from storage.database import Database
from storage.published import Published, PublishedModelRecord, PublishedRecord, keep_published
from storage.purging import purge

RESULT = {"origin": "t", "dataset_name": "d", "method": "finetune", "metric": "accuracy", "value": 0.5}


def published(*models: str) -> Published:
    return Published([{**RESULT, "model_name": model} for model in models], {model: model for model in models})


def held(database: Database) -> list[str]:
    with database.session() as session:
        return sorted(session.exec(select(PublishedRecord.model_name)))


def test_what_is_there_is_not_read_again(database: Database) -> None:
    keep_published(database, 1, lambda: published("bert", "vit"))
    keep_published(database, 1, lambda: pytest.fail("read again"))
    assert held(database) == ["bert", "vit"]


def test_a_newer_version_replaces_an_older_one_and_all_its_names(database: Database) -> None:
    keep_published(database, 1, lambda: published("bert", "vit"))
    keep_published(database, 2, lambda: published("vit", "swin"))
    assert held(database) == ["swin", "vit"]
    with database.session() as session:
        assert set(session.exec(select(PublishedModelRecord.spelling))) == {"swin", "vit"}


def test_an_older_program_leaves_newer_rows_as_they_are(database: Database) -> None:
    keep_published(database, 2, lambda: published("swin"))
    keep_published(database, 1, lambda: published("bert"))
    assert held(database) == ["swin"]


def test_of_several_at_once_one_writes(database: Database) -> None:
    models = [f"model-{number}" for number in range(2000)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda _: keep_published(database, 1, lambda: published(*models)), range(6)))
    assert held(database) == sorted(models)


def test_what_is_cut_short_leaves_nothing(database: Database) -> None:
    def die() -> Published:
        raise KeyboardInterrupt

    keep_published(database, 1, lambda: published("bert"))
    with pytest.raises(KeyboardInterrupt):
        keep_published(database, 2, die)
    assert held(database) == ["bert"]


def test_a_purge_and_an_examination_leave_them_alone(database: Database, home: Path, tracking_template: Path) -> None:
    (home / "mlflow.db").write_bytes(tracking_template.read_bytes())
    keep_published(database, 1, lambda: published("bert"))
    assert purge("all") == {"results": 0, "result_bytes": 0, "segments": 0, "segment_bytes": 0, "segments_in_use": 0}
    assert check_stores(fix=True)["findings"] == []
    assert held(database) == ["bert"]
