"""A package that brings a ranker, as pip leaves it on the path."""

from __future__ import annotations

from pathlib import Path

MODULE = """
from tasks.rankers.specs import Argument, RankerSpec

SPEC = RankerSpec(
    name="spread",
    label="Spread",
    version=3,
    summary="mean variance of the features, times a factor",
    arguments=(Argument("factor", float, 1.0, minimum=0),),
    tasks=frozenset({"classification"}),
    needs_test=False,
    needs_source_probabilities=False,
    kind="features",
    example="SELECT name FROM image_models ORDER BY Spread TRAINED ON drawn-digits-train",
    implementation="MODULE_estimator:Spread",
)
"""
ESTIMATOR = """
from dataclasses import dataclass

from tasks.rankers.base import Score


@dataclass(frozen=True)
class Spread:
    factor: float = 1.0

    def score(self, train_x, train_y, test_x=None, test_y=None, *, source_probabilities=None, seed=0):
        return Score(float(train_x.var(axis=0).mean()) * self.factor, True, "spread")
"""


def write_plugin(root: Path, module: str, entry: str, source: str = MODULE, version: str = "1.2") -> None:
    """Module, estimator and metadata of a distribution with one entry point."""
    metadata = root / f"{module}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[shiftql.rankers]\n{entry} = {module}:SPEC\n")
    (root / f"{module}.py").write_text(source.replace("MODULE", module))
    (root / f"{module}_estimator.py").write_text(ESTIMATOR)
