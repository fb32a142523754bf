"""The files of models and datasets in the shared store: of each one archive, named by what is in it.

An archive is a plain tar of regular files below one folder. It appears in the store once it is whole, and what is
fetched is unpacked under another name, compared with the fingerprint in its name and only then moved into place: a
machine never opens half of a copy, another's files, or a path outside of its home.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from storage.errors import StoreError
from storage.fingerprints import fingerprint_of_model, signature_of_files
from storage.in_place import put_in_place
from storage.least_used import Kept
from storage.settings import Settings
from storage.shared_files import SharedFiles
from storage.tar_files import Refused, pack, unpack

MODELS, DATASETS = "models", "datasets"
# How files come to be there that are nowhere to be found.
PUT_THERE = "run 'shiftql doctor --fix' on the machine that has them, or register it again"
# Begins the names of what is being written or deleted.
_HIDDEN = "."


class Archives:
    """The archives of one kind, and the copies of them in the home."""

    def __init__(self, settings: Settings, kind: str) -> None:
        assert settings.store_url is not None
        self._shared = SharedFiles(settings.store_url)
        self._kind = kind
        self._root = settings.shared / kind

    def names(self) -> set[str]:
        """The fingerprints of all archives in the store."""
        return {name.removesuffix(".tar") for name in self._shared.names(self._kind) if name.endswith(".tar")}

    def put(self, fingerprint: str, base: Path, files: Sequence[Path]) -> None:
        """Archive files under their paths relative to `base`, unless that was done before by anyone.

        Raises StoreError when the disk or the store refuses.
        """
        if self._shared.has(self._path(fingerprint)):
            return
        temporary = self._root / f"{_HIDDEN}{uuid4().hex}.tmp"
        try:
            with self._of_the_disk():
                temporary.parent.mkdir(parents=True, exist_ok=True)
                pack(temporary, base, files)
                is_same = self._fingerprint(base, files) == fingerprint
            if not is_same:
                raise StoreError("files changed while they were copied", subject=str(files[0]), fix="ask again")
            self._shared.put(temporary, self._path(fingerprint))
        finally:
            temporary.unlink(missing_ok=True)

    def copy(self, fingerprint: str, make_room: Callable[[int], object]) -> Path | None:
        """The folder with the files of an archive, which is fetched unless it is here; None where there is none.

        `make_room` is told how many bytes are about to come. A copy that was damaged since is fetched again. An archive
        that holds anything but what its name says is deleted in the store. Raises StoreError then, and when the disk or
        the store refuses.
        """
        target = self._root / fingerprint
        if self._is_here(target):
            return target
        with FileLock(self._lock(target)):
            if self._is_here(target) or self._fetch(fingerprint, target, make_room):
                return target
        return None

    def _is_here(self, target: Path) -> bool:
        """Whether the copy is as it was unpacked, which is then noted to be used now."""
        try:
            told: Mapping[str, object] = json.loads(_told(target).read_text())
            if told["signature"] != signature_of_files(_files_in(target)):
                return False
            os.utime(_told(target))
        except (OSError, ValueError, KeyError):
            return False
        return True

    def _fetch(self, fingerprint: str, target: Path, make_room: Callable[[int], object]) -> bool:
        archive, unpacked = (self._root / f"{_HIDDEN}{uuid4().hex}.tmp" for _ in range(2))
        try:
            if not self._shared.fetch(self._path(fingerprint), archive):
                return False
            _forget(target)
            make_room(archive.stat().st_size)
            with self._of_the_disk():
                try:
                    files = unpack(archive, unpacked)
                    if self._fingerprint(unpacked, files) != fingerprint:
                        raise Refused("it is of other content than its name says")
                except Refused as refused:
                    self._shared.delete(self._path(fingerprint))
                    raise StoreError(
                        f"an archive of the shared store was deleted there: {refused}",
                        subject=self._path(fingerprint),
                        fix="run 'shiftql doctor --fix' where the files are",
                    ) from refused
                unpacked.rename(target)
                self._tell(target)
        finally:
            archive.unlink(missing_ok=True)
            shutil.rmtree(unpacked, ignore_errors=True)
        return True

    def _fingerprint(self, base: Path, files: Sequence[Path]) -> str:
        """What archives of this kind are named by: of a model, the fingerprint that it has in the catalog."""
        return fingerprint_of_model(Path(os.path.commonpath(files)) if self._kind == MODELS else base, files)

    def _tell(self, target: Path) -> None:
        files = _files_in(target)
        told = {
            "signature": signature_of_files(files),
            "size_bytes": sum(file.stat().st_size for file in files),
        }
        with put_in_place(_told(target)) as temporary:
            temporary.write_text(json.dumps(told))

    @contextlib.contextmanager
    def _of_the_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"files that machines share cannot be copied: {error.strerror or error}",
                subject=str(error.filename or self._root),
                fix="free some disk space, or make the directory writable, then ask again",
            ) from error

    def _lock(self, target: Path) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        return target.with_name(f"{_HIDDEN}{target.name}.lock")

    def _path(self, fingerprint: str) -> str:
        return f"{self._kind}/{fingerprint}.tar"


def copies_in(settings: Settings) -> Iterator[Kept[tuple[str, str]]]:
    """The copies in the home, by kind and fingerprint."""
    for told in settings.shared.glob(f"*/[!{_HIDDEN}]*.json"):
        with contextlib.suppress(OSError, ValueError):
            size_bytes = json.loads(told.read_text())["size_bytes"]
            yield Kept((told.parent.name, told.stem), size_bytes, told.stat().st_mtime)


def forget_copy(settings: Settings, kind: str, fingerprint: str) -> None:
    """Delete the copy of an archive from the home."""
    _forget(settings.shared / kind / fingerprint)


def _forget(target: Path) -> None:
    _told(target).unlink(missing_ok=True)
    hidden = target.with_name(f"{_HIDDEN}{uuid4().hex}.tmp")
    with contextlib.suppress(FileNotFoundError):
        target.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def entry(copy: Path, name: str) -> Path:
    """The file or folder of that name in a copy; the only one where it was archived under another."""
    children = list(copy.iterdir())
    return next((child for child in children if child.name == name), children[0])


def _files_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _told(target: Path) -> Path:
    """Where a copy's signature and size are noted; its time says when the copy was last used."""
    return target.with_name(f"{target.name}.json")
