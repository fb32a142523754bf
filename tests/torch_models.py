"""Torch models for tests: exported programs, and a package that offers modules by entry points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PACKAGE = """
import torch


class Images(torch.nn.Module):
    image_size = 16

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 8, 3)

    def forward(self, pixels):
        return self.convolution(pixels).relu()


class Sentences(torch.nn.Module):
    modality = "text"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.letters = torch.nn.EmbeddingBag(256, 8, include_last_offset=True)

    @staticmethod
    def transform(rows):
        return [torch.tensor([0, *row.encode()]) for row in rows]

    def forward(self, texts):
        ends = torch.tensor([0, *map(len, texts)]).cumsum(0)
        return (self.letters(torch.cat(texts), ends), "whatever else")
"""


def save_programs(root: Path) -> None:
    """An exported program that takes any number of images and names its outputs, and one that takes four."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self, has_head: bool) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.convolution = torch.nn.Conv2d(3, 8, 3)
            self.head = torch.nn.Linear(8, 3) if has_head else None

        def forward(self, pixels: torch.Tensor) -> Any:
            hidden = self.convolution(pixels).relu()
            if self.head is None:
                return hidden
            pooled = hidden.mean((2, 3))
            return {"logits": self.head(pooled), "features": pooled}

    for name, has_head, sizes in (
        ("any number", True, ({0: torch.export.Dim("rows")},)),
        ("four at a time", False, None),
    ):
        program = torch.export.export(Network(has_head).eval(), (torch.rand(4, 3, 16, 16),), dynamic_shapes=sizes)
        torch.export.save(program, root / f"{name}.pt2")


def install_package(root: Path, name: str) -> Path:
    """A folder for the path that has a package with the entry points NAME-images and NAME-sentences."""
    (root / f"{name}_models").mkdir(parents=True)
    (root / f"{name}_models" / "__init__.py").write_text(_PACKAGE)
    metadata = root / f"{name}_models-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-models\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[shiftql.models]\n{name}-images = {name}_models:Images\n{name}-sentences = {name}_models:Sentences\n"
    )
    return root
