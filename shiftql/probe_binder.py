"""Binding probes: which model embeds datasets, and whose vectors of which datasets a query needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NoReturn

from shiftql import ast
from shiftql.places import Places
from shiftql.probes import PROBE_SOURCES, Vectors, default_probe
from shiftql.scope import Column, Projection
from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.database import Database
from storage.names import fold


class ProbeBinder(Places):
    """Looks up the probes that are named in one text, and those that stand in where none is."""

    def __init__(self, catalog: Catalog, database: Database, text: str) -> None:
        super().__init__(text)
        self._catalog = catalog
        self._database = database

    def bind(self, node: ast.Node, name: str | None, modality: str) -> ModelRecord:
        """The probe for datasets of a modality: the one named, else the default."""
        models = self._catalog.models()
        if name is not None:
            return self._find(node, name, models, modality)
        return default_probe(models, modality) or self._fail_missing(node, models)

    def choose(self, select: ast.Select) -> list[str]:
        """The names of the default probes."""
        models = self._catalog.models()
        chosen = [probe.name for modality in ("image", "text") if (probe := default_probe(models, modality))]
        return chosen or self._fail_missing(select, models)

    def embeddings(
        self, select: ast.Select, vectors: Vectors, projection: Projection
    ) -> tuple[tuple[ModelRecord, DatasetRecord], ...]:
        """The probes and the datasets whose vectors are in the result or decide what is."""
        models = {model.name: model for model in self._catalog.models()}
        for node, name in _probes_named(select.where):
            self._find(node, name, models.values())
        rows = replace(projection, limit=None, distinct=False) if select.distinct else projection
        with self._database.session() as session:
            found = session.connection().execute(
                rows.select_columns([Column(vectors.probe), Column(vectors.datasets.c.name)])
            )
            pairs = list(dict.fromkeys((probe, dataset) for probe, dataset in found))
        datasets = self._catalog.find_datasets({dataset for _, dataset in pairs})
        return tuple((models[probe], datasets[dataset]) for probe, dataset in pairs)

    def _find(
        self, node: ast.Node, name: str, models: Iterable[ModelRecord], modality: str | None = None
    ) -> ModelRecord:
        """The model of that name, which must be able to embed datasets, of that modality where one is given."""
        allowed = [model for model in models if model.source in PROBE_SOURCES and modality in {None, model.modality}]
        for model in allowed:
            if model.name == name:
                return model
        rows = f"{modality} datasets" if modality else "datasets"
        self.fail(
            self.part(node, name),
            f"{name!r} is no model that can embed {rows}",
            name,
            [model.name for model in allowed],
            fix=f"a probe is a model from {' or '.join(sorted(PROBE_SOURCES))}: SHOW MODELS lists them",
        )

    def _fail_missing(self, node: ast.Node, models: Iterable[ModelRecord]) -> NoReturn:
        """Say that a probe has to be named, since none is there that would be chosen."""
        self.fail(
            node,
            "no model of known size, of 150 million parameters at most, is there to be the probe",
            allowed=[model.name for model in models if model.source in PROBE_SOURCES],
            fix="name one: Task2Vec(probe='…'), or WHERE probe = '…'",
        )


def _probes_named(condition: ast.Node | None) -> Iterator[tuple[ast.Node, str]]:
    """The names that the column probe is compared with, and where."""
    match condition:
        case ast.And(operands=operands) | ast.Or(operands=operands):
            for operand in operands:
                yield from _probes_named(operand)
        case ast.Not(operand=operand):
            yield from _probes_named(operand)
        case ast.Comparison(left=ast.Column(name=name), right=ast.Literal(value=str(value))) if fold(name) == "probe":
            yield condition, value
        case ast.InList(operand=ast.Column(name=name), values=values) if fold(name) == "probe":
            yield from ((value, value.value) for value in values if isinstance(value.value, str))
