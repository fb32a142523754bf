"""Image classification tasks, drawn at 32 × 32 from what ships with matplotlib and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 32
PIXEL_NOISE = 4.0  # standard deviation, of 255; models this small learn nothing through much more
LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
CYRILLIC = "БГДЖЗИЛПФЦЧШЩЪЫЭЮЯ"
SYMBOLS = "∑∏∫√∞≤≥≠±×÷∂≈∈∇∀∃⊂∪→"
COUNTS = ("one", "two", "three", "four", "five", "six")

# Upstream tasks and targets share no font, so that a target is new to every model.
UPSTREAM_FONTS = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, slant in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slant}", f"-Bold{slant}")
)
STIX_FONTS = ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf")
UPRIGHT_FONTS = STIX_FONTS[:2]  # the only two of them that hold mathematical symbols
DIGIT_FONTS = (*STIX_FONTS, "cmr10.ttf", "cmb10.ttf", "cmss10.ttf", "cmtt10.ttf")

Colour = tuple[int, int, int]
# (generator, label, held_out) → image; `held_out` chooses the part of finite material kept for testing.
Draw = Callable[[np.random.Generator, int, bool], Image.Image]


@dataclass(frozen=True)
class ImageTask:
    """Classes and how one image of a class is drawn."""

    classes: tuple[str, ...]
    draw: Draw


def draw_split(
    task: str, train_rows: int, test_rows: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train images, train labels, test images and test labels of a task.

    Images are (rows, 32, 32, 3) uint8, labels (rows,) int64 indices of the task's classes.

    Classes are balanced, no image occurs twice, and equal arguments give equal arrays.
    """
    generator = np.random.default_rng([seed, *task.encode()])
    seen: set[bytes] = set()
    return (
        *_draw_part(IMAGE_TASKS[task], train_rows, generator, seen, held_out=False),
        *_draw_part(IMAGE_TASKS[task], test_rows, generator, seen, held_out=True),
    )


def _draw_part(
    task: ImageTask, rows: int, generator: np.random.Generator, seen: set[bytes], held_out: bool
) -> tuple[np.ndarray, np.ndarray]:
    labels = generator.permutation(np.arange(rows, dtype=np.int64) % len(task.classes))
    images = np.empty((rows, SIDE, SIDE, 3), np.uint8)
    for row, label in enumerate(labels):
        while True:
            clean = np.asarray(task.draw(generator, int(label), held_out), np.float32)
            noisy = clean + generator.normal(0, PIXEL_NOISE, clean.shape)
            image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
            if image.tobytes() not in seen:
                break
        seen.add(image.tobytes())
        images[row] = image
    return images, labels


def _colours(generator: np.random.Generator) -> tuple[Colour, Colour]:
    """A background and a foreground far enough apart in brightness to be read."""
    dark = generator.integers(0, 90, 3)
    light = generator.integers(165, 256, 3)
    background, foreground = (dark, light) if generator.random() < 0.5 else (light, dark)
    return (
        (int(background[0]), int(background[1]), int(background[2])),
        (int(foreground[0]), int(foreground[1]), int(foreground[2])),
    )


def _shape(pen: ImageDraw.ImageDraw, kind: str, x: float, y: float, radius: float, colour: Colour) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    match kind:
        case "disc":
            pen.ellipse(box, fill=colour)
        case "square":
            pen.rectangle(box, fill=colour)
        case "ring":
            pen.ellipse(box, outline=colour, width=1)
        case "frame":
            pen.rectangle(box, outline=colour, width=1)
        case "triangle":
            pen.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=colour)
        case "diamond":
            pen.polygon([(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)], fill=colour)
        case "cross":
            pen.line((x - radius, y, x + radius, y), fill=colour, width=2)
            pen.line((x, y - radius, x, y + radius), fill=colour, width=2)
        case _:
            raise ValueError(kind)


@cache
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file), size)


def _glyph(
    characters: str, fonts: tuple[str, ...], generator: np.random.Generator, label: int, held_out: bool
) -> Image.Image:
    background, foreground = _colours(generator)
    image = Image.new("RGB", (SIDE, SIDE), background)
    font = _font(fonts[generator.integers(len(fonts))], int(generator.integers(18, 27)))
    x, y = generator.uniform(-3, 3, 2) + SIDE / 2
    ImageDraw.Draw(image).text((x, y), characters[label], font=font, fill=foreground, anchor="mm")
    angle = float(generator.uniform(-15, 15))
    return image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=background)


def _count(kinds: tuple[str, ...], generator: np.random.Generator, label: int, held_out: bool) -> Image.Image:
    background, foreground = _colours(generator)
    image = Image.new("RGB", (SIDE, SIDE), background)
    pen = ImageDraw.Draw(image)
    for cell in generator.permutation(16)[: label + 1]:
        x, y = 8 * np.array([cell % 4, cell // 4]) + 3.5 + generator.uniform(-0.8, 0.8, 2)
        _shape(pen, kinds[generator.integers(len(kinds))], x, y, generator.uniform(1.8, 2.9), foreground)
    return image


def _locate(kinds: tuple[str, ...], generator: np.random.Generator, label: int, held_out: bool) -> Image.Image:
    background, foreground = _colours(generator)
    image = Image.new("RGB", (SIDE, SIDE), background)
    x, y = SIDE / 6 + SIDE / 3 * np.array([label % 3, label // 3]) + generator.uniform(-1.5, 1.5, 2)
    kind = kinds[generator.integers(len(kinds))]
    _shape(ImageDraw.Draw(image), kind, x, y, generator.uniform(2, 4), foreground)
    return image


def _orient(bars: int, generator: np.random.Generator, label: int, held_out: bool) -> Image.Image:
    background, foreground = _colours(generator)
    image = Image.new("RGB", (SIDE, SIDE), background)
    pen = ImageDraw.Draw(image)
    angle = math.pi / 8 * label + generator.uniform(-0.12, 0.12)
    direction = np.array([math.cos(angle), -math.sin(angle)])
    across = direction[::-1] * np.array([1, -1])
    centre = SIDE / 2 + generator.uniform(-4, 4, 2)
    half_length = generator.uniform(7, 12)
    for bar in range(bars):
        middle = centre + across * 7 * (bar - (bars - 1) / 2)
        ends = (*(middle - half_length * direction), *(middle + half_length * direction))
        pen.line(ends, fill=foreground, width=int(generator.integers(2, 4)))
    return image


def _recognise(kinds: tuple[str, ...], generator: np.random.Generator, label: int, held_out: bool) -> Image.Image:
    background, foreground = _colours(generator)
    image = Image.new("RGB", (SIDE, SIDE), background)
    x, y = SIDE / 2 + generator.uniform(-6, 6, 2)
    _shape(ImageDraw.Draw(image), kinds[label], x, y, generator.uniform(4, 9), foreground)
    return image.rotate(float(generator.uniform(-20, 20)), Image.Resampling.BILINEAR, fillcolor=background)


@cache
def _photographs() -> list[np.ndarray]:
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


def _texture(zoom: int, generator: np.random.Generator, label: int, held_out: bool) -> Image.Image:
    """A patch of one of the two photographs' horizontal thirds; the right quarter is held out."""
    photograph = _photographs()[label // 3]
    height, width = photograph.shape[0] // 3, photograph.shape[1]
    side = SIDE * zoom
    first, last = (width * 3 // 4, width - side) if held_out else (0, width * 3 // 4 - side)
    left = int(generator.integers(first, last + 1))
    top = int(generator.integers(height * (label % 3), height * (label % 3 + 1) - side + 1))
    patch = Image.fromarray(photograph[top : top + side, left : left + side])
    return patch.resize((SIDE, SIDE), Image.Resampling.BOX)


@cache
def _handwriting() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target


def _handwritten(generator: np.random.Generator, label: int, held_out: bool) -> Image.Image:
    """A real 8 × 8 digit in random colours; every third one is held out."""
    images, targets = _handwriting()
    rows = np.flatnonzero(targets == label)
    rows = rows[2::3] if held_out else np.delete(rows, np.s_[2::3])
    background, foreground = _colours(generator)
    ink = images[rows[generator.integers(len(rows))]][..., None] / 16
    blended = ink * np.array(foreground) + (1 - ink) * np.array(background)
    small = Image.fromarray(blended.astype(np.uint8))
    image = Image.new("RGB", (SIDE, SIDE), background)
    side = int(generator.integers(24, 33))
    left, top = (int(offset) for offset in generator.integers(0, SIDE - side + 1, 2))
    image.paste(small.resize((side, side), Image.Resampling.BILINEAR), (left, top))
    return image


def _glyphs(characters: str, fonts: tuple[str, ...]) -> ImageTask:
    return ImageTask(tuple(characters), partial(_glyph, characters, fonts))


_CELLS = tuple(f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "centre", "right"))
_ANGLES = tuple(f"{22.5 * step:g} degrees" for step in range(8))
_TEXTURES = tuple(f"{photo} {third}" for photo in ("china", "flower") for third in ("top", "middle", "bottom"))
_SHAPES = ("disc", "square", "triangle", "diamond", "cross", "ring", "frame")

IMAGE_TASKS: dict[str, ImageTask] = {
    "letters": _glyphs(LATIN, UPSTREAM_FONTS),
    "greek": _glyphs(GREEK, UPSTREAM_FONTS),
    "cyrillic": _glyphs(CYRILLIC, UPSTREAM_FONTS),
    "counting": ImageTask(COUNTS, partial(_count, ("disc", "square", "cross"))),
    "location": ImageTask(_CELLS, partial(_locate, ("disc", "square"))),
    "orientation": ImageTask(_ANGLES, partial(_orient, 1)),
    "textures": ImageTask(_TEXTURES, partial(_texture, 1)),
    "handwritten-digits": ImageTask(tuple("0123456789"), _handwritten),
    "drawn-digits": _glyphs("0123456789", DIGIT_FONTS),
    "small-letters": _glyphs(LATIN.lower(), STIX_FONTS),
    "symbols": _glyphs(SYMBOLS, UPRIGHT_FONTS),
    "counting-shapes": ImageTask(COUNTS, partial(_count, ("triangle", "diamond", "ring", "frame"))),
    "double-bars": ImageTask(_ANGLES, partial(_orient, 2)),
    "coarse-textures": ImageTask(_TEXTURES, partial(_texture, 2)),
    "shape-kinds": ImageTask(_SHAPES, partial(_recognise, _SHAPES)),
}
