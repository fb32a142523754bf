"""Folders of files as one plain tar each, which may come from anybody."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_AT_ONCE = 1 << 20


class Refused(Exception):
    """An archive is not what it should be; the message says why."""


def pack(archive: Path, base: Path, files: Sequence[Path]) -> None:
    """Write files into an archive, under their paths relative to `base`."""
    with tarfile.open(archive, "w") as opened:
        for file in files:
            # Nothing of this machine: equal content is an equal archive.
            member = tarfile.TarInfo(file.relative_to(base).as_posix())
            with file.open("rb") as content:
                member.size = os.fstat(content.fileno()).st_size
                opened.addfile(member, content)


def unpack(archive: Path, target: Path) -> list[Path]:
    """The files of an archive, in its order, unpacked below a folder. Raises Refused for what does not belong."""
    files = []
    try:
        with tarfile.open(archive, "r:") as opened:
            for member in opened:
                if not member.isreg() or not _is_inside(member.name):
                    raise Refused(f"it holds {member.name!r}, which is no plain file below it")
                content = opened.extractfile(member)
                assert content is not None
                file = target / member.name
                file.parent.mkdir(parents=True, exist_ok=True)
                with content, file.open("xb") as written:
                    shutil.copyfileobj(content, written, _AT_ONCE)
                files.append(file)
    except (tarfile.TarError, FileExistsError, NotADirectoryError) as error:
        raise Refused(f"it cannot be unpacked ({error})") from error
    if not files:
        raise Refused("it is empty")
    return files


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name
