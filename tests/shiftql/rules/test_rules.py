"""Each rule alone, and what all of them leave untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shiftql.plan import Embed, PlanNode, Query, Rank, Scan
from shiftql.rules import RULES, optimize
from shiftql.rules.drop_unneeded_embeddings import drop_unneeded_embeddings
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.reuse_known_results import reuse_known_results
from shiftql.rules.reuse_stored_features import reuse_stored_features
from shiftql.rules.share_embeddings import share_embeddings
from storage.views import LAST, View

Draft = Callable[[str], Any]
REVIEWS = "TRAINED ON reviews-train TESTED ON reviews-test"
ONE = f"SELECT * FROM models ORDER BY Linear {REVIEWS}"
TWO = f"SELECT * FROM models ORDER BY acc CLASSIFIED BY [Linear, CosineNN] {REVIEWS}"
MIXED = f"SELECT * FROM models ORDER BY acc CLASSIFIED BY [FineTune, Linear] {REVIEWS}"
NOTHING = Knowledge()


def _fingerprints(plan: Rank, model: str | None = None) -> frozenset[str]:
    return frozenset(
        planned.evaluation.fingerprint
        for evaluate in plan.evaluates
        for planned in evaluate.evaluations
        if model in (None, planned.evaluation.model.name)
    )


def _pairs(plan: Rank) -> list[tuple[str, str]]:
    return [(embedding.model.name, embedding.part.dataset.name) for embedding in plan.all_embeddings]


def _embeds(plan: PlanNode) -> list[Embed]:
    return [node for node in plan.walk() if isinstance(node, Embed)]


def test_a_draft_embeds_every_model_and_the_raw_rows_once_for_each_dataset(draft: Draft) -> None:
    pairs = _pairs(draft(ONE))
    assert sorted(pairs) == sorted(
        (model, dataset) for model in ("bert-old", "odd'; DROP", "raw") for dataset in ("reviews-train", "reviews-test")
    )


def test_fine_tuning_embeds_nothing_and_has_no_baselines(draft: Draft) -> None:
    plan = draft(f"SELECT * FROM models ORDER BY FineTune {REVIEWS}")
    assert plan.all_embeddings == ()
    assert isinstance(plan.evaluates[0].below, Scan)
    assert not any(planned.baseline for planned in plan.evaluates[0].evaluations)
    assert all(planned.evaluation.params["lr"] for planned in plan.evaluates[0].evaluations)


def test_what_cannot_be_fine_tuned_is_refused_with_a_reason(draft: Draft) -> None:
    plan = draft("SELECT * FROM models ORDER BY FineTune TRAINED ON digits-train TESTED ON digits-test")
    assert plan.refused == (("hub-mobile", "FineTune is not available for tfhub models"),)
    assert plan.rows == 2


def test_known_results_are_not_new(draft: Draft) -> None:
    plan = draft(TWO)
    known = _fingerprints(plan, "bert-old")
    after = reuse_known_results(plan, Knowledge(known))
    assert {evaluation.fingerprint for evaluation in after.new_evaluations} == _fingerprints(plan) - known
    assert _fingerprints(after) == _fingerprints(plan)


def test_unknown_results_stay_new(draft: Draft) -> None:
    plan = draft(TWO)
    assert reuse_known_results(plan, NOTHING) == plan
    assert reuse_known_results(plan, Knowledge(frozenset({"another"}))) == plan


def test_a_model_of_known_results_is_not_embedded(draft: Draft) -> None:
    plan = draft(ONE)
    marked = reuse_known_results(plan, Knowledge(_fingerprints(plan, "bert-old")))
    assert {model for model, _ in _pairs(drop_unneeded_embeddings(marked, NOTHING))} == {"odd'; DROP", "raw"}
    assert drop_unneeded_embeddings(plan, NOTHING) == plan


def test_a_model_known_to_one_of_two_rankers_is_still_embedded_for_the_other(draft: Draft) -> None:
    plan = draft(TWO)
    linear = next(
        planned.evaluation.fingerprint
        for planned in plan.evaluates[0].evaluations
        if planned.evaluation.model.name == "bert-old"
    )
    after = drop_unneeded_embeddings(reuse_known_results(plan, Knowledge(frozenset({linear}))), NOTHING)
    for_linear, for_cosine = _embeds(after)
    assert "bert-old" not in {embedding.model.name for embedding in for_linear.embeddings}
    assert "bert-old" in {embedding.model.name for embedding in for_cosine.embeddings}


def test_only_rows_without_features_are_new(draft: Draft) -> None:
    missing = {("fingerprint of bert-old", "fingerprint of reviews-train", ((0, 400),), (LAST,)): 7}
    after = reuse_stored_features(draft(ONE), Knowledge(missing_rows=missing))
    new = {(e.model.name, e.part.dataset.name): e.new_rows for e in after.all_embeddings}
    assert new["bert-old", "reviews-train"] == 7
    assert new["bert-old", "reviews-test"] == 200
    assert after.total_cost.seconds < draft(ONE).total_cost.seconds


def test_rankers_share_one_embedding_pass(draft: Draft) -> None:
    plan = draft(TWO)
    after = share_embeddings(plan, NOTHING)
    (embed,) = _embeds(after)
    assert after.shared is embed
    assert len(_pairs(after)) == len(set(_pairs(after)))
    assert set(_pairs(after)) == set(_pairs(plan))
    assert after.total_cost.seconds < plan.total_cost.seconds


def test_rankers_of_different_layers_share_one_pass_that_keeps_both(draft: Draft) -> None:
    layers = TWO.replace("CosineNN", "CosineNN(layer=1)")
    after = share_embeddings(draft(layers), NOTHING)
    assert {embedding.views for embedding in after.all_embeddings if embedding.source != "raw"} == {(LAST, View("1"))}
    assert len(_pairs(after)) == len(set(_pairs(after)))


@pytest.mark.parametrize("text", [ONE, MIXED])
def test_a_ranker_alone_keeps_its_embedding(draft: Draft, text: str) -> None:
    plan = draft(text)
    assert share_embeddings(plan, NOTHING) == plan


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("text", [ONE, TWO, MIXED])
def test_a_rule_changes_no_answer_and_costs_nothing(draft: Draft, rule: Any, text: str) -> None:
    plan = draft(text)
    for knowledge in (NOTHING, Knowledge(_fingerprints(plan, "bert-old")), Knowledge(_fingerprints(plan))):
        after = rule(plan, knowledge)
        assert _fingerprints(after) == _fingerprints(plan)
        assert (after.limit, after.descending, after.refused) == (plan.limit, plan.descending, plan.refused)
        assert after.total_cost.seconds <= plan.total_cost.seconds
        assert rule(after, knowledge) == after


def test_when_all_is_known_nothing_is_left_to_do(draft: Draft) -> None:
    plan = draft(TWO)
    after = optimize(plan, Knowledge(_fingerprints(plan)))
    assert isinstance(after, Rank)
    assert after.new_evaluations == ()
    assert after.all_embeddings == ()
    assert after.total_cost.seconds == 0


def test_a_question_for_the_database_is_left_as_it_is(draft: Draft) -> None:
    plan = draft("SELECT name FROM models")
    assert isinstance(plan, Query)
    assert optimize(plan, NOTHING) == plan
