"""The pictures of a replay, as files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shiftql.agreement import LEAST
from shiftql.pictures.curves import Curve, costs_of, mean_curve
from shiftql.pictures.estimates import Estimates, of_answer, of_cheap_runs, of_first_epoch
from shiftql.recorded import Records
from shiftql.replaying import Outcome
from storage.errors import StoreError

if TYPE_CHECKING:
    from shiftql.pictures.html import Section


@dataclass(frozen=True)
class Replayed:
    """What became of the targets of a table, by strategy and target: an outcome for every seed."""

    records: Records
    cheap: Records | None
    outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]]

    @property
    def targets(self) -> list[str]:
        return list(next(iter(self.outcomes.values())))


def make_directory(path: Path) -> None:
    """Make a directory for pictures where there is none. Raises StoreError when it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def write_pictures(directory: Path, replays: Sequence[Replayed]) -> Iterator[Path]:
    """Draw the replays of some tables into a directory; yields each file once it is written.

    PNG files of each table: regret against cost on average and by target, and for every source of estimates the truth
    against them. One HTML file holds all. Raises StoreError when one cannot be written.
    """
    from shiftql.pictures import html

    sections: list[Section] = []
    try:
        for replayed in replays:
            yield from _draw(directory, replayed, sections)
        path = directory / "replay.html"
        html.write_page(path, f"Replays of {', '.join(each.records.name for each in replays)}", sections)
        yield path
    except OSError as error:
        raise _unwritable(directory, error) from error


def _draw(directory: Path, replayed: Replayed, sections: list[Section]) -> Iterator[Path]:
    """Write the PNG files of a table, and add what the page shows of it."""
    from shiftql.pictures import html, png

    table, targets = replayed.records.name, replayed.targets
    mean, by_target = _curves(replayed)
    what = f"mean of {len(targets)} targets ± standard error" if len(targets) > 1 else targets[0]
    title = f"{table}: regret against cost, {what}"
    path = directory / f"{table}-regret.png"
    png.draw_mean(path, title, mean)
    yield path
    text = (
        "How far below the best is what would be picked for so much; 100 % where there is no pick yet. The legend "
        "shows and hides strategies."
    )
    sections.append(html.Section(title, text, html.mean_figure(mean, what)))
    if len(targets) > 1:
        title = f"{table}: regret against cost, by target"
        path = directory / f"{table}-regret-by-target.png"
        png.draw_targets(path, title, targets, by_target)
        yield path
        sections.append(html.Section(title, text, html.targets_figure(targets, by_target)))
    estimates = _estimates(replayed)
    for source, by_source in estimates.items():
        path = directory / f"{table}-truth-{_worded_as_name(source)}.png"
        png.draw_truth(path, f"{table}: estimates against fine-tuned accuracy\n{source}", by_source)
        yield path
    if estimates:
        text = (
            "Diamonds were fine-tuned by the strategy itself. Agreement is weighted Kendall tau (τw), Pearson (r) and "
            "Spearman (ρ) over n models. The menu names the target, the legend shows and hides who estimates."
        )
        title = f"{table}: estimates against fine-tuned accuracy"
        sections.append(html.Section(title, text, html.truth_figure(targets, list(estimates.values()))))


def _curves(replayed: Replayed) -> tuple[list[Curve], list[list[Curve]]]:
    """Of every strategy the mean curve over targets; and by target those of every strategy."""
    by_strategy = replayed.outcomes.items()
    costs = costs_of(each for _, targets in by_strategy for outcomes in targets.values() for each in outcomes)
    mean = [mean_curve(strategy, list(targets.values()), costs) for strategy, targets in by_strategy]
    by_target = [
        [mean_curve(strategy, [targets[target]], costs) for strategy, targets in by_strategy]
        for target in replayed.targets
    ]
    return mean, by_target


def _estimates(replayed: Replayed) -> dict[str, list[Estimates]]:
    """By source, its estimates for each target; without sources that never say anything of enough models.

    Of several seeds the first is told.
    """
    records, cheap, targets = replayed.records, replayed.cheap, replayed.targets
    found = [
        [of_answer(strategy, outcomes[target][0]) for target in targets]
        for strategy, outcomes in replayed.outcomes.items()
    ]
    if cheap is not None:
        found.append([of_cheap_runs(records, target, cheap) for target in targets])
    if records.has_epochs:
        found.append([of_first_epoch(records, target) for target in targets])
    return {said[0].source: said for said in found if max(len(each.models) for each in said) >= LEAST}


def _worded_as_name(source: str) -> str:
    """A source as part of a file's name: `Random-k-10`."""
    return re.sub(r"[^\w.]+", "-", source).strip("-")


def _unwritable(path: Path, error: OSError) -> StoreError:
    reason = error.strerror or str(error)
    return StoreError(
        f"pictures cannot be written to {path}: {reason}", subject=str(path), fix="name a directory that can be written"
    )
