"""The flow that embeds datasets as tasks, and tells which are near a target."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.statements import answer_statements
from shiftql.benchmark import chosen
from shiftql.printer import quoted
from storage.catalog import Catalog
from storage.database import Database
from storage.settings import current_settings


@flow(name="task2vec", flow_run_name="{datasets} by {probe}")
async def task2vec(datasets: str = "*", probe: str | None = None, target: str | None = None) -> dict[str, Any]:
    """Embed datasets as tasks by Task2Vec; the vectors are recorded, and the artifact `ranking` shows them.

    Args:
        datasets: Which datasets, as names and patterns separated by commas: mine-train, *-train.
        probe: The registered model that they are embedded by. Left out, each kind of data has its usual one.
        target: The dataset whose nearest neighbours among them are told, with their distances. Left out, the vectors
            alone are measured.
    """
    catalog = Catalog(Database(current_settings()))
    names = chosen(datasets, [dataset.name for dataset in catalog.datasets()], "dataset")
    return await answer_statements(write_statement(names, probe, target))


def write_statement(names: list[str], probe: str | None, target: str | None) -> str:
    """The question that measures the vectors of some datasets.

    >>> write_statement(["a", "b"], "vit", None)
    "SELECT name, probe, vec FROM datasets WHERE name IN ('a', 'b') AND probe = 'vit'"
    >>> write_statement(["a"], None, "mine")
    "SELECT name FROM datasets WHERE name IN ('a') ORDER BY Task2Vec TRAINED ON 'mine'"
    """
    those = f"name IN ({', '.join(map(quoted, names))})"
    if target is None:
        by = f" AND probe = {quoted(probe)}" if probe is not None else ""
        return f"SELECT name, probe, vec FROM datasets WHERE {those}{by}"
    by = f"(probe={quoted(probe)})" if probe is not None else ""
    return f"SELECT name FROM datasets WHERE {those} ORDER BY Task2Vec{by} TRAINED ON {quoted(target)}"
