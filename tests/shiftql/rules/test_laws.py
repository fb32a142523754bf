"""No rule changes an answer: questions of all kinds are answered with each rule left out, and compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from shiftql.rules import NAMES, optimize, without
from shiftql.rules.knowledge import Knowledge
from storage.fingerprints import fingerprint_of

# Answers questions on a pool of which nothing can be opened; see conftest.
World = Any
DIGITS = "TRAINED ON digits-train TESTED ON digits-test"
SHAPES = "TRAINED ON shapes-train TESTED ON shapes-test"


_ATOMS = (
    "num_params < 500K",
    "image_size = 32",
    "upstream_accuracy > 0.5",
    "name != 'vit-letters'",
    "name LIKE 'vit%'",
    "name IN ('resnet-deep', 'vit-letters-copy')",
)
_ORDERS = (
    "Linear",
    "CosineNN(k=3)",
    "LogME",
    "FineTune",
    "FineTune DESC",
    "Upstream",
    "Random(seed=1)",
    "acc CLASSIFIED BY [Linear, CosineNN]",
    "acc CLASSIFIED BY [FineTune, Linear, LogME]",
)
_CUTS = ("", "", " LIMIT 1", " LIMIT 2", " CHUNK 64")
_conditions = some.recursive(
    some.sampled_from(_ATOMS),
    lambda inner: some.one_of(
        some.tuples(inner, some.sampled_from(("AND", "OR")), inner).map(lambda each: f"({' '.join(each)})"),
        inner.map(lambda each: f"NOT {each}"),
    ),
    max_leaves=3,
)
_where = some.one_of(some.just(""), _conditions.map(lambda each: f" WHERE {each}"))


@some.composite
def _rankings(draw: some.DrawFn, orders: tuple[str, ...] = _ORDERS) -> str:
    order, cut = draw(some.sampled_from(orders)), draw(some.sampled_from(_CUTS))
    if "CHUNK" in cut and not order.startswith(("Linear", "CosineNN", "LogME", "acc CLASSIFIED BY [Linear")):
        cut = ""
    data = draw(some.sampled_from((DIGITS, SHAPES)))
    return f"SELECT {draw(some.sampled_from(('*', 'name')))} FROM models{draw(_where)} ORDER BY {order} {data}{cut}"


@some.composite
def _questions(draw: some.DrawFn) -> str:
    inner = _rankings(tuple(each for each in _ORDERS if "[" not in each))
    kind = draw(some.sampled_from(("ranking", "filtered", "by score", "by rank", "ranked again", "joined", "in")))
    whole, names = (draw(inner).replace("SELECT name", "SELECT *"), draw(inner).replace("SELECT *", "SELECT name"))
    match kind:
        case "ranking":
            return draw(_rankings())
        case "filtered":
            return f"SELECT name FROM ({whole}){draw(_where)}{draw(some.sampled_from(('', ' LIMIT 1')))}"
        case "by score":
            return f"SELECT name, score FROM ({whole}) AS r WHERE score > 0.6 AND {draw(_conditions)}"
        case "by rank":
            return f"SELECT name FROM ({whole}) WHERE rank <= 2 AND {draw(_conditions)}"
        case "ranked again":
            return f"SELECT name FROM ({whole}){draw(_where)} ORDER BY LogME {DIGITS}"
        case "joined":
            return f"({names}) UNION ({draw(inner).replace('SELECT *', 'SELECT name')})"
        case _:
            return f"SELECT name FROM models WHERE name IN ({names}) ORDER BY Linear {SHAPES}"


# What is left to the optimizer they answer in their own ways, see below.
_CHOOSING = {"choose_strategy", "drop_oversized", "halve"}


@pytest.mark.parametrize("rule", [name for name in NAMES if name not in _CHOOSING])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=_questions(), share=some.sampled_from((0.0, 0.3, 0.7)))
def test_no_rule_changes_an_answer(world: World, rule: str, text: str, share: float) -> None:
    with without([rule]):
        plain, evaluated = world.ask(text)
    known = [each for each in sorted(evaluated) if int(fingerprint_of("known", each)[:8], 16) / 16**8 < share]
    found, needed = world.ask(text, known)
    assert found == plain
    assert needed <= evaluated


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=_questions(), share=some.sampled_from((0.0, 0.3, 0.7, 1.0)))
def test_optimizing_again_changes_nothing(draft_of_pool: Callable[[str], Any], text: str, share: float) -> None:
    plan = draft_of_pool(text)
    fingerprints = (each.fingerprint for each in plan.new_evaluations)
    known = frozenset(each for each in fingerprints if int(fingerprint_of("known", each)[:8], 16) / 16**8 < share)
    knowledge = Knowledge(known, known, missing_rows={each.key: 0 for each in plan.all_embeddings[::2]})
    after = optimize(plan, knowledge)
    assert optimize(after, knowledge) == after


# On shapes the raw baseline is perfect too.
@pytest.mark.parametrize("ranking", [f"CosineNN {DIGITS}", f"CosineNN(k=3) {SHAPES}"])
def test_a_limit_is_reached_by_the_models_that_come_first_whatever_was_known(world: World, ranking: str) -> None:
    text = f"SELECT name FROM models ORDER BY {ranking} LIMIT "
    with without(NAMES):
        plain = {limit: world.ask(f"{text}{limit}") for limit in (0, 1, 2)}
    spared = 0
    for limit, (found, evaluated) in plain.items():
        for number in range(2 ** len(evaluated)):
            known = [each for place, each in enumerate(sorted(evaluated)) if number >> place & 1]
            answered, needed = world.ask(f"{text}{limit}", known)
            assert answered == found
            spared += len(needed) < len(evaluated) - len(known)
    assert spared


def test_a_race_that_was_run_is_known_and_a_question_known_on_all_rows_is_not_raced(world: World) -> None:
    text = "SELECT name FROM models ORDER BY Linear TRAINED ON many-train TESTED ON many-test"
    raced, evaluated = world.ask(f"{text} CHUNK AUTO")
    assert all("rows" in row for ranking in raced.values() for row in ranking if not row.get("baseline"))
    assert world.ask(f"{text} CHUNK AUTO BUDGET AUTO", evaluated) == (raced, set())
    plain, evaluated = world.ask(text)
    with without(["halve"]):
        assert world.ask(f"{text} BUDGET AUTO") == (plain, evaluated)
    assert world.ask(f"{text} CHUNK AUTO", evaluated) == (plain, set())


def test_few_rows_of_few_models_are_not_worth_a_race(world: World) -> None:
    text = f"SELECT name FROM models WHERE num_params < 400000 ORDER BY Linear {DIGITS}"
    assert world.ask(f"{text} CHUNK AUTO") == world.ask(text)


def test_a_question_without_an_order_is_answered_as_one_that_names_what_it_means(world: World) -> None:
    text = f"SELECT name FROM models {DIGITS}"
    assert world.ask(text) == world.ask(text.replace(" TRAINED", " ORDER BY Auto TRAINED"))
    with without(["choose_strategy"]):
        assert world.ask(text) == world.ask(text.replace(" TRAINED", " ORDER BY FineTune TRAINED"))
