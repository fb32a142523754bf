"""The same pictures to look into: one HTML file that needs nothing else, drawn by plotly in a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from shiftql.pictures.curves import Curve
from shiftql.pictures.estimates import Estimates
from shiftql.pictures.looks import (
    COLOURS,
    COST_LABEL,
    ESTIMATE_LABEL,
    REGRET_LABEL,
    TESTED_LABEL,
    Scale,
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
from shiftql.replaying import Estimate

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 1280px; margin: 1em auto; padding: 0 1em }}
h2 {{ margin: 2em 0 0; font-size: 1.2em }}
</style>
<script>{script}</script>
</head>
<body>
<h1>{title}</h1>
{sections}
</body>
</html>
"""
_CONFIG = {"displaylogo": False, "responsive": True, "plotlyServerURL": "", "showSendToCloud": False}
_PANEL_HEIGHT, _CHART_HEIGHT = 220, 560
_GRID = "#E4E4E4"


@dataclass(frozen=True)
class Section:
    """A picture of the page with what stands above it."""

    heading: str
    text: str
    figure: go.Figure


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write pictures below each other into a file; the script that draws them is in it once."""
    parts = [
        f"<h2>{escape(section.heading)}</h2>\n<p>{escape(section.text)}</p>\n"
        + to_html(section.figure, full_html=False, include_plotlyjs=False, include_mathjax=False, config=_CONFIG)
        for section in sections
    ]
    page = _PAGE.format(title=escape(title), script=get_plotlyjs(), sections="\n".join(parts))
    path.write_text(page, encoding="utf-8")


def mean_figure(curves: Sequence[Curve], what: str) -> go.Figure:
    """Regret against cost of every strategy in one chart, with a band of the standard error; `what` they are."""
    figure = figure_of(_CHART_HEIGHT)
    for number, curve in enumerate(curves):
        costs, low, high = band(curve)
        edge = {"line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip", "showlegend": False, "mode": "lines"}
        figure.add_scatter(x=costs, y=low, legendgroup=number, **edge)
        fill = {"fill": "tonexty", "fillcolor": f"rgba{(*hex_to_rgb(look(number).colour), 0.12)}"}
        figure.add_scatter(x=costs, y=high, legendgroup=number, **fill, **edge)
    for number, curve in enumerate(curves):
        _add_curve(figure, number, curve, what, f"{curve.strategy}: {worded_end(curve)}")
    figure.update_layout(legend_title_text="ends with regret at cost (marked)")
    regrets = regret_scale(curves, 8)
    figure.update_xaxes(title=COST_LABEL, **_axis(cost_scale(curves, regrets, 12)))
    figure.update_yaxes(title=REGRET_LABEL, **_axis(regrets))
    return figure


def targets_figure(targets: Sequence[str], curves: Sequence[Sequence[Curve]]) -> go.Figure:
    """Regret against cost of every strategy, a panel for each target."""
    rows, columns = grid(len(targets))
    height = _PANEL_HEIGHT * rows + 160
    panels = make_subplots(
        rows,
        columns,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=[escape(shortened(target)) for target in targets],
        horizontal_spacing=0.02,
        vertical_spacing=40 / height,
        x_title=COST_LABEL,
        y_title=REGRET_LABEL,
    )
    figure = figure_of(height, panels)
    for place, (target, of_target) in enumerate(zip(targets, curves, strict=True)):
        for number, curve in enumerate(of_target):
            panel = {"row": place // columns + 1, "col": place % columns + 1}
            _add_curve(figure, number, curve, target, curve.strategy, showlegend=place == 0, **panel)
    drawn = [curve for of_target in curves for curve in of_target]
    regrets = regret_scale(drawn, 7)
    figure.update_xaxes(**_axis(cost_scale(drawn, regrets, 6)))
    figure.update_yaxes(**_axis(regrets))
    for lowest in range(max(0, len(targets) - columns), len(targets)):
        figure.update_xaxes(showticklabels=True, row=lowest // columns + 1, col=lowest % columns + 1)
    figure.update_annotations(font_size=12)
    figure.update_layout(legend={"orientation": "h", "y": -80 / height, "yanchor": "top"}, margin_b=120)
    return figure


def truth_figure(targets: Sequence[str], estimates: Sequence[Sequence[Estimates]]) -> go.Figure:
    """The estimates of all sources for one target at a time, which a menu names, against what models reach fine-tuned.

    At first only those of the first source are shown; the legend shows and hides them.
    """
    figure = figure_of(_CHART_HEIGHT)
    drawn = [(number, said) for number, by_target in enumerate(estimates) for said in by_target]
    shown = {
        target: [said.target == target and (number == 0 or "legendonly") for number, said in drawn]
        for target in targets
    }
    for (number, said), visible in zip(drawn, shown[targets[0]], strict=True):
        figure.add_scatter(**_points(number, said), visible=visible)
    buttons = [
        {"label": target, "method": "restyle", "args": ["visible", visible]} for target, visible in shown.items()
    ]
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(updatemenus=[menu], showlegend=True, legend_itemsizing="constant")
    figure.add_shape(type="line", x0=0, y0=0, x1=100, y1=100, line={"color": COLOURS[-1], "width": 1}, layer="below")
    figure.update_xaxes(title=ESTIMATE_LABEL)
    figure.update_yaxes(title=TESTED_LABEL)
    return figure


def _add_curve(figure: go.Figure, number: int, curve: Curve, place: str, label: str, **panel: Any) -> None:
    """Its steps, and a marker where the strategy ended; both say more where they are pointed at."""
    shown = look(number)
    line = {"color": shown.colour, "dash": shown.dash[1], "shape": "hv", "width": 2}
    has_legend = panel.pop("showlegend", True)
    common = {"line": line, "legendgroup": number, "name": label, **panel}
    told = f"<b>{escape(curve.strategy)}</b>, {escape(place)}<br>"
    kept = _changes(curve)
    figure.add_scatter(
        x=100 * curve.costs[kept],
        y=drawn_regrets(curve.regrets)[kept],
        mode="lines",
        text=[_worded_regret(curve, index) for index in kept],
        customdata=[_worded_pick(curve, index) for index in kept],
        hovertemplate=f"{told}regret %{{text}} % at %{{x:.2f}} %%{{customdata}}<extra></extra>",
        showlegend=False,
        **common,
    )
    figure.add_scatter(
        x=[100 * curve.cost],
        y=drawn_regrets(np.array([curve.regret])),
        mode="lines+markers",
        marker={"symbol": shown.marker[1], "size": 10, "line": {"color": "white", "width": 1}},
        hovertemplate=f"{told}ends with {worded_end(curve)}{_worded_pick(curve, -1)}<extra></extra>",
        showlegend=has_legend,
        **common,
    )


def _worded_regret(curve: Curve, index: int) -> str:
    error = curve.errors[index]
    return f"{100 * curve.regrets[index]:.2f}" + ("" if np.isnan(error) else f" ± {100 * error:.2f}")


def _worded_pick(curve: Curve, index: int) -> str:
    return f"<br>picks {escape(curve.picks[index])}" if curve.picks else ""


def _changes(curve: Curve) -> list[int]:
    """The numbers of the costs at which something is new, and the last."""
    regrets = curve.regrets.tolist()
    said = list(zip(regrets, curve.picks or regrets, strict=True))
    last = len(said) - 1
    return [index for index, now in enumerate(said) if index in (0, last) or now != said[index - 1]]


def _points(number: int, said: Estimates) -> dict[str, Any]:
    """A source's models as points; diamonds are those that it fully fine-tuned."""
    return {
        "x": [100 * each.utility for each in said.models],
        "y": [100 * each.tested for each in said.models],
        "mode": "markers",
        "marker": {
            "color": look(number).colour,
            "opacity": 0.7,
            "size": [10 if each.is_trained else 6 for each in said.models],
            "symbol": ["diamond" if each.is_trained else "circle" for each in said.models],
        },
        "name": f"{escape(said.source)}<br>{worded_agreement(said)}",
        "text": [escape(each.model) for each in said.models],
        "customdata": [_worded_rest(each) for each in said.models],
        "hovertemplate": f"<b>%{{text}}</b> on {escape(said.target)}<br>{escape(said.source)}: %{{x:.1f}} %"
        "%{customdata}<br>reaches %{y:.1f} %<extra></extra>",
    }


def _worded_rest(each: Estimate) -> str:
    interval = "" if each.low is None or each.high is None else f" ({100 * each.low:.1f} to {100 * each.high:.1f})"
    return interval + (", fine-tuned by it" if each.is_trained else "")


def _axis(scale: Scale) -> dict[str, Any]:
    return {
        "type": "log",
        "range": [math.log10(scale.low), math.log10(scale.high)],
        "tickvals": list(scale.ticks),
        "ticktext": list(scale.ticks.values()),
    }


def figure_of(height: int, figure: go.Figure | None = None) -> go.Figure:
    figure = figure or go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        hovermode="closest",
        hoverlabel={"align": "left", "bgcolor": "white"},
        margin={"l": 70, "r": 20, "t": 40, "b": 60},
        font_size=13,
    )
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, linecolor="black", ticks="outside")
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, linecolor="black", ticks="outside")
    return figure
