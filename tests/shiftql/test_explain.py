"""Plans as text, exactly as recorded in fixtures/explain: the query, a blank line, and its plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shiftql.explain import plan_as_json, plan_as_tree
from shiftql.plan import Query, Rank, Weights
from shiftql.rules import optimize
from shiftql.rules.knowledge import Knowledge
from storage.evaluations import Subject

Draft = Callable[[str], Any]
FIXTURES = sorted((Path(__file__).parent / "fixtures" / "explain").glob("*.txt"))


def _knowledge(query: str, plan: Query | Rank) -> Knowledge:
    """What the first line of a fixture says is known."""
    evaluations = plan.new_evaluations
    stored = {e.key: 0 for e in plan.all_embeddings}
    match query.split("\n")[0]:
        case "-- nothing is known":
            return Knowledge()
        case "-- all features are stored":
            return Knowledge(missing_rows=stored)
        case "-- half of the rows of reviews-train are new":
            return Knowledge(missing_rows=stored | {pair: 200 for pair in stored if "reviews-train" in pair[1]})
        case "-- bert-old is known":
            return Knowledge(frozenset(e.fingerprint for e in evaluations if e.model.name == "bert-old"))
        case "-- bert-old is not on this machine":
            away = Weights(Subject("bert-old", "fingerprint of bert-old"), 440_000_000)
            return Knowledge(missing_weights=(away,))
        case "-- everything is known":
            return Knowledge(frozenset(e.fingerprint for e in evaluations))
        case line:
            raise AssertionError(f"a fixture begins with {line!r}")


def _parts(path: Path) -> tuple[str, str]:
    query, _, plan = path.read_text(encoding="utf-8").partition("\n\n")
    return query, plan.rstrip("\n")


@pytest.fixture
def explain(draft: Draft) -> Callable[[str], Any]:
    def explain(query: str) -> Query | Rank:
        plan = draft(query)
        return optimize(plan, _knowledge(query, plan))

    return explain


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_query_has_the_recorded_plan(path: Path, explain: Callable[[str], Any]) -> None:
    query, expected = _parts(path)
    assert plan_as_tree(explain(query)) == expected


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_the_same_question_has_the_same_text(path: Path, explain: Callable[[str], Any]) -> None:
    query, _ = _parts(path)
    assert plan_as_tree(explain(query)) == plan_as_tree(explain(query))
    assert json.dumps(plan_as_json(explain(query))) == json.dumps(plan_as_json(explain(query)))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_text_and_json_tell_the_same_steps(path: Path, explain: Callable[[str], Any]) -> None:
    plan = explain(_parts(path)[0])

    def steps(node: dict[str, Any]) -> list[str]:
        return [node["step"], *(step for child in node["children"] for step in steps(child))]

    described = steps(plan_as_json(plan))
    lines = plan_as_tree(plan).split("\n")
    assert len(lines) == len(described) == len(list(plan.walk()))
    for line, step in zip(lines, described, strict=True):
        assert line.lstrip("│├└─ ").startswith(f"{step}  [")


def test_the_parts_cost_what_the_whole_does(explain: Callable[[str], Any]) -> None:
    plan = explain(_parts(FIXTURES[0])[0])

    def seconds(node: dict[str, Any]) -> float:
        return float(node["estimated_seconds"]) + sum(map(seconds, node["children"]))

    assert seconds(plan_as_json(plan)) == pytest.approx(plan.total_cost.seconds, abs=0.01)


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (15, 1), (16, 2), (300, 20), (301, 21)])
def test_steps_are_the_fewest_whole_epochs_that_have_them(
    steps: int, epochs: int, explain: Callable[[str], Any]
) -> None:
    def trainings(length: str) -> set[str]:
        plan = explain(
            f"-- nothing is known\nSELECT * FROM image_models ORDER BY FineTune({length})\n"
            "TRAINED ON digits-train TESTED ON digits-test"
        )
        return {evaluation.fingerprint for evaluation in plan.new_evaluations}

    # A fifth of the 600 rows is held out, and 32 of the others make a step.
    assert trainings(f"steps={steps}") == trainings(f"epochs={epochs}")
