"""What TinyWorld's images show: one to four shapes, each with size, colour and place, a pure function of (seed, split, index).

A scene is a described image of the texts (`images`) or two groups of like shapes (`groups`), so everything that is asked about
those can be asked about it. One shape is clearly the largest, the main one; a second is clearly larger than the rest. In training,
ten of the hundred pairs of a colour and a shape never appear; each colour and each shape of them does, in other pairs.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import permutations
from random import Random
from typing import NamedTuple

from omnictl.config.split import Split
from omnictl.tinyworld.language.lexicon import COLOURS, NUMBERS, PLACES, RELATIONS, SHAPES, count_noun, others, with_article
from omnictl.tinyworld.topics.images import Item, holds, join_phrases

HELDOUT_PAIRS = frozenset((COLOURS[(3 * number + 1) % len(COLOURS)], shape) for number, shape in enumerate(SHAPES))
"""Colours with shapes that only the test split shows; one for each colour and one for each shape."""

HELDOUT_EVERY = 5
"""One test scene in so many has a main shape of such a pair."""

FACTS = ("shape", "colour", "size", "place", "count")
"""What is known of each shape; the last is how many like it there are."""

ATTRIBUTES = (*FACTS, "total", "relation")
"""What a scene is labelled with: the facts of the main shape, how many shapes there are in all, and how the two largest lie."""

ALONE = "alone"
"""The relation of a shape that has no other."""

BIG_RADII = ((0.15, 0.16), (0.125, 0.13))
SMALL_RADII = ((0.094, 0.1), (0.076, 0.08), (0.062, 0.065), (0.052, 0.054))
"""Radii that the first, second … big or small shape may have, as shares of the image's side, of a circle of equal area."""

GROUP_SIDES = {
    "on the left": ("at the top left", "on the left", "at the bottom left"),
    "on the right": ("at the top right", "on the right", "at the bottom right"),
    "at the top": ("at the top left", "at the top", "at the top right"),
    "at the bottom": ("at the bottom left", "at the bottom", "at the bottom right"),
}
"""The places on each side of an image."""

_CENTRES = (0.2, 0.5, 0.8)
_JITTER = 0.04
_TURN = 0.4
"""Shapes are turned by up to so many radians either way."""


class Figure(NamedTuple):
    """A shape of a scene. Lengths are shares of the image's side."""

    item: Item
    x: float
    y: float
    radius: float
    """Of the circle of the same area."""
    angle: float
    """In radians, clockwise."""
    shade: tuple[float, float, float]
    """By how much the colour is off its pure one, in 8-bit steps of red, green and blue."""


class Ground(NamedTuple):
    """What the shapes lie on."""

    first: tuple[int, int, int]
    """Colour at one end, 8-bit red, green and blue."""
    last: tuple[int, int, int]
    direction: float
    """In which the colour changes, in radians."""
    grain: float
    """Standard deviation of the noise over everything, in 8-bit steps."""
    seed: int
    """Of the noise."""


@dataclass(frozen=True)
class Scene:
    """An image before it is drawn."""

    figures: tuple[Figure, ...]
    """Largest first."""
    ground: Ground
    caption: str

    def labels(self) -> dict[str, str]:
        """The value of each of `ATTRIBUTES`."""
        main = self.figures[0].item
        return {
            **self.facts(main),
            "total": NUMBERS[len(self.figures)],
            "relation": relation(main, self.figures[1].item) if len(self.figures) > 1 else ALONE,
        }

    def facts(self, item: Item) -> dict[str, str]:
        """The value of each of `FACTS` for one of its shapes."""
        like = sum(figure.item.shape == item.shape for figure in self.figures)
        return {"shape": item.shape, "colour": item.colour, "size": item.size, "place": item.place, "count": NUMBERS[like]}


def attribute_values() -> dict[str, tuple[str, ...]]:
    """All values that each of `ATTRIBUTES` can have."""
    steps = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]
    grid = {place: name for name, place in PLACES.items()}
    middle = Item("", "", "", grid[1, 1])
    relations = [relation(Item("", "", "", grid[1 + row, 1 + column]), middle) for row, column in steps]
    return {
        "shape": SHAPES,
        "colour": COLOURS,
        "size": ("small", "big"),
        "place": tuple(PLACES),
        "count": NUMBERS[1:4],
        "total": NUMBERS[1:5],
        "relation": (ALONE, *relations),
    }


def relation(first: Item, second: Item) -> str:
    """All that is true of how `first` lies to `second`: `to the left of and above`."""
    return " and ".join(name for name in RELATIONS if holds(name, first, second))


def pair_captions(colour: str, shape: str) -> tuple[str, ...]:
    """Every caption of a main shape alone: of both sizes, at all places."""
    return tuple(sentence(Item(size, colour, shape, place).phrase()) for size in ("small", "big") for place in PLACES)


@lru_cache(maxsize=64)
def scene(seed: int, split: Split, index: int) -> Scene:
    """One scene of the world, the same on every machine and Python version."""
    rng = Random(_hash(f"scene/{seed}/{split}/{index}"))
    heldout = split == "test" and index % HELDOUT_EVERY == 0
    figures = _Composer(rng, heldout).compose()
    return Scene(figures, _ground(rng), _caption(rng, figures))


class _Composer:
    """Chooses what is shown and where. Only `rng.random()` is used, which every Python version computes alike."""

    def __init__(self, rng: Random, heldout: bool) -> None:
        self._rng, self._heldout = rng, heldout

    def compose(self) -> tuple[Figure, ...]:
        """Like shapes in two groups in one scene of three, else all different."""
        items = self._grouped_items() if self._rng.random() < 1 / 3 else self._different_items()
        figures: list[Figure] = []
        for item in items:
            rank = sum(figure.item.size == item.size for figure in figures)
            figures.append(self._place(item, rank))
        return tuple(figures)

    def _different_items(self) -> list[Item]:
        """Items of different shape, colour and place, big ones first."""
        number = 1 + self._choose((4, 4, 3, 3))
        big = min(self._choose((1, 1, 1)) if number > 1 else self._choose((1, 1)), number)
        items: list[Item] = []
        for rank in range(number):
            shape = self._pick(others(SHAPES, tuple(item.shape for item in items)))
            colour = self._colour(shape, tuple(item.colour for item in items), main=not items)
            place = self._pick(others(tuple(PLACES), tuple(item.place for item in items)))
            items.append(Item("big" if rank < big else "small", colour, shape, place))
        return items

    def _grouped_items(self) -> list[Item]:
        """Two or three like items on one side, one or two on another."""
        number = 2 + self._choose((1, 1))
        numbers = (number, 1 + self._choose((1,) * (4 - number)))
        if self._rng.random() < 0.5:
            numbers = numbers[::-1]
        items: list[Item] = []
        for count, places in zip(numbers, self._group_places(numbers), strict=True):
            shape = self._pick(others(SHAPES, tuple(item.shape for item in items)))
            colour = self._colour(shape, tuple(item.colour for item in items), main=not items)
            size = "big" if count == 1 and not items and self._rng.random() < 0.5 else "small"
            for _ in range(count):
                place = self._pick(places)
                places = others(places, (place,))
                items.append(Item(size, colour, shape, place))
        return items

    def _group_places(self, numbers: tuple[int, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The places of two sides that each group may have, without the corner that both sides share."""
        pairs = [(others(one, other), others(other, one)) for one, other in permutations(GROUP_SIDES.values(), 2)]
        fitting = [pair for pair in pairs if all(len(places) >= count for places, count in zip(pair, numbers, strict=True))]
        return fitting[int(self._rng.random() * len(fitting))]

    def _colour(self, shape: str, used: tuple[str, ...], *, main: bool) -> str:
        wanted = main and self._heldout
        return self._pick(tuple(c for c in COLOURS if c not in used and ((c, shape) in HELDOUT_PAIRS) == wanted))

    def _place(self, item: Item, rank: int) -> Figure:
        row, column = PLACES[item.place]
        low, high = (BIG_RADII if item.size == "big" else SMALL_RADII)[rank]
        return Figure(
            item,
            x=_CENTRES[column] + self._off(_JITTER),
            y=_CENTRES[row] + self._off(_JITTER),
            radius=low + (high - low) * self._rng.random(),
            angle=self._off(_TURN),
            shade=(self._off(14), self._off(14), self._off(14)),
        )

    def _off(self, most: float) -> float:
        return most * (2 * self._rng.random() - 1)

    def _pick(self, options: tuple[str, ...]) -> str:
        return options[int(self._rng.random() * len(options))]

    def _choose(self, weights: tuple[int, ...]) -> int:
        """A number below the number of weights, likely as they say."""
        remainder = self._rng.random() * sum(weights)
        for number, weight in enumerate(weights):
            remainder -= weight
            if remainder < 0:
                return number
        return len(weights) - 1


def _ground(rng: Random) -> Ground:
    """Pale or dull: no colour that a shape has."""

    def tone(level: float) -> tuple[int, int, int]:
        red, green, blue = (round(level + 24 * (rng.random() - 0.5)) for _ in range(3))
        return red, green, blue

    level = 120 + 80 * rng.random()
    return Ground(
        first=tone(level),
        last=tone(level + 40 * (rng.random() - 0.5)),
        direction=6.2832 * rng.random(),
        grain=8 * rng.random(),
        seed=int(rng.random() * 2**32),
    )


def _caption(rng: Random, figures: tuple[Figure, ...]) -> str:
    """The main shape with all that is known of it, or all shapes, as the texts say it: of groups the larger one first."""
    if rng.random() < 0.5:
        return sentence(figures[0].item.phrase())
    numbers: dict[tuple[str, str], int] = {}
    for figure in figures:
        pair = (figure.item.colour, figure.item.shape)
        numbers[pair] = numbers.get(pair, 0) + 1
    if max(numbers.values()) == 1:
        return sentence(join_phrases([with_article(f"{colour} {shape}") for colour, shape in numbers]))
    groups = sorted(numbers.items(), key=lambda group: -group[1])
    return sentence(join_phrases([count_noun(number, f"{colour} {shape}") for (colour, shape), number in groups]))


def sentence(phrase: str) -> str:
    """`A red circle.`"""
    return f"{phrase[0].upper()}{phrase[1:]}."


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")
