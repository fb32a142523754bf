"""Keeping models that came from elsewhere within the limit that is set: the least recently used goes first."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from storage.archives import copies_in, forget_copy
from storage.eviction import start_of_the_oldest_query
from storage.least_used import Kept, least_used
from storage.settings import Settings, current_settings


def make_room(needed_bytes: int, in_use: Collection[tuple[str, str | None]]) -> list[str]:
    """Delete downloaded models so that as many bytes more fit the limit; the handles of those deleted.

    Models in use (handle and commit) stay, even where the limit is passed for them, and so do copies of what other
    machines share.
    """
    settings = current_settings()
    cache = _downloads(settings)
    if cache is None:
        return []
    kept = [
        Kept((repository.repo_id, revision.commit_hash), revision.size_on_disk, repository.last_accessed)
        for repository in cache.repos
        for revision in repository.revisions
    ]
    limit = settings.models_limit - needed_bytes - sum(copy.size_bytes for copy in copies_in(settings))
    evicted = least_used(kept, limit, lambda model: model.name in in_use)
    if evicted:
        cache.delete_revisions(*(commit for _, commit in evicted)).execute()
    return [handle for handle, _ in evicted]


def make_room_for_copies(needed_bytes: int) -> None:
    """Delete copies of what other machines share so that as many bytes more fit the limit, beside what was downloaded.

    What a query that runs has used since it began stays, even where the limit is passed for it.
    """
    settings = current_settings()
    cache = _downloads(settings)
    limit = settings.models_limit - needed_bytes - (0 if cache is None else cache.size_on_disk)
    started = start_of_the_oldest_query(settings.running)
    for kind, fingerprint in least_used(copies_in(settings), limit, lambda copy: copy.last_used >= started):
        forget_copy(settings, kind, fingerprint)


def _downloads(settings: Settings) -> Any | None:
    """What the hub library says of its files in the home; None where there are none."""
    if not settings.models.is_dir():
        return None
    from huggingface_hub import scan_cache_dir

    return scan_cache_dir(settings.models)
