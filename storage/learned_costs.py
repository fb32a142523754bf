"""What work took on this machine beside what it was expected to take, as running means of which the old fade."""

from __future__ import annotations

import math
import platform
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Field, Session, SQLModel, col, select

from storage.database import Database
from storage.workload import ALL_CORES

# Each new ratio lets all earlier ones of its level count so much less: about the last twenty make the mean.
_FADING = 0.95
# One that is further off is as likely a suspended machine as a slow one.
_FARTHEST = math.log(30.0)
_SUBJECTS_PER_QUERY = 10_000

# What ratios are of, from a stage of work in general to a stage of one model's: the stage, and whose it is.
Level: TypeAlias = tuple[str, str]


class LearnedCostRecord(SQLModel, table=True):
    """The faded count of the ratios of a level on a machine, and the faded sum of their logarithms."""

    __tablename__ = "learned_costs"

    machine: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    stage: str = Field(primary_key=True)
    count: float
    log_sum: float


class Learned(NamedTuple):
    """How many ratios count, and the sum of their logarithms."""

    number: float
    log_sum: float


class Observation(NamedTuple):
    """How many times the expected seconds something took, and all levels that says something of."""

    ratio: float
    levels: Sequence[Level]


class LearnedCosts:
    """What was learned on a machine; machines that are alike learn together."""

    def __init__(self, database: Database, machine: str | None = None) -> None:
        self._database = database
        self._machine = this_machine() if machine is None else machine

    def of(self, subjects: Collection[str]) -> dict[Level, Learned]:
        """What is known of all stages of these subjects."""
        wanted = sorted(set(subjects))
        table = LearnedCostRecord
        columns = select(table.stage, table.subject, table.count, table.log_sum).where(table.machine == self._machine)

        def look_up(session: Session) -> dict[Level, Learned]:
            found: dict[Level, Learned] = {}
            for start in range(0, len(wanted), _SUBJECTS_PER_QUERY):
                batch = wanted[start : start + _SUBJECTS_PER_QUERY]
                for stage, subject, count, log_sum in session.exec(columns.where(col(table.subject).in_(batch))):
                    found[stage, subject] = Learned(count, log_sum)
            return found

        return self._database.do(look_up)

    def learn(self, observations: Iterable[Observation]) -> None:
        """Take ratios into the means of their levels, in turn."""
        news: dict[Level, Learned] = {}
        fades: dict[Level, float] = {}
        for ratio, levels in observations:
            logarithm = min(_FARTHEST, max(-_FARTHEST, math.log(ratio)))
            for level in levels:
                number, log_sum = news.get(level, Learned(0.0, 0.0))
                news[level] = Learned(1 + _FADING * number, logarithm + _FADING * log_sum)
                fades[level] = _FADING * fades.get(level, 1.0)
        if not news:
            return
        insert = (postgresql if self._database.engine.name == "postgresql" else sqlite).insert(LearnedCostRecord)
        table = LearnedCostRecord

        def add(session: Session) -> None:
            for (stage, subject), (number, log_sum) in news.items():
                fade = fades[stage, subject]
                session.execute(
                    insert.values(
                        machine=self._machine, subject=subject, stage=stage, count=number, log_sum=log_sum
                    ).on_conflict_do_update(
                        index_elements=["machine", "subject", "stage"],
                        set_={
                            "count": col(table.count) * fade + number,
                            "log_sum": col(table.log_sum) * fade + log_sum,
                        },
                    )
                )
            session.commit()

        self._database.do(add)


@cache
def this_machine() -> str:
    """What makes a machine as fast as it is: its processor, the cores this process may use, its GPUs."""
    gpus = sorted(filter(None, (_after_colon(file, "Model") for file in _gpu_files())))
    processor = _after_colon(Path("/proc/cpuinfo"), "model name") or platform.machine()
    return ", ".join([f"{ALL_CORES} x {processor}", *gpus])


def _gpu_files() -> Iterable[Path]:
    return Path("/proc/driver/nvidia/gpus").glob("*/information")


def _after_colon(file: Path, key: str) -> str | None:
    """What a file says of a key, as `key : value`; None where it says nothing."""
    try:
        with file.open() as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return None
