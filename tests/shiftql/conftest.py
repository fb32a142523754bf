"""Answers and a session of known content, and a home of its own for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from shiftql.answers import Answer, ErrorAnswer, ExplainAnswer, RankingAnswer, RowsAnswer
from storage.errors import BindingError, StoreError


def _row(model: str, rank: int | None, score: float, tied: bool, **columns: object) -> dict[str, object]:
    figures = {"metric": "accuracy", "higher_is_better": True, "low": score - 0.05, "high": score + 0.05}
    return {
        "rank": rank,
        "model": model,
        "score": score,
        **figures,
        "tied": tied,
        "n_test": 600,
        "layer": None,
        **columns,
    }


LETTERS = _row("resnet-letters", 1, 0.8766, True, num_params=84512)
NOISE = _row("vit-noise", 2, 0.125, False, num_params=300123)
MAJORITY = _row("majority", None, 0.1, False, baseline=True)
FAILED = {"model": "broken", "reason": "its weights are truncated"}


@pytest.fixture
def ranking() -> RankingAnswer:
    return RankingAnswer(
        statement="SELECT num_params …",
        seconds=3.21,
        rankings={"Linear": (LETTERS, NOISE, MAJORITY)},
        failed=(FAILED,),
        evaluated=8,
        reused=4,
    )


@pytest.fixture
def two_rankings() -> RankingAnswer:
    return RankingAnswer(
        statement="…",
        seconds=0.5,
        rankings={"Linear": (LETTERS, MAJORITY), "Cosine NN": (NOISE,)},
        evaluated=2,
    )


@pytest.fixture
def all_failed() -> RankingAnswer:
    return RankingAnswer(statement="…", seconds=1.0, rankings={"Linear": (MAJORITY,)}, failed=(FAILED,))


@pytest.fixture
def no_model() -> RankingAnswer:
    return RankingAnswer(statement="…", seconds=0.1, rankings={"Linear": (MAJORITY,)})


@pytest.fixture
def rows() -> RowsAnswer:
    return RowsAnswer(
        statement="SELECT name, num_params FROM models",
        seconds=0.012,
        columns=("name", "num_params"),
        rows=({"name": "a|b", "num_params": 1234567}, {"name": "c", "num_params": None}),
    )


@pytest.fixture
def no_rows() -> RowsAnswer:
    return RowsAnswer(statement="SELECT name FROM models", seconds=0.012, columns=("name",), rows=())


@pytest.fixture
def plan() -> ExplainAnswer:
    return ExplainAnswer(statement="EXPLAIN …", seconds=0.0, text="Rank\n└─ Scan", plan={"step": "Rank"})


@pytest.fixture
def misnamed() -> ErrorAnswer:
    text = "SELECT nam FROM models"
    error = BindingError("models has no column 'nam'", text=text, line=1, column=8, length=3, fix="did you mean name?")
    return ErrorAnswer(statement=text, seconds=0.0, error=error)


@pytest.fixture
def unreadable() -> ErrorAnswer:
    return ErrorAnswer(statement="…", seconds=0.0, error=StoreError("the database cannot be opened"))


@dataclass
class FakeSession:
    """Gives the answers it was made with, whatever it is asked, and remembers what that was."""

    answers: Sequence[Answer] = ()
    models: Sequence[str] = ("resnet-letters",)
    datasets: Sequence[str] = ("digits-test", "digits-train")
    interrupted: bool = False
    asked: list[str] = field(default_factory=list)

    @property
    def catalog(self) -> SimpleNamespace:
        named = {kind: [SimpleNamespace(name=name) for name in getattr(self, kind)] for kind in ("models", "datasets")}
        return SimpleNamespace(models=lambda: named["models"], datasets=lambda: named["datasets"])

    def run(self, text: str) -> Iterator[Answer]:
        self.asked.append(text)
        yield from self.answers
        if self.interrupted:
            raise KeyboardInterrupt


@pytest.fixture
def fake_session() -> type[FakeSession]:
    return FakeSession


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHIFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SHIFT_DATABASE_URL", raising=False)
    return tmp_path / "home"
