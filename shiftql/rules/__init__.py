"""The optimizer: rules that rewrite a plan before it runs, one a file, applied in turn.

No rule changes what an answer means. Each can be turned off, but those that a plan needs to do what was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TypeAlias

from shiftql.plan import Embed, PlanNode, Saving
from shiftql.rules.choose_strategy import choose_strategy
from shiftql.rules.download_missing_weights import download_missing_weights
from shiftql.rules.drop_oversized import drop_oversized
from shiftql.rules.drop_unneeded_embeddings import drop_unneeded_embeddings
from shiftql.rules.fold_duplicates import fold_duplicates
from shiftql.rules.forget_variants import forget_variants
from shiftql.rules.halve import halve
from shiftql.rules.keep_within_budget import keep_within_budget
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.order_for_cost import order_for_cost
from shiftql.rules.push_filters import push_filters
from shiftql.rules.reuse_known_results import reuse_known_results
from shiftql.rules.reuse_stored_features import reuse_stored_features
from shiftql.rules.share_embeddings import share_embeddings
from shiftql.rules.share_preparation import share_preparation
from shiftql.rules.stop_at_limit import stop_at_limit
from storage.errors import BindingError
from storage.names import did_you_mean, fold

Rule: TypeAlias = Callable[[PlanNode, Knowledge], PlanNode]

RULES: tuple[Rule, ...] = (
    drop_oversized,
    choose_strategy,
    push_filters,
    reuse_known_results,
    stop_at_limit,
    reuse_stored_features,
    keep_within_budget,
    drop_unneeded_embeddings,
    share_embeddings,
    halve,
    forget_variants,
    fold_duplicates,
    order_for_cost,
    share_preparation,
    download_missing_weights,
)
# What is no saving but has to be done is no matter of choice.
_NECESSARY = (forget_variants, keep_within_budget, download_missing_weights)
NAMES = tuple(rule.__name__ for rule in RULES if rule not in _NECESSARY)

# The rules that are turned off for the question that is being answered.
_off: ContextVar[frozenset[str]] = ContextVar("off", default=frozenset())


def optimize(plan: PlanNode, knowledge: Knowledge) -> PlanNode:
    """The plan that gives the same answer for the least work, given what is known, and what each rule saved."""
    savings = []
    for rule in RULES:
        if rule.__name__ in _off.get():
            continue
        after = rule(plan, knowledge)
        # What a rule does to a variant that is not taken is no part of the plan.
        is_told = after is not plan and rule not in _NECESSARY
        if is_told and forget_variants(after, knowledge) != forget_variants(plan, knowledge):
            savings.append(_saving(rule, plan, after))
        plan = after
    return replace(plan, savings=tuple(savings))


def rule_names(written: Iterable[str]) -> frozenset[str]:
    """The rules that names stand for, in any spelling. Raises BindingError naming the near ones where there is none."""
    found = set()
    for name in written:
        matches = [rule for rule in NAMES if fold(rule) == fold(name)]
        if not matches:
            raise BindingError(
                f"there is no rule {name!r} to turn off",
                subject=name,
                allowed=NAMES,
                fix=did_you_mean(name, NAMES) or "write one of the allowed names",
            )
        found.update(matches)
    return frozenset(found)


def rules_off() -> frozenset[str]:
    """The names of the rules that are turned off here."""
    return _off.get()


@contextmanager
def without(rules: Iterable[str]) -> Iterator[None]:
    """Leave rules of these names out of whatever is planned in this context."""
    token = _off.set(frozenset(rules))
    try:
        yield
    finally:
        _off.reset(token)


def _saving(rule: Rule, before: PlanNode, after: PlanNode) -> Saving:
    return Saving(
        rule.__name__,
        max(0.0, before.total_cost.seconds - after.total_cost.seconds),
        max(0, len(before.new_evaluations) - len(after.new_evaluations)),
        max(0, _new_rows(before) - _new_rows(after)),
    )


def _new_rows(plan: PlanNode) -> int:
    return sum(each.new_rows for node in plan.walk() if isinstance(node, Embed) for each in node.embeddings)
