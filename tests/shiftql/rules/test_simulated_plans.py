"""What is simulated against what is planned of the same question."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest

from shiftql.cost import UNMEASURED
from shiftql.plan import Rank
from shiftql.simulated_pool import open_pool
from shiftql.simulation import ModelCosts, Setting, halved, raced, simulate_plain, simulate_rounds
from storage.catalog import Catalog
from storage.database import Database

Draft = Callable[[str], Any]
QUESTION = "SELECT name FROM image_models ORDER BY Linear TRAINED ON many-train TESTED ON many-test"


@pytest.fixture
def asked(pool: Database) -> tuple[list[ModelCosts], Setting]:
    """The pool, in which all models are taken to cost what they do on average, as in a plan's rounds."""
    found = open_pool(Catalog(pool), UNMEASURED, "*", "many", "Linear")
    mean = ModelCosts(*(fmean(getattr(each, name) for each in found.costs) for name in ModelCosts.__annotations__))
    assert found.train_rows is not None
    assert found.test_rows is not None
    assert found.classes is not None
    return [mean] * len(found.costs), Setting(found.train_rows, found.test_rows, classes=found.classes)


@pytest.mark.parametrize(
    ("limits", "rounds"),
    [("CHUNK AUTO", raced), ("CHUNK 500", halved(500)), ("CHUNK 500 BUDGET 90", halved(500, 90))],
)
def test_rounds_are_simulated_as_they_are_planned_and_at_their_costs(
    limits: str, rounds: Any, asked: tuple[list[ModelCosts], Setting], draft_of_pool: Draft
) -> None:
    models, setting = asked
    plan = draft_of_pool(f"{QUESTION} {limits}")
    plan = dict(plan.variants).get("halve", plan)
    assert isinstance(plan, Rank)
    planned = plan.evaluates[0].rounds
    found = simulate_rounds(models, rounds(len(models), setting), setting).phases
    assert [(each.models, each.rows) for each in found] == [(each.models, each.rows) for each in planned]
    assert [each.tested for each in found] == [each.tested or setting.test_rows for each in planned]
    assert [each.busy for each in found] == pytest.approx([each.cost.seconds for each in planned])


def test_all_models_on_all_rows_cost_what_is_planned(
    asked: tuple[list[ModelCosts], Setting], draft_of_pool: Draft
) -> None:
    models, setting = asked
    (evaluate,) = draft_of_pool(QUESTION).evaluates
    baselines = [each for each in evaluate.evaluations if each.baseline]
    raw = [each for each in evaluate.below.embeddings if each.source == "raw"]
    beside = sum(each.cost.seconds for each in baselines)
    beside += max(each.opening_seconds for each in raw) + sum(each.row_cost.seconds * each.new_rows for each in raw)
    planned = evaluate.cost.seconds + evaluate.below.cost.seconds - beside
    assert simulate_plain(models, setting).seconds == pytest.approx(planned)
