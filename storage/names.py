"""Built-in names in any spelling: `num_params`, `NumParams` and `"Num Params"` are one name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """The comparison key of a built-in name: lower case, letters and digits only.

    >>> fold("Cosine NN") == fold("CosineNN") == fold("cosine_nn")
    True
    """
    return re.sub(r"[\W_]", "", name.lower()) or name


def near(name: str, candidates: Iterable[str], limit: int = 3, cutoff: float = 0.6) -> list[str]:
    """The candidates a person who typed `name` may have meant, nearest first; 1 is the same name, 0 any name."""
    by_fold: dict[str, str] = {}
    for candidate in candidates:
        by_fold.setdefault(fold(candidate), candidate)
    matches = difflib.get_close_matches(fold(name), by_fold, n=limit, cutoff=cutoff)
    return [by_fold[match] for match in matches]


def did_you_mean(name: str, candidates: Iterable[str], limit: int = 3) -> str | None:
    """Asks whether a person who typed `name` meant those that are near; None where none is.

    >>> did_you_mean("vitt", ["vit", "vits", "bert"])
    'did you mean vit or vits?'
    """
    matches = near(name, candidates, limit)
    return f"did you mean {' or '.join(matches)}?" if matches else None
