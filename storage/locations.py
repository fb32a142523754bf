"""Where a dataset lies, as it stands in a query: a path or a name that a reader knows, and its split behind `#`."""

from __future__ import annotations

import os

# The splits of a place that are tested on where nothing else is to be, the first that there is.
TEST_SPLITS = ("test", "validation")
# What begins so is no path.
HUGGING_FACE, SCIKIT_LEARN = "hf://", "sklearn:"


def is_remote(location: str) -> bool:
    """Whether a location is no file or folder but a name that a reader knows."""
    return location.startswith((HUGGING_FACE, SCIKIT_LEARN))


def looks_like_path(location: str) -> bool:
    """Whether a location is written as a path, be there something or not.

    >>> [looks_like_path(each) for each in ("./mine.csv", "photos/train", "mine-train", "hf://owner/name")]
    [True, True, False, False]
    """
    return not is_remote(location) and (os.sep in location or location.startswith((".", "~")))


def divide(location: str) -> tuple[str, str | None]:
    """The path of a location, and its split expression where there is one.

    >>> divide("photos#train[:80%]"), divide("sklearn:iris")
    (('photos', 'train[:80%]'), ('sklearn:iris', None))
    """
    path, mark, split = location.rpartition("#")
    return (path, split) if mark and not os.path.exists(location) else (location, None)


def full_name(location: str) -> str:
    """The name under which what lies at a location is registered: its full path, and the split as it is written."""
    path, split = divide(location)
    full = path if is_remote(path) else os.path.abspath(path)
    return full if split is None else f"{full}#{split}"


def exists(location: str) -> bool:
    """Whether there is something at a location, as far as can be told without asking for it."""
    path, _ = divide(location)
    return is_remote(path) or os.path.exists(path)
