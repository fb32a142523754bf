"""Keeping stored features within the limit that is set: the least recently used go first.

A segment was last used when its row hashes were last written to or touched (storage.segments). What a query uses is
kept while it runs: every running query has a file named by its start, which it holds locked, so that one that was
killed counts no more.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from storage.least_used import Kept, least_used
from storage.segments import Segment
from storage.settings import Settings
from storage.stored_segments import segments_in

_NANOSECONDS = 1e9


@contextlib.contextmanager
def features_in_use(settings: Settings) -> Iterator[None]:
    """Meanwhile features that are used from now on are not evicted, by any process; at its end there may be too many.

    Those of other machines that share the home over a network are not known of.
    """
    running = settings.running
    running.mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns()}-{uuid4().hex}"
    with (running / f".{name}").open("wb") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        # Seen only now that it is locked.
        (running / f".{name}").replace(running / name)
        try:
            yield
        finally:
            (running / name).unlink(missing_ok=True)
    evict_features(settings)


def evict_features(settings: Settings) -> int:
    """Delete features so that the rest fits the limit, but for what queries that run have used since they began.

    Returns for how many bytes there is room now, 0 where something had to go. It looks at all features.
    """
    kept = [Kept((each.key, each.name), each.size_bytes, each.last_used) for each in segments_in(settings.features)]
    room = settings.features_limit - sum(each.size_bytes for each in kept)
    if room >= 0:
        return room
    started = start_of_the_oldest_query(settings.running)
    for key, name in least_used(kept, settings.features_limit, lambda each: each.last_used >= started):
        Segment(settings.features / key, name).delete()
    return 0


def start_of_the_oldest_query(running: Path) -> float:
    """When the oldest query that runs began; never, where none does."""
    oldest = float("inf")
    for marker in running.glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError), marker.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                marker.unlink()
            except BlockingIOError:
                oldest = min(oldest, int(marker.name.split("-")[0]) / _NANOSECONDS)
    return oldest
