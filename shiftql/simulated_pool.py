"""What the cost model expects of registered models, for a simulation."""

from __future__ import annotations

from dataclasses import dataclass

from shiftql.benchmark import Benchmark, choose_benchmarks, chosen
from shiftql.cost import CostModel
from shiftql.simulation import ModelCosts, System, ours
from storage.catalog import Catalog, ModelRecord
from storage.errors import BindingError
from storage.evaluations import Subject
from storage.parts import Part
from storage.settings import current_settings
from tasks.rankers.specs import RankerSpec, find_ranker

# So many rows the cost model is asked about: what it expects of each is taken to be the same whatever their number.
_ROWS = 1000


@dataclass(frozen=True)
class Pool:
    """Registered models, what each costs and what there is besides; rows and classes of a dataset, if one was named."""

    names: tuple[str, ...]
    costs: tuple[ModelCosts, ...]
    system: System
    train_rows: int | None = None
    test_rows: int | None = None
    classes: int | None = None


def open_pool(catalog: Catalog, costs: CostModel, models: str, trained_on: str | None, by: str) -> Pool:
    """The models that are written as `name,pattern,…`, those that take a dataset's rows where one is named.

    Raises BindingError where there are none, or `by` is no proxy.
    """
    proxy = find_ranker(by)
    if proxy.kind != "features":
        raise BindingError(f"{proxy.label} is no proxy", subject=by, fix="name one, such as Linear or 'Cosine NN'")
    records = {model.name: model for model in catalog.models()}
    found = [records[name] for name in chosen(models, list(records), "model")]
    train_rows = test_rows = classes = None
    if trained_on is not None:
        dataset = _dataset(trained_on, catalog)
        train_rows, test_rows = _rows(dataset)
        classes = dataset.train.num_classes
        modality = dataset.train.modality
        found = [model for model in found if model.modality == modality]
        if not found:
            fix = f"name models of {modality} input"
            raise BindingError(f"none of these models takes rows of {dataset.name}", subject=models, fix=fix)
    # Copies of a model are evaluated once.
    each_once: dict[str, ModelRecord] = {}
    for model in found:
        each_once.setdefault(model.fingerprint, model)
    found = list(each_once.values())
    per_model = tuple(_costs(model, proxy, costs) for model in found)
    return Pool(tuple(model.name for model in found), per_model, ours(costs), train_rows, test_rows, classes)


def _dataset(written: str, catalog: Catalog) -> Benchmark:
    dataset, *others = choose_benchmarks(written, catalog.datasets())
    if others:
        raise BindingError(f"{written!r} is several datasets", subject=written, fix="name one of them")
    return dataset


def _rows(dataset: Benchmark) -> tuple[int, int]:
    """Training and test rows; a part is held out where there are none to test on, as in questions."""
    if dataset.test is not None:
        return dataset.train.num_rows, dataset.test.num_rows
    from storage.manifests import load_manifest
    from storage.splits import held_out

    train = dataset.train
    rest, test = held_out(load_manifest(current_settings().manifests, train.fingerprint))
    subject = Subject(train.name, train.fingerprint)
    return Part(subject, rest).num_rows, Part(subject, test).num_rows


def _costs(model: ModelRecord, proxy: RankerSpec, costs: CostModel) -> ModelCosts:
    opening = costs.opening(model)
    least = costs.scoring(proxy.name, 0).seconds
    scoring = (costs.scoring(proxy.name, _ROWS).seconds - least) / _ROWS
    return ModelCosts(
        load=opening + least,
        inference=costs.row(model).seconds,
        fit=scoring,
        proxy=scoring,
        training=(costs.finetuning(model, _ROWS, 0, 2).seconds - costs.finetuning(model, _ROWS, 0, 1).seconds) / _ROWS,
    )
