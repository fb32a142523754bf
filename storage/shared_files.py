"""Files that several machines share, at any URL that fsspec opens: file://, s3://, gs://, …"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from storage.errors import StoreError

# Where an upload is seen once it is whole, and renaming would copy it.
_OBJECT_STORES = {"s3", "gs", "abfs"}
# What their packages are called, where they are not part of fsspec.
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


def _written(told: dict[str, Any]) -> float:
    """When a file was written, which every file system tells in its own way."""
    when = next((told[key] for key in ("LastModified", "mtime", "created") if key in told), 0.0)
    return when.timestamp() if isinstance(when, datetime) else float(when)


class SharedFiles:
    """Files below a URL, by their path relative to it. Raises StoreError whenever they are out of reach.

    Nothing is connected to before the first file is asked for.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def names(self, folder: str) -> set[str]:
        """The names of the files and folders in a folder; none when there is no such folder."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            return {path.rsplit("/", 1)[-1] for path in self._files.ls(self._path(folder), detail=False)}
        return set()

    def sizes(self, folder: str) -> dict[str, tuple[int, float]]:
        """The files below a folder: their bytes, and when they were written (seconds since 1970)."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            below = self._path("")
            found = self._files.find(self._path(folder), detail=True)
            return {path.removeprefix(below): (told["size"], _written(told)) for path, told in found.items()}
        return {}

    def has(self, path: str) -> bool:
        """Whether there is a file."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            return self._files.info(self._path(path))["type"] == "file"
        return False

    def fetch(self, path: str, target: Path) -> bool:
        """Copy a file to this machine; False when there is none."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(self._path(path), str(target))
            return True
        return False

    def put(self, source: Path, path: str) -> None:
        """Copy a file there. It is seen under its path only once it is whole."""
        with self._told():
            target = self._path(path)
            if self._is_object_store:
                self._files.put_file(str(source), target)
                return
            temporary = f"{target}.{uuid4().hex}.tmp"
            self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            self._files.put_file(str(source), temporary)
            self._files.mv(temporary, target)

    def delete(self, path: str) -> None:
        """Delete a file, if there is one."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(path))

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from fsspec import url_to_fs

        # Other machines add files at any time.
        files, root = url_to_fs(self._url, use_listings_cache=False)
        return files, root.rstrip("/")

    @property
    def _files(self) -> Any:
        return self._opened[0]

    @property
    def _is_object_store(self) -> bool:
        protocol = self._files.protocol
        return bool(_OBJECT_STORES & ({protocol} if isinstance(protocol, str) else set(protocol)))

    def _path(self, path: str) -> str:
        return f"{self._opened[1]}/{path}"

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong, which every file system says in its own way, as a StoreError."""
        try:
            yield
        except Exception as error:
            package = _PACKAGES.get(self._url.partition("://")[0])
            fix = "check SHIFT_STORE_URL, rights and the space there and here, then ask again: finished work is kept"
            if isinstance(error, ImportError) and package:
                fix = f"pip install {package}"
            raise StoreError(
                f"the shared store does not work: {error or type(error).__name__}", subject="SHIFT_STORE_URL", fix=fix
            ) from error
