"""What is documented of running SHiFT is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.metrics import Metrics
from shiftql.cli import main

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
README = (ROOT / "deployments" / "README.md").read_text(encoding="utf-8")


def test_every_setting_that_is_read_is_documented() -> None:
    sources = [
        file
        for package in ("shiftql", "storage", "tasks", "flows", "deployments")
        for file in (ROOT / package).rglob("*.py")
    ]
    read = {name for file in sources for name in re.findall(r"\"(SHIFT_[A-Z_]+)\"", file.read_text(encoding="utf-8"))}
    documented = set(re.findall(r"`(SHIFT_[A-Z_]+)`", OPERATIONS))
    # Told to a process by the one that starts it.
    assert read - documented - {"SHIFT_RUN"} == set()


def test_every_metric_is_documented_and_every_documented_one_is_there() -> None:
    families = {family.name for family in Metrics().registry.collect()}
    documented = set(re.findall(r"`(shift_\w+?)(?:_total)?[`{]", OPERATIONS))
    assert families == documented


def test_the_queries_of_metrics_name_metrics_that_there_are() -> None:
    metrics = Metrics()
    metrics.up.labels("cpu", "one").set(1)
    families = {family.name for family in metrics.registry.collect()}
    [queries] = re.findall(r"```\n(# Runs wait.*?)```", OPERATIONS, flags=re.DOTALL)
    named = {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"shift_\w+", queries)}
    assert named <= families


@pytest.mark.parametrize("text", [OPERATIONS, README], ids=["operations", "readme"])
def test_every_command_that_is_documented_is_one(text: str) -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL))
    words = re.findall(r"^(?:\S*/)?shiftql ([a-z]\w*)", blocks, flags=re.MULTILINE)
    assert len(words) > 3
    assert set(words) <= set(main.commands)


def test_every_file_that_is_linked_is_there() -> None:
    for text, folder in ((OPERATIONS, ROOT / "docs"), (README, ROOT / "deployments")):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
        assert links
        assert [link for link in links if not (folder / link).exists()] == []
