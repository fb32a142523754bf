"""What this home saw of the files of models and datasets, where several machines share a catalog.

The catalog knows the signature of the files on the machine that registered them. Every other machine has to find out by
itself whether what lies at a registered path is the same, which it does once as long as the files stay as they are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.fingerprints import fingerprint_of
from storage.in_place import put_in_place
from storage.settings import Settings


@dataclass(frozen=True)
class Seen:
    """Files that had a `signature` when their content had a `fingerprint`.

    `registered` is the content under which this home registered them, if it did: only then is a change of theirs one
    of the model or dataset, rather than another file of the same path.
    """

    signature: str
    fingerprint: str
    registered: str | None = None


class SeenFiles:
    """What was seen, by what was looked at: a path, and how it was read."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.home / "seen"

    def get(self, *looked_at: str) -> Seen | None:
        """What was last seen there; None where that is nothing, or cannot be read."""
        try:
            return Seen(**json.loads(self._file(looked_at).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def put(self, seen: Seen, *looked_at: str) -> None:
        with put_in_place(self._file(looked_at)) as temporary:
            temporary.write_text(json.dumps(asdict(seen)))

    def _file(self, looked_at: tuple[str, ...]) -> Path:
        return self._root / f"{fingerprint_of(*looked_at)}.json"
