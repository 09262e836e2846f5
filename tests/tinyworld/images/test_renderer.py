"""How TinyWorld's scenes look, against a plain point-in-polygon test of every pixel."""

import itertools
import math
from dataclasses import replace
from functools import cache
from statistics import fmean

import numpy as np
import pytest
from numpy.typing import NDArray

from omnictl.tinyworld.images.renderer import RGB, SceneImage, draw, outline
from omnictl.tinyworld.images.scenes import Figure, Ground, Scene, scene
from omnictl.tinyworld.language.lexicon import COLOURS, PLACES, SHAPES
from omnictl.tinyworld.topics.images import Item

NUM_SCENES = 1000
SIDE = 112
GREY = Ground(first=(150, 150, 150), last=(150, 150, 150), direction=0.0, grain=0.0, seed=0)
PURE = (0.0, 0.0, 0.0)


def plain(found: Scene) -> Scene:
    """A scene in pure colours on a grey ground without grain."""
    return replace(found, figures=tuple(figure._replace(shade=PURE) for figure in found.figures), ground=GREY)


@cache
def plainly_drawn() -> tuple[tuple[Scene, SceneImage], ...]:
    return tuple((found, draw(plain(found), SIDE)) for found in (scene(0, "train", index) for index in range(NUM_SCENES)))


def alone(shape: str, *, x: float = 0.5, y: float = 0.5, radius: float = 0.15, angle: float = 0.0) -> Scene:
    """One red shape on grey."""
    return Scene((Figure(Item("big", "red", shape, "in the middle"), x, y, radius, angle, PURE),), GREY, "")


def corners(figure: Figure) -> list[tuple[float, float]]:
    """Of a figure in the image: turned clockwise, enlarged, and moved inside."""
    cos, sin = math.cos(figure.angle), math.sin(figure.angle)
    turned = [
        (figure.radius * (x * cos - y * sin), figure.radius * (x * sin + y * cos)) for x, y in outline(figure.item.shape).tolist()
    ]
    moved = []
    for axis, centre in enumerate((figure.x, figure.y)):
        reach = [point[axis] for point in turned]
        moved.append(min(max(centre, -min(reach)), 1 - max(reach)))
    return [(x + moved[0], y + moved[1]) for x, y in turned]


Polygon = list[tuple[float, float]]


def edges(polygon: Polygon) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return list(itertools.pairwise([*polygon, polygon[0]]))


def inside(polygon: Polygon, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a ray to the right crosses an odd number of edges."""
    odd = np.zeros(x.shape, bool)
    for (x1, y1), (x2, y2) in edges(polygon):
        if y1 != y2:
            odd ^= ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return odd


def distance(polygon: Polygon, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """To the nearest edge."""
    nearest = np.full(x.shape, np.inf)
    for (x1, y1), (x2, y2) in edges(polygon):
        length = (x2 - x1) ** 2 + (y2 - y1) ** 2
        along = np.clip(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / (length or 1), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x1 - along * (x2 - x1), y - y1 - along * (y2 - y1)))
    return nearest


def pixel_centres(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(S, S)` x and y in pixels."""
    y, x = np.mgrid[:side, :side] + 0.5
    return x, y


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_are_as_large_as_the_unit_circle_and_in_the_middle(shape: str) -> None:
    polygon = outline(shape).tolist()
    shoelace = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in edges(polygon)) / 2
    assert abs(shoelace) == pytest.approx(math.pi, rel=1e-12)
    for values in zip(*polygon, strict=True):
        assert max(values) == pytest.approx(-min(values), abs=1e-12)
        assert 0.8 < max(values) < 2


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_covers_as_many_pixels_as_a_circle_of_its_radius(shape: str) -> None:
    owners = draw(alone(shape, angle=0.3), 224).owners
    assert int(owners.sum()) == pytest.approx(math.pi * (0.15 * 224) ** 2, rel=0.07)


@pytest.mark.parametrize("side", [32, 112, 224])
def test_every_pixel_belongs_to_the_figure_whose_polygon_holds_its_centre(side: int) -> None:
    x, y = pixel_centres(side)
    different, covered = [], []
    for index in range(60 if side < 200 else 15):
        found = scene(3, "test", index)
        expected = np.zeros((side, side), np.uint8)
        clear = np.ones((side, side), bool)
        for number, figure in enumerate(found.figures, start=1):
            polygon = [(side * a, side * b) for a, b in corners(figure)]
            expected[inside(polygon, x, y)] = number
            clear &= distance(polygon, x, y) > 0.75  # nearer to an edge, it is not the centre that counts
        owners = draw(found, side).owners
        assert np.array_equal(owners[clear], expected[clear]), index
        different.append(float((owners != expected).mean()))
        covered.append(float((expected[clear] > 0).mean()))
    assert fmean(different) < 0.5 / side
    assert fmean(covered) > 0.02


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [32, 112])
def test_edges_are_smooth(shape: str, side: int) -> None:
    """What is blended in of a shape is about the share of a pixel that it covers."""
    found = alone(shape, x=0.47, y=0.52, angle=0.2)
    fine = 4
    x, y = pixel_centres(side * fine)
    polygon = [(side * a, side * b) for a, b in corners(found.figures[0])]
    covered = inside(polygon, x / fine, y / fine).reshape(side, fine, side, fine).mean((1, 3))
    red = draw(found, side).image[0].astype(float)
    share = (red - 150) / (RGB["red"][0] - 150)
    edge = (covered > 0) & (covered < 1)
    assert np.abs(share - covered).sum() < 0.3 * edge.sum()
    assert ((share > 0.1) & (share < 0.9)).sum() > 0.25 * edge.sum()
    assert share.sum() == pytest.approx(covered.sum(), rel=0.1 * math.sqrt(112 / side))
    for axis in pixel_centres(side):
        assert np.average(axis, weights=share) == pytest.approx(np.average(axis, weights=covered), abs=0.2)


@pytest.mark.slow
def test_pure_colours_are_nearest_to_themselves_of_all_ten() -> None:
    assert tuple(RGB) == COLOURS
    table = np.array([RGB[colour] for colour in COLOURS], float)
    seen = set()
    for found, drawn in plainly_drawn():
        for number, figure in enumerate(found.figures, start=1):
            pixels = drawn.image[:, interior(drawn.owners == number)].T.astype(float)  # (n, 3)
            nearest = np.linalg.norm(pixels[:, None] - table, axis=-1).argmin(-1)
            assert set(nearest.tolist()) == {COLOURS.index(figure.item.colour)}  # and no shape has a crack
            assert tuple(np.median(pixels, 0)) == RGB[figure.item.colour]
            seen.add(figure.item.colour)
    assert seen == set(COLOURS)


def interior(owned: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What has only its like around it."""
    padded = np.pad(owned, 1)
    side = len(owned)
    around = [padded[row : row + side, column : column + side] for row in range(3) for column in range(3)]
    return np.logical_and.reduce(around)


def test_shade_and_grain_leave_colours_what_they_are() -> None:
    """On average over a shape: nearer to its own than to any other, ground and grain as they come."""
    table = np.array([RGB[colour] for colour in COLOURS], float)
    for index in range(300):
        found = scene(0, "train", index)
        drawn = draw(found, SIDE)
        for number, figure in enumerate(found.figures, start=1):
            owned = drawn.owners == number
            mean = drawn.image[:, interior(owned)].mean(1)
            assert np.linalg.norm(mean - table, axis=-1).argmin() == COLOURS.index(figure.item.colour)
            assert np.abs(mean - np.clip(table[COLOURS.index(figure.item.colour)] + figure.shade, 0, 255)).max() < 5


def test_shapes_stay_inside_the_image_whole() -> None:
    """Those that no other covers reach as far as their polygons, and those are inside."""
    for found, drawn in plainly_drawn():
        for number, figure in enumerate(found.figures, start=1):
            polygon = np.array(corners(figure))
            assert polygon.min() > -1e-9
            assert polygon.max() < 1 + 1e-9
            if number == len(found.figures):
                rows, columns = np.nonzero(drawn.owners == number)
                reach = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
                assert np.abs(reach - SIDE * np.array([polygon.min(0), polygon.max(0)])).max() < 4  # tips are thin


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 0.0), (0.5, 1.0), (1.0, 1.0)])
def test_a_shape_that_would_leave_the_image_is_moved_inside_whole(shape: str, x: float, y: float) -> None:
    there, middle = (draw(alone(shape, x=a, y=b, angle=0.4), 112).owners for a, b in ((x, y), (0.5, 0.5)))
    assert int(there.sum()) == pytest.approx(int(middle.sum()), rel=0.06)
    for places, towards in zip(np.nonzero(there), (y, x), strict=True):
        assert (towards - 0.5) * (places.mean() / 112 - towards) <= 0  # not beyond it
        assert abs(places.mean() / 112 - towards) < 0.35


def test_a_moved_shape_is_still_in_its_place() -> None:
    """The middle of what is drawn is in the ninth of the image that the scene names."""
    for found, _ in plainly_drawn():
        for figure in found.figures:
            across, down = zip(*corners(figure), strict=True)
            for low, high, third in zip(map(min, (down, across)), map(max, (down, across)), PLACES[figure.item.place], strict=True):
                assert third / 3 - 0.01 < (low + high) / 2 < (third + 1) / 3 + 0.01


def test_no_shape_hides_another() -> None:
    """All are mostly seen: big ones, too, below small ones."""
    shares = []
    for found, drawn in plainly_drawn():
        for number, figure in enumerate(found.figures, start=1):
            owned = int((drawn.owners == number).sum())
            shares.append(owned / (math.pi * (figure.radius * SIDE) ** 2))
        assert set(np.unique(drawn.owners)) == set(range(len(found.figures) + 1))
    assert min(shares) > 0.7
    assert fmean(shares) > 0.97


def test_small_shapes_lie_on_big_ones() -> None:
    big = alone("square", radius=0.2).figures[0]
    small = big._replace(item=Item("small", "blue", "circle", "in the middle"), radius=0.05)
    drawn = draw(Scene((big, small), GREY, ""), 112)
    assert drawn.owners[56, 56] == 2
    assert tuple(drawn.image[:, 56, 56]) == RGB["blue"]
    assert drawn.owners[56, 45] == 1
    assert tuple(drawn.image[:, 56, 45]) == RGB["red"]


def test_a_ring_has_a_hole() -> None:
    drawn = draw(alone("ring"), 112)
    assert drawn.owners[56, 56] == 0
    assert tuple(drawn.image[:, 56, 56]) == (150, 150, 150)
    assert (drawn.owners == 1).any(0).sum() > 30


def test_arrows_point_right_and_turn_clockwise() -> None:
    def tip(angle: float) -> tuple[float, float]:
        """Of the farthest pixel from the middle of the shape's mass, to the right and down."""
        rows, columns = np.nonzero(draw(alone("arrow", angle=angle), 112).owners)
        across, down = columns - columns.mean(), rows - rows.mean()
        farthest = np.argmax(across)
        return float(across[farthest]), float(down[farthest])

    level, turned = tip(0.0), tip(0.4)
    assert abs(level[1]) < 2 < level[0]
    assert math.atan2(turned[1], turned[0]) == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("side", [32, 50, 112, 224])
def test_an_image_is_planar_and_a_function_of_the_scene(side: int) -> None:
    for index in range(5):
        found = scene(1, "val", index)
        one, two = draw(found, side), draw(found, side)
        assert one.image.shape == (3, side, side)
        assert one.owners.shape == (side, side)
        assert one.image.dtype == one.owners.dtype == np.uint8
        assert one.image.flags.c_contiguous
        assert np.array_equal(one.image, two.image)
        assert np.array_equal(one.owners, two.owners)
        assert one.owners.max() == len(found.figures)


@pytest.mark.parametrize("side", [32, 112])
def test_an_image_is_the_same_scaled(side: int) -> None:
    """As the large one whose pixels are averaged, without the grain."""
    times = 224 // side
    for index in range(20):
        found = scene(2, "val", index)
        found = replace(found, ground=found.ground._replace(grain=0.0))
        large, small = draw(found, 224), draw(found, side)
        averaged = large.image.reshape(3, side, times, side, times).mean((2, 4))
        difference = np.abs(averaged - small.image)
        assert difference.mean() < 1.0 * 112 / side
        assert np.median(difference) < 1.5
        for number, figure in enumerate(found.figures, start=1):
            shares = [float((drawn.owners == number).mean()) for drawn in (large, small)]
            assert shares[0] == pytest.approx(shares[1], abs=6 * figure.radius / side)  # so much of an edge is a pixel wide


@pytest.mark.parametrize("grain", [0.0, 2.0, 8.0])
def test_the_grain_is_as_strong_as_asked_and_alike_in_all_colours(grain: float) -> None:
    drawn = draw(Scene((), GREY._replace(grain=grain, seed=77), ""), 112)
    noise = drawn.image.astype(float) - 150
    assert noise.std() == pytest.approx(grain, rel=0.05, abs=0.01)
    assert np.array_equal(noise[0], noise[1])
    assert np.array_equal(noise[0], noise[2])
    again = draw(Scene((), GREY._replace(grain=grain, seed=78), ""), 112)
    assert np.array_equal(drawn.image, again.image) == (grain == 0)


@pytest.mark.parametrize("direction", [0.0, 0.7, 2.0, 4.5])
def test_the_ground_changes_in_its_direction(direction: float) -> None:
    drawn = draw(Scene((), Ground((100, 120, 140), (200, 180, 160), direction, 0.0, 0), ""), 112)
    rows, columns = np.mgrid[-1:1:112j, -1:1:112j]
    along = columns * math.cos(direction) + rows * math.sin(direction)
    for plane, step in zip(drawn.image.astype(float), (100, 60, 20), strict=True):
        slope = np.sum(along * (plane - plane.mean())) / np.sum(along**2)
        assert slope == pytest.approx(0.35 * step, rel=0.02)
        assert plane.mean() == pytest.approx(149.5, abs=0.5)
        assert np.abs(plane - plane.mean() - slope * along).max() < 1
