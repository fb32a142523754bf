"""Fine-tuning in rungs, live on tiny models: who goes on, what that costs, and what it is ranked by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from flows import run as run_module
from flows.registration import register_model
from shiftql.answers import ErrorAnswer, ExplainAnswer, RankingAnswer
from shiftql.engine import Session, query
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import BindingError
from storage.results import EvaluationRecord
from storage.settings import current_settings

COLOURS = "TRAINED ON 'colours-train' TESTED ON 'colours-test'"
EPOCHS = 4


@pytest.fixture(autouse=True)
def four_models(here: None, catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    """Two models, and two more that differ from them in what nobody trains with."""
    for name, other in (("resnet", "resnet-2"), ("vit", "vit-2")):
        path = shutil.copytree(pool.models[name], tmp_path / other)
        config = (path / "config.json").read_text()
        (path / "config.json").write_text(config.replace("{", '{"comment": "another", ', 1))
        register_model(catalog, other, str(path))


def ask(ranker: str, limits: str = "") -> RankingAnswer:
    answer = query(f"SELECT name FROM image_models ORDER BY {ranker} {COLOURS} {limits}")
    assert isinstance(answer, RankingAnswer)
    assert answer.failed == ()
    return answer


def refuse_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run_search", lambda *_, **__: pytest.fail("a flow was started"))


def trained() -> dict[str, list[str | None]]:
    """By model, the test split of each of its evaluations, but those that were second tries."""
    found: dict[str, list[str | None]] = {}
    with Database(current_settings()).session() as session:
        for record in session.exec(select(EvaluationRecord)):
            if record.method == "finetune" and json.loads(record.params)["seed"] == 0:
                found.setdefault(record.model_name, []).append(record.test_name)
    return found


def num_trained() -> int:
    return sum(map(len, trained().values()))


def test_halving_trains_the_better_half_on_and_tests_who_reached_the_end() -> None:
    answer = ask(f"SuccessiveHalving(eta=2, epochs={EPOCHS})")
    assert len(answer.ranking) == 4
    first, *others = answer.ranking
    assert first["n_test"] is not None
    assert "epochs" not in first
    assert [row["epochs"] for row in others] == [2, 1, 1]
    assert all(row["n_test"] is None and row["metric"] == "validation_accuracy" for row in others)
    # Nobody but the last looks at the test split.
    assert [split for splits in trained().values() for split in splits if split is not None] == ["colours-test"]
    assert num_trained() == 4 + 2 + 1


def test_the_checkpoints_of_losers_are_the_first_to_go() -> None:
    ask(f"SuccessiveHalving(epochs={EPOCHS})")
    # As if nobody had used them since 1970.
    is_demoted = [not lock.stat().st_mtime for lock in current_settings().checkpoints.glob("*/lock")]
    assert sum(is_demoted) >= 3
    assert not all(is_demoted)


def test_a_run_in_rungs_ends_where_a_run_in_one_piece_ends() -> None:
    raced = ask(f"SuccessiveHalving(epochs={EPOCHS})").ranking[0]
    # Its end is known, so nothing of it is trained again; the other ends are.
    whole = ask(f"FineTune(epochs={EPOCHS})")
    assert num_trained() == 4 + 2 + 1 + 3
    assert next(row for row in whole.ranking if row["model"] == raced["model"])["score"] == raced["score"]


def test_what_is_trained_to_the_end_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask(f"FineTune(epochs={EPOCHS})")
    refuse_flows(monkeypatch)
    for ranker in (f"SuccessiveHalving(epochs={EPOCHS})", f"Hyperband(epochs={EPOCHS})"):
        answer = ask(ranker)
        assert answer.evaluated == 0
        scores = {row["model"]: row["score"] for row in whole.ranking}
        assert {row["model"]: row["score"] for row in answer.ranking}.items() <= scores.items()


def test_a_budget_of_epochs_halves_fine_tuning_and_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"SELECT name FROM image_models ORDER BY FineTune(epochs={EPOCHS}) {COLOURS} BUDGET 8 epochs"
    plan = query(f"EXPLAIN {text}")
    assert isinstance(plan, ExplainAnswer)
    assert "SuccessiveHalving(after 1, 2, 4 epochs, eta 2, budget 8 epochs)" in plan.text
    answer = query(text)
    assert isinstance(answer, RankingAnswer)
    assert num_trained() == 4 + 2 + 1
    assert not answer.partial
    refuse_flows(monkeypatch)
    again = query(text)
    assert isinstance(again, RankingAnswer)
    assert (again.evaluated, again.ranking) == (0, answer.ranking)
    done = query(f"EXPLAIN {text}")
    assert isinstance(done, ExplainAnswer)
    assert done.plan["total"]["estimated_seconds"] == 0


def test_a_budget_of_all_epochs_trains_all() -> None:
    answer = ask(f"FineTune(epochs={EPOCHS})", f"BUDGET {4 * EPOCHS} epochs")
    assert all(row["n_test"] is not None for row in answer.ranking)


def test_too_few_epochs_are_refused_with_how_many_it_takes() -> None:
    text = f"SELECT name FROM image_models ORDER BY FineTune(epochs={EPOCHS}) {COLOURS} BUDGET 6 epochs"
    (answer,) = Session().run(text)
    assert isinstance(answer, ErrorAnswer)
    assert isinstance(answer.error, BindingError)
    assert answer.error.column == text.index("BUDGET") + 1
    assert "at least 7" in str(answer.error)


def test_two_phases_train_the_recalled_in_rungs() -> None:
    answer = ask(f"TwoPhase(k=2, proxy='LogME', epochs={EPOCHS})")
    assert [len(runs) for runs in sorted(trained().values(), key=len)] == [1, 3]
    assert answer.ranking[0]["n_test"] is not None


def test_a_strategy_that_has_no_epochs_left_says_that_its_answer_is_partial() -> None:
    answer = ask(f"SuccessiveHalving(epochs={EPOCHS})", "BUDGET 3 epochs")
    assert answer.partial
    assert num_trained() == 3
