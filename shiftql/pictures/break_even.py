"""Where halving is faster: over training rows and pool size, and the seconds of this pool over training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from shiftql.pictures.html import Section, figure_of, write_page
from shiftql.pictures.looks import COLOURS
from shiftql.pictures.png import STYLE
from shiftql.simulation import (
    ModelCosts,
    Setting,
    expected_halving,
    pool_of,
    row_grid,
    simulate_finetuning,
    simulate_plain,
)
from storage.errors import StoreError

_MOST_ROWS = 1_000_000
_LEAST_POOL, _LARGE_POOL, _POOLS = 2, 500, 18
# Ratios beyond are drawn as this.
_LARGEST_RATIO = 8.0
_LEAST_SECONDS = 1e-3
_TICKS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
_WORDED_TICKS = ("8× slower", "4× slower", "2× slower", "equal", "2× faster", "4× faster", "8× faster")
_SLOWER, _FASTER = COLOURS[0], COLOURS[1]
_ROWS_LABEL, _POOL_LABEL, _SECONDS_LABEL = "training rows", "models", "seconds"


@dataclass(frozen=True, eq=False)
class Landscape:
    """How many times faster halving is, (pools, rows), and the seconds (rows,) of each execution of the pool itself."""

    rows: np.ndarray
    pools: np.ndarray
    ratios: np.ndarray
    seconds: dict[str, np.ndarray]
    asked: tuple[int, int]
    title: str


def landscape(models: Sequence[ModelCosts], setting: Setting, chunk: int | None, epochs: int) -> Landscape:
    """Executions over training rows and sizes of the pool; pools of other sizes are of the same models in turn."""
    rows = row_grid(_MOST_ROWS)[::2]
    largest = max(_LARGE_POOL, 2 * len(models))
    pools = np.unique(np.geomspace(_LEAST_POOL, largest, _POOLS).round().astype(int)).tolist()
    settings = [replace(setting, train_rows=number) for number in rows]
    ratios = [[_ratio(pool_of(models, size), each, chunk) for each in settings] for size in pools]
    seconds = {
        "plain": [simulate_plain(models, each).seconds for each in settings],
        "halved": [expected_halving(models, each, chunk, orders=1).seconds for each in settings],
        f"fine-tuning all, {epochs} epochs": [simulate_finetuning(models, each, epochs).seconds for each in settings],
    }
    devices = "1 device" if setting.devices == 1 else f"{setting.devices} devices"
    return Landscape(
        np.array(rows),
        np.array(pools),
        np.array(ratios),
        # What takes no time has no place on a logarithmic scale.
        {name: np.maximum(values, _LEAST_SECONDS) for name, values in seconds.items()},
        (setting.train_rows, len(models)),
        f"{setting.test_rows} test rows, {devices}",
    )


def write_pictures(
    directory: Path, models: Sequence[ModelCosts], setting: Setting, chunk: int | None, epochs: int
) -> Iterator[Path]:
    """Draw `break-even.png` and `break-even.html` into a directory; yields each once it is written.

    Raises StoreError when one cannot be written.
    """
    drawn = landscape(models, setting, chunk, epochs)
    try:
        path = directory / "break-even.png"
        draw(path, drawn)
        yield path
        path = directory / "break-even.html"
        sections = [
            Section(
                f"How many times faster halving is: {drawn.title}",
                "The line is where both take equally long; the diamond is what was asked.",
                ratio_figure(drawn),
            ),
            Section(
                f"Seconds of {drawn.asked[1]} models: {drawn.title}",
                "The legend shows and hides executions.",
                seconds_figure(drawn),
            ),
        ]
        write_page(path, "Halving against evaluating every model on all rows", sections)
        yield path
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"pictures cannot be written to {directory}: {reason}",
            subject=str(directory),
            fix="name a directory that can be written",
        ) from error


def draw(path: Path, drawn: Landscape) -> None:
    """Both charts beside each other, for paper."""
    colours = LinearSegmentedColormap.from_list("ratios", [_SLOWER, "white", _FASTER])
    limit = np.log2(_LARGEST_RATIO)
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        ratios = np.log2(drawn.ratios)
        filled = left.pcolormesh(drawn.rows, drawn.pools, ratios, cmap=colours, vmin=-limit, vmax=limit)
        # A contour that nothing crosses is warned of.
        if ratios.min() < 0 < ratios.max():
            left.contour(drawn.rows, drawn.pools, ratios, levels=[0.0], colors="black", linewidths=1.2)
        left.plot(*drawn.asked, marker="D", markersize=6, color="black", markeredgecolor="white")
        bar = figure.colorbar(filled, ax=left, ticks=np.log2(_TICKS))
        bar.ax.set_yticklabels(_WORDED_TICKS)
        left.set(xscale="log", yscale="log", xlabel=_ROWS_LABEL, ylabel=_POOL_LABEL, title=f"halving: {drawn.title}")
        for (name, seconds), colour in zip(drawn.seconds.items(), COLOURS, strict=False):
            right.plot(drawn.rows, seconds, color=colour, label=name)
        right.axvline(drawn.asked[0], color=COLOURS[-1], linewidth=0.8)
        title = f"{drawn.asked[1]} models"
        right.set(xscale="log", yscale="log", xlabel=_ROWS_LABEL, ylabel=_SECONDS_LABEL, title=title)
        right.legend()
        figure.savefig(path)


def ratio_figure(drawn: Landscape) -> go.Figure:
    """The ratios as a map, with the line on which both take equally long."""
    figure = figure_of(560)
    limit = float(np.log2(_LARGEST_RATIO))
    ratios = np.log2(drawn.ratios)
    place = {"x": drawn.rows, "y": drawn.pools, "z": ratios}
    figure.add_heatmap(
        **place,
        customdata=drawn.ratios,
        colorscale=[[0, _SLOWER], [0.5, "white"], [1, _FASTER]],
        zmin=-limit,
        zmax=limit,
        colorbar={"tickvals": np.log2(_TICKS), "ticktext": _WORDED_TICKS},
        hovertemplate="%{y} models, %{x} training rows<br>plain ÷ halved: %{customdata:.2f}<extra></extra>",
    )
    line = {"start": 0, "end": 0, "size": 1, "coloring": "none"}
    figure.add_contour(**place, contours=line, line={"color": "black", "width": 2}, showscale=False, hoverinfo="skip")
    rows, models = drawn.asked
    diamond = {"symbol": "diamond", "size": 12, "color": "black", "line": {"color": "white", "width": 1}}
    figure.add_scatter(x=[rows], y=[models], mode="markers", marker=diamond, hoverinfo="skip", showlegend=False)
    figure.update_xaxes(type="log", title=_ROWS_LABEL)
    figure.update_yaxes(type="log", title=_POOL_LABEL)
    return figure


def seconds_figure(drawn: Landscape) -> go.Figure:
    """What each execution of the pool takes, over training rows."""
    figure = figure_of(560)
    for (name, seconds), colour in zip(drawn.seconds.items(), COLOURS, strict=False):
        told = f"<b>{name}</b><br>%{{x}} training rows: %{{y:.1f}} s<extra></extra>"
        figure.add_scatter(x=drawn.rows, y=seconds, name=name, line={"color": colour}, hovertemplate=told)
    figure.add_vline(x=drawn.asked[0], line={"color": COLOURS[-1], "width": 1})
    figure.update_xaxes(type="log", title=_ROWS_LABEL)
    figure.update_yaxes(type="log", title=_SECONDS_LABEL)
    return figure


def _ratio(models: Sequence[ModelCosts], setting: Setting, chunk: int | None) -> float:
    halved = expected_halving(models, setting, chunk, orders=1).seconds
    # Nothing costs anything: neither is faster.
    return simulate_plain(models, setting).seconds / halved if halved else 1.0
