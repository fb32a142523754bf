"""What PNG and HTML pictures have in common: colours, markers, scales and words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shiftql.pictures.curves import Curve
from shiftql.pictures.estimates import Estimates

# Okabe and Ito's palette, which the colour-blind can tell apart, without its yellow; then grey.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
# By their names in matplotlib and in plotly.
_MARKERS = (
    ("o", "circle"),
    ("s", "square"),
    ("D", "diamond"),
    ("^", "triangle-up"),
    ("v", "triangle-down"),
    ("P", "cross"),
    ("X", "x"),
    ("h", "hexagon"),
)
_DASHES = (("-", "solid"), ("--", "dash"), (":", "dot"))

# Regrets span orders of magnitude and so are drawn on a logarithmic scale, where those below this, per cent, lie on it.
FLOOR = 0.1
# With which digits ticks begin, from many to few.
_DIGITS = ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,))
_NAME_LETTERS = 26
REGRET_LABEL = "regret (% of the best test accuracy)"
COST_LABEL = "cost (% of fine-tuning every model)"
ESTIMATE_LABEL = "estimated accuracy (%)"
TESTED_LABEL = "fine-tuned test accuracy (%)"


@dataclass(frozen=True)
class Look:
    """How a strategy or another source of estimates is drawn; marker and dash by matplotlib's and by plotly's name."""

    colour: str
    marker: tuple[str, str]
    dash: tuple[str, str]


def look(number: int) -> Look:
    """The look of the first, second, … of what is drawn together."""
    turn, place = divmod(number, len(COLOURS))
    # The same colour comes again with another dash and another marker.
    return Look(COLOURS[place], _MARKERS[(place + 3 * turn) % len(_MARKERS)], _DASHES[turn % len(_DASHES)])


def grid(count: int) -> tuple[int, int]:
    """Rows and columns of so many panels."""
    columns = math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


@dataclass(frozen=True)
class Scale:
    """A logarithmic scale from `low` to `high`, with what its ticks are called."""

    low: float
    high: float
    ticks: dict[float, str]


def regret_scale(curves: Sequence[Curve], most: int) -> Scale:
    """One for the regrets of curves from where there is a pick for every target, with so many ticks at most."""
    certain = [curve.regrets[curve.costs >= curve.certain_from] for curve in curves]
    scale = _scale(drawn_regrets(np.concatenate([[curve.regret for curve in curves], *certain])), most)
    return replace(scale, ticks=scale.ticks | {FLOOR: f"≤ {FLOOR}"}) if FLOOR in scale.ticks else scale


def cost_scale(curves: Sequence[Curve], regrets: Scale, most: int) -> Scale:
    """One for the costs of curves where they lie within a scale of regrets."""
    within = [curve.costs[drawn_regrets(curve.regrets) <= regrets.high] for curve in curves]
    costs = np.concatenate([[curve.cost for curve in curves], *within])
    return _scale(100 * costs[costs > 0], most)


def drawn_regrets(regrets: np.ndarray) -> np.ndarray:
    """Shares (n,) in per cent, at least the floor."""
    return np.maximum(100 * regrets, FLOOR)


def band(curve: Curve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Costs, and what is one standard error below and above the regrets at them, per cent; none of a single target."""
    known = ~np.isnan(curve.errors)
    regrets, errors = curve.regrets[known], curve.errors[known]
    return 100 * curve.costs[known], drawn_regrets(regrets - errors), drawn_regrets(regrets + errors)


def worded_end(curve: Curve) -> str:
    """Where a strategy ended: `3.4 ± 1.0 % at 6.1 %`."""
    error = "" if np.isnan(curve.regret_error) else f" ± {100 * curve.regret_error:.1f}"
    return f"{100 * curve.regret:.1f}{error} % at {_worded_cost(100 * curve.cost)} %"


def worded_agreement(said: Estimates) -> str:
    """`τw .83  r .91  ρ .88  n 291`, the last of them the number of models; what is not defined is a dash."""
    found = said.agreement
    figures = (("τw", found.weighted_tau), ("r", found.pearson), ("ρ", found.spearman))
    words = [f"{name} {'–' if value is None else _short(value)}" for name, value in figures]
    return "  ".join([*words, f"n {len(said.models)}"])


def shortened(name: str) -> str:
    """A target's name as far as there is room for it above a panel: its ends, where it is too long."""
    half = _NAME_LETTERS // 2
    return name if len(name) <= _NAME_LETTERS else f"{name[:half]}…{name[1 - half :]}"


def _scale(values: np.ndarray, most: int) -> Scale:
    low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 100.0)
    # A little room, in which markers at the ends stay whole.
    room = max((high / low) ** 0.04, 1.05)
    low, high = low / room, high * room
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in _DIGITS:
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    return Scale(low, high, {tick: f"{tick:g}" for tick in ticks})


def _worded_cost(cost: float) -> str:
    return f"{cost:.0f}" if cost >= 99.5 else f"{cost:.1f}"


def _short(value: float) -> str:
    """Two decimals, as in a table of correlations: .83, −.07, 1.00."""
    return f"{value:.2f}".replace("0.", ".", 1).replace("-", "−")
