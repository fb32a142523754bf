"""The files: PNG, and one HTML file that needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from shiftql.pictures.files import Replayed, make_directory, write_pictures
from shiftql.recorded import load_records
from storage.errors import StoreError

HOSTILE = "</script><script>alert(1)</script>"
ESTIMATES = [(0.8, 0.9), (0.7, 0.6), (0.2, 0.3), (0.1, 0.1)]


@pytest.fixture
def replayed(tmp_path: Path, outcome: Any) -> Replayed:
    path = tmp_path / "toy.csv"
    path.write_text("dataset,model,val_accuracy,test_accuracy\nd1,a,0.5,0.5\nd2,a,0.5,0.5\nd3,a,0.5,0.5\n")
    outcomes = {
        target: [outcome([(0.1, 0.3), (0.5, 0.0)], target, ESTIMATES)] for target in ("d1", "d2", f"d3{HOSTILE}")
    }
    few = {target: [outcome([(0.2, 0.1)], target, ESTIMATES[:1])] for target in outcomes}
    return Replayed(load_records(path), None, {"Some(k=2)": outcomes, "Few": few})


def test_every_picture_is_a_file_of_its_kind(tmp_path: Path, replayed: Replayed) -> None:
    written = list(write_pictures(tmp_path, [replayed]))
    assert [path.name for path in written] == [
        "toy-regret.png",
        "toy-regret-by-target.png",
        "toy-truth-Some-k-2.png",
        "replay.html",
    ]
    for path in written[:-1]:
        with Image.open(path) as image:
            image.verify()
            assert image.format == "PNG"


def test_the_page_holds_its_script_once_and_names_no_other_host(tmp_path: Path, replayed: Replayed) -> None:
    *_, path = write_pictures(tmp_path, [replayed])
    page = path.read_text(encoding="utf-8")
    assert page.count(get_plotlyjs()) == 1
    ours = page.replace(get_plotlyjs(), "")
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(", ours)


def test_the_page_tells_model_dataset_strategy_and_figures(tmp_path: Path, replayed: Replayed) -> None:
    *_, path = write_pictures(tmp_path, [replayed])
    page = path.read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    for words in ("Some(k=2)", "d1", "picks m1", "m3", "fine-tuned by it", "0.0 % at 50.0 %"):
        assert words in page


def test_names_are_text_and_never_markup(tmp_path: Path, replayed: Replayed) -> None:
    *_, path = write_pictures(tmp_path, [replayed])
    assert "<script>alert" not in path.read_text(encoding="utf-8")


def test_one_target_has_one_chart_of_regret(tmp_path: Path, replayed: Replayed) -> None:
    only = {name: {"d1": targets["d1"]} for name, targets in replayed.outcomes.items()}
    written = [path.name for path in write_pictures(tmp_path, [Replayed(replayed.records, None, only)])]
    assert written == ["toy-regret.png", "toy-truth-Some-k-2.png", "replay.html"]


def test_a_strategy_that_picks_nothing_hinders_no_picture(tmp_path: Path, replayed: Replayed, outcome: Any) -> None:
    nothing = {"None": {"d1": [outcome((), "d1")], "d2": [outcome((), "d2")]}}
    written = list(write_pictures(tmp_path, [Replayed(replayed.records, None, nothing)]))
    assert [path.name for path in written] == ["toy-regret.png", "toy-regret-by-target.png", "replay.html"]


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"pictures cannot be written to .*file/pictures"):
        make_directory(tmp_path / "file" / "pictures")


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path, replayed: Replayed) -> None:
    (tmp_path / "toy-regret.png").mkdir()
    with pytest.raises(StoreError, match="pictures cannot be written"):
        list(write_pictures(tmp_path, [replayed]))
