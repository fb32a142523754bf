"""Writing a file so that no reader ever sees half of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4


@contextlib.contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, whose directory is made; what is written there takes its place at the end.

    Nothing is left of it when something goes wrong.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
