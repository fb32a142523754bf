"""What the run of a whole plan took by the clock, for the cost model to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shiftql.cost import CostModel, starting_took
from shiftql.plan import PlanNode
from storage.database import Database
from storage.learned_costs import LearnedCosts
from storage.results import ResultStore

# A start is waited for at least so long, though the work that began meanwhile takes that much less.
_LEAST_SECONDS = 0.2


def learn_run(plan: PlanNode, work: Mapping[str, Any], seconds: float, database: Database) -> None:
    """Take into what is known of this machine that a plan's `work` (flows.search) took so many seconds.

    What something had to be started for tells of the start what it took longer than it had without.
    """
    tasks = len(work["computed"]) + work["embedded_parts"]
    if plan.waiting is None or not tasks:
        return
    learned = LearnedCosts(database)
    costs = CostModel(learned.of([""]))
    # Side by side models take longer each than was expected of them, and all together less.
    done, kind = min(seconds_of_work(work, database), plan.total_cost.seconds), plan.kind_of_work
    passed = max(_LEAST_SECONDS, seconds - work["download_seconds"])
    if starts := plan.waiting.starts:
        # What is computed first takes longer, for it sets things up.
        usual = costs.passing(done, tasks, kind)
        learned.learn([starting_took(starts, max(_LEAST_SECONDS, passed - usual))])
    else:
        learned.learn([costs.ran(done, tasks, kind, passed)])


def seconds_of_work(work: Mapping[str, Any], database: Database) -> float:
    """What embedding and evaluating took, step by step."""
    embedding = work["embed_seconds"]
    measured = ResultStore(database).measured(work["computed"])
    scoring = (max(0.0, seconds - embedding.get(model, 0.0)) for model, seconds in measured)
    return sum(embedding.values()) + sum(scoring)
