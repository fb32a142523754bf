"""What a ranking cost: the best so far against the seconds that were paid for it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from shiftql.pictures.looks import COLOURS, shortened
from shiftql.pictures.png import STYLE

_BEST, _EACH = COLOURS[1], COLOURS[-1]


@dataclass(frozen=True)
class Paid:
    """An evaluation of a model: the seconds it took, and the value that came of it, None where it failed."""

    model: str
    seconds: float
    value: float | None


def draw_spending(paid: Sequence[Paid], metric: str, *, higher_is_better: bool) -> bytes:
    """A PNG of evaluations in the order they were recorded: each value, and the best so far as steps."""
    seconds = np.cumsum([each.seconds for each in paid])
    values = np.array([np.nan if each.value is None else each.value for each in paid])
    best = (np.fmax if higher_is_better else np.fmin).accumulate(values)
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(seconds, values, linestyle="none", marker="o", markersize=4, color=_EACH, label="each model")
        axes.step([*seconds, seconds[-1] * 1.02], [*best, best[-1]], where="post", color=_BEST, label="best so far")
        if not np.isnan(best).all():
            where = int((np.nanargmax if higher_is_better else np.nanargmin)(values))
            axes.annotate(
                shortened(paid[where].model),
                (seconds[where], values[where]),
                textcoords="offset points",
                xytext=(0, 6),
                ha="center",
                color=_BEST,
            )
        axes.set(xlabel="seconds of evaluations", ylabel=metric)
        axes.margins(y=0.15)
        axes.set_xlim(left=0)
        axes.legend(fontsize=8)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=110)
    return drawn.getvalue()
