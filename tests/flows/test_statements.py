"""Any statement as a flow: what its run leaves, and how one that fails ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.finetuning import finetune
from flows.statements import search
from flows.task2vec import task2vec
from shiftql.parser import parse
from storage.catalog import Catalog

pytestmark = pytest.mark.usefixtures("here")

QUESTION = "SELECT name FROM image_models ORDER BY Linear TRAINED ON 'colours-train' TESTED ON 'colours-test'"


def run(flow: Any, **parameters: Any) -> tuple[Any, dict[str, Any]]:
    """The state that a run of a flow ends in, and its artifacts by key."""
    state = asyncio.run(flow(**parameters, return_state=True))
    run_id = str(state.state_details.flow_run_id)
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run_id]}}})
    artifacts = {each["key"]: each["data"] for each in found.json()}
    assert len(artifacts) == len(found.json())
    return state, artifacts


def answers(artifacts: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in artifacts["answer"].splitlines()]


def test_a_question_leaves_its_plan_its_ranking_its_answer_and_how_far_it_is() -> None:
    state, left = run(search, statement=QUESTION)
    assert state.is_completed()
    assert left.keys() == {"plan", "progress", "ranking", "answer"}
    (answer,) = answers(left)
    assert (answer["kind"], answer["evaluated"], answer["statement"]) == ("ranking", 2, QUESTION)
    assert [row["model"] for row in answer["ranking"]][:2] in (["vit", "resnet"], ["resnet", "vit"])
    assert "| rank | model |" in left["ranking"]
    assert "data:image/png;base64," in left["ranking"]
    assert "Rank by Linear" in left["plan"]
    assert "4 new, 0 known" in left["plan"]
    assert left["progress"] == 100


def test_what_a_limit_ended_is_not_said_to_be_done() -> None:
    _, left = run(search, statement=f"{QUESTION} WITHIN 0.001s")
    assert answers(left)[0]["partial"]
    assert left.get("progress", 0.0) < 100


def test_what_is_known_is_answered_without_work() -> None:
    run(search, statement=QUESTION)
    _, left = run(search, statement=QUESTION)
    assert answers(left)[0]["reused"] == 2
    assert "progress" not in left


def test_every_statement_is_answered_in_turn() -> None:
    state, left = run(search, statement=f"DECLARE q AS {QUESTION}; SHOW DATASETS; PRINT q; EXPLAIN {QUESTION}")
    assert state.is_completed()
    assert [answer["kind"] for answer in answers(left)] == ["done", "rows", "ranking", "explain"]


def test_a_registration_is_kept(catalog: Catalog) -> None:
    path = catalog.dataset("colours-train").path
    state, _ = run(search, statement=f"REGISTER DATASET 'again' FROM '{path}'")
    assert state.is_completed()
    assert catalog.dataset("again").num_rows == 36


def test_a_path_that_stands_for_a_dataset_is_read(catalog: Catalog) -> None:
    state, left = run(search, statement=QUESTION.replace("colours-train", catalog.dataset("photos-train").path))
    assert state.is_completed()
    assert answers(left)[0]["evaluated"] == 2


def test_a_statement_that_fails_says_where_and_how_to_mend_it() -> None:
    state, left = run(search, statement=f"SHOW MODELS; {QUESTION.replace('Linear', 'Linaer')}; SHOW MODELS")
    assert state.is_failed()
    assert "did you mean Linear" in state.message
    assert "^^^^" in left["ranking"]
    *before, failed = answers(left)
    assert [answer["kind"] for answer in before] == ["rows"]
    assert failed["kind"] == "error"
    assert failed["error"]["line"] == 1


def test_a_session_at_a_distance_goes_nowhere_else() -> None:
    state, _ = run(search, statement="USE 'http://elsewhere:4200'; SHOW MODELS")
    assert state.is_failed()


def test_models_are_fine_tuned_by_a_form() -> None:
    state, left = run(finetune, models="res*", dataset="colours-train", name="mine", epochs=1)
    assert state.is_completed()
    (answer,) = answers(left)
    assert answer["kept"]["name"] == "mine"
    assert parse(answer["statement"])


def test_datasets_are_embedded_as_tasks() -> None:
    state, left = run(task2vec, datasets="colours-*", probe="resnet")
    assert state.is_completed()
    assert sorted(row["name"] for row in answers(left)[0]["rows"]) == ["colours-test", "colours-train"]
    state, left = run(task2vec, datasets="*-train", probe="resnet", target="colours-test")
    assert answers(left)[0]["rows"][0]["name"] == "photos-train"


def test_a_misspelt_form_says_what_there_is() -> None:
    state, _ = run(task2vec, datasets="colour")
    assert state.is_failed()
    assert "there is no dataset 'colour'" in state.message
