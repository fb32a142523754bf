"""Folders with one sub-folder of images per class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from storage.errors import StoreError
from storage.manifests import ordered_classes
from tasks.readers.roles import IMAGE_SUFFIXES
from tasks.readers.splits import TRAIN, WHOLE, is_hidden, split_folders
from tasks.readers.tables import Batch, Table


def open_sets(path: str) -> dict[str, Table]:
    """The table of every split: a folder of classes, or `train` beside `val` or `test`, with the classes in each."""
    root = Path(path)
    by_split = split_folders(path) if root.is_dir() else {}
    if TRAIN in by_split and _sub_folders(by_split[TRAIN]):
        return {split: ImageFolder(folder) for split, folder in by_split.items()}
    return {WHOLE: ImageFolder(root)}


class ImageFolder(Table):
    """Images `<folder>/<class>/…/<file>`, in order of class and path.

    Hidden files and files of other types are left out; of an animation the first frame is read. Rows
    are identified by their file's bytes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self) -> list[str]:
        return sorted(str(file) for file, _ in self._images)

    def columns(self) -> Sequence[str]:
        return ("image", "label")

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        images = self._images
        cells = {"image": [str(file) for file, _ in images], "label": [label for _, label in images]}
        whole = Batch(
            file="",
            places=[file for file, _ in images],
            columns={name: cells[name] for name in columns},
            is_column_said=False,
        )
        yield from whole.parts(size)

    @cached_property
    def _images(self) -> list[tuple[Path, str]]:
        folders = {folder.name: folder for folder in _sub_folders(self._root)}
        if not folders:
            raise StoreError(
                f"{self._root} has no sub-folders",
                subject=str(self._root),
                fix="sort the images into one sub-folder per class",
            )
        images = []
        for label in ordered_classes(folders):
            found = [
                file
                for file in sorted(folders[label].rglob("*"))
                if file.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(file, self._root) and file.is_file()
            ]
            if not found:
                raise StoreError(
                    f"class folder {folders[label]} holds no images",
                    subject=str(self._root),
                    allowed=IMAGE_SUFFIXES,
                    fix="add images of an allowed type, or remove the folder",
                )
            images += [(file, label) for file in found]
        return images


def _sub_folders(root: Path) -> list[Path]:
    children = root.iterdir() if root.is_dir() else ()
    return [child for child in children if child.is_dir() and not is_hidden(child, root)]
