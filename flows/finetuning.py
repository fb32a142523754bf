"""The flow behind the deployment `finetune`: a form's fields in place of a statement."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow

from flows.statements import answer_statements
from shiftql.benchmark import chosen
from shiftql.printer import quoted
from storage.catalog import Catalog
from storage.database import Database
from storage.settings import current_settings


@flow(name="finetune", flow_run_name="{models} with {dataset}")
async def finetune(
    models: str,
    dataset: str,
    name: str | None = None,
    learning_rates: list[float] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    mode: Literal["full", "head", "lora"] = "full",
) -> dict[str, Any]:
    """Fine-tune models with a dataset, and keep the one that is best on validation.

    Args:
        models: Which models, as names and patterns separated by commas: vit, resnet-*.
        dataset: The training split that they are fine-tuned with.
        name: What the best is registered as. Left out, everything is measured and nothing is kept.
        learning_rates: Which learning rates are tried with each model. Left out, the usual one.
        epochs: For how many epochs each is trained. Left out, the usual number.
        batch_size: How many rows a step takes. Left out, the usual number.
        mode: Whether the whole model is trained, its head alone, or the head and low-rank changes.
    """
    catalog = Catalog(Database(current_settings()))
    names = chosen(models, [model.name for model in catalog.models()], "model")
    arguments = {"lr": learning_rates, "epochs": epochs, "batch_size": batch_size, "mode": mode}
    return await answer_statements(write_statement(names, dataset, name, arguments))


def write_statement(names: list[str], dataset: str, name: str | None, arguments: dict[str, Any]) -> str:
    """The statement that fine-tunes some models; arguments that are None are left to their defaults.

    >>> write_statement(["a", "b"], "mine", "best", {"lr": [0.1], "epochs": None, "mode": "head"})
    "FINETUNE ['a', 'b'] WITH 'mine' (lr=[0.1], mode='head') AS 'best'"
    """
    given = [f"{key}={value!r}" for key, value in arguments.items() if value is not None]
    written = f" ({', '.join(given)})" if given else ""
    kept = f" AS {quoted(name)}" if name is not None else ""
    return f"FINETUNE [{', '.join(map(quoted, names))}] WITH {quoted(dataset)}{written}{kept}"
