"""What each rule makes of a plan, as recorded in fixtures: the query, its plan without the rule, and with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shiftql.explain import plan_as_tree, rules_as_text
from shiftql.plan import Evaluate, PlanNode, Rank
from shiftql.rules import NAMES, optimize, without
from shiftql.rules.knowledge import Knowledge

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.txt"))


def _shown(plan: PlanNode) -> str:
    """The plan as EXPLAIN shows it, and the order in which models are evaluated."""
    ranks = [node for node in plan.walk() if isinstance(node, Rank)]
    orders = [_models(rank.evaluates[0]) for rank in ranks]
    return "\n".join((plan_as_tree(plan), *(f"in the order {', '.join(order)}" for order in orders if order)))


def _models(evaluate: Evaluate) -> list[str]:
    return list(dict.fromkeys(e.evaluation.model.name for e in evaluate.evaluations if not e.baseline))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_rule_makes_of_a_plan_what_is_recorded(
    path: Path, draft_of_pool: Callable[[str], Any], knowledge_of: Callable[[str, Any], Knowledge]
) -> None:
    rule = path.stem.partition("-")[0]
    query = path.read_text("utf-8").partition("\n\n")[0]
    drafted = draft_of_pool(query)
    knowledge = knowledge_of(query.partition("\n")[0], drafted)
    with without([rule]):
        before = optimize(drafted, knowledge)
    after = optimize(drafted, knowledge)
    (told,) = [line for line in rules_as_text(after).splitlines() if line.startswith(f"Rule {rule} ")]
    assert f"{query}\n\n{_shown(before)}\n\n{_shown(after)}\n{told}\n" == path.read_text("utf-8")
    assert optimize(after, knowledge) == after


def test_every_rule_has_a_fixture() -> None:
    assert {path.stem.partition("-")[0] for path in FIXTURES} == set(NAMES)
