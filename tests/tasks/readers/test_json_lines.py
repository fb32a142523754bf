from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import StoreError
from tasks.readers import open_reader
from tasks.readers.base import DatasetReader


def opened(folder: Path, content: str | bytes, **options: str) -> DatasetReader:
    path = folder / "data.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_reader("json_lines", str(path), options)


GOOD = '{"text": "red", "label": "a"}\n'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 3: not JSON: "),
        ("[1]", "line 3: a JSON value where an object is expected"),
        ('{"text": "red"}', "line 3: column 'label' is empty"),
        ('{"label": "a"}', "line 3: column 'text' is empty"),
        ('{"text": 5, "label": "a"}', "line 3: column 'text' is 5, and no text"),
        ('{"text": "red", "label": {"of": 1}}', "line 3: column 'label' is"),
        ('{"text": "red", "label": NaN}', "line 3: column 'label' is empty"),
        ("[" * 100_000, "line 3: not JSON"),
        (b'{"text": "gr\xfcn", "label": "a"}', "line 3: not UTF-8 text"),
    ],
)
def test_a_broken_line_is_named_and_left_out(line: str | bytes, problem: str, tmp_path: Path) -> None:
    broken = line.encode() if isinstance(line, str) else line
    content = GOOD.encode() + b"\n" + broken + b"\n" + GOOD.encode()
    reader = opened(tmp_path, content)
    assert [row for chunk in reader.chunks() for row in chunk.rows] == ["red", "red"]
    assert reader.skipped.num_rows == 1
    assert problem in reader.skipped.first
    with pytest.raises(StoreError) as caught:
        list(opened(tmp_path, content, max_skipped="0").chunks())
    assert problem in caught.value.message
    assert "data.jsonl" in caught.value.message


def test_an_array_says_how_to_make_lines_of_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="line 1: a JSON array") as caught:
        opened(tmp_path, f"[{GOOD}]").schema()
    assert "jq" in (caught.value.fix or "")


def test_columns_are_those_of_all_first_objects(tmp_path: Path) -> None:
    reader = opened(tmp_path, '\ufeff{"id": 1, "label": 0}\n{"id": 2, "text": "red", "label": 1}\n')
    assert [row for chunk in reader.chunks() for row in chunk.rows] == ["red"]
    assert reader.skipped.first.endswith("line 1: column 'text' is empty")
