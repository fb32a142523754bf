"""Standing questions that nothing has to be computed for: they are asked again without a flow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from flows.registration import refresh_datasets, refresh_models
from shiftql.matrix_rows import matrix_ranker
from shiftql.progress import progress
from shiftql.published import keep_published
from shiftql.script import dataset_names, read_script, relation_names
from shiftql.watching import answer_watch, asked, open_watch
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import ShiftError
from storage.watches import Asked, Reason, WatchRecord, WatchStore, first_of


@dataclass
class Outcome:
    """What came of a watch: who is `first`, and who was before where that changed; why it could not be asked."""

    watch: str
    first: str | None = None
    before: str | None = None
    evaluated: int = 0
    reused: int = 0
    failure: str | None = None


def refresh(script: str, database: Database) -> None:
    """Take note of what the question of a script names and that changed; models apart."""
    question, declared = read_script(script)
    if "benchmark_results" in relation_names(question, declared):
        keep_published(database)
    for name in refresh_datasets(Catalog(database), dataset_names(question, declared)):
        progress.get().note(f"the files of {name} changed and were read again")


def ask_what_is_known(names: Sequence[str], database: Database, reason: Reason) -> list[Outcome] | None:
    """Record what these watches answer; None, and nothing done, where one has work to do or somebody has to be told."""
    if matrix_ranker(database) is not None:
        return None
    refresh_models(Catalog(database))
    store = WatchStore(database)
    known: list[tuple[WatchRecord, Asked]] = []
    for watch in store.all():
        if watch.name in names:
            found = _known(watch, database, reason)
            if found is None:
                return None
            known.append((watch, found))
    for watch, found in known:
        store.record(watch.name, watch.script, found)
    return [
        Outcome(watch.name, found.places[0].name if found.places else None, reused=found.reused)
        for watch, found in known
    ]


def _known(watch: WatchRecord, database: Database, reason: Reason) -> Asked | None:
    """What a watch answers where all of it is known, and who was first is."""
    started = time.perf_counter()
    try:
        refresh(watch.script, database)
        standing = open_watch(watch.script, database)
        if standing.plan.new_evaluations:
            return None
        found = asked(answer_watch(standing, database, {}), reason, time.perf_counter() - started)
    except ShiftError:
        return None
    first = first_of(found.places, watch.first)
    return found if first is None or watch.first in (None, first.name) else None
