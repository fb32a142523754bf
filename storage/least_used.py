"""What is deleted to keep within a size limit: the least recently used first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=tuple)


@dataclass(frozen=True)
class Kept(Generic[Name]):
    """Something on the disk: its bytes, and when it was last used (seconds since 1970)."""

    name: Name
    size_bytes: int
    last_used: float


def least_used(kept: Iterable[Kept[Name]], limit_bytes: int, is_in_use: Callable[[Kept[Name]], bool]) -> list[Name]:
    """What to delete so that the rest fits a limit, the least recently used first and what is in use never."""
    in_turn = sorted(kept, key=lambda each: (each.last_used, each.name))
    total = sum(each.size_bytes for each in in_turn)
    evicted = []
    for each in in_turn:
        if total <= limit_bytes:
            break
        if not is_in_use(each):
            evicted.append(each.name)
            total -= each.size_bytes
    return evicted
