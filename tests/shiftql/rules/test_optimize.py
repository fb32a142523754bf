"""Which rules there are, how one is turned off, and what is told of those that did something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shiftql.explain import rules_as_json, rules_as_text
from shiftql.plan import Saving
from shiftql.rules import NAMES, optimize, rule_names, rules_off, without
from shiftql.rules.knowledge import Knowledge
from storage.errors import BindingError

Draft = Callable[[str], Any]
TWO = (
    "SELECT * FROM models ORDER BY acc CLASSIFIED BY [Linear, CosineNN] TRAINED ON reviews-train TESTED ON reviews-test"
)


def test_a_rule_that_is_turned_off_changes_nothing(draft: Draft) -> None:
    plan = draft(TWO)
    for name in NAMES:
        with without([name]):
            assert name not in {saving.rule for saving in optimize(plan, Knowledge()).savings}
    with without(NAMES):
        assert optimize(plan, Knowledge()) == plan
    assert rules_off() == frozenset()


def test_what_a_rule_saves_is_what_the_plan_without_it_takes_more(draft: Draft) -> None:
    plan = draft(TWO)
    after = optimize(plan, Knowledge())
    (saving,) = [saving for saving in after.savings if saving.rule == "share_embeddings"]
    assert saving.rows == sum(embedding.new_rows for embedding in after.all_embeddings)
    assert saving.seconds > 0
    with without(["share_embeddings"]):
        assert optimize(plan, Knowledge()).total_cost.seconds == pytest.approx(
            after.total_cost.seconds + saving.seconds
        )


def test_optimizing_again_changes_nothing(draft: Draft) -> None:
    after = optimize(draft(TWO), Knowledge())
    again = optimize(after, Knowledge())
    assert again == after
    assert again.savings == ()


def test_text_and_json_tell_the_same_rules(draft: Draft) -> None:
    after = optimize(draft(TWO), Knowledge())
    told = rules_as_json(after)
    lines = rules_as_text(after).splitlines()
    assert [line.split()[1] for line in lines] == [rule["rule"] for rule in told]
    assert "Rule share_embeddings saved 1800 rows, " in rules_as_text(after)
    assert rules_as_text(draft(TWO)) == ""


def test_a_rule_that_saves_nothing_says_so(draft: Draft) -> None:
    plan = draft("SELECT name FROM models")
    object.__setattr__(plan, "savings", (Saving("share_embeddings"),))
    assert rules_as_text(plan) == "Rule share_embeddings put the same work in another order"


def test_less_than_is_told_of_seconds_is_no_saving(draft: Draft) -> None:
    plan = draft("SELECT name FROM models")
    object.__setattr__(plan, "savings", (Saving("order_for_cost", seconds=0.01),))
    assert rules_as_text(plan) == "Rule order_for_cost put the same work in another order"


def test_what_a_rule_does_to_a_plan_that_is_not_taken_is_not_told(draft: Draft) -> None:
    plan = draft("SELECT name FROM models TRAINED ON reviews-train TESTED ON reviews-test")
    ((_, variant),) = plan.variants
    known = Knowledge(known=frozenset(each.evaluation.fingerprint for each in variant.evaluates[0].evaluations))
    with without(["choose_strategy"]):
        assert "reuse_known_results" not in {saving.rule for saving in optimize(plan, known).savings}
    assert "reuse_known_results" in {saving.rule for saving in optimize(plan, known).savings}


@pytest.mark.parametrize("name", NAMES)
def test_rules_are_named_in_any_spelling(name: str) -> None:
    assert rule_names([name.upper().replace("_", "-")]) == {name}


def test_an_unknown_rule_is_told_with_those_there_are() -> None:
    with pytest.raises(BindingError, match="there is no rule 'share_embedings'") as caught:
        rule_names(["share_embedings"])
    assert caught.value.allowed == NAMES
    assert caught.value.fix is not None
    assert caught.value.fix.startswith("did you mean share_embeddings")
    with pytest.raises(BindingError, match="one of the allowed names"):
        rule_names(["download_missing_weights"])
