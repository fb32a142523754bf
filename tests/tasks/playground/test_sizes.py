"""Laws of the lists of models and targets."""

import pytest

from tasks.playground.images import IMAGE_TASKS
from tasks.playground.sizes import SIZES, ModelSpec, Size, TargetSpec
from tasks.playground.texts import TEXT_TASKS

TASKS = {"image": set(IMAGE_TASKS), "text": set(TEXT_TASKS)}


@pytest.mark.parametrize(("size", "images", "texts", "targets"), [("small", 8, 4, 3), ("full", 32, 16, 10)])
def test_a_size_holds_what_it_promises(size: Size, images: int, texts: int, targets: int) -> None:
    models = [spec for spec in SIZES[size] if isinstance(spec, ModelSpec)]
    assert sum(spec.modality == "image" for spec in models) == images
    assert sum(spec.modality == "text" for spec in models) == texts
    assert len(SIZES[size]) - len(models) == targets


@pytest.mark.parametrize("size", SIZES)
def test_names_are_unique(size: Size) -> None:
    names = [spec.name for spec in SIZES[size]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("size", SIZES)
def test_every_task_exists_and_no_model_is_trained_on_a_target(size: Size) -> None:
    upstream = {(spec.modality, spec.upstream) for spec in SIZES[size] if isinstance(spec, ModelSpec)}
    targets = {(spec.modality, spec.name) for spec in SIZES[size] if isinstance(spec, TargetSpec)}
    assert all(task in TASKS[modality] for modality, task in upstream | targets)
    assert not upstream & targets


def test_only_the_full_size_holds_a_broken_file() -> None:
    truncated = {
        size: [spec.name for spec in specs if isinstance(spec, ModelSpec) and spec.flaw == "truncated"]
        for size, specs in SIZES.items()
    }
    assert truncated == {"small": [], "full": ["resnet-letters-truncated"]}
