"""Outcomes made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from shiftql.replaying import Estimate, Outcome

Made = Callable[..., Outcome]


@pytest.fixture
def outcome() -> Made:
    def made(
        path: Sequence[tuple[float, float]], dataset: str = "d", estimates: Sequence[tuple[float, float]] = ()
    ) -> Outcome:
        """Of a path of (cost, regret), and of estimates as (estimated, tested); model 0 is fully fine-tuned."""
        cost, regret = path[-1] if path else (0.0, 1.0)
        return Outcome(
            dataset=dataset,
            picked=f"m{len(path) - 1}" if path else None,
            final_regret=regret,
            search_regret=0.0,
            cost_fraction=cost,
            fine_tunes=1,
            epochs=0,
            top_k_mean=0.5,
            coverage=None,
            chance=None,
            path=tuple(path),
            picks=tuple(f"m{number}" for number in range(len(path))),
            estimates=tuple(
                Estimate(f"m{number}", utility, tested, number == 0, utility - 0.1, utility + 0.1)
                for number, (utility, tested) in enumerate(estimates)
            ),
        )

    return made
