"""Binding what a question is trained and tested on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NoReturn

from shiftql import ast
from shiftql.bound import BoundChange, BoundDataset, BoundRanker
from shiftql.places import Places
from storage.catalog import Catalog, DatasetRecord
from storage.locations import TEST_SPLITS, full_name, looks_like_path
from tasks.rankers.specs import all_rankers, metrics_of


class DatasetBinder(Places):
    """Looks up the datasets that are written in one text, and checks that they fit each other and the rankers."""

    def __init__(self, catalog: Catalog, text: str) -> None:
        super().__init__(text)
        self._catalog = catalog
        self._found: dict[str, DatasetRecord] = {}

    def splits(
        self, select: ast.Select, rankers: Sequence[BoundRanker]
    ) -> tuple[tuple[BoundDataset, ...], tuple[BoundDataset, ...]]:
        """What is trained and tested on; a part of a path is held out where nothing else is to be tested on."""
        places: tuple[ast.Node, ...] = (*select.order_by, *select.trained_on, *select.tested_on, select)
        place = places[0]
        task_aware = [ranker for ranker in rankers if ranker.spec.kind != "catalog"]
        for ranker in task_aware:
            if not select.trained_on:
                self.fail_missing(ranker, "TRAINED ON", place)
        self._found = self._catalog.find_datasets({each.name for each in (*select.trained_on, *select.tested_on)})
        train = tuple(map(self.bind, select.trained_on))
        for ranker in task_aware:
            if ranker.spec.needs_test and not select.tested_on and not all(map(_is_path, select.trained_on, train)):
                self.fail_missing(ranker, "TESTED ON", place)
        test = tuple(map(self.bind, select.tested_on))
        is_implied = not (select.order_by or select.classified_by)
        for written, dataset in zip((*select.trained_on, *select.tested_on), (*train, *test), strict=True):
            self.check_fit(written, dataset.record, train[0].record, rankers, is_implied)
        self._check_classes(select, train, test)
        if train and not test and any(ranker.spec.needs_test for ranker in rankers):
            own = list(map(self._own_test_split, train))
            test = tuple(split or replace(whole, held_out="test") for whole, split in zip(train, own, strict=True))
            train = tuple(
                whole if split else replace(whole, held_out="train") for whole, split in zip(train, own, strict=True)
            )
            for written, dataset in zip(select.trained_on, test, strict=True):
                self.check_fit(written, dataset.record, train[0].record, rankers)
            self._check_classes(select, train, test)
        return train, test

    def _own_test_split(self, dataset: BoundDataset) -> BoundDataset | None:
        """The split that lies beside a path's training split to be tested on, if there is one."""
        names = [f"{dataset.record.name}#{split}" for split in TEST_SPLITS]
        found = self._catalog.find_datasets(names)
        return next((BoundDataset(found[name]) for name in names if name in found), None)

    def _check_classes(self, select: ast.Select, train: Sequence[BoundDataset], test: Sequence[BoundDataset]) -> None:
        """Refuse a test split of which no class occurs in training: every model would be wrong on every row."""
        learnt = {name for dataset in train for name in dataset.record.class_names}
        asked = {name for dataset in test for name in dataset.record.class_names}
        if learnt and asked and not learnt & asked:
            self.fail(
                (*select.tested_on, *select.trained_on)[0],
                f"no class of {test[0].label} occurs in {train[0].label}",
                fix="test on a split of the same task: SHOW DATASETS lists them",
            )

    def fail_missing(self, ranker: BoundRanker, clause: str, place: ast.Node) -> NoReturn:
        """Say that a ranker lacks a clause with a dataset."""
        self.fail(
            place,
            f"{ranker.spec.label} needs {clause} a dataset",
            allowed=[dataset.name for dataset in self._catalog.datasets()],
            fix=f"add {clause} <dataset>; SHOW DATASETS lists them",
        )

    def bind(self, written: ast.Dataset) -> BoundDataset:
        """The registered dataset that is written, with the rows that are replaced."""
        record = self.record(written, written.name)
        if isinstance(written, ast.DatasetName):
            return BoundDataset(record)
        changes = []
        replaced: set[int] = set()
        for change in written.changes:
            by = self.record(change, change.by)
            for rows, dataset in ((change.rows, record), (change.by_rows, by)):
                if max(rows) >= dataset.num_rows:
                    self.fail(
                        change,
                        f"{dataset.name} has {dataset.num_rows} rows and no row {max(rows)}",
                        fix=f"rows count from 0 to {dataset.num_rows - 1}",
                    )
            if twice := replaced & set(change.rows):
                self.fail(change, f"row {min(twice)} is replaced twice", fix="list every row once")
            replaced |= set(change.rows)
            if (by.modality, by.task) != (record.modality, record.task):
                self.fail(
                    change,
                    f"{by.name} is for {by.task} of {by.modality} rows and {record.name} for {record.task} of"
                    f" {record.modality} rows",
                    fix="take the rows from a dataset of the same kind",
                )
            changes.append(BoundChange(change.rows, by, change.by_rows))
        return BoundDataset(record, tuple(changes))

    def record(self, place: ast.Node, name: str, candidates: Sequence[str] = ()) -> DatasetRecord:
        """The dataset of a name or path; `candidates` are further names that may have been meant."""
        found = self._found.get(name)
        if found is None:
            # A path is registered in full.
            path = full_name(name)
            registered = self._catalog.find_datasets([name, path])
            found = registered.get(name) or registered.get(path)
        if found is None:
            self.fail(
                self.part(place, name),
                f"there is no dataset {name!r}",
                name,
                [*candidates, *(dataset.name for dataset in self._catalog.datasets())],
                fix="nothing lies at that path: check how it is written"
                if looks_like_path(name)
                else f"register it with 'shiftql datasets add {name} PATH'",
            )
        return found

    def check_fit(
        self,
        place: ast.Node,
        dataset: DatasetRecord,
        first: DatasetRecord,
        rankers: Iterable[BoundRanker],
        is_implied: bool = False,
    ) -> None:
        """Refuse a dataset of other rows or another task than the first, or of a task that some ranker is not for.

        Rankers that are implied are not written anywhere.
        """
        if dataset.modality != first.modality:
            self.fail(
                place,
                f"{dataset.name} holds {dataset.modality} rows and {first.name} {first.modality}",
                fix="train and test on the same kind of rows",
            )
        if dataset.task != first.task:
            self.fail(
                place,
                f"{dataset.name} is for {dataset.task} and {first.name} for {first.task}",
                fix="label both alike, or register one of them with the task of the other",
            )
        for ranker in rankers:
            if dataset.task not in ranker.spec.tasks:
                self.fail(
                    place,
                    f"{ranker.spec.label} is not defined for {dataset.task}, the task of {dataset.name}",
                    allowed=[spec.label for spec in all_rankers() if dataset.task in spec.tasks],
                    fix=f"{ranker.spec.label} is for {', '.join(sorted(ranker.spec.tasks))}"
                    + (
                        f"; no ORDER BY means {ranker.spec.label}: name another, as ORDER BY Linear"
                        if is_implied
                        else ""
                    ),
                )
            metric = ranker.params.get("metric")
            if metric is not None and metric not in metrics_of(dataset.task):
                self.fail(
                    place,
                    f"{metric} is no metric of {dataset.task}, the task of {dataset.name}",
                    allowed=metrics_of(dataset.task),
                    fix="leave metric out, or choose an allowed one",
                )


def _is_path(written: ast.Dataset, dataset: BoundDataset) -> bool:
    return isinstance(written, ast.DatasetName) and dataset.record.name == full_name(written.name)
