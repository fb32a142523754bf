from __future__ import annotations

import os
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from storage.eviction import evict_features, features_in_use
from storage.features import FeatureStore, open_features
from storage.settings import Settings, current_settings

ROWS = 4
SEGMENT_BYTES = 2 * 128 + ROWS * 16 + ROWS * 8 * 4
PARTS = [np.random.default_rng(part).integers(0, 256, (ROWS, 16), dtype=np.uint8) for part in range(3)]


@pytest.fixture
def settings(home: Path) -> Settings:
    """A home with three segments, written one after the other long ago, and room for two."""
    settings = replace(current_settings(), features_limit=2 * SEGMENT_BYTES)
    store = open_features(settings)
    for part, hashes in enumerate(PARTS):
        store.write(f"model-{part}", hashes, np.full((ROWS, 8), part, np.float32))
        for file in (settings.features / f"model-{part}").iterdir():
            os.utime(file, (1000 + part, 1000 + part))
    assert sum(file.stat().st_size for file in settings.features.rglob("*.npy")) == 3 * SEGMENT_BYTES
    return settings


def _kept(settings: Settings) -> list[int]:
    store = FeatureStore(settings.features)
    return [part for part, hashes in enumerate(PARTS) if _is_whole(store, f"model-{part}", hashes)]


def _is_whole(store: FeatureStore, key: str, hashes: np.ndarray) -> bool:
    return len(list((store._root / key).glob("*.npy"))) == 2


def test_the_least_recently_written_go_first(settings: Settings) -> None:
    evict_features(settings)
    assert _kept(settings) == [1, 2]


def test_nothing_goes_while_all_fits(settings: Settings) -> None:
    evict_features(replace(settings, features_limit=3 * SEGMENT_BYTES))
    assert _kept(settings) == [0, 1, 2]


@pytest.mark.parametrize("use", ["read", "missing"])
def test_what_was_used_last_stays(settings: Settings, use: str) -> None:
    getattr(open_features(settings), use)("model-0", PARTS[0])
    evict_features(settings)
    assert _kept(settings) == [0, 2]


def test_looking_for_other_rows_is_no_use(settings: Settings) -> None:
    open_features(settings).missing("model-0", PARTS[1])
    evict_features(settings)
    assert _kept(settings) == [1, 2]


def test_what_a_running_query_uses_stays_until_its_end(settings: Settings) -> None:
    tight = replace(settings, features_limit=SEGMENT_BYTES)
    with features_in_use(tight):
        for part in (0, 1):
            open_features(tight).missing(f"model-{part}", PARTS[part])
        evict_features(tight)
        assert _kept(tight) == [0, 1]
    assert _kept(tight) == [1]


def test_the_end_of_one_query_leaves_what_another_uses(settings: Settings) -> None:
    nothing = replace(settings, features_limit=0)
    with features_in_use(nothing):
        open_features(nothing).read("model-0", PARTS[0])
        with features_in_use(nothing):
            open_features(nothing).read("model-1", PARTS[1])
        assert _kept(nothing) == [0, 1]
    assert _kept(nothing) == []


def _use_and_die(settings: Settings) -> None:
    with features_in_use(settings):
        open_features(settings).read("model-0", PARTS[0])
        os._exit(9)


def test_a_query_that_was_killed_uses_nothing_any_more(settings: Settings) -> None:
    process = get_context("spawn").Process(target=_use_and_die, args=(settings,))
    process.start()
    process.join()
    assert process.exitcode == 9
    evict_features(replace(settings, features_limit=0))
    assert _kept(settings) == []
    assert list(settings.running.iterdir()) == []


def test_what_a_dead_writer_left_is_evicted_too(settings: Settings) -> None:
    folder = settings.features / "model-2"
    (folder / "torn.npy").write_bytes(b"vectors only")
    os.utime(folder / "torn.npy", (1, 1))
    evict_features(replace(settings, features_limit=3 * SEGMENT_BYTES))
    assert not (folder / "torn.npy").exists()
    assert _kept(settings) == [0, 1, 2]


def test_a_home_without_features_has_nothing_to_evict(home: Path) -> None:
    evict_features(replace(current_settings(), features_limit=0))
