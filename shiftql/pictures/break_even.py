"""Where rounds are faster: over training rows and pool size, and the seconds of this pool over training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from shiftql.pictures.html import Section, figure_of, write_page
from shiftql.pictures.looks import COLOURS
from shiftql.pictures.png import STYLE
from shiftql.simulation import (
    ModelCosts,
    Rounds,
    Setting,
    gain,
    halved,
    pool_of,
    raced,
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
    """Of each kind of rounds how many times faster it is, (pools, rows); of each execution of the pool the seconds,
    (rows,)."""

    rows: np.ndarray
    pools: np.ndarray
    gains: dict[str, np.ndarray]
    seconds: dict[str, np.ndarray]
    asked: tuple[int, int]
    title: str


def landscape(models: Sequence[ModelCosts], setting: Setting, chunk: int | None, epochs: int) -> Landscape:
    """Executions over training rows and sizes of the pool; pools of other sizes are of the same models in turn."""
    rows = row_grid(_MOST_ROWS)[::2]
    largest = max(_LARGE_POOL, 2 * len(models))
    pools = np.unique(np.geomspace(_LEAST_POOL, largest, _POOLS).round().astype(int)).tolist()
    settings = [replace(setting, train_rows=number) for number in rows]
    kinds: dict[str, Rounds] = {"halving": halved(chunk), "the optimizer's race": raced}
    plain = np.array([simulate_plain(models, each).seconds for each in settings])
    seconds: dict[str, ArrayLike] = {
        "plain": plain,
        **{name: plain / [gain(models, each, rounds) for each in settings] for name, rounds in kinds.items()},
        f"fine-tuning all, {epochs} epochs": [simulate_finetuning(models, each, epochs).seconds for each in settings],
    }
    devices = "1 device" if setting.devices == 1 else f"{setting.devices} devices"
    return Landscape(
        np.array(rows),
        np.array(pools),
        {
            name: np.array([[gain(pool_of(models, size), each, rounds) for each in settings] for size in pools])
            for name, rounds in kinds.items()
        },
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
            *(
                Section(
                    f"How many times faster {name} is: {drawn.title}",
                    "The line is where both take equally long; the diamond is what was asked.",
                    ratio_figure(drawn, gains),
                )
                for name, gains in drawn.gains.items()
            ),
            Section(
                f"Seconds of {drawn.asked[1]} models: {drawn.title}",
                "The legend shows and hides executions.",
                seconds_figure(drawn),
            ),
        ]
        write_page(path, "Rounds against evaluating every model on all rows", sections)
        yield path
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"pictures cannot be written to {directory}: {reason}",
            subject=str(directory),
            fix="name a directory that can be written",
        ) from error


def draw(path: Path, drawn: Landscape) -> None:
    """All charts beside each other, for paper."""
    colours = LinearSegmentedColormap.from_list("ratios", [_SLOWER, "white", _FASTER])
    limit = np.log2(_LARGEST_RATIO)
    with rc_context(STYLE):
        figure = Figure(figsize=(15, 4.2), layout="constrained")
        *maps, right = figure.subplots(1, len(drawn.gains) + 1)
        for axes, (name, gains) in zip(maps, drawn.gains.items(), strict=True):
            ratios = np.log2(gains)
            filled = axes.pcolormesh(drawn.rows, drawn.pools, ratios, cmap=colours, vmin=-limit, vmax=limit)
            # A contour that nothing crosses is warned of.
            if ratios.min() < 0 < ratios.max():
                axes.contour(drawn.rows, drawn.pools, ratios, levels=[0.0], colors="black", linewidths=1.2)
            axes.plot(*drawn.asked, marker="D", markersize=6, color="black", markeredgecolor="white")
            axes.set(xscale="log", yscale="log", xlabel=_ROWS_LABEL, ylabel=_POOL_LABEL, title=f"{name}: {drawn.title}")
        bar = figure.colorbar(filled, ax=maps, ticks=np.log2(_TICKS))
        bar.ax.set_yticklabels(_WORDED_TICKS)
        for (name, seconds), colour in zip(drawn.seconds.items(), COLOURS, strict=False):
            right.plot(drawn.rows, seconds, color=colour, label=name)
        right.axvline(drawn.asked[0], color=COLOURS[-1], linewidth=0.8)
        title = f"{drawn.asked[1]} models"
        right.set(xscale="log", yscale="log", xlabel=_ROWS_LABEL, ylabel=_SECONDS_LABEL, title=title)
        right.legend()
        figure.savefig(path)


def ratio_figure(drawn: Landscape, gains: np.ndarray) -> go.Figure:
    """The ratios of one kind of rounds as a map, with the line on which both take equally long."""
    figure = figure_of(560)
    limit = float(np.log2(_LARGEST_RATIO))
    ratios = np.log2(gains)
    place = {"x": drawn.rows, "y": drawn.pools, "z": ratios}
    figure.add_heatmap(
        **place,
        customdata=gains,
        colorscale=[[0, _SLOWER], [0.5, "white"], [1, _FASTER]],
        zmin=-limit,
        zmax=limit,
        colorbar={"tickvals": np.log2(_TICKS), "ticktext": _WORDED_TICKS},
        hovertemplate="%{y} models, %{x} training rows<br>%{customdata:.2f} times as fast as plain<extra></extra>",
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
