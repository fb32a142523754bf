"""Where rows stand among segments: as a look through every file would say, and each file is read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.row_index import forget_index, halves_of, index_of
from storage.segments import Segment, write_segment

HASHES = np.random.default_rng(0).integers(0, 256, (60, 16), dtype=np.uint8)


def _write(directory: Path, *rows: np.ndarray) -> list[Segment]:
    return [write_segment(directory, each, np.arange(len(each), dtype=np.float32)[:, None]) for each in rows]


def _found(directory: Path, rows: np.ndarray) -> list[tuple[str, int] | None]:
    """The segment and the place in it of each row."""
    index = index_of(directory)
    places = index.find(halves_of(rows))
    numbers = index.segments_of(places)
    return [
        (index.segments[number].name, int(place - index.rows_of(number).start)) if place >= 0 else None
        for place, number in zip(places, numbers, strict=True)
    ]


def _by_hand(directory: Path, rows: np.ndarray) -> list[tuple[str, int] | None]:
    places: dict[bytes, tuple[str, int]] = {}
    for file in sorted(directory.glob("*.rows.npy")):
        for place, row in enumerate(np.load(file)):
            places.setdefault(row.tobytes(), (file.name.split(".")[0], place))
    return [places.get(row.tobytes()) for row in rows]


def _reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the segments that are read from now on."""
    read: list[str] = []
    load = Segment.load_hashes

    def load_hashes(segment: Segment) -> np.ndarray | None:
        read.append(segment.name)
        return load(segment)

    monkeypatch.setattr(Segment, "load_hashes", load_hashes)
    return read


def test_rows_are_where_a_look_through_all_files_finds_them(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(60)
    assert _found(tmp_path / "none", HASHES) == [None] * 60
    _write(tmp_path, HASHES[:10], HASHES[5:20], HASHES[30:31])
    assert _found(tmp_path, HASHES[order]) == _by_hand(tmp_path, HASHES[order])
    _write(tmp_path, HASHES[20:28], HASHES[:3])
    assert _found(tmp_path, HASHES[order]) == _by_hand(tmp_path, HASHES[order])


def test_rows_that_are_alike_in_one_half_are_told_apart(tmp_path: Path) -> None:
    other = HASHES[:2].copy()
    other[0, -1] ^= 1
    other[1, 0] ^= 1
    _write(tmp_path, HASHES[:2])
    assert _found(tmp_path, other) == [None, None]


def test_only_segments_that_are_new_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, HASHES[:10], HASHES[10:20])
    index_of(tmp_path)
    read = _reads(monkeypatch)
    (added,) = _write(tmp_path, HASHES[20:30])
    assert _found(tmp_path, HASHES) == _by_hand(tmp_path, HASHES)
    index_of(tmp_path)
    assert read == [added.name]


def test_a_deleted_segment_is_gone_and_nothing_is_read_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = _write(tmp_path, HASHES[:10], HASHES[10:20])
    index_of(tmp_path)
    read = _reads(monkeypatch)
    first.delete()
    assert _found(tmp_path, HASHES) == _by_hand(tmp_path, HASHES)
    assert read == []


def test_a_torn_segment_is_left_out_until_it_is_whole_again(tmp_path: Path) -> None:
    (segment,) = _write(tmp_path, HASHES[:10])
    whole = segment.rows.read_bytes()
    index_of(tmp_path)
    segment.rows.write_bytes(whole[:40])
    assert _found(tmp_path, HASHES[:10]) == [None] * 10
    segment.rows.write_bytes(whole)
    assert _found(tmp_path, HASHES[:10]) == _by_hand(tmp_path, HASHES[:10])


def test_what_is_forgotten_is_read_anew(tmp_path: Path) -> None:
    (segment,) = _write(tmp_path, HASHES[:10])
    index_of(tmp_path)
    np.save(segment.rows, HASHES[20:30])
    forget_index(tmp_path)
    assert _found(tmp_path, HASHES) == _by_hand(tmp_path, HASHES)
