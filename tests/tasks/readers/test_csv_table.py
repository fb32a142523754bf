from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import StoreError
from tasks.readers import open_reader
from tasks.readers.base import DatasetReader


def table(folder: Path, content: str | bytes, *, suffix: str = "csv") -> str:
    path = folder / f"data.{suffix}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def opened(path: str, **options: str) -> DatasetReader:
    return open_reader("csv", path, options)


def texts(reader: DatasetReader) -> list[str]:
    return [str(row) for chunk in reader.chunks() for row in chunk.rows]


@pytest.mark.parametrize(
    "content",
    [
        "text,label\nred,a\nblue,b\n",
        "\ufefftext,label\nred,a\nblue,b\n",
        "id,Review,extra,Category\n1,red,x,a\n2,blue,y,b\n",
        "Label,anything\na,red\nb,blue\n",
        "sentence,anything\nred,a\nblue,b\n",
        "text,label\r\nred,a\r\n\r\nblue, b \r\n",
        '"text","label"\n"red","a"\n"blue","b"',
    ],
)
def test_columns_are_found_by_their_usual_names(content: str, tmp_path: Path) -> None:
    reader = opened(table(tmp_path, content))
    assert texts(reader) == ["red", "blue"]
    assert reader.schema().classes == ("a", "b")


def test_two_columns_of_unknown_names_are_told_apart_by_their_values(tmp_path: Path) -> None:
    content = "verdict,what was said\n" + "".join(f"{'yes' if i % 2 else 'no'},sentence {i}\n" for i in range(9))
    reader = opened(table(tmp_path, content))
    assert reader.schema().classes == ("no", "yes")
    assert texts(reader)[0] == "sentence 0"


def test_named_columns_are_read_in_any_spelling(tmp_path: Path) -> None:
    path = table(tmp_path, "Body Text,text,label,Star Rating\nred,x,y,5\nblue,x,y,1\n")
    reader = opened(path, text_column="body_text", label_column="Star Rating")
    assert texts(reader) == ["red", "blue"]
    assert reader.schema().classes == ("1", "5")


def test_exact_column_name_wins_over_another_spelling(tmp_path: Path) -> None:
    reader = opened(table(tmp_path, "text,Text,label\nred,x,a\n"), text_column="Text")
    assert texts(reader) == ["x"]


def test_naming_one_of_two_columns_settles_the_other(tmp_path: Path) -> None:
    path = table(tmp_path, "first,second\nred,a\nblue,b\n")
    assert texts(opened(path, text_column="second")) == ["a", "b"]
    assert texts(opened(path, label_column="second")) == ["red", "blue"]


def test_tabs_separate_columns_in_tsv_and_commas_do_not(tmp_path: Path) -> None:
    reader = opened(table(tmp_path, "text\tlabel\nred, blue\ta\n", suffix="TSV"))
    assert texts(reader) == ["red, blue"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "is empty"),
        ("text,label\n", {}, "has no rows"),
        ("text,label\nred,a\nblue, \n", {}, "line 3: column 'label' is empty"),
        ("text,label\nred,a\n\nblue\n", {}, "line 4: 1 columns where the header has 2"),
        ('text,label\n"red\nred",a\nblue,b,c\n', {}, "line 4: 3 columns where the header has 2"),
        ('text,label\nred,a\n"blue,b\nmore,c\n', {}, "line 3: unexpected end of data"),
        ('text,label\nred,a\n"blue" sky,b\n', {}, "line 3: ',' expected after"),
        (b"text,label\nred,a\ngr\xfcn,b\n", {}, "line 3: column 'text' is not UTF-8"),
        ("text,label\nred,a\n".encode("utf-16"), {}, "line 1: not UTF-8"),
        ("one,two\nsame,same\n", {}, "neither the names nor the values"),
        ("one,two,label\na,b,c\n", {}, "no column is known to hold the text"),
        ("text,two,three\na,b,c\n", {}, "no column is known to hold the label"),
        ("text,review,label\na,b,c\n", {}, "text_column may be 'text' and 'review'"),
        (
            "text,label\na,b\n",
            {"text_column": "label", "label_column": "label"},
            "'label' cannot be both text and label",
        ),
        ("text,label\na,b\n", {"label_column": "lable"}, "no column 'lable'; did you mean label"),
    ],
)
def test_broken_tables_are_refused_with_the_place(
    content: str | bytes, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = table(tmp_path, content)
    with pytest.raises(StoreError, match=message) as caught:
        list(opened(path, max_skipped="0", **options).chunks())
    assert path in caught.value.message
    assert caught.value.fix


def test_ambiguous_columns_are_listed_with_how_to_name_them(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        opened(table(tmp_path, "one,two,three\na,b,c\n")).schema()
    assert caught.value.allowed == ("one", "two", "three")
    assert "--text-column … --label-column …" in str(caught.value)


def test_text_of_any_length_is_read_whole(tmp_path: Path) -> None:
    long = "word " * 30_000
    assert texts(opened(table(tmp_path, f"text,label\n{long},a\nblue,b\n"))) == [long, "blue"]
