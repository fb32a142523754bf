"""Standing questions: what asks them again would compute, what their answers rank, and how they are listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from shiftql import ast
from shiftql.answering import answer, look_up
from shiftql.answers import Answer, RankingAnswer, RowsAnswer
from shiftql.binder import bind
from shiftql.bound import BoundAverage, Declaration, Question
from shiftql.parser import parse
from shiftql.places import Places
from shiftql.plan import Evaluate, PlanNode
from shiftql.preparation import prepare
from shiftql.printer import to_text, worded_duration
from shiftql.script import read_script, relation_names, write_script
from storage.database import Database
from storage.errors import BindingError
from storage.names import did_you_mean
from storage.watches import Asked, Place, Reason, WatchRecord, WatchStore

# What rows are told apart by, where they have such a column; else it is their first.
_NAMES = ("name", "model_name", "dataset_name")
_SCORES = ("distance", "score", "value", "accuracy")
# Without EVERY a question is asked again so long after it was, whatever is registered.
DAY = 86_400.0
_MAKE_ONE = "WATCH best AS SELECT … makes one"

WATCH_COLUMNS = ("name", "statement", "every", "first", "changes", "ranked", "last_asked", "failure")


@dataclass(frozen=True)
class Standing:
    """A standing question as it is bound and planned now.

    `rests_on_matrix` says that results on other datasets have a say in what is evaluated, or in the answer.
    """

    question: Question
    plan: PlanNode
    rests_on_matrix: bool


def write_watch(query: ast.Query, declared: Mapping[str, Declaration]) -> str:
    """The script that asks a query again; it always waits."""
    return write_script(replace(query, wait=None) if isinstance(query, ast.Select) else query, declared)


def open_watch(script: str, database: Database, *, final: bool = False) -> Standing:
    """Bind and plan a standing question; when it was just asked, `final`, by what is known. Computes nothing.

    Raises BindingError where what it names is gone.
    """
    question, declared = read_script(script)
    bound = bind(question, database, script, declared, look_up(database, None if final else frozenset()))
    plan = prepare(bound, database, None if final else frozenset())
    assert not isinstance(question, ast.Finetune)
    by_results = isinstance(bound, BoundAverage) or "benchmark_results" in relation_names(question, declared)
    chooses = any(isinstance(node, Evaluate) and node.choice is not None for node in plan.walk())
    return Standing(bound, plan, by_results or chooses)


def answer_watch(standing: Standing, database: Database, work: Mapping[str, Any]) -> Answer:
    """What is known of a standing question; `work` says what was done for it."""
    partial = bool(work.get("partial", False))
    return answer(standing.question, standing.plan, database, work, partial=partial)


def asked(found: Answer, reason: Reason, seconds: float) -> Asked:
    """An answer as it is recorded: the first ranker's ranking, or the rows in their order."""
    if isinstance(found, RankingAnswer):
        rows = [row for row in found.ranking if row["rank"] is not None]
        places = [Place(row["model"], row["score"], row["metric"]) for row in rows]
        return Asked(places, reason, found.evaluated, found.reused, seconds)
    assert isinstance(found, RowsAnswer)
    name = next((column for column in _NAMES if column in found.columns), found.columns[0])
    score = next((column for column in _SCORES if column in found.columns), None)
    places = [Place(str(row[name]), *([] if score is None else [row[score], score])) for row in found.rows]
    return Asked(places, reason, seconds=seconds)


def chosen_watches(names: Iterable[str], database: Database) -> list[str]:
    """The watches of these names, or all. Raises BindingError where there is none of a name."""
    watched = [watch.name for watch in WatchStore(database).all()]
    chosen = list(names)
    for name in chosen:
        if name not in watched:
            raise BindingError(
                f"there is no watch {name!r}",
                subject=name,
                allowed=watched,
                fix=did_you_mean(name, watched) or _MAKE_ONE,
            )
    return chosen or watched


def unwatch(statement: ast.Unwatch, text: str, database: Database) -> str:
    """Remove a watch with its history, and say so. Raises BindingError where there is none of that name."""
    store, name = WatchStore(database), statement.name
    if store.find(name) is None:
        places, names = Places(text), [watch.name for watch in store.all()]
        places.fail(
            places.part(statement, name),
            f"there is no watch {name!r}",
            name,
            names,
            fix=None if names else _MAKE_ONE,
        )
    store.remove(name)
    return f"{name} is watched no longer; its history is deleted"


def is_due(watch: WatchRecord, now: float) -> bool:
    """Whether a watch is to be asked again by `now`."""
    return watch.asked is None or now >= watch.asked + (watch.every_seconds or DAY)


def worded_watch(watch: WatchRecord, ranked: int | None, again: str = "") -> str:
    """What is said of a watch that was just made; `again` where there was one of its name."""
    if ranked is None:
        first = "its answer is recorded when it is asked again"
    elif not ranked or watch.first is None:
        first = "nothing is ranked yet"
    else:
        first = f"{watch.first} is first" + (f" of {ranked}" if ranked > 1 else "")
    every = "" if watch.every_seconds is None else f", and every {worded_duration(watch.every_seconds)}"
    return (
        f"{watch.name} is watched{again}: {first}\n"
        f"it is asked again when models or datasets are registered{every}, while 'shiftql up' or a team's stack runs; "
        f"'shiftql watches refresh' asks it now"
    )


def watch_rows(database: Database) -> Sequence[Mapping[str, Any]]:
    """What SHOW WATCHES lists, in columns WATCH_COLUMNS."""
    store = WatchStore(database)
    watches = store.all()
    latest = store.latest([watch.name for watch in watches])
    return [
        {
            "name": watch.name,
            "statement": " ".join(to_text(parse(watch.script)[-1]).split()),
            "every": None if watch.every_seconds is None else worded_duration(watch.every_seconds),
            "first": watch.first,
            "changes": watch.changes,
            "ranked": latest[watch.name].ranked if watch.name in latest else None,
            "last_asked": None if watch.asked is None else _iso(watch.asked),
            "failure": watch.failure,
        }
        for watch in watches
    ]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
