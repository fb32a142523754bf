from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from storage.checkpoints import CheckpointStore, training_key
from storage.errors import StoreError
from storage.evaluations import Evaluation, Subject
from storage.settings import Settings, current_settings
from storage.shared_files import SharedFiles

BYTES = 1000


@pytest.fixture
def settings(home: Path) -> Settings:
    return current_settings()


@pytest.fixture
def store(settings: Settings) -> CheckpointStore:
    return CheckpointStore(settings)


@pytest.fixture
def other(settings: Settings) -> CheckpointStore:
    """As another process has it: locks of two openings are strangers."""
    return CheckpointStore(settings)


def _save(store: CheckpointStore, key: str, epochs: int, content: bytes = b"w" * BYTES) -> None:
    with store.in_use(key), store.save(key, epochs) as directory:
        (directory / "weights").write_bytes(content)


def _weights(store: CheckpointStore, key: str) -> bytes | None:
    checkpoint = store.latest(key)
    return None if checkpoint is None else (checkpoint.directory / "weights").read_bytes()


@pytest.fixture
def three(store: CheckpointStore, settings: Settings) -> list[str]:
    """Trainings used one after the other, long ago."""
    keys = ["a", "b", "c"]
    for age, key in enumerate(keys):
        _save(store, key, 1)
        os.utime(settings.checkpoints / key / "lock", (1000 + age, 1000 + age))
    return keys


def test_the_longest_is_gone_on_from_and_the_only_one_kept(store: CheckpointStore, settings: Settings) -> None:
    assert (store.latest("k"), store.epochs("k")) == (None, 0)
    _save(store, "k", 1, b"one")
    _save(store, "k", 3, b"three")
    assert (_weights(store, "k"), store.epochs("k")) == (b"three", 3)
    assert sorted(file.name for file in (settings.checkpoints / "k").iterdir()) == ["3", "lock"]


def test_what_was_cut_short_is_none(store: CheckpointStore, settings: Settings) -> None:
    def interrupted() -> None:
        with store.in_use("k"), store.save("k", 1) as directory:
            (directory / "weights").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.latest("k") is None
    assert [file.name for file in (settings.checkpoints / "k").iterdir()] == ["lock"]


@pytest.mark.parametrize("damage", ["altered", "cut", "gone", "unlisted"])
def test_a_damaged_one_is_none_and_deleted(store: CheckpointStore, settings: Settings, damage: str) -> None:
    _save(store, "k", 2)
    weights = settings.checkpoints / "k" / "2" / "weights"
    match damage:
        case "altered":
            weights.write_bytes(b"x" * BYTES)
        case "cut":
            weights.write_bytes(b"w")
        case "gone":
            weights.unlink()
        case "unlisted":
            weights.with_name("checksums.json").write_text("{")
    assert store.latest("k") is None
    assert store.epochs("k") == 0
    _save(store, "k", 2, b"anew")
    assert _weights(store, "k") == b"anew"


def test_of_two_that_write_the_same_one_stands(store: CheckpointStore, other: CheckpointStore) -> None:
    with store.in_use("k"), other.in_use("k"):
        with store.save("k", 1) as mine, other.save("k", 1) as theirs:
            for directory in (mine, theirs):
                (directory / "weights").write_bytes(b"same")
        assert _weights(store, "k") == b"same"


def test_a_shorter_one_stays_while_another_may_read_it(store: CheckpointStore, other: CheckpointStore) -> None:
    _save(store, "k", 1, b"one")
    with other.in_use("k"):
        checkpoint = other.latest("k")
        assert checkpoint is not None
        _save(store, "k", 2, b"two")
        assert (checkpoint.directory / "weights").read_bytes() == b"one"
        assert _weights(other, "k") == b"two"
    _save(store, "k", 3)
    assert not checkpoint.directory.exists()


def test_a_disk_that_refuses_is_an_error(store: CheckpointStore) -> None:
    with (
        pytest.raises(StoreError, match="cannot be written: no room"),
        store.in_use("k"),
        store.save("k", 1),
    ):
        raise OSError(28, "no room")


def test_the_least_recently_used_go_first(store: CheckpointStore, three: list[str]) -> None:
    store.evict(2 * BYTES + 500)
    assert [key for key in three if store.epochs(key)] == ["b", "c"]
    with store.in_use("b"):
        assert store.latest("b")
    store.evict(BYTES + 500)
    assert [key for key in three if store.epochs(key)] == ["b"]


def test_losers_go_before_all_others(store: CheckpointStore, three: list[str]) -> None:
    store.demote({"c", "nobody"})
    store.evict(2 * BYTES + 500)
    assert [key for key in three if store.epochs(key)] == ["a", "b"]


def test_who_is_used_again_is_no_loser(store: CheckpointStore, three: list[str]) -> None:
    store.demote({"c"})
    with store.in_use("c"):
        pass
    store.evict(2 * BYTES + 500)
    assert [key for key in three if store.epochs(key)] == ["b", "c"]


def test_losers_stay_while_all_fits(store: CheckpointStore, three: list[str]) -> None:
    store.demote(three)
    store.evict(10 * BYTES)
    assert [key for key in three if store.epochs(key)] == three


def test_what_is_in_use_stays(store: CheckpointStore, other: CheckpointStore, three: list[str]) -> None:
    with ExitStack() as uses:
        uses.enter_context(other.in_use("a"))
        uses.enter_context(store.in_use("b"))
        store.evict(0)
        assert [key for key in three if store.epochs(key)] == ["a", "b"]
    store.evict(0)
    assert not any(store.epochs(key) for key in three)


def test_what_was_evicted_can_be_trained_again(store: CheckpointStore, three: list[str], settings: Settings) -> None:
    store.evict(0)
    assert list(settings.checkpoints.iterdir()) == []
    _save(store, "a", 1, b"again")
    assert _weights(store, "a") == b"again"


def test_the_key_says_what_is_trained_and_not_what_is_measured() -> None:
    model, train, test = (Subject(name, name) for name in "mtu")
    evaluation = Evaluation(model, train, test, "finetune", "2", {"epochs": 4, "seed": 0})
    same = [
        replace(evaluation, fidelity={"epochs": 2}),
        replace(evaluation, test=None),
        replace(evaluation, model=Subject("another name", "m")),
    ]
    others = [
        replace(evaluation, model=test),
        replace(evaluation, train=test),
        replace(evaluation, version="3"),
        replace(evaluation, params={"epochs": 4, "seed": 1}),
    ]
    assert {training_key(each) for each in same} == {training_key(evaluation)}
    assert len({training_key(each) for each in [evaluation, *others]}) == len(others) + 1


def test_what_is_noted_of_a_training_stays_until_its_checkpoints_go(store: CheckpointStore) -> None:
    assert store.noted("k") is None
    store.note("k", {"curve": [0.5]})
    _save(store, "k", 1)
    _save(store, "k", 2)
    assert store.noted("k") == {"curve": [0.5]}
    store.evict(0)
    assert store.noted("k") is None


# --- machines that share ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("s3_url") if request.param == "s3" else f"file://{tmp_path / 'there'}"


def machine(tmp_path: Path, url: str, name: str) -> CheckpointStore:
    return CheckpointStore(replace(current_settings(), home=tmp_path / name, store_url=url))


def put(store: CheckpointStore, key: str, epochs: int, content: bytes = b"weights") -> None:
    with store.in_use(key):
        with store.save(key, epochs) as directory:
            (directory / "weights").write_bytes(content)
        store.share(key)


def read(store: CheckpointStore, key: str) -> tuple[int, bytes] | None:
    with store.in_use(key):
        latest = store.latest(key)
        return None if latest is None else (latest.epochs, (latest.directory / "weights").read_bytes())


def test_another_machine_goes_on_from_the_longest(home: Path, tmp_path: Path, url: str) -> None:
    one, other = (machine(tmp_path, url, name) for name in ("one", "other"))
    assert read(other, "k") is None
    put(one, "k", 1, b"1")
    assert read(other, "k") == (1, b"1")
    put(other, "k", 3, b"3")
    assert read(one, "k") == (3, b"3")
    put(one, "k", 3, b"another")
    assert read(machine(tmp_path, url, "third"), "k") == (3, b"3")
    assert SharedFiles(url).names("checkpoints/k") == {"3.tar"}


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_what_is_damaged_there_is_trained_again(home: Path, tmp_path: Path, url: str, content: bytes) -> None:
    put(machine(tmp_path, url, "one"), "k", 2)
    (tmp_path / "damaged").write_bytes(content)
    SharedFiles(url).put(tmp_path / "damaged", "checkpoints/k/2.tar")
    assert read(machine(tmp_path, url, "other"), "k") is None
    assert SharedFiles(url).names("checkpoints/k") == set()


def test_what_is_damaged_here_is_fetched_again(home: Path, tmp_path: Path, url: str) -> None:
    one = machine(tmp_path, url, "one")
    put(one, "k", 2)
    (tmp_path / "one" / "checkpoints" / "k" / "2" / "weights").write_bytes(b"other")
    assert read(one, "k") == (2, b"weights")


def test_as_many_are_kept_there_as_here_and_purged_ones_are_not(home: Path, tmp_path: Path, url: str) -> None:
    one, other = (machine(tmp_path, url, name) for name in ("one", "other"))
    for number, key in enumerate("abc"):
        put(one, key, 1, bytes(100_000))
        if url.startswith("file"):
            os.utime(tmp_path / "there" / "checkpoints" / key / "1.tar", (number, number))
    one.evict(250_000)
    there = {path.split("/")[1] for path in SharedFiles(url).sizes("checkpoints")}
    assert len(there) == 2
    assert "c" in there or not url.startswith("file")
    one.forget("abc")
    assert SharedFiles(url).sizes("checkpoints") == {}
    assert [read(other, key) for key in "abc"] == [None] * 3
