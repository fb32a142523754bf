"""What a derived dataset is made of: parts of registered datasets, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from storage.evaluations import Subject

# Rows [start, stop), one run of them after the other; rows count from 0.
Spans: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Part:
    """Rows of a registered dataset, in the order of `spans`."""

    dataset: Subject
    spans: Spans

    @property
    def num_rows(self) -> int:
        return sum(stop - start for start, stop in self.spans)

    @property
    def json(self) -> dict[str, Any]:
        """The part as it travels to other processes."""
        return {"dataset": self.dataset.name, "fingerprint": self.dataset.fingerprint, "spans": self.spans}

    @classmethod
    def from_json(cls, part: Mapping[str, Any]) -> Part:
        spans = tuple((start, stop) for start, stop in part["spans"])
        return cls(Subject(part["dataset"], part["fingerprint"]), spans)


def whole(dataset: Subject, num_rows: int) -> Part:
    """All rows of a registered dataset."""
    return Part(dataset, ((0, num_rows),))


def one_per_dataset(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The same rows, each once: one part for every content, its rows ascending."""
    by_content: dict[str, list[Part]] = {}
    for part in parts:
        by_content.setdefault(part.dataset.fingerprint, []).append(part)
    return tuple(
        Part(same[0].dataset, _merged(list(chain.from_iterable(part.spans for part in same))))
        for same in by_content.values()
    )


def _merged(spans: Sequence[tuple[int, int]]) -> Spans:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)
