"""Rankers of installed packages: a distribution on the path, with its metadata and its module."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.errors import BindingError
from tasks.rankers import get_ranker
from tasks.rankers.specs import RANKERS, all_rankers, bind_arguments, find_ranker
from tests.plugin import MODULE, write_plugin

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Places a package with one entry point on the path."""

    def place(module: str, *entry: str, **options: str) -> None:
        write_plugin(tmp_path / module, module, *entry, **options)
        monkeypatch.syspath_prepend(tmp_path / module)

    return place


def test_a_plug_in_is_found_in_any_spelling_and_scores_with_its_arguments(install: Install) -> None:
    install("plug_found", "spread")
    assert find_ranker("SPREAD") == find_ranker("spread")
    assert bind_arguments(find_ranker("Spread"), (2,), {}) == {"factor": 2.0}
    x, y = np.array([[0.0], [2.0]]), np.array([0, 1])
    assert get_ranker("Spread", factor=3).score(x, y).value == 3.0
    assert find_ranker("spread") in all_rankers()


def test_its_own_version_and_that_of_its_package_tell_scores_apart(install: Install) -> None:
    install("plug_version", "spread", version="0.7")
    assert find_ranker("spread").version == "3+plug_version-0.7"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_package_that_is_not_there", "ModuleNotFoundError"),
        ("raise SystemError('mended next week')", "mended next week"),
        ("", "has no attribute 'SPEC'"),
        ("SPEC = {}", "is a dict, not a RankerSpec"),
        (MODULE.replace('name="spread"', 'name="other"'), "named 'other'"),
        (MODULE.replace('kind="features"', 'kind="strategy"'), "only rankers of features"),
    ],
)
def test_a_broken_plug_in_says_why_and_breaks_no_other(install: Install, source: str, reason: str) -> None:
    module = f"plug_broken_{abs(hash(source))}"
    install(module, "spread", source)
    install(f"{module}_sound", "wide", MODULE.replace('name="spread"', 'name="wide"'))
    with pytest.raises(BindingError, match=reason) as caught:
        find_ranker("spread")
    assert module in caught.value.message
    assert caught.value.fix
    assert [spec.name for spec in all_rankers()] == [*RANKERS, "wide"]
    assert find_ranker("linear") is RANKERS["linear"]


def test_an_implementation_that_cannot_be_imported_is_named(install: Install) -> None:
    install("plug_lost", "spread", MODULE.replace("MODULE_estimator", "nowhere"))
    with pytest.raises(BindingError, match="nowhere:Spread of Spread cannot be used"):
        get_ranker("spread")


def test_our_own_rankers_cannot_be_replaced(install: Install) -> None:
    install("plug_thief", "logme", MODULE.replace('name="spread"', 'name="logme"'))
    assert find_ranker("LogME") is RANKERS["logme"]
    assert all_rankers() == list(RANKERS.values())


def test_an_unknown_name_lists_the_plug_ins_too(install: Install) -> None:
    install("plug_listed", "spread")
    with pytest.raises(BindingError, match="did you mean spread"):
        find_ranker("spred")


def test_our_own_rankers_are_found_without_looking_for_plug_ins() -> None:
    program = (
        "import importlib.metadata as m\n"
        "m.entry_points = None\n"
        "from tasks.rankers.specs import find_ranker\n"
        "print(find_ranker('linear').name)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "linear"


def test_a_package_installed_while_we_run_is_found(install: Install, tmp_path: Path) -> None:
    install("plug_early", "early", MODULE.replace('name="spread"', 'name="early"'))
    with pytest.raises(BindingError, match="no ranker 'late'"):
        find_ranker("late")
    write_plugin(tmp_path / "plug_early", "plug_late", "late", MODULE.replace('name="spread"', 'name="late"'))
    assert find_ranker("late").label == "Spread"
