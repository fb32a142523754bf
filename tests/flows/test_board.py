"""The answer so far: shown while work goes on, and left as artifacts of the run."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows import board
from shiftql.answers import Answer, RankingAnswer
from shiftql.engine import query
from shiftql.progress import Progress, progress

QUESTION = "SELECT name FROM image_models ORDER BY Linear TRAINED ON 'colours-train' TESTED ON 'colours-test'"


class Watched(Progress):
    """Remembers every answer that it was shown."""

    def __init__(self) -> None:
        self.shown: list[Answer] = []

    def show(self, answer: Answer) -> None:
        self.shown.append(answer)


@pytest.fixture
def watched() -> Any:
    surface = Watched()
    token = progress.set(surface)
    yield surface
    progress.reset(token)


def artifacts(run: str) -> dict[str, Any]:
    """What a run left, by key."""
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run]}}}).json()
    assert len({each["key"] for each in found}) == len(found)
    return {each["key"]: each["data"] for each in found}


def test_the_ranking_so_far_is_shown_and_the_last_is_left(
    here: None, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "_REFRESH_SECONDS", 0.001)
    answer = query(QUESTION)
    assert isinstance(answer, RankingAnswer)
    assert watched.shown
    known = [len(each.ranking) for each in watched.shown if isinstance(each, RankingAnswer)]
    assert known == sorted(known)
    assert all(each.partial for each in watched.shown if isinstance(each, RankingAnswer))
    left = artifacts(str(answer.work["flow_run_id"]))
    assert left["ranking"].startswith("```sql\nSELECT name FROM image_models ORDER BY Linear")
    assert all(row["model"] in left["ranking"] for row in answer.ranking)
    assert 0 < float(left["progress"]) <= 100


def test_a_quick_run_leaves_its_answer_alone(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_REFRESH_SECONDS", 3600.0)
    answer = query(QUESTION)
    assert isinstance(answer, RankingAnswer)
    assert artifacts(str(answer.work["flow_run_id"])).keys() == {"ranking"}


def test_an_answer_that_takes_long_is_made_the_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(board, "_WAIT_PER_SECOND", 5.0)
    computed: list[str] = []
    made: list[float] = []

    def answer() -> Answer:
        made.append(time.monotonic())
        time.sleep(0.05)
        # There is something new to be told each time.
        computed.append("one more")
        raise RuntimeError("nobody waits for it")

    async def work() -> None:
        async with board.Board("SHOW MODELS").kept_up(answer, computed, 10):
            computed.append("the first")
            async with asyncio.timeout(5.0):
                while len(made) < 3:
                    await asyncio.sleep(0.01)

    asyncio.run(work())
    # It takes 0.05 s.
    assert all(later - earlier > 0.25 for earlier, later in pairwise(made))
