"""Pictures for paper: PNG files, drawn by matplotlib without a display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator, NullLocator

from shiftql.pictures.curves import Curve
from shiftql.pictures.estimates import Estimates
from shiftql.pictures.looks import (
    COLOURS,
    COST_LABEL,
    ESTIMATE_LABEL,
    REGRET_LABEL,
    TESTED_LABEL,
    band,
    cost_scale,
    drawn_regrets,
    grid,
    look,
    regret_scale,
    shortened,
    worded_agreement,
    worded_end,
)

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
_TRAINED, _ESTIMATED, _PLAIN = COLOURS[0], COLOURS[1], COLOURS[-1]
_LOGARITHMIC = {"xscale": "log", "yscale": "log"}
_LINE_INCHES, _LETTER_INCHES, _HANDLE_INCHES = 0.2, 0.062, 0.6
_ENDS, _EQUAL = "ends with regret at cost (marked)", "equal"


def draw_mean(path: Path, title: str, curves: Sequence[Curve]) -> None:
    """Regret against cost of every strategy in one chart, with a band of the standard error."""
    with rc_context(STYLE):
        labels = [f"{curve.strategy}: {worded_end(curve)}" for curve in curves]
        figure, above, below = _with_legend_below(1, 3.9, [*labels, _ENDS])
        (axes,) = _panels(above, 1, subplot_kw=_LOGARITHMIC)
        for number, curve in enumerate(curves):
            costs, low, high = band(curve)
            axes.fill_between(costs, low, high, step="post", color=look(number).colour, alpha=0.1, linewidth=0)
        for number, curve in enumerate(curves):
            _draw_curve(axes, number, curve, labels[number])
        _set_scales(axes, curves, 8, 12)
        _set_labels(above, title, COST_LABEL, REGRET_LABEL)
        _set_legend(below, [axes], _ENDS)
        figure.savefig(path)


def draw_targets(path: Path, title: str, targets: Sequence[str], curves: Sequence[Sequence[Curve]]) -> None:
    """Regret against cost of every strategy, a panel for each target."""
    drawn = [curve for of_target in curves for curve in of_target]
    with rc_context(STYLE):
        figure, above, below = _with_legend_below(len(targets), 1.75, [curve.strategy for curve in curves[0]])
        panels = _panels(above, len(targets), sharex=True, sharey=True, subplot_kw=_LOGARITHMIC)
        for axes, target, of_target in zip(panels, targets, curves, strict=True):
            for number, curve in enumerate(of_target):
                _draw_curve(axes, number, curve, curve.strategy)
            axes.set_title(shortened(target), fontsize=8)
            _set_scales(axes, drawn, 7, 6)
        _set_labels(above, title, COST_LABEL, REGRET_LABEL)
        _set_legend(below, panels)
        figure.savefig(path)


def draw_truth(path: Path, title: str, estimates: Sequence[Estimates]) -> None:
    """The estimate of every model against what it reaches fine-tuned, a panel for each target."""
    with rc_context(STYLE):
        figure, above, below = _with_legend_below(len(estimates), 2.25, [_EQUAL])
        panels = _panels(above, len(estimates))
        for axes, said in zip(panels, estimates, strict=True):
            _draw_estimates(axes, said)
        _set_labels(above, title, ESTIMATE_LABEL, TESTED_LABEL)
        _set_legend(below, panels)
        figure.savefig(path)


def _draw_curve(axes: Axes, number: int, curve: Curve, label: str) -> None:
    """Its steps, and a marker where the strategy ended."""
    shown = look(number)
    line: dict[str, Any] = {"color": shown.colour, "linestyle": shown.dash[0], "linewidth": 1.4}
    axes.step(100 * curve.costs, drawn_regrets(curve.regrets), where="post", **line)
    axes.plot(
        # Nothing has no place on a logarithmic scale.
        100 * curve.cost or np.nan,
        drawn_regrets(np.array(curve.regret)),
        marker=shown.marker[0],
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=label,
        zorder=3,
        **line,
    )


def _draw_estimates(axes: Axes, said: Estimates) -> None:
    values = 100 * np.array([(each.utility, each.tested) for each in said.models]).reshape(-1, 2)
    is_trained = np.array([each.is_trained for each in said.models], dtype=bool)
    for which, label, marker, size, colour in (
        (~is_trained, "estimated only", "o", 3.0, _ESTIMATED),
        (is_trained, "fine-tuned by it", "D", 3.8, _TRAINED),
    ):
        if which.any():
            line: dict[str, Any] = {"linestyle": "none", "color": colour, "alpha": 0.6, "label": label}
            axes.plot(*values[which].T, marker=marker, markersize=size, markeredgewidth=0, **line)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 100.0)
    room = max(0.05 * (high - low), 0.5)
    limits = low - room, high + room
    axes.plot(limits, limits, color=_PLAIN, linewidth=0.8, zorder=0, label=_EQUAL)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    axes.set_title(f"{shortened(said.target)}\n{worded_agreement(said)}", fontsize=8)


def _set_scales(axes: Axes, curves: Sequence[Curve], most_regrets: int, most_costs: int) -> None:
    """Both axes about what curves hold, with so many ticks at most."""
    regrets = regret_scale(curves, most_regrets)
    costs = cost_scale(curves, regrets, most_costs)
    axes.set(xlim=(costs.low, costs.high), ylim=(regrets.low, regrets.high))
    for axis, scale in ((axes.xaxis, costs), (axes.yaxis, regrets)):
        axis.set_ticks(list(scale.ticks), labels=list(scale.ticks.values()))
        axis.set_minor_locator(NullLocator())


def _set_labels(figure: SubFigure, title: str, across: str, up: str) -> None:
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)


def _set_legend(figure: SubFigure, panels: Sequence[Axes], title: str | None = None) -> None:
    """One for all panels: what has the same label looks the same in each."""
    shown = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    columns = _legend_columns(list(shown), figure.bbox.width / figure.figure.dpi)
    figure.legend(shown.values(), shown.keys(), loc="center", ncols=columns, fontsize=8, title=title)


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """How many stand beside each other in so many inches."""
    return max(1, min(len(labels), int(width / (_HANDLE_INCHES + _LETTER_INCHES * max(map(len, labels))))))


def _with_legend_below(count: int, height: float, labels: Sequence[str]) -> tuple[Figure, SubFigure, SubFigure]:
    """A figure with a part for so many panels, each `height` inches high, and one for a legend."""
    rows, columns = grid(count)
    width = max(2.1 * columns, 6.4)
    legend = _LINE_INCHES * (math.ceil(len(labels) / _legend_columns(labels, width)) + 1)
    charts = max(height * rows, 3.2) + 0.8
    figure = Figure(figsize=(width, charts + legend), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[charts, legend])
    return figure, *parts


def _panels(figure: SubFigure, count: int, **alike: Any) -> list[Axes]:
    """So many charts in a grid; the lowest of every column shows what its ticks are called."""
    rows, columns = grid(count)
    panels = figure.subplots(rows, columns, squeeze=False, **alike).flatten().tolist()
    for unused in panels[count:]:
        unused.set_visible(False)
    for lowest in panels[max(0, count - columns) : count]:
        lowest.tick_params(labelbottom=True)
    return panels[:count]
