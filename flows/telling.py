"""Telling people that another model has the first place of a standing question."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import get_run_logger
from prefect.blocks.core import Block
from prefect.events import emit_event

from shiftql.progress import progress
from storage.settings import current_settings
from storage.watches import Change

CHANGED = "shift.watch.changed"


async def tell(change: Change, statement: str) -> None:
    """Emit the event `shift.watch.changed`, and notify through the block that SHIFT_NOTIFY names, or the log.

    Where nobody can be notified the log says why; the change itself is recorded already.
    """
    emit_event(
        CHANGED,
        resource={"prefect.resource.id": f"shift.watch.{change.watch}", "prefect.resource.name": change.watch},
        payload={**asdict(change), "statement": statement},
    )
    subject, body = worded(change, statement)
    progress.get().note(subject)
    logger = get_run_logger()
    logger.warning("%s\n%s", subject, body)
    if (name := current_settings().notify) is None:
        return
    try:
        block: Any = await Block.aload(name)
        await block.notify(body, subject)
    except Exception as error:
        logger.error("nobody was notified through the block %s of SHIFT_NOTIFY: %s", name, error)


def worded(change: Change, statement: str) -> tuple[str, str]:
    """A line that says what changed, and some that say more."""
    subject = f"{change.watch}: {change.after} is first now, before it was {change.before}"
    metric = change.metric or "score"
    scores = [
        f"{name}: {metric} {score:.4g}"
        for name, score in ((change.after, change.after_score), (change.before, change.before_score))
        if score is not None
    ]
    return subject, "\n".join([*scores, statement])
