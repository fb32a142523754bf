"""Each rule alone, and what all of them leave untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flows.slots import hosts_needed
from shiftql.plan import Download, Embed, PlanNode, Query, Rank, Scan, Weights
from shiftql.rules import RULES, optimize
from shiftql.rules.download_missing_weights import download_missing_weights
from shiftql.rules.drop_unneeded_embeddings import drop_unneeded_embeddings
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.reuse_known_results import reuse_known_results
from shiftql.rules.reuse_stored_features import reuse_stored_features
from shiftql.rules.share_embeddings import share_embeddings
from shiftql.strategies.successive_halving import row_race
from storage.catalog import Catalog
from storage.database import Database
from storage.evaluations import Subject
from storage.views import LAST, View

Draft = Callable[[str], Any]
REVIEWS = "TRAINED ON reviews-train TESTED ON reviews-test"
ONE = f"SELECT * FROM models ORDER BY Linear {REVIEWS}"
TWO = f"SELECT * FROM models ORDER BY acc CLASSIFIED BY [Linear, CosineNN] {REVIEWS}"
MIXED = f"SELECT * FROM models ORDER BY acc CLASSIFIED BY [FineTune, Linear] {REVIEWS}"
NOTHING = Knowledge()
AWAY = tuple(Weights(Subject(name, f"fingerprint of {name}"), 50_000_000) for name in ("bert-old", "odd'; DROP"))


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


LORA = (
    "SELECT * FROM models ORDER BY FineTune(mode='lora') TRAINED ON digits-train TESTED ON digits-test",
    "FINETUNE (SELECT name FROM models) WITH digits-train (mode=['lora', 'head'])",
)
FINETUNED = "SELECT * FROM models ORDER BY FineTune TRAINED ON digits-train TESTED ON digits-test"


@pytest.fixture
def make_hub_mobile(database: Database) -> Iterator[Callable[[str], None]]:
    """Makes the model one of another source, until the test has ended."""
    catalog = Catalog(database)
    before = catalog.model("hub-mobile").source
    yield lambda source: catalog.save_model("hub-mobile", {"source": source})
    catalog.save_model("hub-mobile", {"source": before})


@pytest.mark.parametrize("source", ["tfhub", "keras"])
def test_models_of_tensorflow_are_fine_tuned_in_its_process(
    draft: Draft, make_hub_mobile: Callable[[str], None], source: str
) -> None:
    make_hub_mobile(source)
    plan = draft(FINETUNED)
    assert (plan.refused, plan.rows) == ((), 3)
    assert hosts_needed(plan) == {"torch", "tensorflow"}


@pytest.mark.parametrize(("source", "fix"), [("torch", "register the Hugging Face directory"), ("pca", "Linear")])
def test_what_cannot_be_fine_tuned_is_refused_with_a_reason(
    draft: Draft, make_hub_mobile: Callable[[str], None], source: str, fix: str
) -> None:
    make_hub_mobile(source)
    plan = draft(FINETUNED)
    ((model, reason),) = plan.refused
    assert model == "hub-mobile"
    assert reason.startswith(f"FineTune is not available for {source} models: ")
    assert fix in reason
    assert plan.rows == 2
    assert hosts_needed(plan) == {"torch"}


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


@pytest.mark.parametrize("text", [ONE, TWO, MIXED, f"SELECT * FROM models ORDER BY FineTune {REVIEWS}"])
def test_models_that_are_not_here_are_downloaded_once(draft: Draft, text: str) -> None:
    plan = draft(text)
    after = optimize(plan, Knowledge(missing_weights=AWAY, bytes_per_second=10e6))
    assert isinstance(after, Rank)
    assert after.download is not None
    assert after.download.weights == AWAY
    without = optimize(plan, NOTHING).total_cost
    assert after.total_cost.download_bytes == 100_000_000
    assert after.total_cost.seconds == pytest.approx(without.seconds + 10)
    assert after.total_cost.size_bytes == without.size_bytes


def test_a_model_with_nothing_to_do_is_not_downloaded(draft: Draft) -> None:
    plan = draft(ONE)
    known = Knowledge(_fingerprints(plan, "bert-old"), missing_weights=AWAY)
    after = optimize(plan, known)
    assert isinstance(after, Rank)
    assert after.download is not None
    assert [weights.model.name for weights in after.download.weights] == ["odd'; DROP"]
    stored = Knowledge(missing_rows={e.key: 0 for e in plan.all_embeddings}, missing_weights=AWAY)
    assert not any(isinstance(node, Download) for node in optimize(plan, stored).walk())


def test_a_download_of_unknown_size_says_so(draft: Draft) -> None:
    unknown = (AWAY[0], Weights(AWAY[1].model, None))
    after = download_missing_weights(draft(ONE), Knowledge(missing_weights=unknown))
    assert after.download is not None
    assert after.download.description == "Download 2 models: 50 MB and 1 of unknown size"


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


def test_auto_looks_at_models_in_the_rounds_of_a_race(draft_of_pool: Draft) -> None:
    (evaluate,) = draft_of_pool(
        "SELECT name FROM image_models ORDER BY Auto TRAINED ON many-train TESTED ON many-test"
    ).evaluates
    problem = evaluate.choice.problem
    race = row_race(len(problem.arms), 20_000, 2_000, 10)
    assert race is not None
    assert race.eta == 2
    assert problem.eta == race.eta
    for arm in problem.arms:
        assert [offer.evaluation.fidelity["rows"] for offer in arm.glances] == list(race.rows[:-1])


@pytest.mark.parametrize("question", LORA)
def test_what_a_model_cannot_be_tuned_by_is_refused_and_costs_nothing(draft: Draft, question: str) -> None:
    plan = draft(question)
    assert dict(plan.refused)["hub-mobile"].startswith("mode='lora' is not available for tfhub models: ")
    trained = {each.params["mode"] for each in plan.new_evaluations if each.model.name == "hub-mobile"}
    assert trained <= {"head"}
    assert {each.params["mode"] for each in plan.new_evaluations if each.model.name == "vit-letters"} >= {"lora"}
