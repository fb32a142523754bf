"""Search against enumeration, halving against none, and estimates against what came of them, on the playground.

    python benchmarks/live.py [--size small|full] [--targets A,B] [--epochs 25] [--only searches|halving] [--json]
        [DIRECTORY]

DIRECTORY keeps the playground, the targets and the enumeration between runs, in which every model is fine-tuned on
every target: what it holds is not measured again. Every search runs in a home that knows nothing of its target. Targets
are those of the playground with 2,000 test rows, and one with 20,000 training rows to halve on.

Search time is told in two ways: `work` are the summed seconds of the evaluations, several of which may go on side by
side, `wall` is what is waited for the answer in a session that has asked something of another target before, as in a
notebook. Enumeration fine-tunes one model after the other on all cores, so that its evaluations' seconds are what is
waited for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from homes import Asked, CommandError, Home, Session, fresh_home, question

from tasks.playground.sizes import SIZES, TargetSpec
from tasks.playground.targets import write

TEST_ROWS = 2000
HALVED_ROWS = 20_000
SEED = 1
# How many times faster than enumeration each search is to be by the clock, by modality.
LEAST_RATIO = {
    "Linear": {"image": 20.0, "text": 20.0},
    "Linear + fine-tune": {"image": 10.0, "text": 5.0},
    "halved": {"image": 20.0, "text": 20.0},
    "halved + fine-tune": {"image": 10.0, "text": 5.0},
    "Auto + fine-tune": {"image": 10.0, "text": 5.0},
}
# Of Auto: its mean and its worst regret.
MOST_REGRET = (0.01, 0.05)
LEAST_HALVING, MOST_POINTS, MOST_SLOWER = 3.0, 0.005, 0.05
_LEFT_OPEN = " CHUNK AUTO BUDGET AUTO"
WAYS = ("not halved", "halved", "optimizer's choice")
# Evaluations after which estimates are to be within the first of these factors nine times in ten; the last before any.
LEARNED, FACTORS = 20, (1.5, 3.0)


@dataclass(frozen=True)
class Search:
    """One way to a model for one target: seconds, and how the pick does among those that were all fine-tuned."""

    target: str
    modality: str
    way: str
    picked: str
    regret: float
    work: float
    wall: float
    enumeration: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"work_ratio": self.enumeration / self.work, "wall_ratio": self.enumeration / self.wall}


@dataclass(frozen=True)
class Halving:
    """Not halving, halving, and what the optimizer chose, on one target; `behind` is what a pick loses by the proxy."""

    rows: int
    way: str
    picked: str
    behind: float
    work: float
    wall: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path)
    arguments.add_argument("--size", choices=list(SIZES), default="small")
    arguments.add_argument("--targets", help="names, separated by commas (default: all of the playground)")
    arguments.add_argument("--epochs", type=int, default=25)
    arguments.add_argument("--only", choices=["searches", "halving"])
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench((options.directory or Path(temporary)).absolute(), options.size, options.epochs)
        wanted = options.targets and options.targets.split(",")
        targets = [
            spec
            for spec in SIZES[options.size]
            if isinstance(spec, TargetSpec) and spec.name in (wanted or [spec.name])
        ]
        found = bench.measure(targets, options.only)
    print(json.dumps(found) if options.json else worded(found))


class Bench:
    """The benchmark in a directory; `asked` are all questions with new work."""

    def __init__(self, directory: Path, size: str, epochs: int) -> None:
        self._directory = directory
        self._size = size
        self._epochs = epochs
        self._template = Home(directory / "template")
        self._kept = Home(directory / "enumeration")
        self._asked: list[Asked] = []
        self._failed: list[str] = []

    def measure(self, targets: Sequence[TargetSpec], only: str | None) -> dict[str, Any]:
        self._template.shiftql("playground", str(self._directory / "playground"), "--size", self._size)
        self._kept.shiftql("playground", str(self._directory / "playground"), "--size", self._size)
        targets = [replace(spec, test_rows=TEST_ROWS) for spec in targets]
        searches: list[Search] = []
        if only != "halving":
            truths = {spec: self._enumerate(spec) for spec in targets if self._register(spec)}
            searches = [*self._proxy_searches(truths), *self._auto_searches(truths)]
        halvings: list[Halving] = []
        if only != "searches":
            small = next(spec for spec in targets if spec.modality == "image")
            for spec in (small, replace(small, train_rows=HALVED_ROWS)):
                self._register(spec)
                halvings += self._halvings(spec)
        return {
            "size": self._size,
            "epochs": self._epochs,
            "searches": [each.to_json() for each in searches],
            "halvings": [asdict(each) for each in halvings],
            "failed": self._failed,
            "estimates": [
                {
                    "question": each.text,
                    "known": each.known,
                    "estimated": each.estimated,
                    "seconds": each.seconds,
                    "estimated_work": each.estimated_work,
                    "work": each.work,
                }
                for each in self._asked
            ],
        }

    def _register(self, spec: TargetSpec) -> bool:
        """Write a target and register it; False where there are not so many different rows of it."""
        directory = self._directory / "targets" / name_of(spec)
        if not directory.exists():
            unfinished = directory.with_name(f"{directory.name}-unfinished")
            unfinished.mkdir(parents=True, exist_ok=True)
            try:
                write(spec, unfinished, SEED)
            except ValueError as error:
                say(f"{spec.name} is left out: {error}")
                return False
            unfinished.rename(directory)
        for home in (self._template, self._kept):
            home.add_target(name_of(spec), directory, spec.reader)
        return True

    def _ask(self, home: Home, text: str, session: Session | None = None) -> Asked:
        asked = home.ask(text, session)
        # What was known already tells nothing of estimates.
        if asked.work > 0:
            self._asked.append(asked)
        said = f"{asked.estimated:.1f} s expected, of which {asked.estimated_work:.1f} s work"
        say(f"{asked.seconds:.1f} s, {asked.work:.1f} s of evaluations; {said}; {asked.known} known: {text}")
        return asked

    def _enumerate(self, spec: TargetSpec) -> dict[str, float]:
        """What every model reaches fine-tuned on a target."""
        with server(self._kept):
            return self._ask(self._kept, question(f"FineTune(epochs={self._epochs})", name_of(spec))).scores

    def _search(
        self, spec: TargetSpec, way: str, scores: Sequence[str], truth: dict[str, float], *steps: Asked
    ) -> Search:
        """Of models in the order of a ranking, the first that can be fine-tuned is picked."""
        picked = next(model for model in scores if model in truth)
        best = max(truth.values())
        spent = self._kept.spent_on(f"{name_of(spec)}-train", "finetune")
        work, wall = sum(step.work for step in steps), sum(step.wall for step in steps)
        return Search(spec.name, spec.modality, way, picked, (best - truth[picked]) / best, work, wall, spent)

    def _proxy_searches(self, truths: dict[TargetSpec, dict[str, float]]) -> Iterator[Search]:
        """By the linear proxy on all rows, and as the optimizer likes: all targets in turn, in a home for each way."""
        for way, left_open in (("Linear", ""), ("halved", _LEFT_OPEN)):
            with self._warm("proxy", *{each.modality: each for each in truths}.values()) as (home, session):
                for spec, truth in truths.items():
                    with self._going_on():
                        ranked = self._ask(home, question("Linear", name_of(spec)) + left_open, session)
                        search = self._search(spec, way, list(ranked.scores), truth, ranked)
                        yield search
                        ranker = f"FineTune(epochs={self._epochs})"
                        tuned = self._ask(home, question(ranker, name_of(spec), f"name = '{search.picked}'"), session)
                        yield self._search(spec, f"{way} + fine-tune", [search.picked], truth, ranked, tuned)

    def _auto_searches(self, truths: dict[TargetSpec, dict[str, float]]) -> Iterator[Search]:
        """By Auto, each in a home of its own: it has no history but the published."""
        for spec, truth in truths.items():
            with self._going_on(), self._warm(f"auto-{spec.name}", spec) as (home, session):
                ranked = self._ask(home, question("Auto", name_of(spec)), session)
                search = self._search(spec, "Auto", list(ranked.scores), truth, ranked)
                yield search
                # As Auto fine-tunes: what it did itself is known.
                tuned = self._ask(home, question("FineTune", name_of(spec), f"name = '{search.picked}'"), session)
                yield self._search(spec, "Auto + fine-tune", [search.picked], truth, ranked, tuned)

    @contextmanager
    def _warm(self, name: str, *specs: TargetSpec) -> Iterator[tuple[Home, Session]]:
        """A new home and a session in it, in which all is started that questions about these targets need."""
        with fresh_home(self._template, name) as home, home.session() as session:
            for spec in specs:
                session.query(self._warming(spec))
            yield home, session

    def _warming(self, spec: TargetSpec) -> str:
        """A question about another target that starts all that models are opened in; of one alone about other rows."""
        alike = [
            each.name for each in SIZES[self._size] if isinstance(each, TargetSpec) and each.modality == spec.modality
        ]
        other = next((name for name in alike if name != spec.name), spec.name)
        return question("Linear", other)

    def _halvings(self, spec: TargetSpec) -> Iterator[Halving]:
        """By the linear proxy on all rows, in rounds with the smallest budget, and as the optimizer likes."""
        scores: dict[str, float] = {}
        for way in WAYS:
            with self._going_on(), self._warm("halving", spec) as (home, session):
                limits = ("", f" BUDGET {self._least_budget(home)}", _LEFT_OPEN)[WAYS.index(way)]
                asked = self._ask(home, question("Linear", name_of(spec)) + limits, session)
                scores = scores or asked.scores
                behind = max(scores.values()) - scores[asked.picked]
                yield Halving(spec.train_rows, way, asked.picked, behind, asked.work, asked.wall)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """What fails is told and left out."""
        try:
            yield
        except CommandError as error:
            say(f"FAILED: {error}")
            self._failed.append(str(error))

    def _least_budget(self, home: Home) -> int:
        from shiftql.strategies.successive_halving import least_budget

        return least_budget(len(home.query("SELECT name FROM image_models")["rows"]))


@contextmanager
def server(home: Home) -> Iterator[None]:
    home.start_server()
    try:
        yield
    finally:
        home.stop_server()


def name_of(spec: TargetSpec) -> str:
    return f"{spec.name}-{spec.train_rows}-{spec.test_rows}"


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def worded(found: dict[str, Any]) -> str:
    """The tables, and what each figure should be."""
    parts = [_searches(found) if found["searches"] else (), _halvings(found) if found["halvings"] else ()]
    failed = [f"FAILED: {each.splitlines()[0]}" for each in found["failed"]]
    return "\n\n".join("\n".join(part) for part in [*parts, _estimates(found), failed] if part)


def _searches(found: dict[str, Any]) -> Iterator[str]:
    yield f"Search against fine-tuning every model, {found['epochs']} epochs, {found['size']} playground"
    figures = f"{'regret':>8}{'work s':>9}{'wall s':>9}{'of s':>9}{'work ×':>8}{'wall ×':>8}"
    yield f"{'target':20}{'by':20}{'picks':24}{figures}"
    searches = sorted(found["searches"], key=lambda each: each["target"])
    for each in searches:
        yield (
            f"{each['target']:20}{each['way']:20}{each['picked']:24}{100 * each['regret']:7.2f}%{each['work']:9.1f}"
            f"{each['wall']:9.1f}{each['enumeration']:9.1f}{each['work_ratio']:8.1f}{each['wall_ratio']:8.1f}"
        )
    for way in dict.fromkeys(each["way"] for each in found["searches"]):
        of_way = [each for each in searches if each["way"] == way]
        regrets = [each["regret"] for each in of_way]
        limits = (
            f" (at most {100 * MOST_REGRET[0]:g} % and {100 * MOST_REGRET[1]:g} %)" if way == "Auto + fine-tune" else ""
        )
        yield f"{way}: mean regret {100 * statistics.fmean(regrets):.2f} %, worst {100 * max(regrets):.2f} %{limits}"
        for modality in dict.fromkeys(each["modality"] for each in of_way):
            alike = [each for each in of_way if each["modality"] == modality]
            spent = sum(each["enumeration"] for each in alike)
            work, wall = (spent / sum(each[name] for each in alike) for name in ("work", "wall"))
            least = LEAST_RATIO.get(way, {}).get(modality)
            verdict = "" if least is None else f" (at least {least:g}: {'ok' if wall >= least else 'MISSED'})"
            yield f"  {modality}: {wall:.1f} times faster than enumeration{verdict}, {work:.1f} times less work"


def _halvings(found: dict[str, Any]) -> Iterator[str]:
    yield f"{'training rows':16}{'':20}{'picks':24}{'behind':>9}{'work s':>9}{'wall s':>9}"
    for each in found["halvings"]:
        behind = f"{100 * each['behind']:.1f} pt"
        figures = f"{behind:>9}{each['work']:9.1f}{each['wall']:9.1f}"
        yield f"{each['rows']:<16}{each['way']:20}{each['picked']:24}{figures}"
    for rows, unit in product(dict.fromkeys(each["rows"] for each in found["halvings"]), ("wall", "work")):
        seconds = {each["way"]: each[unit] for each in found["halvings"] if each["rows"] == rows}
        if len(seconds) < len(WAYS):
            continue
        plain, halved, chosen = (seconds[way] for way in WAYS)
        slower = chosen / min(plain, halved) - 1
        least = f" (at least {LEAST_HALVING:g})" if rows == HALVED_ROWS else ""
        yield (
            f"{rows} rows, {unit}: {plain / halved:.2f} times less by the smallest budget, {plain / chosen:.2f} times "
            f"as the optimizer chose{least}, which is {100 * slower:+.0f} % beside the better "
            f"(at most {100 * MOST_SLOWER:g} %)"
        )


def _estimates(found: dict[str, Any]) -> Iterator[str]:
    """How far estimates are off, by the clock and of the work alone, after some evaluations and before any."""
    for estimated, measured, what in (("estimated", "seconds", "the clock"), ("estimated_work", "work", "their work")):
        for is_learned, factor, share in ((True, FACTORS[0], "90 %"), (False, FACTORS[1], "all")):
            ratios = [
                each[estimated] / each[measured]
                for each in found["estimates"]
                if (each["known"] >= LEARNED if is_learned else each["known"] == 0)
            ]
            if ratios:
                close = sum(1 / factor <= ratio <= factor for ratio in ratios)
                when = f"after {LEARNED} evaluations" if is_learned else "before any"
                yield (
                    f"Estimates {when} within {factor:g} times what plans took by {what}: {close} of {len(ratios)} "
                    f"({share}), median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
                )


if __name__ == "__main__":
    main()
