"""Keeping what was downloaded from hubs within the limit that is set: the least recently used goes first."""

from __future__ import annotations

from collections.abc import Collection

from storage.least_used import Kept, least_used
from storage.settings import current_settings


def make_room(needed_bytes: int, in_use: Collection[tuple[str, str | None]]) -> list[str]:
    """Delete downloaded models so that as many bytes more fit the limit; the handles of those deleted.

    Models in use (handle and commit) stay, even where the limit is passed for them.
    """
    settings = current_settings()
    if not settings.models.is_dir():
        return []
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir(settings.models)
    kept = [
        Kept((repository.repo_id, revision.commit_hash), revision.size_on_disk, repository.last_accessed)
        for repository in cache.repos
        for revision in repository.revisions
    ]
    evicted = least_used(kept, settings.models_limit - needed_bytes, lambda model: model.name in in_use)
    if evicted:
        cache.delete_revisions(*(commit for _, commit in evicted)).execute()
    return [handle for handle, _ in evicted]
