"""What each size of the playground holds: its models and its target datasets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Size = Literal["small", "full"]
Modality = Literal["image", "text"]
Source = Literal["huggingface", "tfhub"]
Reader = Literal["csv", "numpy", "image_folder"]
Flaw = Literal["none", "random labels", "untrained", "truncated"]


@dataclass(frozen=True)
class ModelSpec:
    """One upstream model: its architecture, and how much of which task it is trained on."""

    name: str
    source: Source
    modality: Modality
    architecture: str
    width: int
    depth: int
    upstream: str
    rows: int
    epochs: int
    flaw: Flaw = "none"


@dataclass(frozen=True)
class TargetSpec:
    """One target dataset: a task of `images` or `texts`, and how its rows lie on disk."""

    name: str
    modality: Modality
    reader: Reader
    train_rows: int = 600
    test_rows: int = 400


Spec = ModelSpec | TargetSpec


HELD_OUT_ROWS = 500  # upstream rows that no model is trained on, for its upstream accuracy
BATCH_ROWS = 64


def _image(name: str, width: int, depth: int, upstream: str, rows: int, epochs: int, flaw: Flaw = "none") -> ModelSpec:
    return ModelSpec(name, "huggingface", "image", name.split("-")[0], width, depth, upstream, rows, epochs, flaw)


def _text(name: str, width: int, depth: int, upstream: str, rows: int, epochs: int, flaw: Flaw = "none") -> ModelSpec:
    return ModelSpec(name, "huggingface", "text", name.split("-")[0], width, depth, upstream, rows, epochs, flaw)


def _hub(
    name: str,
    modality: Modality,
    architecture: str,
    width: int,
    depth: int,
    upstream: str,
    rows: int,
    epochs: int,
) -> ModelSpec:
    return ModelSpec(name, "tfhub", modality, architecture, width, depth, upstream, rows, epochs)


# In the order they are made: the longest first, so that no core waits for another in the end.

# Ready within 150 s on two cores. Letters carry over to digits and counting to counting, subjects to
# topics; what is right nearly always upstream (location, moods) carries over to nothing.
SMALL: tuple[Spec, ...] = (
    _hub("tf-handwritten-digits", "image", "convolution", 12, 3, "handwritten-digits", 3000, 5),
    _hub("tf-packages", "text", "bag of words", 64, 1, "packages", 3000, 5),
    _image("resnet-letters", 24, 1, "letters", 5000, 6),
    _image("convnext-greek", 16, 1, "greek", 4000, 5),
    _image("resnet-counting", 24, 1, "counting", 4000, 6),
    _image("swin-orientation", 24, 1, "orientation", 3000, 6),
    _text("bert-packages", 64, 2, "packages", 2500, 6),
    _text("roberta-subjects", 64, 2, "subjects", 4000, 6),
    _image("vit-location", 48, 2, "location", 4000, 5),
    _image("resnet-random-labels", 16, 1, "greek", 2000, 4, "random labels"),
    _text("distilbert-moods", 64, 1, "moods", 1500, 4),
    _image("vit-untrained", 64, 2, "letters", 64, 0, "untrained"),
    TargetSpec("drawn-digits", "image", "numpy"),
    TargetSpec("counting-shapes", "image", "image_folder"),
    TargetSpec("sentence-topics", "text", "csv"),
)

# Ready within 20 minutes on two cores.
FULL: tuple[Spec, ...] = (
    *SMALL,
    _image("resnet-greek", 24, 1, "greek", 5000, 8),
    _image("resnet-cyrillic", 24, 1, "cyrillic", 5000, 8),
    _image("resnet-orientation", 24, 1, "orientation", 4000, 6),
    _image("resnet-location", 16, 1, "location", 4000, 6),
    _image("resnet-textures", 24, 1, "textures", 4000, 6),
    _image("resnet-handwritten-digits", 24, 1, "handwritten-digits", 4000, 8),
    _image("resnet-letters-deep", 24, 2, "letters", 6000, 8),
    _image("resnet-letters-narrow", 8, 1, "letters", 5000, 8),
    _image("resnet-letters-few-rows", 24, 1, "letters", 800, 10),
    _image("resnet-letters-brief", 24, 1, "letters", 5000, 1),
    _image("resnet-letters-truncated", 24, 1, "letters", 800, 2, "truncated"),
    _image("convnext-letters", 16, 1, "letters", 6000, 8),
    _image("convnext-counting", 16, 1, "counting", 4000, 6),
    _image("convnext-textures", 16, 1, "textures", 3000, 6),
    _image("convnext-untrained", 24, 1, "letters", 64, 0, "untrained"),
    _image("swin-letters", 32, 2, "letters", 5000, 10),
    _image("swin-counting", 24, 1, "counting", 4000, 8),
    _image("swin-greek", 24, 1, "greek", 5000, 8),
    _image("vit-letters", 64, 3, "letters", 6000, 12),
    _image("vit-counting", 48, 2, "counting", 4000, 8),
    _image("vit-textures", 48, 2, "textures", 3000, 6),
    _image("vit-cyrillic", 64, 2, "cyrillic", 5000, 10),
    _hub("tf-letters", "image", "convolution", 12, 3, "letters", 4000, 6),
    _hub("tf-counting", "image", "convolution", 12, 3, "counting", 4000, 6),
    _text("bert-subjects", 64, 2, "subjects", 4000, 6),
    _text("bert-agreement", 64, 2, "agreement", 5000, 8),
    _text("bert-untrained", 64, 2, "packages", 1000, 0, "untrained"),
    _text("roberta-packages", 64, 2, "packages", 5000, 8),
    _text("roberta-tools", 64, 1, "tools", 2000, 8),
    _text("distilbert-packages", 96, 1, "packages", 5000, 6),
    _text("distilbert-tools", 64, 2, "tools", 2000, 6),
    _text("electra-packages", 64, 2, "packages", 4000, 8),
    _text("electra-subjects", 64, 1, "subjects", 3000, 6),
    _text("electra-random-labels", 64, 1, "subjects", 2000, 4, "random labels"),
    _text("bart-subjects", 64, 1, "subjects", 4000, 6),
    _hub("tf-subjects", "text", "bag of words", 64, 1, "subjects", 3000, 6),
    TargetSpec("small-letters", "image", "numpy"),
    TargetSpec("symbols", "image", "image_folder"),
    TargetSpec("double-bars", "image", "numpy"),
    TargetSpec("coarse-textures", "image", "image_folder"),
    TargetSpec("shape-kinds", "image", "numpy"),
    TargetSpec("documentation-topics", "text", "csv"),
    TargetSpec("science-topics", "text", "csv"),
)

SIZES: dict[Size, tuple[Spec, ...]] = {"small": SMALL, "full": FULL}
