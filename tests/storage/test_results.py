from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from storage.database import Database
from storage.evaluations import Evaluation, Measurement, Subject
from storage.results import ResultStore

EVALUATION = Evaluation(Subject("bert", "m"), Subject("train", "d"), Subject("test", "t"), "linear", "1", {"lr": 0.1})
OTHER = Evaluation(Subject("vit", "v"), Subject("train", "d"), None, "logme", "1")
DONE = Measurement(
    status="completed",
    cost_seconds=1.5,
    metric="accuracy",
    value=0.75,
    n_test=4,
    per_row_correct=np.packbits([1, 1, 0, 1]).tobytes(),
    replicates=np.array([0.5, 0.75], "<f4").tobytes(),
    layer="last",
    vector=np.array([0.25, 0.5], "<f4").tobytes(),
    metrics={"accuracy": 0.75, "macro_f1": 0.5},
    curve=(0.5, 0.75),
)
BROKEN = Measurement(status="failed", cost_seconds=0.5, reason="its weights are truncated")
UNLUCKY = Measurement(status="failed", cost_seconds=0.5, reason="out of memory", transient=True)


@pytest.fixture
def results(database: Database) -> ResultStore:
    return ResultStore(database)


@pytest.fixture
def impatient(database: Database) -> ResultStore:
    """A store in which every claim has expired as soon as it is made."""
    return ResultStore(database, claim_expires_seconds=-1.0)


@contextmanager
def listening(database: Database, statements: list[str]) -> Iterator[None]:
    """Meanwhile every statement that reaches the database is noted."""

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield
    event.remove(database.engine, "before_cursor_execute", note)


def _known(results: ResultStore, evaluation: Evaluation = EVALUATION) -> Measurement | None:
    return results.known([evaluation.fingerprint]).get(evaluation.fingerprint)


def test_what_is_recorded_is_known_as_it_was(results: ResultStore) -> None:
    claim = results.claim(EVALUATION)
    assert claim is not None
    assert _known(results) is None
    assert results.record(claim, DONE)
    assert _known(results) == DONE


def test_a_permanent_failure_is_known_too(results: ResultStore) -> None:
    claim = results.claim(EVALUATION)
    assert claim is not None
    results.record(claim, BROKEN)
    assert _known(results) == BROKEN
    assert results.claim(EVALUATION) is None


def test_known_is_never_claimed_again(results: ResultStore, impatient: ResultStore) -> None:
    claim = results.claim(EVALUATION)
    assert claim is not None
    results.record(claim, DONE)
    assert results.claim(EVALUATION) is None
    assert impatient.claim(EVALUATION) is None


def test_evaluations_are_claimed_one_by_one(results: ResultStore) -> None:
    assert results.claim(EVALUATION) is not None
    assert results.claim(OTHER) is not None
    assert results.claim(EVALUATION) is None


def test_one_of_many_claimers_gets_it(database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda _: ResultStore(database).claim(EVALUATION), range(8)))
    assert sum(claim is not None for claim in claims) == 1


def test_one_of_many_takes_an_expired_claim_over(impatient: ResultStore, results: ResultStore) -> None:
    assert impatient.claim(EVALUATION) is not None
    expired = impatient.claim(EVALUATION)
    assert expired is not None
    results.release(expired)
    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda _: results.claim(EVALUATION), range(8)))
    assert sum(claim is not None for claim in claims) == 1


def test_a_former_owner_is_fenced_off(impatient: ResultStore) -> None:
    former = impatient.claim(EVALUATION)
    current = impatient.claim(EVALUATION)
    assert former is not None
    assert current is not None
    assert current.token > former.token
    assert not impatient.record(former, BROKEN)
    assert impatient.outcomes([EVALUATION.fingerprint]) == {}
    assert impatient.record(current, DONE)
    assert not impatient.record(former, BROKEN)
    assert _known(impatient) == DONE


def test_a_former_owner_releases_nothing(results: ResultStore, impatient: ResultStore) -> None:
    former = impatient.claim(EVALUATION)
    current = impatient.claim(EVALUATION)
    assert former is not None
    assert current is not None
    results.release(former)
    assert results.claim(EVALUATION) is None
    assert results.record(current, DONE)


def test_a_result_is_recorded_once(results: ResultStore) -> None:
    claim = results.claim(EVALUATION)
    assert claim is not None
    assert results.record(claim, DONE)
    assert not results.record(claim, BROKEN)
    assert _known(results) == DONE


def test_a_transient_failure_is_told_but_not_known(results: ResultStore) -> None:
    claim = results.claim(EVALUATION)
    assert claim is not None
    results.record(claim, UNLUCKY)
    assert results.outcomes([EVALUATION.fingerprint]) == {EVALUATION.fingerprint: UNLUCKY}
    assert _known(results) is None


def test_a_transient_failure_is_claimed_again_by_one(results: ResultStore) -> None:
    first = results.claim(EVALUATION)
    assert first is not None
    results.record(first, UNLUCKY)
    second = results.claim(EVALUATION)
    assert second is not None
    assert results.claim(EVALUATION) is None
    assert results.outcomes([EVALUATION.fingerprint]) == {}
    assert results.record(second, DONE)
    assert _known(results) == DONE


def test_a_released_evaluation_is_free_at_once(results: ResultStore) -> None:
    claim = results.claim(EVALUATION)
    assert claim is not None
    results.release(claim)
    assert _known(results) is None
    assert results.claim(EVALUATION) is not None


def test_releasing_what_is_recorded_changes_nothing(results: ResultStore) -> None:
    claim = results.claim(EVALUATION)
    assert claim is not None
    results.record(claim, DONE)
    results.release(claim)
    assert _known(results) == DONE
    assert results.claim(EVALUATION) is None


def test_a_heartbeat_keeps_the_claims_it_is_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("storage.results.time.time", lambda: now)
    results = ResultStore(database, claim_expires_seconds=30.0)
    kept, lost = results.claim(EVALUATION), results.claim(OTHER)
    assert kept is not None
    assert lost is not None
    now = 1029.0
    results.heartbeat([kept])
    assert results.claim(EVALUATION) is None
    assert results.claim(OTHER) is None
    now = 1031.0
    assert results.claim(EVALUATION) is None
    assert results.claim(OTHER) is not None


def test_a_claim_is_held_until_it_is_taken_over(results: ResultStore, impatient: ResultStore) -> None:
    former = impatient.claim(EVALUATION)
    assert former is not None
    assert results.holds(former)
    current = impatient.claim(EVALUATION)
    assert current is not None
    assert not results.holds(former)
    results.record(current, DONE)
    assert results.holds(current)
    assert not results.holds(former)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost just after the first commit of each unit of work: whether it came through is not known."""
    commit, do = Session.commit, Database.do
    lost: list[str] = []

    def commit_and_lose(session: Session) -> None:
        commit(session)
        if not lost:
            lost.append("the connection")
            raise OperationalError(
                "COMMIT", None, Exception("server closed the connection"), connection_invalidated=True
            )

    def begin(database: Database, work: Any) -> Any:
        lost.clear()
        return do(database, work)

    monkeypatch.setattr(Session, "commit", commit_and_lose)
    monkeypatch.setattr(Database, "do", begin)


def test_a_claim_whose_commit_was_not_confirmed_is_its_makers(results: ResultStore, forgetful: None) -> None:
    claim = results.claim(EVALUATION)
    assert claim is not None
    assert results.claim(EVALUATION) is None
    assert results.holds(claim)
    results.heartbeat([claim])
    results.record(claim, DONE)
    assert _known(results) == DONE


def test_a_heartbeat_for_nothing_does_nothing(results: ResultStore) -> None:
    results.heartbeat([])
    assert results.claim(EVALUATION) is not None


def test_many_fingerprints_are_looked_up_at_once(results: ResultStore) -> None:
    evaluations = [
        Evaluation(Subject(f"m{number}", f"m{number}"), Subject("train", "d"), None, "linear", "1")
        for number in range(7)
    ]
    for evaluation in evaluations[:5]:
        claim = results.claim(evaluation)
        assert claim is not None
        results.record(claim, DONE)
    unknown = [str(number) for number in range(3000)]
    found = results.known([*unknown, *(evaluation.fingerprint for evaluation in evaluations)])
    assert set(found) == {evaluation.fingerprint for evaluation in evaluations[:5]}


def test_a_thousand_fingerprints_are_looked_up_in_one_round_trip(results: ResultStore, database: Database) -> None:
    statements: list[str] = []
    with listening(database, statements):
        results.known(str(number) for number in range(1000))
    assert len(statements) == 1


def test_a_claim_expires_after_the_seconds_of_the_settings(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("storage.results.time.time", lambda: now)
    monkeypatch.setenv("SHIFT_CLAIM_SECONDS", "5")
    results = ResultStore(database)
    assert results.claim(EVALUATION) is not None
    now = 1004.0
    assert results.claim(EVALUATION) is None
    now = 1006.0
    assert results.claim(EVALUATION) is not None


def test_no_step_of_an_evaluation_looks_at_every_row(database: Database) -> None:
    if database.engine.name != "sqlite":
        pytest.skip("PostgreSQL looks at every row of a small table whatever its indices are")
    impatient = ResultStore(database, claim_expires_seconds=-1.0)
    statements: list[str] = []
    with listening(database, statements):
        impatient.claim(EVALUATION)
        claim = impatient.claim(EVALUATION)
        assert claim is not None
        impatient.heartbeat([claim])
        impatient.record(claim, DONE)
        impatient.release(claim)
        impatient.known([EVALUATION.fingerprint])
    with database.engine.connect() as connection:
        for statement in {each for each in statements if not each.startswith("INSERT")}:
            unbound = statement.replace("?", "''")
            plan = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {unbound}"))
            assert "SEARCH evaluations" in plan, statement
            assert "SCAN" not in plan, statement
