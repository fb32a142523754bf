"""Homes to ask questions in, by whole processes of the console command or one after the other in a session."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.playground.sizes import Reader
from tasks.playground.targets import split_path

_START_SERVER = (
    "from flows.server import ensure_server; from storage.settings import current_settings; "
    "ensure_server(current_settings())"
)


# A notebook's: every line is a question, and every line written its answer.
_SESSION = """
import json, sys
import shiftql
for line in sys.stdin:
    try:
        answer = shiftql.query(json.loads(line)).to_json()
    except shiftql.ShiftError as error:
        answer = {"failed": str(error)}
    print(json.dumps(answer), flush=True)
"""


class CommandError(Exception):
    """A command failed; says what it wrote."""


@dataclass(frozen=True)
class Asked:
    """A question that had new work, and what it took.

    `estimated` are the seconds by the clock that its plan says beforehand, when `known` evaluations had been made in
    the home, and `estimated_work` those of its steps. `seconds` is what it took by the clock, `work` those of the
    evaluations that were made for it, `wall` what was waited for the answer, with the start of a process for it.
    """

    text: str
    answer: Mapping[str, Any]
    estimated: float
    estimated_work: float
    seconds: float
    work: float
    wall: float
    known: int

    @property
    def picked(self) -> str:
        return next(row["model"] for row in self.answer["ranking"] if not row.get("baseline"))

    @property
    def scores(self) -> dict[str, float]:
        return {row["model"]: row["score"] for row in self.answer["ranking"] if not row.get("baseline")}


@dataclass(frozen=True)
class Home:
    """A SHIFT_HOME."""

    path: Path

    def shiftql(self, *arguments: str) -> str:
        """The standard output of a command. Raises CommandError where it fails."""
        done = self._run(str(Path(sys.executable).with_name("shiftql")), *arguments)
        if done.returncode:
            raise CommandError(f"shiftql {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def query(self, text: str) -> dict[str, Any]:
        return json.loads(self.shiftql("--format", "json", "-c", text))

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A process to ask questions in, one after the other; frameworks that one of them started go on running."""
        command = [sys.executable, "-c", _SESSION]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        ) as process:
            yield Session(process)
            process.communicate()

    def add_target(self, name: str, directory: Path, reader: Reader) -> None:
        """Register the splits of a target of the playground's kind that was written to a directory."""
        for split in ("train", "test"):
            self.shiftql("datasets", "add", f"{name}-{split}", str(split_path(directory, split, reader)))

    def ask(self, text: str, session: Session | None = None) -> Asked:
        """Answer a question, in a session or by a process of its own, and measure it."""
        query = self.query if session is None else session.query
        total = query(f"EXPLAIN JSON {text}")["plan"]["total"]
        known, before = self._recorded()
        started = time.perf_counter()
        answer = query(text)
        wall = time.perf_counter() - started
        return Asked(
            text,
            answer,
            total["estimated_seconds"],
            total["estimated_work_seconds"],
            answer["seconds"],
            self._recorded()[1] - before,
            wall,
            known,
        )

    def start_server(self) -> None:
        self._run(sys.executable, "-c", _START_SERVER)

    def stop_server(self) -> None:
        self.shiftql("down")

    def spent_on(self, train: str, method: str) -> float:
        """Seconds of all evaluations by a method that were trained on a split."""
        return self._sum("train_name = ? AND method = ?", train, method)[1]

    def _recorded(self) -> tuple[int, float]:
        return self._sum("1")

    def _sum(self, condition: str, *values: str) -> tuple[int, float]:
        """How many evaluations meet a condition, and their seconds."""
        with closing(sqlite3.connect(self.path / "shift.db")) as database:
            query = f"SELECT COUNT(cost_seconds), COALESCE(SUM(cost_seconds), 0) FROM evaluations WHERE {condition}"
            return database.execute(query, values).fetchone()

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, env=self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "SHIFT_HOME": str(self.path)}


class Session:
    """A process that answers questions."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def query(self, text: str) -> dict[str, Any]:
        """The answer as JSON. Raises CommandError where there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(text) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"failed": "the process ended"}
        # Of an answer it is a list of models.
        if isinstance(answer.get("failed"), str):
            raise CommandError(f"{text} failed:\n{answer['failed']}")
        return answer


def question(ranker: str, dataset: str, condition: str = "") -> str:
    """The models that meet a condition by a ranker, on the splits of a dataset."""
    where = f" WHERE {condition}" if condition else ""
    return f"SELECT name FROM models{where} ORDER BY {ranker} TRAINED ON '{dataset}-train' TESTED ON '{dataset}-test'"


@contextmanager
def fresh_home(template: Home, name: str) -> Iterator[Home]:
    """A copy of a home in which nothing was asked yet, with a server of its own; deleted in the end."""
    home = Home(template.path.with_name(name))
    shutil.rmtree(home.path, ignore_errors=True)
    shutil.copytree(template.path, home.path)
    home.start_server()
    try:
        yield home
    finally:
        home.stop_server()
        shutil.rmtree(home.path, ignore_errors=True)
