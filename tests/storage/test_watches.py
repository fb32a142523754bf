"""Standing questions: what is kept of them, and when it is news."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.database import Database
from storage.watches import PLACES_KEPT, Asked, Change, Place, WatchStore

SCRIPT = "SELECT name FROM models ORDER BY Linear TRAINED ON digits"
BERT, VIT = Place("bert", 0.75, "accuracy"), Place("vit", 0.5, "accuracy")


@pytest.fixture
def store(database: Database) -> WatchStore:
    store = WatchStore(database)
    store.save("best", SCRIPT, None)
    return store


def answered(*places: Place, evaluated: int = 0) -> Asked:
    return Asked(places, "registered", evaluated=evaluated)


def test_a_watch_is_found_as_it_was_saved_and_was_never_asked(store: WatchStore) -> None:
    before = time.time()
    store.save("small", SCRIPT, 3600.0)
    watch = store.find("small")
    assert watch is not None
    assert (watch.script, watch.every_seconds, watch.asked, watch.first, watch.changes) == (
        SCRIPT,
        3600.0,
        None,
        None,
        0,
    )
    assert before <= watch.created <= time.time()
    assert [each.name for each in store.all()] == ["best", "small"]
    assert store.find("Small") is None


def test_an_answer_is_recorded_with_its_places_in_order(store: WatchStore) -> None:
    assert store.record("best", SCRIPT, Asked([VIT, BERT], "created", evaluated=2, reused=1, seconds=1.5)) is None
    ((record, places),) = store.history("best")
    assert places == (VIT, BERT)
    assert (record.first, record.changed, record.ranked, record.reason) == ("vit", False, 2, "created")
    assert (record.evaluated, record.reused, record.seconds) == (2, 1, 1.5)
    watch = store.find("best")
    assert watch is not None
    assert watch.first == "vit"
    assert watch.asked is not None


def test_a_change_of_the_first_place_is_told_once(store: WatchStore) -> None:
    store.record("best", SCRIPT, answered(VIT))
    change = Change("best", "vit", "bert", before_score=0.5, after_score=0.75, metric="accuracy")
    assert store.record("best", SCRIPT, answered(BERT, VIT, evaluated=1)) == change
    assert store.record("best", SCRIPT, answered(BERT, VIT)) is None
    assert store.record("best", SCRIPT, answered(BERT, VIT, evaluated=1)) is None
    assert [each.record.changed for each in store.history("best")] == [False, True, False]
    watch = store.find("best")
    assert watch is not None
    assert (watch.first, watch.changes) == ("bert", 1)


def test_of_several_who_find_the_same_change_at_once_one_is_told(store: WatchStore) -> None:
    store.record("best", SCRIPT, answered(VIT))
    with ThreadPoolExecutor(4) as executor:
        told = list(executor.map(lambda _: store.record("best", SCRIPT, answered(BERT, VIT)), range(8)))
    assert sum(change is not None for change in told) == 1
    assert len(store.history("best")) == 2


def test_what_is_no_news_leaves_no_history_but_the_time_it_was_asked(store: WatchStore) -> None:
    store.record("best", SCRIPT, answered(BERT, VIT))
    earlier = store.find("best")
    store.record("best", SCRIPT, answered(BERT, VIT))
    later = store.find("best")
    assert earlier is not None
    assert later is not None
    assert earlier.asked is not None
    assert later.asked is not None
    assert later.asked > earlier.asked
    assert len(store.history("best")) == 1


def test_who_only_equals_the_first_does_not_take_its_place(store: WatchStore) -> None:
    store.record("best", SCRIPT, answered(VIT))
    assert store.record("best", SCRIPT, answered(VIT._replace(name="bert"), VIT, evaluated=1)) is None
    watch = store.find("best")
    assert watch is not None
    assert watch.first == "vit"
    assert [place.name for place in store.history("best")[-1].places] == ["vit", "bert"]


def test_who_is_first_after_a_ranking_was_empty_is_compared_with_who_was_before(store: WatchStore) -> None:
    store.record("best", SCRIPT, answered(VIT))
    assert store.record("best", SCRIPT, answered()) is None
    assert store.record("best", SCRIPT, answered(VIT)) is None
    assert store.record("best", SCRIPT, answered()) is None
    change = store.record("best", SCRIPT, answered(BERT))
    assert change is not None
    assert (change.before, change.before_score, change.after) == ("vit", None, "bert")
    assert [each.record.ranked for each in store.history("best")] == [1, 0, 1, 0, 1]


def test_another_question_under_a_name_begins_with_no_history_and_the_same_one_keeps_it(store: WatchStore) -> None:
    store.record("best", SCRIPT, answered(VIT))
    store.save("best", SCRIPT, 60.0)
    watch = store.find("best")
    assert watch is not None
    assert (watch.first, watch.every_seconds) == ("vit", 60.0)
    assert len(store.history("best")) == 1
    store.save("best", "SELECT name FROM models", None)
    watch = store.find("best")
    assert watch is not None
    assert (watch.first, watch.asked, watch.every_seconds) == (None, None, None)
    assert store.history("best") == []


def test_an_answer_to_what_was_replaced_or_ended_meanwhile_is_dropped(store: WatchStore) -> None:
    store.save("best", "SELECT name FROM models", None)
    assert store.record("best", SCRIPT, answered(VIT)) is None
    store.remove("best")
    assert store.record("best", "SELECT name FROM models", answered(VIT)) is None
    assert (store.all(), store.history("best")) == ([], [])


def test_why_a_watch_could_not_be_asked_is_kept_until_it_could(store: WatchStore) -> None:
    store.fail("best", SCRIPT, "there is no dataset 'digits'")
    watch = store.find("best")
    assert watch is not None
    assert watch.failure == "there is no dataset 'digits'"
    assert watch.asked is None
    store.record("best", SCRIPT, answered(VIT))
    watch = store.find("best")
    assert watch is not None
    assert watch.failure is None


def test_of_a_long_ranking_the_first_places_are_kept_and_the_others_counted(store: WatchStore) -> None:
    places = [Place(f"model-{number}", 1.0 - number / 1000) for number in range(PLACES_KEPT + 5)]
    store.record("best", SCRIPT, answered(*places))
    ((record, kept),) = store.history("best")
    assert (record.ranked, list(kept)) == (PLACES_KEPT + 5, places[:PLACES_KEPT])
    assert store.record("best", SCRIPT, answered(*places)) is None
    assert len(store.history("best")) == 1


def test_the_latest_answer_of_each_is_found_among_those_of_others(store: WatchStore) -> None:
    store.save("other", SCRIPT, None)
    store.save("never", SCRIPT, None)
    for name, places in (("best", [VIT]), ("other", [BERT]), ("best", [BERT, VIT])):
        store.record(name, SCRIPT, answered(*places))
    found = store.latest(["best", "other", "never"])
    assert {name: record.ranked for name, record in found.items()} == {"best": 2, "other": 1}
