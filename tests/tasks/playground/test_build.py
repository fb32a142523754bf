"""Laws of building, resuming and recording a playground, on specs small enough to make in a moment."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import ShiftError, StoreError
from tasks.playground import build as build_module
from tasks.playground import huggingface
from tasks.playground.build import Manifest, build_specs
from tasks.playground.sizes import ModelSpec, Spec, TargetSpec

RESNET = ModelSpec("tiny-resnet", "huggingface", "image", "resnet", 8, 1, "letters", 64, 1)
BERT = ModelSpec("tiny-bert", "huggingface", "text", "bert", 16, 1, "subjects", 300, 0, "untrained")
DIGITS = TargetSpec("drawn-digits", "image", "numpy", 20, 10)
TOPICS = TargetSpec("sentence-topics", "text", "csv", 20, 10)
UNKNOWN = TargetSpec("no-such-task", "text", "csv", 20, 10)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for part in ("models", "datasets")
        for file in sorted((directory / part).rglob("*"))
        if file.is_file()
    }


def names_made(directory: Path, specs: list[Spec], seed: int = 0) -> list[str]:
    made: list[str] = []
    build_specs(directory, specs, seed, lambda name, done, total: made.append(name))
    return made


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    directory = tmp_path_factory.mktemp("playground")
    return directory, build_specs(directory, [RESNET, BERT, DIGITS])


def test_equal_seeds_give_equal_bytes_in_another_place_and_process(
    playground: tuple[Path, Manifest], tmp_path: Path
) -> None:
    import torch

    try:
        huggingface.train(BERT, tmp_path / "models" / "tiny-bert", seed=0)
    finally:
        torch.use_deterministic_algorithms(False)
    again = contents(tmp_path)
    assert {"models/tiny-bert/model.safetensors", "models/tiny-bert/tokenizer.json"} <= set(again)
    assert again == {name: content for name, content in contents(playground[0]).items() if name in again}


def test_no_file_tells_where_it_was_made(playground: tuple[Path, Manifest]) -> None:
    directory, _ = playground
    assert not [name for name, content in contents(directory).items() if directory.name.encode() in content]


def test_the_manifest_tells_what_was_made(playground: tuple[Path, Manifest]) -> None:
    directory, manifest = playground
    resnet, bert = manifest.models
    assert (resnet.name, resnet.path) == ("tiny-resnet", directory.resolve() / "models" / "tiny-resnet")
    assert (resnet.source, resnet.modality, resnet.upstream_dataset) == ("huggingface", "image", "letters")
    assert resnet.upstream_accuracy is not None
    assert (bert.upstream_dataset, bert.upstream_accuracy) == (None, None)
    assert bert.tags == ("bert", "untrained")
    assert [(dataset.name, dataset.reader) for dataset in manifest.datasets] == [
        ("drawn-digits-train", "numpy"),
        ("drawn-digits-test", "numpy"),
    ]
    assert all(model.path.is_dir() for model in manifest.models)
    assert all(dataset.path.is_file() for dataset in manifest.datasets)


def test_saved_models_open_from_their_directories_alone(
    playground: tuple[Path, Manifest],
) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification, AutoTokenizer

    resnet, bert = playground[1].models
    assert AutoModelForImageClassification.from_pretrained(resnet.path).config.id2label[25] == "Z"
    assert AutoImageProcessor.from_pretrained(resnet.path).size["height"] == 32
    tokens = AutoTokenizer.from_pretrained(bert.path)("the old owl").input_ids
    assert len(tokens) >= 5


def test_a_second_build_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_specs(tmp_path, [DIGITS])
    monkeypatch.setattr(build_module, "make_pieces", lambda *_: pytest.fail("something was made again"))
    assert build_specs(tmp_path, [DIGITS]) == first


def test_progress_counts_the_pieces_found_too(tmp_path: Path) -> None:
    build_specs(tmp_path, [DIGITS])
    steps: list[tuple[str, int, int]] = []
    build_specs(tmp_path, [DIGITS, TOPICS], progress=lambda *step: steps.append(step))
    assert steps == [("sentence-topics", 2, 2)]


def test_a_failing_piece_is_told_with_its_cause_and_finished_ones_are_kept(tmp_path: Path) -> None:
    build_specs(tmp_path, [DIGITS])
    with pytest.raises(ShiftError, match="KeyError: 'no-such-task'") as error:
        build_specs(tmp_path, [DIGITS, UNKNOWN])
    assert error.value.subject == "no-such-task"
    assert names_made(tmp_path, [DIGITS]) == []


def test_a_build_killed_half_way_resumes(tmp_path: Path) -> None:
    """What a kill leaves: a piece half made, one in place without its record, one complete."""
    build_specs(tmp_path, [DIGITS, TOPICS])
    complete = contents(tmp_path)
    (tmp_path / "records" / "drawn-digits.json").unlink()
    shutil.rmtree(tmp_path / "datasets" / "drawn-digits")
    (tmp_path / "datasets" / "drawn-digits").mkdir()
    (tmp_path / "unfinished" / "drawn-digits").mkdir(parents=True)
    (tmp_path / "unfinished" / "drawn-digits" / "train.npz").write_bytes(b"half")
    assert names_made(tmp_path, [DIGITS, TOPICS]) == ["drawn-digits"]
    assert contents(tmp_path) == complete
    assert not (tmp_path / "unfinished").exists()


def test_only_what_differs_is_made_anew(tmp_path: Path) -> None:
    build_specs(tmp_path, [DIGITS, TOPICS])
    before = contents(tmp_path)
    longer = replace(TOPICS, train_rows=30)
    assert names_made(tmp_path, [DIGITS, longer]) == ["sentence-topics"]
    assert contents(tmp_path)["datasets/drawn-digits/train.npz"] == before["datasets/drawn-digits/train.npz"]
    assert sorted(names_made(tmp_path, [DIGITS, longer], seed=1)) == ["drawn-digits", "sentence-topics"]
    assert contents(tmp_path)["datasets/drawn-digits/train.npz"] != before["datasets/drawn-digits/train.npz"]


def test_a_record_tells_what_a_piece_was_made_from(tmp_path: Path) -> None:
    build_specs(tmp_path, [DIGITS], seed=5)
    record = json.loads((tmp_path / "records" / "drawn-digits.json").read_text())
    assert record["origin"]["seed"] == 5
    assert record["origin"]["spec"]["train_rows"] == 20
    assert record["upstream_accuracy"] is None


@pytest.mark.parametrize("obstacle", ["a file in its place", "a file above it", "a lock that is no file"])
def test_a_directory_that_cannot_be_written_is_refused_by_name(obstacle: str, tmp_path: Path) -> None:
    directory = tmp_path / "playground"
    if obstacle == "a lock that is no file":
        (directory / "building.lock").mkdir(parents=True)
    else:
        directory.write_text("")
    if obstacle == "a file above it":
        directory = directory / "inner"
    with pytest.raises(StoreError) as error:
        build_specs(directory, [DIGITS])
    assert str(directory) in error.value.message
    assert error.value.fix
