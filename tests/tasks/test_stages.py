from __future__ import annotations

from typing import Any

from storage.evaluations import Subject
from storage.parts import Part, whole
from storage.views import LAST, View
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
