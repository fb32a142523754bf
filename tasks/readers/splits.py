"""Which part of a dataset is meant: split expressions, and the files of every split in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from storage.errors import StoreError

# Where nothing is divided into splits there is one, of this name.
WHOLE = ""
TRAIN, VALIDATION, TEST = "train", "validation", "test"
_SYNONYMS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
_EXPRESSION = re.compile(r"\s*([^\[\]]*?)\s*(?:\[\s*(-?\d+%?)?\s*:\s*(-?\d+%?)?\s*\])?\s*")
_STEM = re.compile(rf"({'|'.join(sorted(_SYNONYMS, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")

T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """A split's name, None where it is not told, and the rows of it, with bounds as slices have them, or in percent."""

    name: str | None = None
    start: str | None = None
    stop: str | None = None

    @property
    def is_whole(self) -> bool:
        return self.start is None and self.stop is None

    def rows(self, num_rows: int) -> tuple[int, int]:
        """The rows [start, stop) of a split with `num_rows` rows.

        >>> Split("train", "80%", None).rows(10), Split("train", None, "-10%").rows(10)
        ((8, 10), (0, 9))
        """
        start = 0 if self.start is None else _row(self.start, num_rows)
        return start, num_rows if self.stop is None else _row(self.stop, num_rows)


def parse_split(expression: str) -> Split:
    """The split that is meant by `train`, `train[:80%]`, `test[100:200]`, `[-10%:]`.

    Raises StoreError for anything else.
    """
    match = _EXPRESSION.fullmatch(expression)
    if match is None or not expression.strip():
        raise StoreError(
            f"{expression!r} is no split",
            subject=expression,
            allowed=("train", "train[:80%]", "test[100:200]", "[-10%:]"),
            fix="write a split's name, a range of rows or percents in square brackets, or both",
        )
    name, start, stop = match.groups()
    return Split(canonical(name) if name else None, start, stop)


def canonical(name: str) -> str:
    """The usual name of a split: `val` and `dev` are the validation split."""
    return _SYNONYMS.get(name.lower(), name)


def choose(sets: Mapping[str, T], wanted: str | None, path: str) -> T:
    """The split that is wanted; where none is named, the only one or else `train`, which is also what is undivided.

    Raises StoreError when there is none of that name, or no `train` among several.
    """
    if wanted is not None and wanted in sets:
        return sets[wanted]
    if len(sets) == 1 and (wanted is None or (wanted == TRAIN and WHOLE in sets)):
        return next(iter(sets.values()))
    if wanted is None and TRAIN in sets:
        return sets[TRAIN]
    if set(sets) == {WHOLE}:
        raise StoreError(
            f"{path} is not divided into splits, so there is no {wanted!r}",
            subject=path,
            fix="leave the name out; '[:80%]' alone means some of the rows",
        )
    raise StoreError(
        f"{path} has no split {wanted!r}" if wanted else f"{path} has several splits, none of which is 'train'",
        subject=path,
        allowed=list(sets),
        fix="name one with split='…'",
    )


def find_files(path: str, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """The files of these types at a path, sorted, by split.

    In a folder, a split is told by how a file's name begins (`train.csv`, `test-00000-of-00002.parquet`) or by a
    folder around it (`val/part.jsonl`); where some tell one, the others are left out. Raises StoreError where there
    is no such file, and where a Hugging Face repository holds several configurations.
    """
    root = Path(path)
    if not root.is_dir():
        return {WHOLE: [root]}
    files = [
        file
        for file in sorted(root.rglob("*"))
        if is_of_type(file, suffixes) and not is_hidden(file, root) and file.is_file()
    ]
    # A table that describes the images around it.
    files = [file for file in files if file.stem == "metadata"] or files
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file.relative_to(root)), []).append(file)
    if not by_split:
        raise StoreError(f"{path} holds no files of a type that is read", subject=path, allowed=suffixes)
    if len(by_split) > 1:
        by_split.pop(WHOLE, None)
    for files in by_split.values():
        _check_one_configuration(root, files)
    order = {TRAIN: 0, VALIDATION: 1, TEST: 2}
    return dict(sorted(by_split.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def split_folders(path: str) -> dict[str, Path]:
    """The sub-folders of a folder by the split they are named for; none where some are not."""
    root = Path(path)
    folders = [child for child in root.iterdir() if child.is_dir() and not is_hidden(child, root)]
    by_split = {canonical(folder.name): folder for folder in sorted(folders)}
    return by_split if set(by_split) <= {TRAIN, VALIDATION, TEST} else {}


def is_of_type(file: Path, suffixes: Sequence[str]) -> bool:
    """Whether a file in a folder is data of these types; JSON of no split's name is rather about the data."""
    suffix = file.suffix.lower()
    return suffix in suffixes and (suffix != ".json" or _STEM.match(file.stem) is not None)


def is_hidden(path: Path, root: Path) -> bool:
    """Whether the name of a path, or of a folder around it below `root`, begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _split_of(file: Path) -> str:
    for folder in file.parts[:-1]:
        if folder.lower() in _SYNONYMS:
            return canonical(folder)
    match = _STEM.match(file.stem) or _SHARD.fullmatch(file.stem)
    return canonical(match[1]) if match else WHOLE


def _check_one_configuration(root: Path, files: Sequence[Path]) -> None:
    folders = {file.relative_to(root).parts[0] for file in files if len(file.relative_to(root).parts) > 1}
    configurations = sorted(folder for folder in folders if folder.lower() not in _SYNONYMS)
    if len(configurations) > 1:
        raise StoreError(
            f"{root} holds several configurations: {', '.join(configurations)}",
            subject=str(root),
            allowed=[str(root / name) for name in configurations],
            fix="give the path of one of them",
        )


def _row(bound: str, num_rows: int) -> int:
    row = round(int(bound[:-1]) * num_rows / 100) if bound.endswith("%") else int(bound)
    return min(max(row + num_rows if bound.startswith("-") else row, 0), num_rows)
