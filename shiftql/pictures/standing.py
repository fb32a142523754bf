"""What a standing question answered over time: the scores of its models, or their places where there are no scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from shiftql.pictures.looks import COLOURS, look, shortened
from shiftql.pictures.png import STYLE
from storage.errors import StoreError
from storage.watches import Recorded

# More lines could not be told apart; those that stood highest at any time are named, the others are grey.
_NAMED = 8
_GREY = COLOURS[-1]
_PLACE = "place"


def draw_history(path: Path, name: str, history: Sequence[Recorded]) -> None:
    """Draw it into a PNG file; a diamond stands where somebody came to be first.

    Raises StoreError where nothing was recorded yet, or the file cannot be written.
    """
    if not any(answer.places for answer in history):
        raise StoreError(f"{name} has ranked nothing yet", subject=name, fix="'shiftql watches refresh' asks it now")
    scores, label = _scores(history)
    times = date2num([answer.record.recorded for answer in history])
    # The last answer holds until now.
    times = np.append(times, max(date2num(datetime.now(UTC)), times[-1]))
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.subplots()
        named = _highest(history)
        for model in sorted(scores, key=lambda each: (each in named, each)):
            values = np.append(scores[model], scores[model][-1])
            line: dict[str, Any] = {"color": _GREY, "linewidth": 0.7, "alpha": 0.5}
            if model in named:
                shown = look(named.index(model))
                line = {"color": shown.colour, "linestyle": shown.dash[0], "linewidth": 1.6}
                line |= {"label": shortened(model), "marker": shown.marker[0], "markersize": 3.5}
            axes.step(times, values, where="post", markevery=slice(0, len(history)), **line)
        for number in _changes(history):
            record = history[number].record
            assert record.first is not None
            height = scores[record.first][number]
            axes.plot(times[number], height, marker="D", markersize=8, color="black", markerfacecolor="none")
            axes.annotate(
                shortened(record.first),
                (times[number], height),
                textcoords="offset points",
                xytext=(0, 9),
                ha="center",
                fontsize=8,
            )
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        if label == _PLACE:
            axes.invert_yaxis()
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.15)
        axes.set(title=f"{name}: ◇ another is first", ylabel=label, xlabel="time (UTC)")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
        try:
            figure.savefig(path, format="png")
        except OSError as error:
            raise StoreError(
                f"{path} cannot be written: {error.strerror or error}",
                subject=str(path),
                fix="name a file in a directory that can be written",
            ) from error


def _scores(history: Sequence[Recorded]) -> tuple[dict[str, np.ndarray], str]:
    """The (answers,) scores of every model, NaN where it had none, and what they are."""
    metrics = Counter(place.metric for answer in history for place in answer.places if place.score is not None)
    metric = metrics.most_common(1)[0][0] if metrics else None
    label = str(metric) if metrics else _PLACE
    models = dict.fromkeys(place.name for answer in history for place in answer.places)
    scores = {model: np.full(len(history), np.nan) for model in models}
    for number, answer in enumerate(history):
        for rank, place in enumerate(answer.places, start=1):
            scores[place.name][number] = rank if label == _PLACE else np.nan if place.score is None else place.score
    return scores, label


def _highest(history: Sequence[Recorded]) -> list[str]:
    """The models with the best place at any time, whoever is first at last before all others."""
    best: dict[str, tuple[int, int]] = {}
    for age, answer in enumerate(reversed(history)):
        for rank, place in enumerate(answer.places):
            best[place.name] = min(best.get(place.name, (rank, age)), (rank, age))
    return sorted(best, key=lambda name: (best[name], name))[:_NAMED]


def _changes(history: Sequence[Recorded]) -> list[int]:
    """Which answers gave somebody else the first place."""
    return [number for number, answer in enumerate(history) if answer.record.changed]
