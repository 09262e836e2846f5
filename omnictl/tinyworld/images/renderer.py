"""Draws TinyWorld's scenes with Pillow: the image, and which shape covers which pixel."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from omnictl.tinyworld.images.scenes import Figure, Ground, Scene
from omnictl.tinyworld.language.lexicon import SHAPES

RGB = {
    "red": (215, 35, 35), "orange": (245, 135, 20), "yellow": (245, 225, 40), "green": (40, 150, 55), "blue": (40, 75, 215),
    "purple": (125, 40, 165), "pink": (250, 140, 195), "brown": (110, 65, 30), "black": (18, 18, 18), "white": (245, 245, 245),
}  # fmt: skip

_FINER = 3
"""Shapes are drawn at so many times the resolution and then averaged, for smooth edges."""
_GRAINS = 64
"""Different fields of noise, each used turned to any starting point."""

Polygon = NDArray[np.float64]


class SceneImage(NamedTuple):
    """A drawn scene."""

    image: NDArray[np.uint8]  # (3, S, S) RGB
    owners: NDArray[np.uint8]  # (S, S), number of the figure that covers a pixel, from 1 on; 0: none does


def draw(scene: Scene, side: int) -> SceneImage:
    """Draw a scene at `side` × `side` pixels; small shapes lie on big ones."""
    image = _ground(scene.ground, side)
    owners = np.zeros((side, side), np.uint8)
    for number, figure in enumerate(scene.figures, start=1):
        (rows, columns), cover = _cover(_place(figure) * side, side, parts=2 if figure.item.shape == "ring" else 1)
        paint = np.array(RGB[figure.item.colour], np.float32) + np.array(figure.shade, np.float32)
        region = image[:, rows, columns]
        region += cover * (paint[:, None, None] - region)
        owners[rows, columns][cover > 0.5] = number
    image += _grain(scene.ground, side)
    return SceneImage(np.clip(image, 0, 255, out=image).astype(np.uint8), owners)


def _cover(corners: Polygon, side: int, parts: int) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """The box of pixels around a polygon given in pixels, and the share of each of them that it covers.

    A second part is a hole. Drawn in one with the first, it would leave a crack where they meet.
    """
    first_column, first_row = (max(int(low), 0) for low in corners.min(0).tolist())
    last_column, last_row = (min(math.ceil(high), side) for high in corners.max(0).tolist())
    fine = Image.new("L", ((last_column - first_column) * _FINER, (last_row - first_row) * _FINER))
    pen = ImageDraw.Draw(fine)
    points = ((corners - (first_column, first_row)) * _FINER).reshape(parts, -1).tolist()
    for part, fill in zip(points, (255, 0), strict=False):
        pen.polygon(part, fill=fill)  # Pillow drops fractions: the pixel in which a corner lies
    cover = np.asarray(fine.reduce(_FINER), np.float32) * np.float32(1 / 255)
    return (slice(first_row, last_row), slice(first_column, last_column)), cover


def _place(figure: Figure) -> Polygon:
    """`(n, 2)` corners in the image, as shares of its side, moved inside where they would leave it."""
    cos, sin = math.cos(figure.angle), math.sin(figure.angle)
    turned = outline(figure.item.shape) @ np.array([[cos, sin], [-sin, cos]]) * figure.radius
    bounds = zip(turned.min(0).tolist(), turned.max(0).tolist(), strict=True)
    centre = [min(max(place, -low), 1 - high) for place, (low, high) in zip((figure.x, figure.y), bounds, strict=True)]
    corners: Polygon = turned + centre
    return corners


@lru_cache(maxsize=len(SHAPES))
def outline(shape: str) -> Polygon:
    """`(n, 2)` corners of an upright shape around its middle, y down, with the area of the unit circle."""
    corners = np.array(_OUTLINES[shape]())
    x, y = corners.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    middle = (corners.max(0) + corners.min(0)) / 2
    scaled: Polygon = (corners - middle) * math.sqrt(math.pi / area)
    return scaled


Corners = list[tuple[float, float]]


def _arc(radius: float, start: float, stop: float, steps: int = 24, x: float = 0.0, y: float = 0.0) -> Corners:
    """Points on a circle around (x, y), angles in turns from the right, clockwise as y is down."""
    angles = [2 * math.pi * (start + (stop - start) * step / steps) for step in range(steps + 1)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def _star() -> Corners:
    radii = (1.0, 0.45)
    angles = [math.pi * (step / 5 - 0.5) for step in range(10)]
    return [(radii[step % 2] * math.cos(angle), radii[step % 2] * math.sin(angle)) for step, angle in enumerate(angles)]


def _heart() -> Corners:
    return [*_arc(0.5, 0.42, 1.0, x=-0.5), *_arc(0.5, 0.5, 1.08, x=0.5), (0.0, 1.15)]


def _cross() -> Corners:
    a, b = 1.0, 0.33
    return [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b), (-a, -b), (-b, -b)]


def _ring() -> Corners:
    """One polygon: around the outside, then back around the hole."""
    return [*_arc(1.0, 0.0, 1.0, 32), *_arc(0.55, 1.0, 0.0, 32)]


def _arrow() -> Corners:
    """To the right."""
    return [(1.1, 0.0), (0.1, -0.85), (0.1, -0.33), (-1.0, -0.33), (-1.0, 0.33), (0.1, 0.33), (0.1, 0.85)]


def _moon() -> Corners:
    """A crescent, open to the right."""
    return [*_arc(1.0, 0.13, 0.87), *_arc(0.85, 0.815, 0.185, x=0.42)]


_OUTLINES = {
    "circle": lambda: _arc(1.0, 0.0, 1.0, 32),
    "square": lambda: [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
    "triangle": lambda: [(0.0, -1.0), (0.95, 0.75), (-0.95, 0.75)],
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "diamond": lambda: [(0.0, -1.0), (0.6, 0.0), (0.0, 1.0), (-0.6, 0.0)],
    "arrow": _arrow,
    "moon": _moon,
}
assert tuple(_OUTLINES) == SHAPES


def _ground(ground: Ground, side: int) -> NDArray[np.float32]:
    """`(3, S, S)`: from one colour to the other."""
    line = np.linspace(-0.35, 0.35, side, dtype=np.float32)
    share = np.add.outer(
        np.float32(math.sin(ground.direction)) * line + np.float32(0.5), np.float32(math.cos(ground.direction)) * line
    )
    first, last = np.array(ground.first, np.float32), np.array(ground.last, np.float32)
    blended: NDArray[np.float32] = share * (last - first)[:, None, None] + first[:, None, None]
    return blended


def _grain(ground: Ground, side: int) -> NDArray[np.float32]:
    """`(S, S)` noise, the same for all three colours."""
    field = _grain_field(side)
    start = ground.seed % (len(field) - side * side)
    noise: NDArray[np.float32] = field[start : start + side * side].reshape(side, side) * np.float32(ground.grain)
    return noise


@lru_cache(maxsize=4)
def _grain_field(side: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(_GRAINS * side * side, np.float32)
