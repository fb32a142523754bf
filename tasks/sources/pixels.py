"""Images as pixels: what a model's image processor makes of them, with what is mere arithmetic left to the device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.errors import EvaluationError
from storage.fingerprints import fingerprint_of
from tasks.readers.base import Rows

if TYPE_CHECKING:
    import torch

_IMAGE_AXES = 3
# An image of no particular look, to compare two ways of processing with.
_PROBE_SHAPE = (37, 53, 3)
_TOLERANCE = 1e-5


class ImagePreparation:
    """Resizes and crops images, as bytes; scaling and normalising them follows in `on_device`.

    Most processors do these in turn, so that models which differ in normalisation alone share their images. What
    another processor makes is kept as it is. Equal `fingerprint`s prepare equally.
    """

    def __init__(self, processor: Any, threads: int) -> None:
        self._processor = processor
        self._threads = threads
        self._scale = float(getattr(processor, "rescale_factor", None) or 1.0) if processor.do_rescale else 1.0
        normalises = getattr(processor, "do_normalize", False)
        self._mean = _by_channel(processor.image_mean if normalises else 0.0)
        self._deviation = _by_channel(processor.image_std if normalises else 1.0)
        self._separates = self._can_separate()
        settings = json.loads(processor.to_json_string())
        if self._separates:
            for arithmetic in ("image_mean", "image_std", "do_normalize", "do_rescale", "rescale_factor"):
                settings.pop(arithmetic, None)
        self.fingerprint = fingerprint_of("image", settings, self._separates)

    def prepare(self, rows: Rows) -> list[np.ndarray]:
        """(channels, height, width) pixels of every row: uint8 where arithmetic is left to the device."""
        options = {"do_rescale": False, "do_normalize": False} if self._separates else {}
        with ThreadPoolExecutor(self._threads) as pool:
            images = list(pool.map(lambda row: self._process(row, **options), rows))
        return [np.rint(image).clip(0, 255).astype(np.uint8) for image in images] if self._separates else images

    def on_device(self, images: Sequence[np.ndarray], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """The pixel values that the network takes: (images, channels, height, width)."""
        import torch

        batch = torch.from_numpy(np.stack(images))
        if device.type == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(device, non_blocking=True)
        if not self._separates:
            return batch.to(dtype)
        mean, deviation = (torch.from_numpy(values).to(device) for values in (self._mean, self._deviation))
        return (batch.float().mul_(self._scale).sub_(mean).div_(deviation)).to(dtype)

    def _process(self, row: Any, **options: Any) -> np.ndarray:
        # One by one, since some processors pad images to the largest of those they are given. Where the channels are
        # is said, since they guess wrong for thin images.
        made = self._processor(images=[row], input_data_format="channels_last", **options)
        image = np.asarray(made["pixel_values"][0])
        if image.ndim != _IMAGE_AXES:
            raise EvaluationError(
                f"its image processor makes arrays of shape {image.shape}, not (channels, height, width)",
                fix="leave it out",
            )
        return image

    def _can_separate(self) -> bool:
        """Whether arithmetic apart gives what the processor gives."""
        probe = np.random.default_rng(0).integers(0, 256, _PROBE_SHAPE, dtype=np.uint8)
        try:
            whole = self._process(probe)
            pixels = self._process(probe, do_rescale=False, do_normalize=False)
            if whole.shape != pixels.shape:
                return False
            apart = (np.rint(pixels).astype(np.float32) * self._scale - self._mean) / self._deviation
        except (TypeError, ValueError):
            return False
        return bool(np.allclose(whole, apart, atol=_TOLERANCE))


def _by_channel(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(-1, 1, 1)
