from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage.catalog import DATASET_TASKS
from storage.errors import StoreError
from tasks.readers import OPTIONS, READERS, guess_reader, open_reader


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "data.csv"
    path.write_text("text,label\na,b\n")
    return str(path)


def test_any_spelling_of_reader_and_option_is_understood(table: str) -> None:
    assert open_reader("CSV", table, {"TextColumn": "label", "label-column": "text"}).schema().classes == ("a",)


def test_unknown_reader_lists_those_there_are(table: str) -> None:
    with pytest.raises(StoreError, match="no reader 'excel'") as caught:
        open_reader("excel", table, {})
    assert [text.split()[0] for text in caught.value.allowed] == list(READERS)


def test_unknown_option_lists_those_the_reader_takes(table: str) -> None:
    with pytest.raises(StoreError, match="csv reader has no option 'delimiter'") as caught:
        open_reader("csv", table, {"delimiter": ";"})
    assert {"text_column", "label_column", "task", "split"} <= set(caught.value.allowed)
    with pytest.raises(StoreError, match="csv reader has no option 'config'"):
        open_reader("csv", table, {"config": "en"})


def test_missing_path_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere.csv")
    for attempt in (lambda: open_reader("csv", missing, {}), lambda: guess_reader(missing)):
        with pytest.raises(StoreError, match=r"no file or folder .*nowhere\.csv"):
            attempt()


@pytest.mark.parametrize("reader", ["csv", "numpy", "parquet", "json_lines"])
def test_folder_without_files_of_a_type_is_refused(reader: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no files of a type that is read") as caught:
        open_reader(reader, str(tmp_path), {}).schema()
    assert caught.value.allowed


def test_path_of_no_known_form_is_refused_with_the_known_forms(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    for path in (tmp_path, tmp_path / "data.xlsx"):
        with pytest.raises(StoreError, match="no reader recognises") as caught:
            guess_reader(str(path))
        assert len(caught.value.allowed) == len(READERS)


def test_readers_and_options_are_documented() -> None:
    documented = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
    for name, spec in READERS.items():
        assert f"| `{name}` |" in documented
        assert all(f"`{option}`" in documented for option in spec.options)
    assert all(f"`{option}`" in documented for option in OPTIONS)
    assert all(f"| `{task}` |" in documented for task in DATASET_TASKS)


def test_importing_readers_loads_no_numerical_library() -> None:
    program = "import sys, tasks.readers; print(sorted({'numpy', 'PIL', 'torch'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
