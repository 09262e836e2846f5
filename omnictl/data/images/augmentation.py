"""Images as a model sees them: cut, resized and, for training, varied.

Everything is a pure function of its arguments. torchvision's transforms draw from torch's global generator, which belongs to
training and which threads would share, so here all draws come from a NumPy generator of the seed given and only torchvision's
functions, which draw nothing, are used. Pixels stay uint8 until they are on the model's device.

Sources: Szegedy et al. 2015, "Going deeper with convolutions" (random resized crops); Cubuk et al. 2020, RandAugment, with the
operations and scales of torchvision's; Zhang et al. 2018, mixup; Yun et al. 2019, CutMix.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Augmentation = Literal["none", "light", "strong"]
Mixing = Literal["mixup", "cutmix"]
Pixels = NDArray[np.uint8]

LIGHT_SCALE = (0.5, 1.0)
"""Share of a photograph's area that a light crop keeps. The usual (0.08, 1) is for ImageNet's million; of a small set's images,
which fill their frame, it would often leave a part in which nobody recognises the thing."""

STRONG_SCALE = (0.3, 1.0)
"""The same for long training, where the same image comes back a hundred times."""

RATIO = (3 / 4, 4 / 3)
"""Width ÷ height of a crop before it is made square (Szegedy et al. 2015)."""

CROP_ATTEMPTS = 10
"""Boxes drawn until one fits into the image; only long, narrow images need more than one or two."""

NUM_OPERATIONS = 2
MAGNITUDE = 9 / 30
"""Nine of thirty, and two operations: RandAugment's setting for a ResNet-50 on ImageNet."""

GREY = 128.0
"""What comes in where an image is moved away, as in RandAugment's own code; close to zero once it is normalised."""


@cache
def _functional() -> Any:
    """torchvision's functions: importing them takes two seconds, which a chat without images need not wait for."""
    from torchvision.transforms.v2 import functional  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415

    return functional


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class MixedImages(NamedTuple):
    """Two images in one."""

    image: Tensor  # (3, H, W) uint8
    share: float  # of the first; the second's is the rest


def prepare(image: Pixels, size: int, *, crop: float) -> Tensor:
    """An image as evaluation sees it: its central square, resized with antialiasing.

    Args:
        image: `(H, W, 3)` RGB.
        size: pixels of each side of the result. An image that has it already is only copied, if `crop` is 1.
        crop: side of the square ÷ the image's shorter side; 1 keeps as much as is square. (Resizing the shorter side to
            `size / crop` and cutting out the centre, as is often done, gives nearly the same for more work.)

    Returns:
        `(3, size, size)` uint8, which shares no memory with `image`.
    """
    height, width = image.shape[:2]
    side = max(1, round(crop * min(height, width)))
    return _cut(image, Box((height - side) // 2, (width - side) // 2, side, side), size)


def augment(image: Pixels, size: int, kind: Augmentation, seed: Sequence[int]) -> Tensor:
    """An image as training sees it.

    Args:
        image: `(H, W, 3)` RGB.
        size: pixels of each side of the result.
        kind: `none` is `prepare` of the whole square, also right for what must not be mirrored, such as digits; `light` a random
            crop and, half of the time, its mirror image; `strong` the same with smaller crops, and RandAugment.
        seed: what the result depends on besides the image: numbers from 0 on, always as many.

    Returns:
        `(3, size, size)` uint8.
    """
    if kind == "none":
        return prepare(image, size, crop=1.0)
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    box = _random_box(height, width, LIGHT_SCALE if kind == "light" else STRONG_SCALE, rng)
    varied = _cut(image, box, size)
    if rng.random() < 0.5:
        varied = varied.flip(2)
    if kind == "strong":
        for _ in range(NUM_OPERATIONS):
            operate = OPERATIONS[_NAMES[rng.integers(len(_NAMES))]]
            varied = operate(varied, MAGNITUDE if rng.random() < 0.5 else -MAGNITUDE)
    return varied


def mix(one: Tensor, other: Tensor, kind: Mixing, rng: np.random.Generator, alpha: float) -> MixedImages:
    """Two images `(3, H, W)` uint8 of one size, blended (mixup) or one with a rectangle of the other in it (CutMix).

    Args:
        one: the first image.
        other: the second.
        kind: how they are mixed.
        rng: of the share and the place.
        alpha: the share is drawn from Beta(alpha, alpha): 1 makes all equally likely, less makes one image prevail. Of CutMix it
            is then corrected to the area that is left of the first where the rectangle sticks out.
    """
    assert one.shape == other.shape, f"{tuple(one.shape)} and {tuple(other.shape)}"
    share = float(rng.beta(alpha, alpha))
    if kind == "mixup":
        return MixedImages(torch.lerp(other.float(), one.float(), share).round_().to(torch.uint8), share)
    height, width = one.shape[1:]
    rows, columns = (_random_stretch(length, math.sqrt(1 - share), rng) for length in (height, width))
    mixed = one.clone()
    mixed[:, rows, columns] = other[:, rows, columns]
    covered = (rows.stop - rows.start) * (columns.stop - columns.start)
    return MixedImages(mixed, 1 - covered / (height * width))


def _random_stretch(length: int, share: float, rng: np.random.Generator) -> slice:
    """A stretch of about `share × length` around a random place, as far as it is within `length`."""
    wanted = round(share * length)
    start = int(rng.integers(length)) - wanted // 2
    return slice(max(0, start), min(length, start + wanted))


def _random_box(height: int, width: int, scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """A part of random size, shape and place; if none fits, the largest whose shape is within `RATIO`, at a random place."""
    for _ in range(CROP_ATTEMPTS):
        area = rng.uniform(*scale) * height * width
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        inner_height, inner_width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < inner_height <= height and 0 < inner_width <= width:
            break
    else:
        inner_height = max(1, min(height, round(width / RATIO[0])))
        inner_width = max(1, min(width, round(height * RATIO[1])))
    top, left = int(rng.integers(height - inner_height + 1)), int(rng.integers(width - inner_width + 1))
    return Box(top, left, inner_height, inner_width)


def _cut(image: Pixels, box: Box, size: int) -> Tensor:
    """A part of an image, resized: `(3, size, size)`."""
    part = image[box.top : box.top + box.height, box.left : box.left + box.width]
    pixels = torch.from_numpy(part.copy()).permute(2, 0, 1)  # a copy, as torch warns of arrays that cannot be written
    resized: Tensor = _functional().resize(pixels, [size, size], antialias=True)
    return resized.contiguous()


def _shear(image: Tensor, across: float, down: float) -> Tensor:
    """Move every row aside by `across` of its distance from the top, every column down by `down` of its distance from the left."""
    shear = [math.degrees(math.atan(across)), math.degrees(math.atan(down))]
    moved: Tensor = _functional().affine(
        image, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, fill=[GREY] * 3, center=[0.0, 0.0]
    )
    return moved


def _translate(image: Tensor, right: float, down: float) -> Tensor:
    """Move an image by shares of its sides; negative padding cuts off, and is much faster than an affine map."""
    height, width = image.shape[1:]
    x, y = int(right * width), int(down * height)
    return torch.nn.functional.pad(image, (x, -x, y, -y), value=GREY)


OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda image, _: image,
    "shear_x": lambda image, magnitude: _shear(image, 0.3 * magnitude, 0),
    "shear_y": lambda image, magnitude: _shear(image, 0, 0.3 * magnitude),
    "translate_x": lambda image, magnitude: _translate(image, 150 / 331 * magnitude, 0),
    "translate_y": lambda image, magnitude: _translate(image, 0, 150 / 331 * magnitude),
    "rotate": lambda image, magnitude: _functional().rotate(image, 30 * magnitude, fill=[GREY] * 3),
    "brightness": lambda image, magnitude: _functional().adjust_brightness(image, 1 + 0.9 * magnitude),
    "colour": lambda image, magnitude: _functional().adjust_saturation(image, 1 + 0.9 * magnitude),
    "contrast": lambda image, magnitude: _functional().adjust_contrast(image, 1 + 0.9 * magnitude),
    "sharpness": lambda image, magnitude: _functional().adjust_sharpness(image, 1 + 0.9 * magnitude),
    "posterise": lambda image, magnitude: _functional().posterize(image, 8 - round(4 * abs(magnitude))),
    "solarise": lambda image, magnitude: _functional().solarize(image, 255 * (1 - abs(magnitude))),
    "autocontrast": lambda image, _: _functional().autocontrast(image),
    "equalise": lambda image, _: _functional().equalize(image),
}
"""RandAugment's, on an image `(3, H, W)` uint8 with a magnitude from -1 to 1; some know no direction, some only one strength."""

_NAMES = tuple(OPERATIONS)
