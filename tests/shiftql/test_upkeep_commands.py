"""`shiftql purge` and `shiftql doctor`: what they ask, what they say, and their exit statuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

import shiftql.engine
from shiftql.cli import main

COUNTED = {"results": 12, "result_bytes": 3400, "segments": 1, "segment_bytes": 5_000_000, "segments_in_use": 0}
NOTHING = dict.fromkeys(COUNTED, 0)
WORDS = "12 results (3 kB) and 1 segment of features (5 MB)"
FIXED = {"problem": "damaged manifests", "subjects": ["0123"], "fix": "deleted", "fixable": True, "fixed": True}
OPEN = {
    "problem": "models whose files are gone",
    "subjects": ["a", "b"],
    "fix": "put them back",
    "fixable": False,
    "fixed": False,
}


class FakeSession:
    """Counts what a real one would delete or find, and notes what it is told to do."""

    def __init__(self) -> None:
        self.counted: dict[str, int] = COUNTED
        self.found: dict[str, Any] = {"restored": 0, "findings": []}
        self.purged: list[dict[str, Any]] = []
        self.examined: list[dict[str, bool]] = []

    def purge(self, what: str, *, dry_run: bool = False, **chosen: Any) -> dict[str, int]:
        if not dry_run:
            self.purged.append({"what": what, **chosen})
        return self.counted

    def examine(self, **options: bool) -> dict[str, Any]:
        self.examined.append(options)
        return self.found


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    session = FakeSession()
    monkeypatch.setattr(shiftql.engine, "Session", lambda: session)
    return session


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, **options)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shiftql.upkeep_commands.is_terminal", lambda: True)


def test_a_purge_says_what_it_deleted(session: FakeSession) -> None:
    result = run("purge", "results", "--yes")
    assert (result.exit_code, result.stdout) == (0, f"deleted {WORDS}\n")
    assert session.purged == [{"what": "results", "model": None, "older_than": None}]


def test_a_dry_run_deletes_nothing(session: FakeSession) -> None:
    result = run("purge", "all", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, f"to be deleted: {WORDS}\n")
    assert session.purged == []


@pytest.mark.parametrize(("written", "seconds"), [("30d", 30 * 86_400.0), ("12h", 43_200.0), ("1h30m", 5400.0)])
def test_what_is_purged_is_chosen_by_age_and_model(session: FakeSession, written: str, seconds: float) -> None:
    assert run("purge", "features", "--older-than", written, "--model", "bert", "--yes").exit_code == 0
    assert session.purged == [{"what": "features", "model": "bert", "older_than": seconds}]


@pytest.mark.parametrize("arguments", [("purge",), ("purge", "models"), ("purge", "all", "--older-than", "long ago")])
def test_what_cannot_be_purged_is_a_mistake_of_usage(session: FakeSession, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
    assert session.purged == []


@pytest.mark.parametrize(("typed", "status", "times"), [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0)])
def test_on_a_terminal_a_purge_asks_first(
    session: FakeSession, terminal: None, typed: str, status: int, times: int
) -> None:
    result = run("purge", "all", input=typed)
    assert f"delete {WORDS}? [y/N]" in result.output
    assert (result.exit_code, len(session.purged)) == (status, times)


def test_where_nobody_can_be_asked_a_purge_wants_to_be_told_yes(session: FakeSession) -> None:
    result = run("purge", "all")
    assert result.exit_code == 2
    assert WORDS in result.stderr
    assert "--yes" in result.stderr
    assert session.purged == []


def test_a_purge_of_nothing_asks_nothing(session: FakeSession) -> None:
    session.counted = NOTHING
    result = run("purge", "all")
    assert (result.exit_code, result.stdout) == (0, "deleted: nothing\n")


def test_what_is_in_use_is_said_to_be_kept(session: FakeSession) -> None:
    session.counted = NOTHING | {"segments_in_use": 2}
    assert run("purge", "all").stdout == ("deleted: nothing; 2 segments of models that are being evaluated are kept\n")


def test_a_doctor_who_finds_nothing_says_so(session: FakeSession) -> None:
    result = run("doctor")
    assert (result.exit_code, result.stdout) == (0, "nothing is wrong\n")
    assert session.examined == [{"fix": False, "rebuild": False}]


def test_what_is_wrong_is_said_with_its_fix_and_is_a_failure(session: FakeSession) -> None:
    session.found = {"restored": 0, "findings": [FIXED, OPEN]}
    result = run("doctor", "--fix")
    assert result.exit_code == 1
    assert result.stdout == (
        "damaged manifests: 1\n  0123\n  fixed: deleted\n"
        "models whose files are gone: 2\n  a\n  b\n  fix: put them back\n"
    )
    assert session.examined == [{"fix": True, "rebuild": False}]


def test_what_can_be_fixed_is_said_to_be_where_fix_is_asked_for(session: FakeSession) -> None:
    session.found = {"restored": 0, "findings": [FIXED | {"fixed": False}]}
    result = run("doctor")
    assert (result.exit_code, result.stdout) == (1, "damaged manifests: 1\n  0123\n  with --fix: deleted\n")


def test_what_is_fixed_is_no_failure(session: FakeSession) -> None:
    session.found = {"restored": 0, "findings": [FIXED]}
    assert run("doctor", "--fix").exit_code == 0


def test_many_subjects_are_cut_short(session: FakeSession) -> None:
    session.found = {"restored": 0, "findings": [OPEN | {"subjects": [str(number) for number in range(9)]}]}
    lines = run("doctor").stdout.splitlines()
    assert lines[0].endswith("are gone: 9")
    assert lines[-2] == "  … and 4 more"


def test_a_rebuild_says_how_many_results_came_back(session: FakeSession) -> None:
    session.found = {"restored": 1200, "findings": []}
    result = run("doctor", "--rebuild")
    assert result.stdout == "restored 1,200 results from MLflow\nnothing is wrong\n"
    assert session.examined == [{"fix": False, "rebuild": True}]


def test_findings_are_one_object_of_json(session: FakeSession) -> None:
    session.found = {"restored": 0, "findings": [OPEN]}
    result = run("doctor", "--format", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, session.found)
