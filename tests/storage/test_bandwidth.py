from __future__ import annotations

from pathlib import Path

from storage.bandwidth import DEFAULT_BYTES_PER_SECOND, bytes_per_second, note_download
from storage.settings import current_settings


def test_what_is_measured_takes_the_place_of_the_default(home: Path) -> None:
    assert bytes_per_second(current_settings()) == DEFAULT_BYTES_PER_SECOND
    note_download(current_settings(), 40_000_000, 2.0)
    assert bytes_per_second(current_settings()) == 20e6


def test_the_latest_counts_most_and_small_files_not_at_all(home: Path) -> None:
    note_download(current_settings(), 40_000_000, 2.0)
    note_download(current_settings(), 10_000, 2.0)
    assert bytes_per_second(current_settings()) == 20e6
    note_download(current_settings(), 80_000_000, 2.0)
    assert bytes_per_second(current_settings()) == 30e6


def test_a_torn_note_is_no_measurement(home: Path) -> None:
    (current_settings().home / "bytes-per-second").write_text("fast")
    assert bytes_per_second(current_settings()) == DEFAULT_BYTES_PER_SECOND
