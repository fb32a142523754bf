"""Checkpoints: what a training needs to go on from where it stopped, kept within a size limit.

Each training has a directory named by its key, and in it one named by the epochs that were trained. That is written
under another name and moved into place, with a checksum of every file, so that half of one is never gone on from. Who
uses a training's checkpoints holds a lock in its directory together with others; who deletes holds it alone.

With a shared store (SHIFT_STORE_URL) the longest checkpoint of a training is there too, as one archive, so that another
machine goes on with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from storage.errors import StoreError
from storage.evaluations import Evaluation
from storage.fingerprints import fingerprint_of, fingerprint_of_file
from storage.in_place import put_in_place
from storage.least_used import Kept, least_used
from storage.settings import Settings
from storage.shared_files import SharedFiles
from storage.tar_files import Refused, pack, unpack

_CHECKSUMS = "checksums.json"
_LOCK = "lock"
_NOTE = "note.json"
# Where they are in the shared store, a folder for each training.
_FOLDER, _ARCHIVE = "checkpoints", ".tar"
# Begins the names of what is being written or deleted.
_HIDDEN = "."


def training_key(evaluation: Evaluation) -> str:
    """What all evaluations have in common that one training serves: rungs of any length, and tests on any split."""
    return fingerprint_of(
        evaluation.model.fingerprint,
        evaluation.train.fingerprint,
        evaluation.method,
        evaluation.version,
        dict(evaluation.params),
    )


@dataclass(frozen=True)
class Checkpoint:
    """The files in `directory`, written after so many epochs."""

    epochs: int
    directory: Path


class CheckpointStore:
    """The checkpoints of a home, by training key; only the longest of a training is kept."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.checkpoints
        self._shared = SharedFiles(settings.store_url) if settings.store_url else None
        self._held: dict[str, IO[bytes]] = {}

    def epochs(self, key: str) -> int:
        """How many epochs the longest checkpoint of a training has, and 0 where there is none; its files are unread."""
        return max((each.epochs for each in self._of(key)), default=0)

    @contextlib.contextmanager
    def in_use(self, key: str) -> Iterator[None]:
        """Meanwhile no other process deletes this training's checkpoints."""
        with _locked(self._root / key, fcntl.LOCK_SH) as lock:
            os.utime(lock.fileno())
            self._held[key] = lock
            try:
                yield
            finally:
                del self._held[key]

    def latest(self, key: str) -> Checkpoint | None:
        """The longest checkpoint of a training whose files are as they were written; damaged ones are deleted.

        To be called while the training is `in_use`. One of another machine is fetched where it is longer. Raises
        StoreError when the disk or the shared store refuses.
        """
        self._fetch_longer(key)
        longest = max(self._of(key), key=lambda each: each.epochs, default=None)
        if longest is None or _is_whole(longest.directory):
            return longest
        _delete(longest.directory)
        return self.latest(key)

    @contextlib.contextmanager
    def save(self, key: str, epochs: int) -> Iterator[Path]:
        """An empty directory; what is written there is the training's checkpoint at the end, and shorter ones go.

        To be called while the training is `in_use`. Nothing is left of it when something goes wrong. Raises StoreError
        when the disk refuses.
        """
        temporary = self._root / key / f"{_HIDDEN}{uuid4().hex}"
        try:
            with _of_the_disk(temporary):
                temporary.mkdir(parents=True)
                yield temporary
                checksums = {file.name: fingerprint_of_file(file) for file in temporary.iterdir()}
                (temporary / _CHECKSUMS).write_text(json.dumps(checksums))
                for file in temporary.iterdir():
                    with file.open("rb") as opened:
                        os.fsync(opened.fileno())
                with contextlib.suppress(OSError) if self.epochs(key) >= epochs else contextlib.nullcontext():
                    # Where another process was quicker, its files are the same.
                    temporary.rename(self._root / key / str(epochs))
                self._forget_all_but(key, epochs)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def share(self, key: str) -> None:
        """Put the longest checkpoint of a training into the shared store, if there is one, in place of shorter ones.

        To be called while the training is `in_use`. Raises StoreError when the disk or the store refuses.
        """
        if self._shared is None or not (epochs := self.epochs(key)):
            return
        directory, path = self._root / key / str(epochs), f"{_FOLDER}/{key}/{epochs}{_ARCHIVE}"
        there = {f"{_FOLDER}/{key}/{name}" for name in self._shared.names(f"{_FOLDER}/{key}")}
        if path in there:
            return
        archive = self._root / key / f"{_HIDDEN}{uuid4().hex}"
        try:
            with _of_the_disk(archive):
                pack(archive, directory, sorted(directory.iterdir()))
            self._shared.put(archive, path)
        finally:
            archive.unlink(missing_ok=True)
        for shorter in there:
            self._shared.delete(shorter)

    def _fetch_longer(self, key: str) -> None:
        if self._shared is None:
            return
        names = self._shared.names(f"{_FOLDER}/{key}")
        epochs = {int(number) for name in names if (number := name.removesuffix(_ARCHIVE)).isdecimal()}
        if not epochs or max(epochs) <= self.epochs(key):
            return
        archive, unpacked = (self._root / key / f"{_HIDDEN}{uuid4().hex}" for _ in range(2))
        path = f"{_FOLDER}/{key}/{max(epochs)}{_ARCHIVE}"
        try:
            if self._shared.fetch(path, archive):
                with _of_the_disk(archive), contextlib.suppress(Refused):
                    unpack(archive, unpacked)
                if _is_whole(unpacked):
                    unpacked.rename(self._root / key / str(max(epochs)))
                else:
                    self._shared.delete(path)
        finally:
            archive.unlink(missing_ok=True)
            shutil.rmtree(unpacked, ignore_errors=True)

    def note(self, key: str, note: Mapping[str, Any]) -> None:
        """Put down, in place of what was, what people may look at of a training; it goes with its checkpoints."""
        with put_in_place(self._root / key / _NOTE) as temporary:
            temporary.write_text(json.dumps(note))

    def noted(self, key: str) -> dict[str, Any] | None:
        """What was put down of a training, if anything."""
        try:
            return json.loads((self._root / key / _NOTE).read_text())
        except (OSError, ValueError):
            return None

    def demote(self, keys: Iterable[str]) -> None:
        """Have the checkpoints of these trainings evicted before all others, unless they are used again."""
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._root / key / _LOCK, (0, 0))

    def evict(self, limit_bytes: int) -> None:
        """Delete the checkpoints of trainings so that the rest fits the limit: the least recently used first.

        What is in use stays, also where the limit is passed for it. In the shared store as many are kept, the last
        that were written.
        """
        kept = []
        for directory in self._root.glob(f"[!{_HIDDEN}]*"):
            with contextlib.suppress(FileNotFoundError):
                kept.append(Kept((directory.name,), _size(directory), (directory / _LOCK).stat().st_mtime))
        self._delete_here(key for (key,) in least_used(kept, limit_bytes, lambda each: not self._is_free(*each.name)))
        if self._shared is not None:
            there = [Kept((path,), size, written) for path, (size, written) in self._shared.sizes(_FOLDER).items()]
            for (path,) in least_used(there, limit_bytes, lambda _: False):
                self._shared.delete(path)

    def forget(self, keys: Iterable[str]) -> None:
        """Delete what there is of these trainings, here but of those that are in use, and in the shared store."""
        forgotten = set(keys)
        self._delete_here(forgotten)
        if self._shared is not None and forgotten:
            for path in self._shared.sizes(_FOLDER):
                if path.split("/")[1] in forgotten:
                    self._shared.delete(path)

    def _delete_here(self, keys: Iterable[str]) -> None:
        for key in keys:
            if not (self._root / key).exists():
                continue
            with contextlib.suppress(BlockingIOError), _locked(self._root / key, fcntl.LOCK_EX | fcntl.LOCK_NB):
                _delete(self._root / key)

    def _of(self, key: str) -> list[Checkpoint]:
        found = (self._root / key).glob(f"[!{_HIDDEN}]*")
        return [Checkpoint(int(each.name), each) for each in found if each.name.isdecimal()]

    def _forget_all_but(self, key: str, epochs: int) -> None:
        """Delete a training's other checkpoints, whole or not, unless another process may be reading or writing one."""
        lock = self._held[key]
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for each in (self._root / key).iterdir():
                if each.name not in {_LOCK, _NOTE, str(epochs)}:
                    _delete(each)
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            fcntl.flock(lock, fcntl.LOCK_SH)

    def _is_free(self, key: str) -> bool:
        try:
            with _locked(self._root / key, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return True
        except BlockingIOError:
            return False


@contextlib.contextmanager
def _locked(directory: Path, how: int) -> Iterator[IO[bytes]]:
    """Hold the lock of a directory, which is made. Raises BlockingIOError where another has it and `how` says so."""
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock = (directory / _LOCK).open("ab")
        except FileNotFoundError:
            continue
        with lock:
            fcntl.flock(lock, how)
            # Its directory may have been deleted while it was waited for.
            with contextlib.suppress(FileNotFoundError):
                if (directory / _LOCK).stat().st_ino == os.fstat(lock.fileno()).st_ino:
                    yield lock
                    return


@contextlib.contextmanager
def _of_the_disk(path: Path) -> Iterator[None]:
    """What the disk refuses, as a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"a checkpoint cannot be written: {error.strerror or error}",
            subject=str(path.parent),
            fix="free some disk space, or make the directory writable",
        ) from error


def _delete(directory: Path) -> None:
    """Delete a directory, which is under another name first: nobody sees half of it."""
    hidden = directory.with_name(f"{_HIDDEN}{uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        directory.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def _is_whole(directory: Path) -> bool:
    try:
        checksums: dict[str, str] = json.loads((directory / _CHECKSUMS).read_text())
        return all(fingerprint_of_file(directory / name) == checksum for name, checksum in checksums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
