"""The laws of tasks.readers.base.DatasetReader, checked on every reader and every task."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from storage.manifests import Manifest, join
from tasks.readers import READERS, guess_reader, open_reader
from tasks.readers.base import ROW_HASH_BYTES, Chunk, DatasetReader

# A dataset is written from (feature number, label) pairs: equal numbers are equal rows.
Records = Sequence[tuple[int, str]]
RECORDS: Records = [(0, "ant"), (1, "bee"), (2, "ant"), (0, "bee"), (3, "cat"), (4, "bee"), (5, "cat")]
_NUMBERS = {"ant": 0.5, "bee": -1.25, "cat": 3.0, "dog": 7.5}
_SEVERAL = {"ant": ["ant"], "bee": ["ant", "bee"], "cat": ["cat"], "dog": ["dog"]}


def _text(number: int) -> str:
    return f'Sätz, "{number}"'


def _words(number: int) -> list[str]:
    return ["Wörter", f"w{number}", "end"][: 1 + number % 3]


def _pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def _png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_pixels(number)).save(file, "png")
    return file.getvalue()


def _vector(number: int) -> list[float]:
    return [number + 0.5, -2.0 * number, 1.0]


@dataclass(frozen=True)
class Case:
    """One kind of dataset: the cells of its columns, and what a reader is to make of them."""

    modality: str
    task: str
    features: Mapping[str, Callable[[int], Any]]
    label: Callable[[int, str], Any]
    row: Callable[[int], Any]
    target: str = "label"

    def columns(self, records: Records) -> dict[str, list[Any]]:
        features = {name: [make(number) for number, _ in records] for name, make in self.features.items()}
        return {**features, self.target: [self.label(number, label) for number, label in records]}


CASES = {
    "sentences": Case("text", "classification", {"text": _text}, lambda _, label: label, _text),
    "pairs": Case(
        "text",
        "pair_classification",
        {"premise": _text, "hypothesis": lambda number: f"and {number}"},
        lambda _, label: label,
        lambda number: (_text(number), f"and {number}"),
    ),
    "words": Case(
        "text",
        "token_classification",
        {"tokens": _words},
        lambda number, label: [label] * len(_words(number)),
        _words,
        "ner_tags",
    ),
    "ratings": Case("text", "regression", {"text": _text}, lambda _, label: _NUMBERS[label], _text),
    "topics": Case("text", "multilabel_classification", {"text": _text}, lambda _, label: _SEVERAL[label], _text),
    "photos": Case("image", "classification", {"image": _png}, lambda _, label: label, lambda n: _pixels(n).tolist()),
    "vectors": Case("tabular", "classification", {"features": _vector}, lambda _, label: label, _vector),
    "measures": Case("tabular", "regression", {"features": _vector}, lambda _, label: _NUMBERS[label], _vector),
}


def _write_csv(folder: Path, columns: dict[str, list[Any]], separator: str = ",", suffix: str = "csv") -> Path:
    path = folder / f"data.{suffix}"
    if vectors := columns.pop("features", None):
        columns = {**{f"x{index}": [row[index] for row in vectors] for index in range(3)}, **columns}
    if tags := columns.get("ner_tags"):
        columns = {"tokens": list(map(" ".join, columns["tokens"])), "ner_tags": list(map(" ".join, tags))}
    if isinstance(columns.get("label", [""])[0], list):
        columns["label"] = list(map(";".join, columns["label"]))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([columns, *zip(*columns.values(), strict=True)])
    return path


def _write_tsv(folder: Path, columns: dict[str, list[Any]]) -> Path:
    return _write_csv(folder, columns, "\t", "tsv")


def _write_csv_of_images(folder: Path, columns: dict[str, list[Any]]) -> Path:
    names = [f"{position}.png" for position in range(len(columns["image"]))]
    for name, content in zip(names, columns["image"], strict=True):
        (folder / name).write_bytes(content)
    return _write_csv(folder, {"file_name": names, "label": columns["label"]})


def _write_json_lines(folder: Path, columns: dict[str, list[Any]]) -> Path:
    path = folder / "data.jsonl"
    records = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def _write_parquet(folder: Path, columns: dict[str, list[Any]]) -> Path:
    pq.write_table(pa.table(columns), folder / "data.parquet", row_group_size=4)
    return folder / "data.parquet"


def _write_arrow_file(folder: Path, columns: dict[str, list[Any]]) -> Path:
    table = pa.table(columns)
    with pa.OSFile(str(folder / "data.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    return folder / "data.arrow"


def _write_arrow_stream(folder: Path, columns: dict[str, list[Any]]) -> Path:
    table = pa.table(columns)
    with pa.OSFile(str(folder / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    return folder / "data.arrow"


def _dataset(columns: dict[str, list[Any]]) -> datasets.Dataset:
    """With the types of Hugging Face's own: numbered classes with names, and encoded images."""
    made = datasets.Dataset.from_dict(columns)
    target = "ner_tags" if "ner_tags" in columns else "label"
    first = columns[target][0]
    items = [item for cell in columns[target] for item in cell] if isinstance(first, list) else columns[target]
    if isinstance(items[0], str):
        names = datasets.ClassLabel(names=sorted(set(items), reverse=True))
        made = made.cast_column(target, datasets.List(names) if isinstance(first, list) else names)
    return made.cast_column("image", datasets.Image()) if "image" in columns else made


def _write_saved(folder: Path, columns: dict[str, list[Any]]) -> Path:
    _dataset(columns).save_to_disk(str(folder / "saved"), num_shards=2)
    return folder / "saved"


def _write_saved_splits(folder: Path, columns: dict[str, list[Any]]) -> Path:
    made = _dataset(columns)
    datasets.DatasetDict(test=made.select([0]), train=made).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def _write_hub_folder(folder: Path, columns: dict[str, list[Any]]) -> Path:
    (folder / "repository" / "data").mkdir(parents=True)
    made = _dataset(columns)
    for shard in range(2):
        part = made.shard(2, shard, contiguous=True)
        part.to_parquet(str(folder / "repository" / "data" / f"train-0000{shard}-of-00002.parquet"))
    made.select([0]).to_parquet(str(folder / "repository" / "data" / "test-00000-of-00001.parquet"))
    return folder / "repository"


def _write_npz(folder: Path, columns: dict[str, list[Any]]) -> Path:
    labels = columns["label"]
    if isinstance(labels[0], list):
        columns["label"] = [[int(name in label) for name in ("ant", "bee", "cat")] for label in labels]
    if "image" in columns:
        columns["image"] = [np.asarray(Image.open(io.BytesIO(content))) for content in columns["image"]]
    np.savez(folder / "data.npz", **{name: np.array(cells) for name, cells in columns.items()})  # type: ignore[arg-type]
    return folder / "data.npz"


def _write_image_folder(folder: Path, columns: dict[str, list[Any]]) -> Path:
    for position, (content, label) in enumerate(zip(columns["image"], columns["label"], strict=True)):
        (folder / "images" / label).mkdir(parents=True, exist_ok=True)
        (folder / "images" / label / f"{position}.png").write_bytes(content)
    return folder / "images"


def _write_image_folder_splits(folder: Path, columns: dict[str, list[Any]]) -> Path:
    path = _write_image_folder(folder, columns)
    (folder / "splits").mkdir()
    (folder / "splits" / "val" / "ant").mkdir(parents=True)
    (folder / "splits" / "val" / "ant" / "0.png").write_bytes(columns["image"][0])
    path.rename(folder / "splits" / "train")
    return folder / "splits"


@dataclass(frozen=True)
class Form:
    """One way to store a dataset: what reads it, what writes it, the cases it can hold, and options they need."""

    reader: str
    write: Callable[[Path, dict[str, list[Any]]], Path]
    cases: Sequence[str]
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


_PLAIN = ("sentences", "pairs", "words", "ratings", "topics", "vectors", "measures")
_ALL = (*_PLAIN, "photos")
_IN_CELLS = {"words": {"task": "token_classification"}, "topics": {"task": "multilabel_classification"}}
FORMS = {
    "csv": Form("csv", _write_csv, _PLAIN, _IN_CELLS),
    "tsv": Form("csv", _write_tsv, _PLAIN, _IN_CELLS),
    "csv of images": Form("csv", _write_csv_of_images, ("photos",)),
    "json lines": Form("json_lines", _write_json_lines, _PLAIN),
    "parquet": Form("parquet", _write_parquet, _ALL),
    "arrow file": Form("arrow", _write_arrow_file, _ALL),
    "arrow stream": Form("arrow", _write_arrow_stream, _ALL),
    "saved": Form("huggingface", _write_saved, _ALL),
    "saved splits": Form("huggingface", _write_saved_splits, _ALL),
    "hub folder": Form("parquet", _write_hub_folder, _ALL),
    "npz": Form("numpy", _write_npz, ("photos", "vectors", "measures")),
    "image folder": Form("image_folder", _write_image_folder, ("photos",)),
    "image folder splits": Form("image_folder", _write_image_folder_splits, ("photos",)),
}
PAIRS = [(form, case) for form, each in FORMS.items() for case in each.cases]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]}: {pair[1]}")
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


def write_and_open(pair: tuple[str, str], folder: Path, records: Records = RECORDS, **options: str) -> DatasetReader:
    form, case = FORMS[pair[0]], CASES[pair[1]]
    folder.mkdir(exist_ok=True)
    path = form.write(folder, case.columns(records))
    return open_reader(form.reader, str(path), {**form.options.get(pair[1], {}), **options})


def manifest_of(reader: DatasetReader, size: int = 256) -> Manifest:
    schema = reader.schema()
    return join([Manifest(c.row_hashes, c.labels, schema.classes, schema.task, c.lengths) for c in reader.chunks(size)])


def rows_of(chunks: Sequence[Chunk]) -> list[Any]:
    return [row.tolist() if isinstance(row, np.ndarray) else row for chunk in chunks for row in chunk.rows]


def in_order(pair: tuple[str, str], records: Records) -> Records:
    """An image folder is ordered by class, then by file name."""
    return sorted(records, key=lambda record: record[1]) if pair[0].startswith("image folder") else records


def test_every_reader_that_reads_files_is_under_test() -> None:
    # The others, which need a package or bring their own rows, have tests of their own.
    assert {form.reader for form in FORMS.values()} == set(READERS) - {"sklearn", "tfds"}


def test_reader_is_guessed_from_the_path(pair: tuple[str, str], tmp_path: Path) -> None:
    form = FORMS[pair[0]]
    assert guess_reader(str(form.write(tmp_path, CASES[pair[1]].columns(RECORDS)))) == form.reader
    assert write_and_open(pair, tmp_path / "again").name == form.reader


def test_schema_is_known_before_the_first_row(pair: tuple[str, str], tmp_path: Path) -> None:
    schema, case = write_and_open(pair, tmp_path).schema(), CASES[pair[1]]
    assert (schema.modality, schema.task, schema.num_rows) == (case.modality, case.task, len(RECORDS))
    assert schema.classes == (() if case.task == "regression" else ("ant", "bee", "cat"))


def test_chunks_hold_what_was_written(pair: tuple[str, str], tmp_path: Path) -> None:
    reader, case = write_and_open(pair, tmp_path), CASES[pair[1]]
    records = in_order(pair, RECORDS)
    assert rows_of(list(reader.chunks())) == [case.row(number) for number, _ in records]
    manifest = manifest_of(reader)
    expected = [case.label(number, label) for number, label in records]
    if case.task == "multilabel_classification":
        several = [[name for name, has in zip(manifest.classes, row, strict=True) if has] for row in manifest.labels]
        assert several == expected
    elif case.task == "token_classification":
        assert manifest.lengths is not None
        assert manifest.lengths.tolist() == [len(tags) for tags in expected]
        assert manifest.targets.tolist() == [tag for tags in expected for tag in tags]
    else:
        assert manifest.targets.tolist() == expected


def test_chunks_join_to_the_same_whatever_their_size(pair: tuple[str, str], tmp_path: Path) -> None:
    reader = write_and_open(pair, tmp_path)
    for size in (1, 3, 7, 100):
        chunks = list(reader.chunks(size))
        assert max(len(chunk.rows) for chunk in chunks) == min(size, len(RECORDS))
        assert rows_of(chunks) == rows_of(list(reader.chunks()))
        assert manifest_of(reader, size).fingerprint == manifest_of(reader).fingerprint


def test_columns_of_a_chunk_have_the_declared_shapes(pair: tuple[str, str], tmp_path: Path) -> None:
    reader, task = write_and_open(pair, tmp_path), CASES[pair[1]].task
    for chunk in reader.chunks(3):
        num_rows = len(chunk.rows)
        assert (chunk.row_hashes.dtype, chunk.row_hashes.shape) == (np.uint8, (num_rows, ROW_HASH_BYTES))
        if task == "token_classification":
            assert chunk.lengths is not None
            assert (chunk.lengths.dtype, chunk.lengths.shape) == (np.int64, (num_rows,))
            assert (chunk.labels.dtype, chunk.labels.shape) == (np.int64, (chunk.lengths.sum(),))
        elif task == "multilabel_classification":
            assert (chunk.labels.dtype, chunk.labels.shape) == (np.bool_, (num_rows, 3))
        else:
            assert (chunk.labels.dtype, chunk.labels.shape) == (
                np.dtype(float if task == "regression" else int),
                (num_rows,),
            )
        for row in chunk.rows:
            if isinstance(row, np.ndarray):
                expected = (np.uint8, (6, 5, 3)) if pair[1] == "photos" else (np.float32, (3,))
                assert (row.dtype, row.shape) == expected
                assert row.flags.writeable


def test_two_passes_and_two_readers_are_equal(pair: tuple[str, str], tmp_path: Path) -> None:
    first, second = write_and_open(pair, tmp_path / "a"), write_and_open(pair, tmp_path / "b")
    assert manifest_of(first).fingerprint == manifest_of(first).fingerprint == manifest_of(second).fingerprint
    assert rows_of(list(first.chunks())) == rows_of(list(second.chunks()))


def test_rows_are_equal_exactly_when_their_hashes_are(pair: tuple[str, str], tmp_path: Path) -> None:
    chunks = list(write_and_open(pair, tmp_path).chunks(2))
    rows = rows_of(chunks)
    hashes = [digest.tobytes() for chunk in chunks for digest in chunk.row_hashes]
    for i in range(len(rows)):
        for j in range(i):
            assert (rows[i] == rows[j]) == (hashes[i] == hashes[j])


def test_relabelling_changes_no_hash(pair: tuple[str, str], tmp_path: Path) -> None:
    relabelled = [(number, "bee" if label == "ant" else "ant") for number, label in RECORDS]
    before = manifest_of(write_and_open(pair, tmp_path / "a"))
    after = manifest_of(write_and_open(pair, tmp_path / "b", relabelled))
    assert sorted(map(bytes, before.row_hashes)) == sorted(map(bytes, after.row_hashes))
    assert before.fingerprint != after.fingerprint


def test_appending_rows_keeps_the_hashes_of_the_others(pair: tuple[str, str], tmp_path: Path) -> None:
    before = manifest_of(write_and_open(pair, tmp_path / "a"))
    after = manifest_of(write_and_open(pair, tmp_path / "b", [*RECORDS, (9, "dog")]))
    np.testing.assert_array_equal(after.row_hashes[: before.num_rows], before.row_hashes)
    assert after.num_rows == before.num_rows + 1


def test_numeric_classes_are_in_the_order_of_their_values(pair: tuple[str, str], tmp_path: Path) -> None:
    if CASES[pair[1]].task in ("classification", "pair_classification", "token_classification"):
        reader = write_and_open(pair, tmp_path, [(0, "10"), (1, "9"), (2, "-1")])
        assert reader.schema().classes == ("-1", "9", "10")


def test_some_of_the_rows_are_those_rows_of_all(pair: tuple[str, str], tmp_path: Path) -> None:
    whole = write_and_open(pair, tmp_path / "a")
    part = write_and_open(pair, tmp_path / "b", split="[2:-1]")
    assert rows_of(list(part.chunks())) == rows_of(list(whole.chunks()))[2:-1]
    assert part.schema().num_rows == len(RECORDS) - 3


def test_files_are_what_the_content_depends_on(pair: tuple[str, str], tmp_path: Path) -> None:
    files = write_and_open(pair, tmp_path).files()
    assert files == sorted(files)
    others = ("/test-", "/test/", "/val/", ".json")
    present = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    expected = {path for path in present if path == "data.jsonl" or not any(other in path for other in others)}
    assert {str(Path(file).relative_to(tmp_path)) for file in files} == expected


@pytest.mark.parametrize("case", CASES)
def test_the_same_rows_are_one_dataset_in_every_format(case: str, tmp_path: Path) -> None:
    # Pixels without an encoding are other bytes than a file's, and an image folder has an order of its own.
    forms = [form for form, each in FORMS.items() if case in each.cases]
    if case == "photos":
        forms = [form for form in forms if form != "npz" and not form.startswith("image folder")]
    found = {manifest_of(write_and_open((form, case), tmp_path / form)).fingerprint for form in forms}
    assert len(found) == 1
