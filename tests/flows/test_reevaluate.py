"""Standing questions on tiny models: what is computed for them again, what is told, and what is left alone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow_async

from flows import reevaluate as reevaluate_module
from flows import run as run_module
from flows import telling
from flows.reevaluate import reevaluate
from flows.registration import register_dataset, register_model
from shiftql.answers import ErrorAnswer, RowsAnswer, TextAnswer
from shiftql.engine import Session, query
from storage.catalog import Catalog
from storage.database import Database
from storage.settings import current_settings
from storage.watches import Change, Recorded, WatchRecord, WatchStore

NATURE = "TRAINED ON 'nature-train' TESTED ON 'nature-test'"
LINEAR = f"SELECT name FROM text_models ORDER BY Linear {NATURE}"
COLOURS = "TRAINED ON 'colours-train' TESTED ON 'colours-test'"
SMALLEST = "SELECT name, num_params FROM models ORDER BY num_params LIMIT 1"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Change]:
    """The changes that people are told of."""
    changes: list[Change] = []

    async def tell(change: Change, statement: str) -> None:
        changes.append(change)

    monkeypatch.setattr(reevaluate_module, "tell", tell)
    return changes


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that a search was begun for."""
    statements: list[str] = []
    search = reevaluate_module.search

    async def noted(statement: str) -> Any:
        statements.append(statement)
        return await search(statement)

    monkeypatch.setattr(reevaluate_module, "search", noted)
    return statements


def store() -> WatchStore:
    return WatchStore(Database(current_settings()))


def watch(name: str) -> WatchRecord:
    found = store().find(name)
    assert found is not None
    return found


def history(name: str = "best") -> list[Recorded]:
    return store().history(name)


def run(**parameters: Any) -> dict[str, dict[str, Any]]:
    """What came of each watch."""
    done = asyncio.run(reevaluate(**parameters))  # type: ignore[arg-type]
    return {row["watch"]: row for row in done["watches"]}


def said(text: str) -> str:
    answer = query(text)
    assert isinstance(answer, TextAnswer)
    return answer.text


def copy_of(pool: Any, name: str, folder: Path) -> str:
    """A model of other content: its weights lie about."""
    import safetensors.torch

    path = shutil.copytree(pool.models[name], folder / f"another-{name}")
    weights = safetensors.torch.load_file(path / "model.safetensors")
    noisy = {key: value * 1.5 if value.is_floating_point() else value for key, value in weights.items()}
    safetensors.torch.save_file(noisy, path / "model.safetensors", metadata={"format": "pt"})
    return str(path)


def test_a_watch_is_asked_once_when_it_is_made_and_a_second_time_not(here: None, searched: list[str]) -> None:
    assert "best is watched: bert is first of 2" in said(f"WATCH best AS {LINEAR}")
    (first,) = history()
    assert (first.record.reason, first.record.evaluated, first.record.first) == ("created", 2, "bert")
    assert "watched already" in said(f"watch best as {LINEAR} WAIT")
    assert len(history()) == 1


def test_another_question_under_the_same_name_replaces_it_and_says_so(here: None) -> None:
    said(f"WATCH best AS {LINEAR}")
    assert "in place of the earlier question" in said(f"WATCH best AS {SMALLEST}")
    ((record, places),) = history()
    assert (record.evaluated, [place.name for place in places]) == (0, [watch("best").first])


def test_how_often_a_watch_is_asked_can_be_changed_without_asking_it(here: None) -> None:
    said(f"WATCH best AS {LINEAR}")
    asked = watch("best").asked
    assert "every 1h" in said(f"WATCH best AS {LINEAR} EVERY '1h'")
    assert (watch("best").every_seconds, watch("best").asked) == (3600.0, asked)


def test_a_question_that_does_not_bind_is_not_watched(here: None) -> None:
    (answer,) = Session().run(f"WATCH best AS {LINEAR.replace('nature-train', 'nature-trian')}")
    assert isinstance(answer, ErrorAnswer)
    assert store().all() == []


def test_what_is_not_waited_for_is_asked_later(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.detached.compute_detached", lambda *_: "run-1")
    assert "its answer is recorded when it is asked again" in said(f"WATCH best AS {LINEAR} NOWAIT")
    assert (watch("best").asked, history()) == (None, [])
    assert run(only_due=True)["best"]["evaluated"] == 2


def test_a_new_model_alone_is_evaluated_for_a_standing_question(
    here: None, catalog: Catalog, pool: Any, tmp_path: Path, told: list[Change]
) -> None:
    said(f"WATCH best AS {LINEAR}")
    register_model(catalog, "another", copy_of(pool, "bert", tmp_path))
    outcome = run(models=["another"], reason="registered")["best"]
    assert (outcome["evaluated"], outcome["reused"]) == (1, 2)
    *_, (record, places) = history()
    assert (record.reason, record.ranked) == ("registered", 3)
    assert {place.name for place in places} == {"bert", "roberta", "another"}
    assert [change.after for change in told] == ([record.first] if record.changed else [])


def test_asking_again_with_nothing_new_computes_nothing_and_leaves_no_history(
    here: None, searched: list[str], told: list[Change]
) -> None:
    said(f"WATCH best AS {LINEAR}")
    before = watch("best").asked
    assert run()["best"] == {
        "watch": "best",
        "first": "bert",
        "before": None,
        "evaluated": 0,
        "reused": 2,
        "failure": None,
    }
    assert (searched, told, len(history())) == ([], [], 1)
    after = watch("best").asked
    assert before is not None
    assert after is not None
    assert after > before


def test_a_change_of_the_first_place_is_told_once(
    here: None, catalog: Catalog, told: list[Change], searched: list[str]
) -> None:
    said(f"WATCH small AS {SMALLEST}")
    first = watch("small").first
    assert first is not None
    catalog.save_model("tiny", {**catalog.model(first).model_dump(exclude={"model_id", "name"}), "num_params": 1})
    assert run()["small"]["before"] == first
    assert run()["small"]["before"] is None
    assert [(change.before, change.after) for change in told] == [(first, "tiny")]
    assert (watch("small").changes, searched) == (1, [])


def test_a_dataset_that_changed_is_asked_about_again(here: None, catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    path = shutil.copy(pool.datasets["nature-train"], tmp_path / "mine.csv")
    register_dataset(catalog, "mine", str(path))
    said(f"WATCH best AS {LINEAR.replace('nature-train', 'mine')}")
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows[:-6]]) + "\n")
    assert run()["best"]["evaluated"] == 2


def test_one_that_fails_does_not_keep_the_others_from_being_asked(here: None, catalog: Catalog) -> None:
    said(f"WATCH a AS SELECT name FROM image_models ORDER BY Linear {COLOURS}")
    said(f"WATCH b AS {SMALLEST}")
    catalog.remove_dataset("colours-train")
    outcomes = run()
    assert "colours-train" in outcomes["a"]["failure"]
    assert outcomes["b"]["failure"] is None
    assert "colours-train" in (watch("a").failure or "")
    answer = query("SHOW WATCHES")
    assert isinstance(answer, RowsAnswer)
    assert [bool(row["failure"]) for row in answer.rows] == [True, False]


def test_only_those_are_asked_whose_time_has_come(here: None) -> None:
    said(f"WATCH hourly AS {SMALLEST} EVERY '1h'")
    said(f"WATCH daily AS {SMALLEST}")
    assert run(only_due=True) == {}
    database = Database(current_settings())
    for name in ("hourly", "daily"):
        record = watch(name)
        assert record.asked is not None
        with database.session() as session:
            record.asked -= 3600.0
            session.add(record)
            session.commit()
    assert set(run(only_due=True)) == {"hourly"}


def test_the_past_of_a_watch_can_be_asked_for(here: None) -> None:
    said(f"WATCH best AS {LINEAR}")
    answer = query("SELECT rank, model_name, score FROM watch_history WHERE watch = best AND rank <= 2")
    assert isinstance(answer, RowsAnswer)
    assert [(row["rank"], row["model_name"]) for row in answer.rows] == [(1, "bert"), (2, "roberta")]
    joined = query("SELECT name, num_params, rank FROM models NATURAL JOIN watch_history WHERE watch = best LIMIT 1")
    assert isinstance(joined, RowsAnswer)
    assert joined.rows[0]["num_params"] > 0


def test_an_ended_watch_is_asked_no_longer(here: None) -> None:
    said(f"WATCH best AS {SMALLEST}")
    assert "no longer" in said("UNWATCH best")
    assert (run(), history()) == ({}, [])


@pytest.fixture
def deployed(here: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """The flow as a deployment, of which a test runs what it says is run; nothing is waited for."""
    monkeypatch.setattr(reevaluate_module, "_QUIET_SECONDS", -60.0)
    with get_client(sync_client=True) as client:
        found = Deployment(client, client.create_deployment(client.create_flow(reevaluate), "reevaluate"))
        yield found
        client.delete_deployment(found.identity)


@dataclass(frozen=True)
class Deployment:
    client: SyncPrefectClient
    identity: UUID

    def scheduled(self, model: str) -> FlowRun:
        """A run as an event starts it."""
        told = {"reason": "registered", "models": [model]}
        return self.client.create_flow_run_from_deployment(self.identity, parameters=told)

    def run(self, scheduled: FlowRun) -> None:
        flow: Any = reevaluate
        asyncio.run(run_flow_async(flow, flow_run=scheduled, parameters=scheduled.parameters))

    def state(self, run: FlowRun) -> str | None:
        state = self.client.read_flow_run(run.id).state
        return None if state is None else state.name


def test_many_models_that_are_registered_at_once_make_one_re_evaluation(
    deployed: Deployment, catalog: Catalog, pool: Any, searched: list[str]
) -> None:
    said(f"WATCH best AS {LINEAR}")
    runs = []
    for number in range(5):
        register_model(catalog, f"copy-{number}", str(pool.models["bert"]))
        runs.append(deployed.scheduled(f"copy-{number}"))
    deployed.run(runs[0])
    assert [deployed.state(run) for run in runs] == ["Completed", *["Covered"] * 4]
    assert [each.record.ranked for each in history()] == [2, 7]
    assert searched == []


def test_what_is_registered_while_a_question_is_asked_is_asked_about_before_the_run_ends(
    deployed: Deployment, catalog: Catalog, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(f"WATCH best AS {LINEAR}")
    late: list[FlowRun] = []
    answer_watch = reevaluate_module.answer_watch

    def register_meanwhile(*arguments: Any) -> Any:
        answer = answer_watch(*arguments)
        if not late:
            register_model(catalog, "late", str(pool.models["bert"]))
            late.append(deployed.scheduled("late"))
        return answer

    monkeypatch.setattr(reevaluate_module, "answer_watch", register_meanwhile)
    register_model(catalog, "early", str(pool.models["bert"]))
    deployed.run(deployed.scheduled("early"))
    assert [each.record.ranked for each in history()] == [2, 3, 4]
    assert deployed.state(late[0]) == "Covered"


def test_runs_of_the_schedule_are_not_taken_over(deployed: Deployment) -> None:
    said(f"WATCH best AS {SMALLEST}")
    nightly = deployed.client.create_flow_run_from_deployment(deployed.identity, parameters={"reason": "schedule"})
    deployed.run(deployed.scheduled("bert"))
    assert deployed.state(nightly) == "Scheduled"


def test_new_models_fill_their_rows_of_the_matrix_and_the_clusters_know_them(
    here: None, catalog: Catalog, pool: Any, tmp_path: Path
) -> None:
    session, by = Session(), "FineTune(epochs=1)"
    built = session.build_benchmark(models="resnet,vit", datasets="colours,photos", by=by)
    assert built.evaluated == 4
    query(f"WATCH best AS SELECT name FROM image_models ORDER BY BestAverage {COLOURS}")
    register_model(catalog, "another", copy_of(pool, "resnet", tmp_path))
    run(models=["another", "bert"], reason="registered")
    matrix = session.benchmark(models="resnet,vit,another", datasets="colours,photos", by=by)
    assert (matrix.reused, matrix.left) == (6, 0)
    assert session.benchmark(datasets="nature", by=by).reused == 0


def test_the_matrix_is_filled_within_the_budget(here: None, catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    session, by = Session(), "FineTune(epochs=1)"
    session.build_benchmark(models="resnet,vit", datasets="colours,photos", by=by)
    register_model(catalog, "another", copy_of(pool, "resnet", tmp_path))
    run(models=["another"], reason="registered", budget_seconds=0.0)
    assert session.benchmark(models="another", datasets="colours,photos", by=by).reused == 0


def test_a_change_is_an_event_a_line_of_the_log_and_a_notification(
    here: None, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    notified: list[tuple[str, str]] = []

    class Notifier:
        async def notify(self, body: str, subject: str) -> None:
            notified.append((subject, body))
            raise OSError("nobody is there")

    async def load(name: str) -> Notifier:
        assert name == "slack-webhook/team"
        return Notifier()

    monkeypatch.setattr(telling, "emit_event", lambda event, resource, payload: events.append((event, payload)))
    monkeypatch.setattr(telling.Block, "aload", load)
    monkeypatch.setenv("SHIFT_NOTIFY", "slack-webhook/team")
    said(f"WATCH small AS {SMALLEST}")
    first = watch("small").first
    assert first is not None
    catalog.save_model("tiny", {**catalog.model(first).model_dump(exclude={"model_id", "name"}), "num_params": 1})
    assert run()["small"]["before"] == first
    ((event, payload),) = events
    assert event == "shift.watch.changed"
    assert (payload["watch"], payload["before"], payload["after"]) == ("small", first, "tiny")
    ((subject, body),) = notified
    assert subject == f"small: tiny is first now, before it was {first}"
    assert SMALLEST in body


def test_what_is_known_is_asked_again_without_a_flow(
    here: None, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(f"WATCH best AS {LINEAR}")
    said(f"WATCH small AS {SMALLEST}")
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "run_reevaluation", lambda *_: pytest.fail("a flow was started"))
        rows = Session().refresh_watches(budget=0.0).rows
    assert [(row["watch"], row["reused"], row["failure"]) for row in rows] == [("best", 2, None), ("small", 0, None)]


def test_who_is_first_now_is_told_by_a_flow_whatever_is_known(here: None, catalog: Catalog, told: list[Change]) -> None:
    said(f"WATCH small AS {SMALLEST}")
    first = watch("small").first
    assert first is not None
    catalog.save_model("tiny", {**catalog.model(first).model_dump(exclude={"model_id", "name"}), "num_params": 1})
    (row,) = Session().refresh_watches(["small"], budget=0.0).rows
    assert (row["first"], row["before"]) == ("tiny", first)
    assert len(told) == 1
