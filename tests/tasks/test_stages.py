from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from storage.evaluations import Subject
from storage.parts import Part, whole
from storage.views import LAST, View
from tasks import embedding
from tasks.stages import embed


def _key(model: Subject, part: Part, *views: View) -> str:
    make: Any = embed.cache_key_fn
    return str(
        make(None, {"model": model, "part": part, "views": views or (LAST,), "host_name": "torch", "then": None})
    )


def test_an_embedding_is_known_by_the_content_of_model_and_part_and_by_its_views() -> None:
    model, dataset = Subject("bert", "1"), Subject("d", "2")
    key = _key(model, whole(dataset, 9))
    assert _key(Subject("copy", "1"), whole(Subject("alias", "2"), 9)) == key
    others = [
        _key(Subject("bert", "3"), whole(dataset, 9)),
        _key(model, whole(Subject("d", "3"), 9)),
        _key(model, Part(dataset, ((0, 8),))),
        _key(model, Part(dataset, ((0, 8), (9, 10)))),
        _key(model, whole(dataset, 9), View("1")),
        _key(model, whole(dataset, 9), LAST, View("1")),
    ]
    assert len({key, *others}) == 7


def test_what_needs_no_host_is_embedded_one_model_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work = threading.Semaphore(1)
    waiting = threading.Barrier(2)

    def embed_dataset(**_: Any) -> dict[str, Any]:
        assert at_work.acquire(blocking=False), "two models at once"
        try:
            waiting.wait(0.2)
        except threading.BrokenBarrierError:
            # The other has not come: it waits for its turn.
            return {}
        finally:
            at_work.release()
        raise AssertionError("two models at once")

    monkeypatch.setattr(embedding, "embed_dataset", embed_dataset)
    part = whole(Subject("d", "2"), 9)

    async def both() -> None:
        await asyncio.gather(*(embed.fn(Subject(name, name), part, (LAST,), None, None) for name in ("raw", "pca")))

    asyncio.run(both())
