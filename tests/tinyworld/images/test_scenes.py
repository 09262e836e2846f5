"""What TinyWorld's scenes show, how it is labelled, and what is said of it."""

import itertools
import os
import random
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from math import isclose

import pytest

from omnictl.config.split import Split
from omnictl.tinyworld.images import scenes
from omnictl.tinyworld.images.scenes import (
    ALONE,
    ATTRIBUTES,
    GROUP_SIDES,
    HELDOUT_EVERY,
    HELDOUT_PAIRS,
    Figure,
    Ground,
    Scene,
    attribute_values,
    pair_captions,
    relation,
    scene,
    sentence,
)
from omnictl.tinyworld.language.lexicon import COLOURS, NUMBERS, PLACES, SHAPES, SIZES, plural, with_article
from omnictl.tinyworld.language.markup import ANSWER, CLOSE, NEXT_USER, USER
from omnictl.tinyworld.text.documents import score
from omnictl.tinyworld.topics.images import Item

SPLITS: tuple[Split, ...] = ("train", "val", "test")
NUM_SCENES = 2000


@cache
def made(split: Split) -> tuple[Scene, ...]:
    return tuple(scene(0, split, index) for index in range(NUM_SCENES))


def kinds(found: Scene) -> Counter[tuple[str, str]]:
    """How many there are of each colour and shape, in the order of the figures."""
    return Counter((figure.item.colour, figure.item.shape) for figure in found.figures)


def has_groups(found: Scene) -> bool:
    return max(kinds(found).values()) > 1


def groups_of(found: Scene) -> list[list[Item]]:
    items = [figure.item for figure in found.figures]
    return [list(group) for _, group in itertools.groupby(items, lambda item: (item.colour, item.shape))]


def sides_of(found: Scene) -> list[tuple[str, str]]:
    """Names of sides that tell two groups apart: each group has all of its shapes on its side and none on the other's."""
    first, second = ({item.place for item in group} for group in groups_of(found))
    return [
        (one, other)
        for (one, here), (other, there) in itertools.permutations(GROUP_SIDES.items(), 2)
        if first <= set(here) and second <= set(there) and not first & set(there) and not second & set(here)
    ]


GOLDEN_SCENE = Scene(
    figures=(
        Figure(
            item=Item(size="big", colour="brown", shape="heart", place="at the bottom"),
            x=0.47896815964069006,
            y=0.8296939047943944,
            radius=0.150521153011843,
            angle=0.08594905348705471,
            shade=(8.418228153459301, -12.069549149992675, -4.249297937212553),
        ),
        Figure(
            item=Item(size="small", colour="pink", shape="circle", place="at the top right"),
            x=0.7950937926597282,
            y=0.20789566844971288,
            radius=0.09477558259512388,
            angle=-0.26901522027106894,
            shade=(-13.30217208728642, -6.63088447941907, 13.924454093557229),
        ),
        Figure(
            item=Item(size="small", colour="blue", shape="arrow", place="at the top"),
            x=0.49237898999013774,
            y=0.19846247057329147,
            radius=0.07618736003786523,
            angle=-0.02085092756625322,
            shade=(-7.067823485576852, -9.957386706889128, -5.679914727387417),
        ),
    ),
    ground=Ground(
        first=(172, 170, 151), last=(182, 164, 176), direction=4.480216021886168, grain=0.790530974483266, seed=3399203579
    ),
    caption="A big brown heart at the bottom.",
)
GOLDEN_CAPTIONS = {
    "train": [
        "A big brown moon at the bottom.",
        "A small green cross at the bottom right.",
        "A small green diamond at the top left.",
    ],
    "val": ["A small brown cross at the top.", "A small purple cross at the top left.", "A small green diamond on the left."],
    "test": [
        "Three orange circles and one red diamond.",
        "Three green moons and one pink circle.",
        "A big green circle at the bottom left.",
    ],
}


def test_goldens() -> None:
    """A change here is a change of the world: everything measured on it has to be measured again."""
    assert scene(0, "train", 0) == GOLDEN_SCENE
    assert {split: [scene(7, split, index).caption for index in range(3)] for split in SPLITS} == GOLDEN_CAPTIONS


def test_a_scene_is_the_same_in_any_process_and_order() -> None:
    script = (
        "from omnictl.tinyworld.images.scenes import scene\n"
        "for index in (9, 3, 4):\n"
        "    for split in ('test', 'train', 'val'):\n"
        "        print(scene(1, split, index))\n"
    )
    told = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
        told.append(child.stdout.splitlines())
    order: tuple[Split, ...] = ("test", "train", "val")
    assert told[0] == told[1] == [repr(scene(1, split, index)) for index in (9, 3, 4) for split in order]


def test_a_scene_is_drawn_from_uniform_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's other draws may change from one version to the next."""

    class Uniform:
        def __init__(self, seed: int) -> None:
            self.random = random.Random(seed).random

    expected = [made(split)[index] for split in SPLITS for index in range(50)]
    scene.cache_clear()
    monkeypatch.setattr(scenes, "Random", Uniform)
    assert [scene(0, split, index) for split in SPLITS for index in range(50)] == expected


def test_seed_split_and_index_all_matter() -> None:
    found = {scene(seed, split, index) for seed in (0, 1) for split in SPLITS for index in range(50)}
    assert len(found) == 2 * 3 * 50


def test_every_value_of_every_attribute_occurs_and_no_other() -> None:
    values = attribute_values()
    assert tuple(values) == ATTRIBUTES
    for split in SPLITS:
        labels = [each.labels() for each in made(split)]
        assert all(tuple(label) == ATTRIBUTES for label in labels)
        for name, expected in values.items():
            assert len(set(expected)) == len(expected)
            counts = Counter(label[name] for label in labels)
            assert set(counts) == set(expected)
            assert min(counts.values()) > 0.01 * NUM_SCENES, (split, name)


def test_shapes_colours_and_places_are_about_as_frequent() -> None:
    labels = [each.labels() for each in made("train")]
    for name in ("shape", "colour", "place"):
        counts = Counter(label[name] for label in labels).values()
        assert max(counts) < 2 * min(counts), name
    alone = sum(label["total"] == "one" for label in labels)
    assert 0.1 < alone / NUM_SCENES < 0.3
    assert 0.25 < sum(map(has_groups, made("train"))) / NUM_SCENES < 0.42


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_what_the_coordinates_say(split: Split) -> None:
    names = [name for name, _ in sorted(PLACES.items(), key=lambda entry: entry[1])]  # row by row
    for found in made(split):
        main, labels = found.figures[0], found.labels()
        for item, x, y, radius, *_ in found.figures:
            assert item.place == names[3 * int(3 * y) + int(3 * x)]
            assert item.size == ("big" if radius > 0.11 else "small")
        assert labels == labels | main.item._asdict()
        assert labels["total"] == ("one", "two", "three", "four")[len(found.figures) - 1]
        assert labels["count"] == ("one", "two", "three")[kinds(found)[main.item.colour, main.item.shape] - 1]
        assert labels["relation"] == (by_coordinates(*found.figures[:2]) if len(found.figures) > 1 else ALONE)


def by_coordinates(first: Figure, second: Figure) -> str:
    """All that is true of two shapes; less than a fifth of the image apart they are level."""
    across, down = first.x - second.x, first.y - second.y
    said = {"to the left of": across < -0.2, "to the right of": across > 0.2, "above": down < -0.2, "below": down > 0.2}
    return " and ".join(name for name, holds in said.items() if holds)


def test_relations_are_opposite_when_the_shapes_change_places() -> None:
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    for one, two in itertools.permutations(PLACES, 2):
        first, second = Item("big", "red", "star", one), Item("small", "blue", "moon", two)
        turned = " ".join(opposite.get(word, word) for word in relation(first, second).split())
        assert relation(second, first) == turned != ""


@pytest.mark.parametrize("split", SPLITS)
def test_the_main_shape_is_clearly_the_largest_and_the_second_clearly_larger_than_the_rest(split: Split) -> None:
    for found in made(split):
        radii = [figure.radius for figure in found.figures]
        assert radii == sorted(radii, reverse=True)
        for larger, smaller in itertools.pairwise(radii[:3]):
            assert larger >= 1.15 * smaller
        assert 0.05 < min(radii) <= max(radii) < 0.17


def test_there_is_a_pair_of_each_colour_and_of_each_shape_to_hold_out() -> None:
    assert len(HELDOUT_PAIRS) == 10
    assert {colour for colour, _ in HELDOUT_PAIRS} == set(COLOURS)
    assert {shape for _, shape in HELDOUT_PAIRS} == set(SHAPES)


@pytest.mark.parametrize("split", ["train", "val"])
def test_pairs_that_are_held_out_are_shown_nowhere_in_training(split: Split) -> None:
    for found in made(split):
        assert not kinds(found).keys() & HELDOUT_PAIRS
        for colour, shape in HELDOUT_PAIRS:
            assert f"{colour} {shape}" not in found.caption


def test_every_fifth_test_scene_has_a_main_shape_that_is_held_out() -> None:
    assert HELDOUT_EVERY == 5
    for index, found in enumerate(made("test")):
        main, *others = kinds(found)
        assert (main in HELDOUT_PAIRS) == (index % 5 == 0)
        assert not HELDOUT_PAIRS.intersection(others)


def test_all_pairs_that_are_held_out_are_tested_and_all_others_are_trained_on() -> None:
    trained, tested = ({next(iter(kinds(each))) for each in made(split)} for split in ("train", "test"))
    assert tested >= HELDOUT_PAIRS
    assert trained == set(itertools.product(COLOURS, SHAPES)) - HELDOUT_PAIRS


def test_different_shapes_differ_in_shape_colour_and_place() -> None:
    for found in itertools.chain(*map(made, SPLITS)):
        if has_groups(found):
            continue
        for values in zip(*((item.shape, item.colour, item.place) for item, *_ in found.figures), strict=True):
            assert len(set(values)) == len(values)


def test_groups_are_of_like_shapes() -> None:
    sizes: Counter[tuple[int, ...]] = Counter()
    for found in filter(has_groups, itertools.chain(*map(made, SPLITS))):
        items = [figure.item for figure in found.figures]
        assert len({item.place for item in items}) == len(items)
        first, second = groups_of(found)
        assert first[0].colour != second[0].colour
        assert first[0].shape != second[0].shape
        for group in (first, second):
            assert len({item.size for item in group}) == 1
        sizes[len(first), len(second)] += 1
    assert set(sizes) == {(2, 1), (2, 2), (3, 1), (1, 2), (1, 3)}


@pytest.mark.parametrize("split", SPLITS)
def test_two_names_of_sides_always_tell_the_groups_apart(split: Split) -> None:
    """Then what is asked of a side has one answer: in the corner that two sides share, there would be none."""
    told = [sides_of(found) for found in made(split) if has_groups(found)]
    assert all(told)
    certain = {names[0] for names in told if len(names) == 1}
    assert certain == set(itertools.permutations(GROUP_SIDES, 2))


def test_each_side_has_three_places_in_a_row() -> None:
    for side, places in GROUP_SIDES.items():
        cells = [PLACES[place] for place in places]
        row, column = PLACES[side]
        assert set(cells) == {cell for cell in PLACES.values() if (cell[1] == column if row == 1 else cell[0] == row)}


def answered(told: str, *answers: tuple[str, str]) -> str:
    """A document in which someone tells what is in an image, asks, and is answered."""
    first, *rest = (f"{question}{ANSWER}{answer}{CLOSE}" for question, answer in answers)
    return NEXT_USER.join([f"{USER}{told} {first}", *rest])


def document(found: Scene) -> str:
    """A document of TinyWorld's texts in which the caption of a scene, as it stands, is the answer to a question."""
    items = [figure.item for figure in found.figures]
    if found.caption == sentence(items[0].phrase()):
        told = f"This picture by Anna shows one shape. There is {items[0].phrase()}."
        return answered(told, ("Please describe the picture.", found.caption), ("How many shapes are there?", "One."))
    how_many = ("How many shapes are there?", f"{NUMBERS[len(items)].capitalize()}.")
    if not has_groups(found):
        number = "one shape" if len(items) == 1 else f"{NUMBERS[len(items)]} shapes"
        told = " ".join([f"This picture by Anna shows {number}.", *(f"There is {item.phrase()}." for item in items)])
        return answered(told, ("What do you see?", found.caption), how_many)
    groups = list(zip(groups_of(found), sides_of(found)[0], strict=True))
    groups.sort(key=lambda group: -len(group[0]))  # so the texts begin
    phrases, places = [], []
    for (item, *more), side in groups:
        number, noun = NUMBERS[1 + len(more)], plural(item.shape) if more else item.shape
        phrases.append(f"{number} {item.size} {item.colour} {noun} {side}")
        there = f"{side} {'are' if more else 'is'} {number} {item.colour} {noun}"
        places.append((f"What is {side}?", sentence(there)))
    return answered(f"There are {' and '.join(phrases)}.", ("What do you see?", found.caption), how_many, places[-1])


@pytest.mark.parametrize("split", SPLITS)
def test_captions_are_answers_of_the_texts(split: Split) -> None:
    for found in made(split)[:500]:
        text = document(found)
        assert f"{ANSWER}{found.caption}{CLOSE}" in text
        assert score(text).nats > 0  # it would raise


def test_half_of_the_captions_are_of_the_main_shape_and_half_of_everything() -> None:
    of_main = 0
    for found in made("train"):
        item = found.figures[0].item
        if found.caption == f"{with_article(item.size).capitalize()} {item.colour} {item.shape} {item.place}.":
            of_main += 1
            continue
        for colour, shape in kinds(found):
            assert f"{colour} {shape}" in found.caption
    assert 0.45 < of_main / NUM_SCENES < 0.55


def test_what_a_caption_may_say_of_a_pair() -> None:
    captions = pair_captions("red", "ring")
    assert len(set(captions)) == len(captions) == len(SIZES) * len(PLACES)
    assert "A big red ring at the top left." in captions
    of_main = 0
    for found in made("test"):
        item = found.figures[0].item
        captions = pair_captions(item.colour, item.shape)
        assert sentence(item.phrase()) in captions
        of_main += found.caption in captions
    assert 0.45 < of_main / NUM_SCENES < 0.55


def test_a_phrase_becomes_a_sentence() -> None:
    assert sentence("a red circle and one blue star") == "A red circle and one blue star."
    for found in itertools.chain(*map(made, SPLITS)):
        assert re.fullmatch(r"[A-Z][a-z, ]+[a-z]\.", found.caption)


def test_the_ground_is_pale_or_dull_and_everywhere_a_little_different() -> None:
    grounds: list[Ground] = [each.ground for each in made("train")]
    for ground in grounds:
        for tone in (ground.first, ground.last):
            assert all(80 <= level <= 240 for level in tone)
            assert max(tone) - min(tone) <= 24  # a grey, nearly
        assert 0 <= ground.grain < 8
        assert 0 <= ground.direction < 6.2832
    assert len({ground.seed for ground in grounds}) > 0.99 * NUM_SCENES
    assert len({ground.first for ground in grounds}) > 0.9 * NUM_SCENES


def test_places_sizes_angles_and_shades_vary() -> None:
    figures = [figure for each in made("train") for figure in each.figures]
    for values, low, high in (
        ([figure.x % 0.3 for figure in figures], 0.16, 0.24),
        ([figure.angle for figure in figures], -0.4, 0.4),
        ([figure.shade[0] for figure in figures], -14, 14),
    ):
        assert isclose(min(values), low, abs_tol=0.01 * (high - low))
        assert isclose(max(values), high, abs_tol=0.01 * (high - low))
