"""Measured numbers beside what each may be at most."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured number; `limit` is what it may be at most."""

    name: str
    value: float
    unit: str
    limit: float | None
    detail: str = ""

    @property
    def is_within(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"within": self.is_within}


@dataclass(frozen=True)
class Figures:
    """The numbers of one benchmark, in the order they are measured; `limits` are by their names."""

    limits: Mapping[str, float]
    measured: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str = "s", detail: str = "") -> None:
        """Take note of a number, and say it on standard error."""
        self.measured.append(Figure(name, value, unit, self.limits.get(name), detail))
        print(f"  {name}: {value:.4f} {unit}", file=sys.stderr)

    def to_json(self) -> list[dict[str, Any]]:
        return [figure.to_json() for figure in self.measured]

    def show(self) -> None:
        """Print them as a table."""
        for figure in self.measured:
            limit = "" if figure.limit is None else f"at most {figure.limit:g}"
            verdict = "" if figure.limit is None else ("ok" if figure.is_within else "MISSED")
            print(f"{figure.name:48} {figure.value:8.4f} {figure.unit:2} {limit:14} {verdict:7} {figure.detail}")
