"""Keeping what was downloaded from hubs within the limit that is set: the least recently used goes first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from storage.settings import current_settings


@dataclass(frozen=True)
class Downloaded:
    """A model at one commit: its bytes on the disk, and when it was last read (seconds since 1970)."""

    handle: str
    commit: str
    size_bytes: int
    last_used: float


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
        Downloaded(repository.repo_id, revision.commit_hash, revision.size_on_disk, repository.last_accessed)
        for repository in cache.repos
        for revision in repository.revisions
    ]
    evicted = least_used(kept, settings.models_limit - needed_bytes, in_use)
    if evicted:
        cache.delete_revisions(*(model.commit for model in evicted)).execute()
    return [model.handle for model in evicted]


def least_used(
    models: Sequence[Downloaded], limit_bytes: int, in_use: Collection[tuple[str, str | None]]
) -> list[Downloaded]:
    """The models to delete so that the others fit a limit, the least recently used first."""
    total = sum(model.size_bytes for model in models)
    evicted = []
    for model in sorted(models, key=lambda model: (model.last_used, model.handle, model.commit)):
        if total <= limit_bytes:
            break
        if (model.handle, model.commit) not in in_use:
            evicted.append(model)
            total -= model.size_bytes
    return evicted
