"""The performance matrix, live on tiny models."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows import benchmark as benchmark_module
from flows import run as run_module
from flows.registration import register_dataset, register_model
from shiftql.answers import MatrixAnswer, RankingAnswer
from shiftql.engine import Session
from shiftql.progress import Progress, progress
from storage.catalog import Catalog
from storage.errors import BindingError
from storage.settings import current_settings

BY = "FineTune(epochs=1)"
IMAGES = ["resnet", "vit"]
CELLS = 2 * 2 + 2


class Heard(Progress):
    """Remembers what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    @property
    def cells(self) -> list[str]:
        return [note.partition(":")[0] for note in self.notes if " spent, " in note]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Any:
    listening = Heard()
    token = progress.set(listening)
    yield listening
    progress.reset(token)


@pytest.fixture
def session(here: None, catalog: Catalog) -> Session:
    return Session()


def build(session: Session, **arguments: Any) -> MatrixAnswer:
    return session.build_benchmark(**{"by": BY, **arguments})


def values(answer: MatrixAnswer) -> dict[str, dict[str, float | None]]:
    return {row["model"]: {name: row[name] for name in answer.columns[1:]} for row in answer.rows}


def refuse(*_: object) -> None:
    raise AssertionError("a flow was started")


def test_every_model_is_measured_where_its_input_fits_and_a_second_build_starts_no_flow(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(session)
    assert built.columns == ("model", "colours", "nature", "photos")
    assert (built.evaluated, built.reused, built.left, built.failed, built.refused) == (CELLS, 0, 0, (), ())
    for name, row in values(built).items():
        assert [value is None for value in row.values()] == [name not in IMAGES, name in IMAGES, name not in IMAGES]
    monkeypatch.setattr(run_module, "run_benchmark", refuse)
    again = build(session)
    assert values(again) == values(built)
    assert (again.evaluated, again.reused) == (0, CELLS)
    assert values(session.benchmark(by=BY)) == values(built)


def test_an_added_model_fills_its_row_alone_and_an_added_dataset_its_column(
    session: Session, catalog: Catalog, heard: Heard, pool: Any
) -> None:
    build(session, models="vit", datasets="colours")
    assert heard.cells == ["vit on colours"]
    heard.notes.clear()
    assert build(session, models="vit,resnet", datasets="colours").evaluated == 1
    assert heard.cells == ["resnet on colours"]
    heard.notes.clear()
    assert build(session, models="vit,resnet", datasets="colours,photos").evaluated == 2
    assert sorted(heard.cells) == ["resnet on photos", "vit on photos"]


def test_a_build_brings_the_clusters_up_to_date_and_with_nothing_new_leaves_them_as_they_are(
    session: Session, heard: Heard
) -> None:
    def kept() -> list[tuple[Path, int]]:
        return [(file, file.stat().st_mtime_ns) for file in current_settings().clusters.iterdir()]

    build(session, datasets="colours", by="Linear")
    built = kept()
    assert len(built) == 1
    build(session, datasets="colours", by="Linear")
    listed = session.benchmark_clusters(datasets="colours", by="Linear")
    assert {(row["members"], row["models"]) for row in listed.rows} == {(name, 1) for name in IMAGES}
    assert "at least 6 datasets" in heard.notes[-1]
    assert kept() == built
    built[0][0].write_bytes(b"damaged")
    assert session.benchmark_clusters(datasets="colours", by="Linear").rows == listed.rows
    assert [file for file, _ in kept()] == [built[0][0]]
    assert built[0][0].stat().st_size > 100


def test_a_cell_is_what_the_question_about_it_measures(session: Session) -> None:
    asked = "SELECT name FROM models WHERE name = '{}' ORDER BY {} TRAINED ON 'colours-train' TESTED ON 'colours-test'"

    def ask(model: str, by: str) -> RankingAnswer:
        (answer,) = session.run(asked.format(model, by))
        assert isinstance(answer, RankingAnswer)
        return answer

    for by in (BY, "Linear"):
        before = ask("vit", by)
        built = build(session, models="vit,resnet", datasets="colours", by=by)
        assert (built.evaluated, built.reused) == (1, 1)
        assert values(built)["vit"]["colours"] == before.ranking[0]["score"]
        after = ask("resnet", by)
        assert after.evaluated == 0
        assert after.ranking[0]["score"] == values(built)["resnet"]["colours"]


def test_meta_learned_questions_stand_on_what_was_built(session: Session) -> None:
    build(session, models="vit,resnet", datasets="colours,photos")
    asked = "SELECT name FROM image_models ORDER BY AVG(err) TESTED ON BENCHMARK ['colours-train', 'photos-train']"
    (answer,) = session.run(asked)
    assert isinstance(answer, RankingAnswer)
    assert {row["model"] for row in answer.ranking} == set(IMAGES)


def test_a_budget_stops_before_the_cell_that_would_overrun_it(session: Session, heard: Heard) -> None:
    planned = session.plan_benchmark(by=BY)
    assert planned.upcoming is not None
    assert len(planned.upcoming) == planned.left == CELLS
    nothing = build(session, budget=0.0)
    assert (nothing.evaluated, nothing.left, nothing.spent_seconds) == (0, CELLS, 0.0)
    cheapest = min(each["predicted_seconds"] for each in planned.upcoming)
    some = build(session, budget=cheapest * 1.01)
    # What a cell took is known only afterwards: where it was less than predicted, another may fit.
    assert 1 <= some.evaluated == len(heard.cells) < CELLS
    assert some.left == CELLS - some.evaluated
    assert build(session, budget=math.inf).left == 0


def test_planning_measures_nothing_and_tells_what_the_budget_pays_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "run_benchmark", refuse)
    planned = session.plan_benchmark(by=BY, budget=0.0)
    assert planned.upcoming == ()
    assert len(planned.expected) == CELLS
    assert planned.left_seconds == pytest.approx(sum(planned.expected.values()))


def test_a_failure_is_told_with_its_reason_and_the_others_go_on(
    session: Session, catalog: Catalog, tmp_path: Path
) -> None:
    folder = tmp_path / "vit"
    shutil.copytree(catalog.model("vit").path, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    register_model(catalog, "broken", str(folder))
    built = build(session, models="vit,broken", datasets="colours")
    assert [(each["model"], each["dataset"]) for each in built.failed] == [("broken", "colours")]
    assert built.failed[0]["reason"]
    assert values(built)["vit"]["colours"] is not None
    assert values(built)["broken"]["colours"] is None


def test_models_that_cannot_be_fine_tuned_are_refused_and_are_no_failed_cells(
    session: Session, catalog: Catalog
) -> None:
    register_model(catalog, "components", "pca:colours-train")
    built = build(session, models="components,vit", datasets="colours")
    assert [each["model"] for each in built.refused] == ["components"]
    assert built.failed == ()
    assert list(values(built)) == ["vit"]


def test_copies_of_a_model_are_measured_once(session: Session, catalog: Catalog) -> None:
    catalog.save_model("vit-copy", catalog.model("vit").model_dump(exclude={"model_id", "name"}))
    built = build(session, models="vit,vit-copy", datasets="colours")
    assert built.left == 0
    assert values(built)["vit"] == values(built)["vit-copy"] != {"colours": None}


def test_a_dataset_without_a_test_split_has_a_part_held_out(session: Session, catalog: Catalog, pool: Any) -> None:
    for name in ("colours-train", "colours-test"):
        catalog.remove_dataset(name)
    register_dataset(catalog, "mine", str(pool.datasets["colours-train"]))
    built = build(session, models="vit", datasets="mine")
    (answer,) = session.run(
        f"SELECT name FROM models WHERE name = 'vit' ORDER BY {BY} TRAINED ON '{pool.datasets['colours-train']}'"
    )
    assert isinstance(answer, RankingAnswer)
    assert answer.evaluated == 0
    assert values(built)["vit"]["mine"] == answer.ranking[0]["score"]


def test_an_interrupted_build_keeps_what_it_measured_and_goes_on(
    session: Session, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    original = benchmark_module._Build._measure
    begun: list[str] = []

    async def interrupted(build: Any, cell: Any) -> Any:
        begun.append(cell.model)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return await original(build, cell)

    with monkeypatch.context() as patch:
        patch.setattr(benchmark_module._Build, "_measure", interrupted)
        first = build(session)
    assert first.interrupted
    assert first.to_json()["partial"]
    assert (first.evaluated, first.left) == (2, CELLS - 2)
    assert "interrupted: what is measured is kept" in heard.notes[-1]
    assert build(session).evaluated == CELLS - 2


def test_what_is_written_has_to_mean_something(session: Session) -> None:
    with pytest.raises(BindingError, match="there is no model 'vti'") as error:
        build(session, models="vti")
    assert error.value.fix == "did you mean vit?"
    with pytest.raises(BindingError, match="there is no dataset 'colors'"):
        build(session, datasets="colors")
    for by in ("Upstream", "Task2Vec", "Linear LIMIT 3", "Linear DESC", "name", "AVG(err)"):
        with pytest.raises(BindingError):
            build(session, by=by)
