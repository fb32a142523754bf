"""Files that several machines share, at any URL that fsspec opens: file://, s3://, gs://, …"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from storage.errors import StoreError


class SharedFiles:
    """Files below a URL, by their path relative to it. Raises StoreError whenever they are out of reach."""

    def __init__(self, url: str) -> None:
        from fsspec import url_to_fs

        with _told():
            # Other machines add files at any time.
            self._files, self._root = url_to_fs(url, use_listings_cache=False)

    def names(self, folder: str) -> set[str]:
        """The names of the files in a folder; none when there is no such folder."""
        with _told(), contextlib.suppress(FileNotFoundError):
            return {path.rsplit("/", 1)[-1] for path in self._files.ls(self._path(folder), detail=False)}
        return set()

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file to this machine, if there is one."""
        with _told(), contextlib.suppress(FileNotFoundError):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(self._path(path), str(target))

    def put(self, source: Path, path: str) -> None:
        """Copy a file there. It is seen under its path only once it is whole."""
        target = self._path(path)
        temporary = f"{target}.{uuid4().hex}.tmp"
        with _told():
            self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            self._files.put_file(str(source), temporary)
            self._files.mv(temporary, target)

    def delete(self, path: str) -> None:
        """Delete a file, if there is one."""
        with _told(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(path))

    def _path(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What goes wrong, which every file system says in its own way, as a StoreError."""
    try:
        yield
    except Exception as error:
        raise StoreError(
            f"the shared store does not work: {error or type(error).__name__}",
            subject="SHIFT_STORE_URL",
            fix="check SHIFT_STORE_URL, rights and the space there and here, then ask again: finished work is kept",
        ) from error
