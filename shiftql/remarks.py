"""What is said beside an answer that a reader of it has to know."""

from __future__ import annotations

from shiftql.answers import Answer, FinetuneAnswer
from shiftql.plan import Evaluate, Finetune, PlanNode, Rank
from shiftql.progress import progress
from shiftql.wording import worded_seconds
from storage.settings import current_settings


def say_what_is_held_out(plan: PlanNode) -> None:
    """The rows that are tested on where none were named for it."""
    tests = {node.test.subject: node.test for node in plan.walk() if isinstance(node, Rank) and node.test}
    for test in tests.values():
        if test.is_held_out:
            which = f"{test.num_rows} rows of {test.subject.name}"
            progress.get().note(f"tested on {which}, a fifth (of each class where rows have one), seed 0")


def say_what_is_too_short(plan: PlanNode) -> None:
    """That a time is over before anything new is computed."""
    if not isinstance(plan, Rank | Finetune) or plan.within is None or plan.waiting is None:
        return
    if plan.waiting.starting_seconds >= plan.within:
        seconds = worded_seconds(plan.waiting.starting_seconds)
        progress.get().note(
            f"starting {plan.waiting.started} is expected to take {seconds}, and WITHIN gives {plan.within:g} s"
        )


def say_what_is_left_out(plan: PlanNode) -> None:
    """How much a budget left out."""
    left_out = sum(node.left_out for node in plan.walk() if isinstance(node, Evaluate))
    if left_out:
        count = "1 evaluation" if left_out == 1 else f"{left_out} evaluations"
        progress.get().note(f"the budget leaves out {count}; a larger one goes on from here")


def say_what_is_shared(plan: PlanNode) -> None:
    """How many test rows are training rows as well."""
    ranks = [node for node in plan.walk() if isinstance(node, Rank)]
    splits = {(node.train.subject, node.test.subject) for node in ranks if node.train and node.test}
    if not splits:
        return
    from storage.manifests import load_manifest
    from storage.splits import count_shared

    root = current_settings().manifests
    for train, test in sorted(splits, key=lambda pair: (pair[0].name, pair[1].name)):
        tested = load_manifest(root, test.fingerprint)
        if shared := count_shared(load_manifest(root, train.fingerprint), tested):
            progress.get().note(
                f"{shared} of {tested.num_rows} test rows of {test.name} are also in the training split {train.name}"
            )


def say_what_is_not_kept(answer: Answer, name: str | None) -> None:
    """That the best of a FINETUNE without a name is kept by one, or why nothing is kept under its name yet."""
    if not isinstance(answer, FinetuneAnswer) or answer.kept is not None:
        return
    if name is None and answer.ranking:
        progress.get().note(f"nothing is kept: AS 'name' keeps the best, {answer.ranking[0]['model']}")
    if name is not None and answer.partial and answer.running is None:
        why = "it was interrupted" if answer.interrupted else "no training came to its end"
        progress.get().note(f"nothing is kept as {name}: {why}")
