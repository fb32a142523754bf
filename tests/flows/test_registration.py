from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from flows.registration import refresh_models, register_model
from storage.catalog import Catalog


def test_a_name_given_anew_keeps_nothing_of_the_model_before_least_of_all_trust(catalog: Catalog, pool: Any) -> None:
    told = {"trusted": True, "upstream_accuracy": 0.9, "tags": "old"}
    register_model(catalog, "mine", str(pool.models["bert"]), columns=told)
    again = register_model(catalog, "mine", str(pool.models["roberta"]))
    assert (again.trusted, again.upstream_accuracy, again.tags) == (False, None, "")


def test_trust_ends_and_columns_follow_when_the_files_change(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    path = Path(shutil.copytree(pool.models["bert"], tmp_path / "mine"))
    before = register_model(catalog, "mine", str(path), columns={"trusted": True})
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"architectures": ["OtherModel"]}))
    refresh_models(catalog)
    after = catalog.model("mine")
    assert after.fingerprint != before.fingerprint
    assert after.architecture == "OtherModel"
    assert not after.trusted
