"""In which order a performance matrix is best filled, on recorded results.

    python benchmarks/matrix.py [--auto] [RECORDS]

RECORDS is a table, by default the shipped `vision_1k.csv`. Each dataset in turn is the target, and the matrix of the
others is filled until some share of its cost is spent: by the order of `shiftql benchmark build`, which is told what
the model and the dataset of a cell cost on average; at random; row by row; and the cheapest cell
first. Printed are, in per cent, the error of the matrix (root mean square over all cells, unknown ones filled in by a
normal distribution, and what is known without error), and the final regret on the target of strategies that have only
that matrix for a history. `--auto` replays Auto too, which takes far longer than all the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import shiftql
from shiftql.recorded import Records, load_records
from shiftql.replaying import replay
from shiftql.strategies.matrix import MatrixOrder, covariance
from shiftql.strategies.specs import read_strategy

Cells = Iterable[tuple[int, int]]

SHIPPED = Path(shiftql.__file__).parent / "records" / "vision_1k.csv"
SHARES = (0.1, 0.2, 0.4)
STRATEGIES = ("BestAverage(10)", "BestPerBenchmark")
SEEDS = range(3)
# Of the variance of a dataset, what is no property of a model.
NOISE = 0.1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("records", nargs="?", type=Path, default=SHIPPED)
    arguments.add_argument("--auto", action="store_true", help="replay Auto too")
    options = arguments.parse_args()
    records = load_records(options.records)
    strategies = (*STRATEGIES, *(["Auto"] if options.auto else []))
    print(f"{'order':16}{'share':>6}{'cells':>7}{'error':>8}" + "".join(f"{name:>18}" for name in strategies))
    for name, order in ORDERS.items():
        seeds = SEEDS if name in {"at random", "row by row"} else range(1)
        rows = [
            measure(records, order, target, seed, strategies)
            for seed in seeds
            for target in range(len(records.datasets))
        ]
        for number, share in enumerate(SHARES):
            cells, error, *regrets = np.mean([row[number] for row in rows], axis=0)
            figures = "".join(f"{100 * regret:18.2f}" for regret in regrets)
            print(f"{name:16}{share:6.0%}{cells:7.0f}{100 * error:8.2f}{figures}", flush=True)


def informative(records: Records, offered: np.ndarray, seconds: np.ndarray, _: int) -> Iterator[tuple[int, int]]:
    """The order of `shiftql benchmark build`, which sees what it has measured."""
    nothing = np.full(offered.shape, np.nan)
    order = MatrixOrder(nothing, offered, seconds, nothing)
    while (cell := order.next()) is not None:
        yield cell
        order.tell(cell, float(records.test[cell]), None)


def at_random(_: Records, offered: np.ndarray, __: np.ndarray, seed: int) -> Cells:
    return map(tuple, np.random.default_rng(seed).permutation(np.argwhere(offered)))


def row_by_row(_: Records, offered: np.ndarray, __: np.ndarray, seed: int) -> Cells:
    models = np.random.default_rng(seed).permutation(len(offered))
    return ((model, dataset) for model in models for dataset in np.flatnonzero(offered[model]))


def cheapest(_: Records, offered: np.ndarray, seconds: np.ndarray, __: int) -> Cells:
    cells = np.argwhere(offered)
    return map(tuple, cells[np.argsort(seconds[offered], kind="stable")])


ORDERS: dict[str, Callable[[Records, np.ndarray, np.ndarray, int], Cells]] = {
    "most telling": informative,
    "at random": at_random,
    "row by row": row_by_row,
    "cheapest": cheapest,
}


def measure(
    records: Records,
    order: Callable[[Records, np.ndarray, np.ndarray, int], Cells],
    target: int,
    seed: int,
    strategies: Iterable[str],
) -> list[tuple[float, ...]]:
    """For every share of the cost: cells known, error of the matrix, and the regret of each strategy."""
    offered = ~np.isnan(records.test)
    took = np.where(offered, sum(records.seconds), np.nan)
    offered[:, target] = False
    found = []
    for known in filled(order(records, offered, additive(took), seed), np.nan_to_num(took), offered):
        unknown = offered & ~known
        error = np.where(unknown, completed(np.where(known, records.test, np.nan)) - records.test, 0.0)
        hidden = unknown | ~(offered | known)
        hidden[:, target] = False
        history = replace(
            records,
            test=np.where(hidden, np.nan, records.test),
            validation=tuple(np.where(hidden, np.nan, values) for values in records.validation),
            seconds=tuple(np.where(hidden, np.nan, values) for values in records.seconds),
        )
        regrets = [
            replay(history, records.datasets[target], read_strategy(name).make).final_regret for name in strategies
        ]
        found.append((float(known.sum()), float(np.sqrt((error[offered] ** 2).mean())), *regrets))
    return found


def filled(cells: Cells, seconds: np.ndarray, offered: np.ndarray) -> Iterator[np.ndarray]:
    """Which cells are known when each share of the cost of all is spent."""
    total, spent, left = seconds[offered].sum(), 0.0, list(SHARES)
    known = np.zeros(offered.shape, dtype=bool)
    for cell in cells:
        spent += seconds[cell]
        while left and spent > left[0] * total:
            left.pop(0)
            yield known.copy()
        if not left:
            return
        known[cell] = True


def additive(seconds: np.ndarray) -> np.ndarray:
    """What cells cost by their model and their dataset."""
    logarithms = np.log(seconds)
    mean = np.nanmean(logarithms)
    return np.exp(np.nanmean(logarithms, axis=1)[:, None] + np.nanmean(logarithms, axis=0) - mean)


def completed(values: np.ndarray) -> np.ndarray:
    """A matrix with its unknown cells filled in: each row is a draw of one normal distribution."""
    known = ~np.isnan(values)
    overall = np.nanmean(values)
    mean = overall + np.where(known, values - overall, 0.0).sum(axis=0) / (known.sum(axis=0) + 1)
    together = covariance(values)
    noise = NOISE * np.diag(together)
    full = np.tile(mean, (len(values), 1))
    for row, seen in enumerate(known):
        if seen.any():
            told = together[np.ix_(seen, seen)] + np.diag(noise[seen])
            full[row] += together[:, seen] @ np.linalg.solve(told, values[row, seen] - mean[seen])
    return full


if __name__ == "__main__":
    main()
