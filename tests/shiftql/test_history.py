"""What a history holds: other datasets only, each model once, and nothing that does not compare in one column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from shiftql.history import history_of
from shiftql.strategies.base import History
from storage.baselines import MAJORITY, MAJORITY_METHOD, RAW, raw_subject
from storage.catalog import ModelRecord
from storage.database import Database
from storage.evaluations import Evaluation, Measurement, Subject
from storage.results import ResultStore
from storage.settings import current_settings

TARGET = (Subject("digits-train", "d"), Subject("digits-test", "t"))


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(current_settings())


@dataclass
class Own:
    """Results that are recorded one after the other."""

    database: Database
    models: list[ModelRecord] = field(default_factory=list)

    def registers(
        self, name: str, content: str | None = None, modality: str = "image", handle: str | None = None
    ) -> None:
        told = {"source": "huggingface", "path": "", "signature": "", "modality": modality, "handle": handle}
        self.models.append(ModelRecord(name=name, fingerprint=content or f"content of {name}", **told))

    def measures(
        self,
        model: str,
        train: str,
        value: float,
        *,
        method: str = "finetune",
        version: str = "1",
        test: str | None = None,
        params: Mapping[str, Any] | None = None,
        fidelity: Mapping[str, Any] | None = None,
        model_content: str | None = None,
        train_content: str | None = None,
        **told: Any,
    ) -> None:
        evaluation = Evaluation(
            Subject(model, model_content or f"content of {model}"),
            Subject(train, train_content or f"content of {train}"),
            None if test is None else Subject(test, f"content of {test}"),
            method,
            version,
            params or {},
            fidelity or {},
        )
        results = ResultStore(self.database)
        claim = results.claim(evaluation)
        assert claim is not None
        results.record(
            claim, Measurement("completed", **{"cost_seconds": 1.0, "metric": "accuracy", **told}, value=value)
        )

    def history(self, target: Iterable[Subject] = TARGET) -> History:
        return history_of(self.database, self.models, list(target))


@pytest.fixture
def own(database: Database) -> Own:
    own = Own(database)
    own.registers("vit")
    own.registers("resnet")
    return own


def cells(history: History, kind: str = "finetune") -> dict[tuple[str, str], float]:
    """What is known of a kind, by dataset and model."""
    return _known(history, history.seen[kind]) if kind in history.seen else {}


def _known(history: History, values: Any) -> dict[tuple[str, str], float]:
    return {
        (dataset, model): values[row, column]
        for row, model in enumerate(history.models)
        for column, dataset in enumerate(history.datasets)
        if not math.isnan(values[row, column])
    }


def test_without_results_there_is_no_history(own: Own) -> None:
    history = own.history()
    assert (history.models, history.datasets, history.reached.shape) == ((), (), (0, 0))


def test_what_was_measured_elsewhere_is_known_by_kind_with_its_seconds(own: Own) -> None:
    own.measures("vit", "letters", 0.9, cost_seconds=20.0)
    own.measures("vit", "letters", 0.7, method="linear", cost_seconds=2.0)
    history = own.history()
    assert _known(history, history.reached) == _known(history, history.tested) == {("letters", "vit"): 0.9}
    assert cells(history, "linear") == {("letters", "vit"): 0.7}
    assert _known(history, history.seconds["finetune"]) == {("letters", "vit"): 20.0}
    assert _known(history, history.seconds["linear"]) == {("letters", "vit"): 2.0}


def test_the_target_itself_is_no_history(own: Own) -> None:
    own.measures("vit", "renamed since", 0.9, train_content="d")
    own.measures("vit", "digits-train", 0.9, train_content="older")
    own.measures("vit", "digits-train (held out)", 0.9)
    own.measures("vit", "digits-train (but for the rows held out)", 0.9)
    own.measures("vit", "(digits-train CHANGE [0] TO letters [1])", 0.9)
    own.measures("vit", "[letters, digits-train]", 0.9)
    own.measures("vit", "digits-train-2", 0.5)
    assert cells(own.history()) == {("digits-train-2", "vit"): 0.5}


def test_baselines_and_embeddings_of_datasets_are_no_models_results(own: Own) -> None:
    own.measures(MAJORITY.name, "letters", 0.1, method=MAJORITY_METHOD, model_content=MAJORITY.fingerprint)
    own.measures(RAW, "letters", 0.2, method="linear", model_content=raw_subject("image").fingerprint)
    own.measures("vit", "letters", 3.0, method="task2vec")
    own.measures("vit", "letters", 0.5)
    history = own.history()
    assert (history.models, set(history.seen)) == (("vit",), {"finetune"})


def test_a_result_of_an_old_version_does_not_count_beside_a_new_one(own: Own) -> None:
    own.measures("vit", "letters", 0.5, version="10+embedding1")
    own.measures("vit", "letters", 0.9, version="9+embedding3")
    own.measures("resnet", "letters", 0.7, version="9+embedding3")
    assert cells(own.history()) == {("letters", "vit"): 0.5, ("letters", "resnet"): 0.7}


def test_of_several_arguments_the_best_counts(own: Own) -> None:
    for rate, accuracy in ((0.1, 0.4), (0.01, 0.8), (0.001, 0.6)):
        own.measures("vit", "letters", accuracy, params={"lr": rate})
    assert cells(own.history()) == {("letters", "vit"): 0.8}


def test_an_error_counts_as_a_utility(own: Own) -> None:
    for rate, error in ((0.1, 4.0), (0.01, 2.0)):
        own.measures("vit", "prices", error, params={"lr": rate}, metric="rmse", higher_is_better=False)
    assert cells(own.history()) == {("prices", "vit"): -2.0}


def test_a_column_is_of_one_metric_and_one_test_split(own: Own) -> None:
    for model in ("vit", "resnet"):
        own.measures(model, "letters", 0.5, test="letters-test")
    own.measures("vit", "letters", 0.9, test="letters-other")
    own.measures("vit", "letters", 0.8, test="letters-test", params={"metric": "macro_f1"}, metric="macro_f1")
    assert cells(own.history()) == {("letters", "vit"): 0.5, ("letters", "resnet"): 0.5}


def test_a_dataset_whose_rows_changed_is_one_column(own: Own) -> None:
    own.measures("vit", "letters", 0.4, train_content="older")
    own.measures("vit", "letters", 0.6, train_content="newer")
    assert cells(own.history()) == {("letters", "vit"): 0.6}


def test_a_model_is_found_by_its_content_under_every_name_it_has(own: Own) -> None:
    own.registers("copy", "content of vit")
    own.measures("vit's name before", "letters", 0.5, model_content="content of vit")
    assert cells(own.history()) == {("letters", "vit"): 0.5, ("letters", "copy"): 0.5}


def test_models_that_are_not_asked_for_are_rows_where_some_that_are_have_been_measured(own: Own) -> None:
    own.measures("vit", "letters", 0.5)
    own.measures("gone", "letters", 0.7)
    own.measures("gone", "greek", 0.7)
    assert cells(own.history()) == {("letters", "vit"): 0.5, ("letters", "gone"): 0.7}


def test_another_model_of_the_same_name_is_another_row(own: Own) -> None:
    own.measures("vit", "letters", 0.5)
    own.measures("vit", "letters", 0.7, model_content="content before")
    assert cells(own.history()) == {("letters", "vit"): 0.5, ("letters", "vit (content )"): 0.7}


def test_cheaper_evaluations_are_kinds_of_their_own(own: Own) -> None:
    own.measures("vit", "letters", 0.5, method="linear", fidelity={"rows": 100})
    own.measures("vit", "letters", 0.7, method="linear")
    history = own.history()
    assert cells(history, "linear(rows=100)") == {("letters", "vit"): 0.5}
    assert cells(history, "linear") == {("letters", "vit"): 0.7}


def test_a_full_run_tells_what_runs_of_fewer_epochs_would_have_shown(own: Own) -> None:
    own.measures("vit", "letters", 0.9, curve=(0.5, 0.7, 0.8), cost_seconds=30.0)
    own.measures("vit", "letters", 0.6, fidelity={"epochs": 1}, cost_seconds=11.0)
    history = own.history()
    assert cells(history, "finetune(epochs=1)") == {("letters", "vit"): 0.6}
    assert cells(history, "finetune(epochs=2)") == {("letters", "vit"): 0.7}
    assert _known(history, history.seconds["finetune(epochs=2)"]) == {("letters", "vit"): 20.0}
    assert "finetune(epochs=3)" not in history.seen


def test_what_failed_is_not_known(own: Own) -> None:
    results = ResultStore(own.database)
    failed = Evaluation(Subject("vit", "content of vit"), Subject("letters", "l"), None, "finetune", "1")
    claim = results.claim(failed)
    assert claim is not None
    results.record(claim, Measurement("failed", 1.0, reason="it is broken"))
    assert own.history().datasets == ()


# --- published results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "handle"),
    [
        ("mine", "google/vit-base-patch16-224"),
        ("google/vit-base-patch16-224", None),
        ("google--vit-base-patch16-224", "a/b"),
    ],
)
def test_a_published_model_is_found_under_its_handle_or_name(name: str, handle: str | None, own: Own) -> None:
    own.registers(name, handle=handle)
    found = cells(own.history())
    assert found["vision_1k/caltech101", name] == pytest.approx(0.89, abs=0.1)
    assert ("two_phase_cv/food101", name) in found


def test_other_published_models_of_the_table_stand_beside_it(own: Own) -> None:
    own.registers("mine", handle="google/vit-base-patch16-224")
    history = own.history()
    column = history.datasets.index("vision_1k/caltech101")
    assert (history.reached[:, column] > 0).sum() > 250


def test_tables_of_another_modality_are_no_history(own: Own) -> None:
    own.registers("mine", handle="google/vit-base-patch16-224")
    own.registers("text", handle="google-bert/bert-base-uncased")
    assert {name.split("/")[0] for name in own.history().datasets} == {"vision_1k", "two_phase_cv"}


def test_own_and_published_columns_stay_apart_and_so_do_tables(own: Own) -> None:
    own.registers("text", modality="text", handle="google-bert/bert-base-uncased")
    own.measures("text", "ag_news", 0.9)
    found = {dataset: value for (dataset, model), value in cells(own.history()).items() if model == "text"}
    assert found["ag_news"] == 0.9
    assert {"text_1k/ag_news", "curves_nlp/ag_news"} <= found.keys()


def test_published_curves_are_epochs(own: Own) -> None:
    own.registers("text", modality="text", handle="google-bert/bert-base-uncased")
    history = own.history()
    first = cells(history, "finetune(epochs=1)")
    assert ("curves_nlp/ag_news", "text") in first
    assert {dataset.split("/")[0] for dataset, _ in first} == {"curves_nlp"}


def test_a_run_that_is_published_twice_counts_once(own: Own) -> None:
    own.registers("text", modality="text", handle="google-bert/bert-base-uncased")
    datasets = own.history().datasets
    assert {"curves_nlp/cb", "two_phase_nlp/trec"} <= set(datasets)
    assert "two_phase_nlp/cb" not in datasets
