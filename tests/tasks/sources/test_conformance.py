"""The laws of tasks.sources.base, checked on every source; TensorFlow's models answer from their own process."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from storage.baselines import RAW
from storage.catalog import DatasetRecord, ModelRecord
from storage.errors import EvaluationError
from storage.fingerprints import fingerprint_of_model
from storage.views import LAST, PROBABILITIES, View
from tasks.host import Host
from tasks.readers import guess_reader
from tasks.readers.base import Pair, Rows
from tasks.registration import describe_model
from tasks.sources import SOURCES, guess_source, source_named
from tasks.sources.pca import fit_components
from tests.torch_models import install_package, save_programs

ROWS = 9
TEXTS = [" ".join(["the old cat near a rose", "dog"][row % 2 : row % 2 + 1] * (row + 1)) for row in range(ROWS)]
IMAGES = list(np.random.default_rng(0).integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8))
OTHER_SIZES = [np.full((height, width, 3), 90, np.uint8) for height, width in ((5, 30), (64, 16), (3, 7), (1, 1))]

PAIRS = [Pair(first, second) for first, second in zip(TEXTS, reversed(TEXTS), strict=True)]
TABLES = list(np.random.default_rng(1).normal(size=(ROWS, 5)).astype(np.float32))
ROWS_OF = {"image": IMAGES, "text": TEXTS, "pairs": PAIRS, "tables": TABLES}

Embed = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Case:
    """One way to open a model: `embed(rows, sizes of batches, view)` gives that view of all rows."""

    kind: str
    embed: Embed
    record: ModelRecord

    @property
    def rows(self) -> list[Any]:
        return list(ROWS_OF[self.kind])


CASES = {
    "bert": ("huggingface", "text"),
    "roberta": ("huggingface", "text"),
    "vit": ("huggingface", "image"),
    "resnet": ("huggingface", "image"),
    "raw text": ("raw", "text"),
    "raw image": ("raw", "image"),
    "raw pairs": ("raw", "pairs"),
    "raw tables": ("raw", "tables"),
    "text": ("tfhub", "text"),
    "text pairs": ("tfhub", "pairs"),
    "vocabulary": ("tfhub", "text"),
    "image": ("tfhub", "image"),
    "exported": ("tfhub", "image"),
    "older": ("tfhub", "image"),
    "older text": ("tfhub", "text"),
    "image.keras": ("keras", "image"),
    "text.keras": ("keras", "text"),
    "any number.pt2": ("torch", "image"),
    "four at a time.pt2": ("torch", "image"),
    "tiny-images": ("torch", "image"),
    "tiny-sentences": ("torch", "text"),
    "pca of photos-train": ("pca", "image"),
    "pca of nature-train": ("pca", "text"),
}


def _record(name: str, source: str, path: Path, modality: str, **columns: Any) -> ModelRecord:
    return ModelRecord(
        name=name, source=source, path=str(path), fingerprint=name, signature="", **{"modality": modality} | columns
    )


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    name = request.param
    source, kind = CASES[name]
    if source in {"tfhub", "keras"}:
        host = request.getfixturevalue("tensorflow_host")
        path = request.getfixturevalue("saved_models")[name.removesuffix(" pairs")]
        columns = host.call("tasks.registration:describe_model", source=source, path=str(path))
        record = _record(name, source, path, **columns)
        return Case(kind, _hosted(host, record, tmp_path), record)
    if source == "pca":
        datasets = request.getfixturevalue("pool").datasets
        path = fit_components(_dataset(datasets[name.removeprefix("pca of ")], kind), tmp_path, 5)
        record = _record(name, source, path, **describe_model(source, str(path)))
    elif source == "raw":
        record = _record(name, source, Path(), kind)
    elif source == "torch":
        path = request.getfixturevalue("torch_models")[name]
        record = _record(name, source, path, **describe_model(source, str(path)))
    else:
        record = _record(name, source, request.getfixturevalue("pool").models[name], kind)
    return Case(kind, _opened(record), record)


def _dataset(path: Path, modality: str) -> DatasetRecord:
    return DatasetRecord(
        name=path.stem,
        path=str(path),
        type=guess_reader(str(path)),
        fingerprint=path.stem,
        signature="",
        modality=modality,
        task="classification",
        num_rows=36,
        num_classes=2,
    )


@pytest.fixture(scope="session")
def torch_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Exported programs, and an installed package with two entry points."""
    root = tmp_path_factory.mktemp("torch-models")
    save_programs(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(install_package(root / "installed", "tiny")))
        names = ("tiny-images", "tiny-sentences")
        yield {path.name: path for path in root.glob("*.pt2")} | {name: Path(name) for name in names}


def _opened(record: ModelRecord) -> Embed:
    def embed(rows: Rows, batches: Sequence[int], view: View = LAST) -> np.ndarray:
        model = source_named(record.source).open(record)
        edges = np.cumsum([0, *batches])
        parts = [model.embed(model.prepare(rows[start:stop]), [view])[view] for start, stop in pairwise(edges)]
        model.close()
        return np.concatenate(parts)

    return embed


def _hosted(host: Host, record: ModelRecord, folder: Path) -> Embed:
    def embed(rows: Rows, batches: Sequence[int], view: View = LAST) -> np.ndarray:
        np.savez(folder / "rows.npz", *map(np.asarray, rows))
        answer = host.call(
            "tensorflow_child:embed",
            record=record.model_dump(exclude={"date_added"}),
            rows_file=str(folder / "rows.npz"),
            batches=list(batches),
            view=list(view),
        )
        return np.asarray(np.load(answer))

    return embed


def test_every_source_is_under_test() -> None:
    assert {source for source, _ in CASES.values()} == {*SOURCES, RAW}


def test_features_are_finite_float32_rows(case: Case) -> None:
    features = case.embed(case.rows, [ROWS])
    assert features.dtype == np.float32
    assert features.ndim == 2
    assert len(features) == ROWS
    assert np.isfinite(features).all()
    assert len(np.unique(features.round(4), axis=0)) > 1


def test_equal_rows_have_equal_features_at_every_opening(case: Case) -> None:
    np.testing.assert_array_equal(case.embed(case.rows, [ROWS]), case.embed(case.rows, [ROWS]))


def test_features_of_a_row_depend_neither_on_its_place_nor_on_its_neighbours(case: Case) -> None:
    together = case.embed(case.rows, [ROWS])
    order = np.random.default_rng(1).permutation(ROWS)
    shuffled = case.embed([case.rows[row] for row in order], [2, 1, ROWS - 3])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)


def test_more_rows_than_a_batch_are_embedded_too(case: Case) -> None:
    repeated = case.embed(case.rows * 15, [15 * ROWS])
    np.testing.assert_allclose(repeated, np.tile(case.embed(case.rows, [ROWS]), (15, 1)), atol=1e-5)


def test_images_of_any_size_and_texts_of_any_length_fit(case: Case) -> None:
    if case.kind == "tables":
        pytest.skip("the columns of a table are as many in every row")
    texts = ["", "cat " * 700, "日本語 🙂"]
    odd: list[Any] = texts if case.kind == "text" else OTHER_SIZES
    if case.kind == "pairs":
        odd = [Pair("cat", text) for text in texts]
    if case.record.source == "tfhub" and case.kind != "image":
        odd = odd[1:]  # The model's own affair: this one takes the mean over no words.
    features = case.embed(odd, [len(odd)])
    assert np.isfinite(features).all()
    assert features.shape[1] == case.embed(case.rows[:1], [1]).shape[1]


def test_rows_of_another_kind_are_refused_by_name(case: Case) -> None:
    if case.record.source in {"raw", "huggingface", "pca"}:
        pytest.skip("takes rows of every kind, or says so elsewhere")
    with pytest.raises(EvaluationError, match="and the rows are tables"):
        case.embed(TABLES, [ROWS])


WITH_CLASSES = {"image.keras": 5, "text.keras": 3, "any number.pt2": 3}


def test_probabilities_are_those_of_the_head_and_sum_to_one(case: Case) -> None:
    if case.record.name in WITH_CLASSES:
        probabilities = case.embed(case.rows, [4, ROWS - 4], PROBABILITIES)
        assert probabilities.shape == (ROWS, WITH_CLASSES[case.record.name])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        assert (probabilities >= 0).all()
    elif case.record.source in {"tfhub", "keras", "torch"}:
        with pytest.raises(EvaluationError, match=r"no classes|no layer"):
            case.embed(case.rows, [ROWS], PROBABILITIES)


@pytest.fixture(params=["bert", "roberta", "vit", "resnet"])
def copied(request: pytest.FixtureRequest, pool: Any, tmp_path: Path) -> ModelRecord:
    """A Hugging Face model of its own to break."""
    path = shutil.copytree(pool.models[request.param], tmp_path / request.param)
    return _record(request.param, "huggingface", path, CASES[request.param][1])


def _embed_some(record: ModelRecord) -> np.ndarray:
    rows = TEXTS if record.modality == "text" else IMAGES
    return _opened(record)(rows, [ROWS])


def _weights(record: ModelRecord) -> Path:
    return Path(record.path) / "model.safetensors"


def _rewrite(record: ModelRecord, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    weights = load_file(_weights(record))
    change(weights)
    save_file(weights, _weights(record), metadata={"format": "pt"})


def _in_the_encoder(weights: dict[str, np.ndarray]) -> str:
    return next(name for name in sorted(weights) if re.search(r"\blayers?\.\d.*weight$", name))


def test_truncated_weights_are_an_error_with_a_reason(copied: ModelRecord) -> None:
    content = _weights(copied).read_bytes()
    _weights(copied).write_bytes(content[: len(content) // 2])
    with pytest.raises(EvaluationError, match=r"\w+") as caught:
        _embed_some(copied)
    assert caught.value.subject == copied.name
    assert not caught.value.transient


def test_weights_that_are_not_numbers_are_an_error_with_a_reason(copied: ModelRecord) -> None:
    _rewrite(copied, lambda weights: weights[_in_the_encoder(weights)].fill(np.nan))
    with pytest.raises(EvaluationError, match="not finite"):
        _embed_some(copied)


def test_missing_weights_are_an_error_that_counts_them(copied: ModelRecord) -> None:
    _rewrite(copied, lambda weights: weights.__delitem__(_in_the_encoder(weights)))
    with pytest.raises(EvaluationError, match=r"1 weights are missing from the files, \S+\.weight"):
        _embed_some(copied)


def test_weights_of_another_shape_are_an_error(copied: ModelRecord) -> None:
    def grow(weights: dict[str, np.ndarray]) -> None:
        name = _in_the_encoder(weights)
        weights[name] = np.concatenate([weights[name], weights[name]])

    _rewrite(copied, grow)
    with pytest.raises(EvaluationError, match=r"\w+"):
        _embed_some(copied)


def test_lost_weights_are_an_error(copied: ModelRecord) -> None:
    _weights(copied).unlink()
    with pytest.raises(EvaluationError, match=r"\w+"):
        _embed_some(copied)
    with pytest.raises(EvaluationError, match="no weights"):
        source_named("huggingface").describe(Path(copied.path))


def test_a_torn_config_is_an_error(copied: ModelRecord) -> None:
    config = Path(copied.path) / "config.json"
    for content in (config.read_text()[:40], "[]"):
        config.write_text(content)
        with pytest.raises(EvaluationError, match=r"config\.json"):
            source_named("huggingface").describe(Path(copied.path))
        with pytest.raises(EvaluationError):
            _embed_some(copied)


def test_pickled_weights_are_read_as_tensors(copied: ModelRecord) -> None:
    import torch

    weights = {name: torch.from_numpy(array) for name, array in load_file(_weights(copied)).items()}
    safe = _embed_some(copied)
    _weights(copied).unlink()
    torch.save(weights, Path(copied.path) / "pytorch_model.bin")
    np.testing.assert_array_equal(_embed_some(copied), safe)


def test_a_model_is_described_without_being_opened(pool: Any) -> None:
    described = {name: source_named("huggingface").describe(path) for name, path in pool.models.items()}
    assert {name: columns["modality"] for name, columns in described.items()} == {
        "bert": "text",
        "roberta": "text",
        "vit": "image",
        "resnet": "image",
    }
    assert described["vit"]["architecture"] == "ViTForImageClassification"
    for name, columns in described.items():
        weights = load_file(pool.models[name] / "model.safetensors")
        assert columns["num_params"] == sum(array.size for array in weights.values())
        assert columns["size_bytes"] == (pool.models[name] / "model.safetensors").stat().st_size
        assert columns["embedding_dim"] == 16
        assert columns["image_size"] == (16 if columns["modality"] == "image" else None)
    assert (described["bert"]["token_length"], described["roberta"]["token_length"]) == (32, 24)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_saved_model_is_described_without_being_opened(
    saved_models: dict[str, Path], tensorflow_host: Host, modality: str
) -> None:
    described = tensorflow_host.call(
        "tasks.registration:describe_model", source="tfhub", path=str(saved_models[modality])
    )
    assert described["modality"] == modality
    assert described["embedding_dim"] == 8
    assert described["num_params"] == (24 if modality == "image" else 512)
    assert described["image_size"] == (16 if modality == "image" else None)
    assert described["size_bytes"] > 0


def test_a_torn_saved_model_is_an_error(saved_models: dict[str, Path], tensorflow_host: Host, tmp_path: Path) -> None:
    torn = shutil.copytree(saved_models["image"], tmp_path / "torn")
    weights = next((torn / "variables").glob("*.data-*"))
    weights.write_bytes(b"")
    record = _record("torn", "tfhub", torn, "image", image_size=16)
    with pytest.raises(EvaluationError, match=r"\w+"):
        _hosted(tensorflow_host, record, tmp_path)(IMAGES, [ROWS])
    (torn / "saved_model.pb").write_bytes(b"torn")
    with pytest.raises(EvaluationError, match=r"saved_model\.pb"):
        tensorflow_host.call("tasks.registration:describe_model", source="tfhub", path=str(torn))


def test_the_source_is_guessed_from_the_files(pool: Any, saved_models: dict[str, Path], tmp_path: Path) -> None:
    assert guess_source(pool.models["bert"]) == "huggingface"
    assert guess_source(saved_models["text"]) == "tfhub"


def test_the_content_of_a_model_leaves_out_cards_and_logs(pool: Any, tmp_path: Path) -> None:
    path = shutil.copytree(pool.models["bert"], tmp_path / "bert")
    source = source_named("huggingface")
    before = fingerprint_of_model(path, source.content_files(path))
    (path / "README.md").write_text("a card")
    (path / "trainer_state.json").write_text("{}")
    assert fingerprint_of_model(path, source.content_files(path)) == before
    (path / "tokenizer.json").write_text((path / "tokenizer.json").read_text().replace("rose", "oak"))
    assert fingerprint_of_model(path, source.content_files(path)) != before


def test_the_content_of_a_saved_model_leaves_out_what_differs_at_every_save(
    saved_models: dict[str, Path], tmp_path: Path
) -> None:
    path = shutil.copytree(saved_models["text"], tmp_path / "text")
    source = source_named("tfhub")
    before = fingerprint_of_model(path, source.content_files(path))
    (path / "fingerprint.pb").write_bytes(b"another")
    (path / "README.md").write_text("a card")
    assert fingerprint_of_model(path, source.content_files(path)) == before
    variables = next((path / "variables").glob("*.data-*"))
    variables.write_bytes(variables.read_bytes() + b"\0")
    assert fingerprint_of_model(path, source.content_files(path)) != before
